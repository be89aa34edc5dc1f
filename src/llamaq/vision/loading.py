"""From a projector file to what a model reads pictures with."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from llamaq.boundary.progress import Progress
from llamaq.engine.kv_cache import CacheType
from llamaq.engine.loading import LoadedModel
from llamaq.engine.topology import default_threads
from llamaq.errors import ModelError, naming
from llamaq.gguf import GGUFFile
from llamaq.vision.encoder import Encoder, Traced, traced
from llamaq.vision.merged import as_projector, is_merged

__all__ = ["ProjectorFile", "has_encoder"]


def has_encoder(file: GGUFFile) -> bool:
    """Whether a model's file has its image encoder inside, as Ollama's have."""
    own = file.metadata.get("general.architecture") == "mllama" and "v.patch_embd.weight" in file.tensors
    return "token_embd.weight" in file.tensors and (own or is_merged(file))


class ProjectorFile:
    """A projector file that is open and understood, beside its ``model``, which may be the same file; pictures have
    ``edge`` pixels of their longer side (None: as the file says). Raises ``GGUFError``, ``ModelError``,
    ``ValueError``; a file that was open before stays so then."""

    def __init__(
        self, path: str | os.PathLike[str] | GGUFFile, edge: int | None = None, model: GGUFFile | None = None
    ) -> None:
        self._owns = not isinstance(path, GGUFFile)
        self.file = path if isinstance(path, GGUFFile) else GGUFFile.open(path)
        with self._closing():
            self.traced: Traced = traced(as_projector(self.file), model)
            if edge is not None:
                self.traced.projector.choose_edge(edge)

    def need(self, threads: int | None, cache_type: CacheType = "f16") -> int:
        """Bytes of memory that it takes once loaded, the results that it keeps among them, beside a model whose cache
        is of this type."""
        store = self.traced.store_bytes(precise=cache_type == "f32")
        return self.traced.need(threads or default_threads().threads).total + store

    def encoder(self, parts: LoadedModel, progress: Progress | None = None) -> Encoder:
        """The encoder for a model, whose weights are loaded with the first picture where it is inside of that model's
        file, for many never see one. Raises ``ModelError`` where it belongs to another one, ``ValueError`` where a step
        of the model holds no picture."""
        with self._closing():
            projector, most = self.traced.projector, parts.engine.max_rows
            if projector.together and projector.rows > most:
                message = f"n_batch must be {projector.rows} at least, the rows of a picture, got {most}"
                raise naming(ValueError(message), "n_batch")
            if projector.places and not parts.hparams.has_places:
                raise ModelError("the model has no rope.dimension_sections, which the projector's pictures need")
            token = parts.tokenizer.token_to_id(projector.placeholder)
            if projector.looked_at and token is None:
                raise ModelError(f"the model has no token {projector.placeholder!r}, which stands for a picture")
            return Encoder(
                self.file, self.traced, columns=parts.hparams.given_cols, first_id=parts.hparams.vocab_size,
                threads=parts.engine.threads, progress=progress, token=token or 0,
                precise=parts.cache.cache_type == "f32", later=not self._owns,
                n_ctx=parts.memory.n_ctx,
            )  # fmt: skip

    @contextmanager
    def _closing(self) -> Iterator[None]:
        """Closes the file where something goes wrong, and names it."""
        try:
            yield
        except BaseException as error:
            if self._owns:
                self.file.close()
            if isinstance(error, ModelError):
                error.args = (f"{self.file.path}: {error}",)
            raise
