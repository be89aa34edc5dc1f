"""Models that are called by name: where they lie, and what their owners want of them."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llamaq.boundary.arguments import INT32, path_of, shown, text, texts, whole
from llamaq.boundary.progress import Progress
from llamaq.engine import bundled
from llamaq.engine.kv_cache import CacheType
from llamaq.engine.loading import LoadedModel, load_parts
from llamaq.errors import GGUFError, ModelError
from llamaq.gguf import GGUFFile
from llamaq.hub import Found, resolve
from llamaq.hub.address import Address, address_of
from llamaq.hub.download import fetch
from llamaq.sampling import SamplingParams
from llamaq.serving.defaults import Defaults

if TYPE_CHECKING:
    from llamaq.vision.encoder import Encoder
    from llamaq.vision.loading import ProjectorFile

__all__ = ["defaults_of", "pretrained", "projector_memory", "with_encoder"]

logger = logging.getLogger("llamaq")

_SAMPLING = (
    "temperature", "top_k", "top_p", "min_p", "typical_p", "repeat_last_n", "repeat_penalty", "presence_penalty",
    "frequency_penalty", "mirostat", "mirostat_tau", "mirostat_eta", "seed",
)  # fmt: skip
"""Parameters of Ollama that are called so in ``SamplingParams``, too."""


def _opened(path: str | os.PathLike[str] | GGUFFile | None) -> tuple[GGUFFile, Defaults, Path | None]:
    """The file, what its owner wants, and the projector that came with it."""
    if isinstance(path, GGUFFile):
        return path, Defaults(), None
    if path is None:
        return GGUFFile.open(bundled.path()), Defaults(), None
    found = resolve(path)
    return GGUFFile.open(found), defaults_of(found), found.projector


def _parts(file: GGUFFile, defaults: Defaults, *, n_ctx: int | None, **options: Any) -> LoadedModel:
    return load_parts(file, n_ctx=n_ctx if n_ctx is not None else defaults.n_ctx or None, **options)


def with_encoder(
    path: str | os.PathLike[str] | GGUFFile | None, mmproj: str | os.PathLike[str] | None, image_edge: int | None,
    **options: Any,
) -> tuple[LoadedModel, Defaults, Encoder | None]:  # fmt: skip
    """The parts of a model that a path or a name means, what its owner wants, and the encoder of a projector file where
    there is one; None is the bundled model. ``options`` are clean arguments of ``load_parts``. Raises what ``LLM.load``
    does."""
    file, defaults, beside = _opened(path)
    try:
        projector = _projector(file, beside, mmproj, image_edge)
    except BaseException:
        file.close()
        raise
    if projector is None:
        return _parts(file, defaults, **options), defaults, None
    try:
        parts = _parts(file, defaults, projector=projector.need(options["threads"], options["cache_type"]), **options)
    except BaseException:
        projector.file.close()
        raise
    try:
        return parts, defaults, projector.encoder(parts)
    except BaseException:
        parts.close()
        raise


def projector_memory(
    path: str | os.PathLike[str], *, mmproj: str | os.PathLike[str] | None = None, image_edge: int | None = None,
    threads: int | None = None, cache_type: CacheType = "f16", **others: object,
) -> int:  # fmt: skip
    """Bytes that ``LLM.load`` takes with these options of it for what the model sees pictures with. Raises
    ``GGUFError``, ``ModelError``."""
    file, _, beside = _opened(path)
    with file:
        projector = _projector(file, beside, mmproj, image_edge)
        if projector is None:
            return 0
        with projector.file:
            return projector.need(threads, cache_type)


def _projector(
    file: GGUFFile, beside: Path | None, mmproj: str | os.PathLike[str] | None, edge: int | None
) -> ProjectorFile | None:
    """The projector that was named, that the model's file has inside, or that came with it."""
    edge = None if edge is None else whole("image_edge", edge, 1, INT32)
    named = None if mmproj is None else path_of("mmproj", mmproj)
    if named is None and beside is None and not any(name.startswith("v.") for name in file.tensors):
        return None
    from llamaq.vision.loading import ProjectorFile, has_encoder

    if named is not None:
        return ProjectorFile(named, edge, file)
    found = _brought(file, file, edge) if has_encoder(file) else None
    return _brought(file, beside, edge) if found is None and beside is not None else found


def _brought(file: GGUFFile, path: Path | GGUFFile, edge: int | None) -> ProjectorFile | None:
    """The projector that came with a model, perhaps in the same file. One that llamaq does not run is told of in the
    log, for the model can be asked without it."""
    from llamaq.vision.loading import ProjectorFile

    try:
        return ProjectorFile(path, edge, file)
    except (GGUFError, ModelError) as error:
        logger.warning("the model reads text alone, without the projector that came with it: %s", error)
        return None


def pretrained(repo: str, filename: str | None, revision: str | None, progress: Progress | None) -> Found:
    """What ``LLM.from_pretrained`` loads, fetched where it is not there."""
    if "/" not in text("repo", repo):
        wrong = f"repo must be user/repo of the Hugging Face hub, got {shown(repo)}; LLM.load takes the name of a model"
        raise ValueError(f"{wrong} that is here")
    address = address_of(repo) or address_of(f"hf:{repo}")
    assert address is not None  # that is what hf: makes of it
    if filename is not None:
        address = Address(address.repo, file=text("filename", filename), revision=address.revision)
    if revision is not None:
        address = Address(address.repo, address.quant, address.file, text("revision", revision))
    return fetch(address, progress)


def defaults_of(found: Found) -> Defaults:
    """What a manifest's parameters mean here; those that are unknown or wrong are told in the log and left out."""
    values: dict[str, Any] = {"system": found.system, "adapters": found.adapters}
    sampling: dict[str, Any] = {}
    for name, value in found.parameters.items():
        try:
            _take(name, value, values, sampling)
        except (TypeError, ValueError) as error:
            logger.warning("%s: its parameter is left out: %s", found.name, error)
    return Defaults(**values, sampling=SamplingParams(**sampling))


def _take(name: str, value: Any, values: dict[str, Any], sampling: dict[str, Any]) -> None:
    if name in _SAMPLING:
        if name == "seed" and isinstance(value, int) and value < 0:  # a random one
            return
        SamplingParams(**{name: value})
        sampling[name] = value
    elif name == "stop":
        values["stop"] = texts("stop", value)
    elif name == "num_ctx":
        values["n_ctx"] = whole("num_ctx", value, 0, INT32)
    elif name == "num_predict":
        count = whole("num_predict", value)
        values["max_tokens"] = count if count >= 0 else None
    else:
        logger.debug("the parameter %s of a manifest has no meaning here", name)
