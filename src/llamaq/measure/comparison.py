"""Two files compared: what ``llamaq compare`` prints and ``llamaq quantize --report`` keeps in the file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llamaq.boundary.progress import Progress
from llamaq.engine.loading import plan_of
from llamaq.gguf import GGUFFile, TensorData, write_gguf
from llamaq.hub import resolve
from llamaq.llm.llm import LLM
from llamaq.measure.divergence import Divergence, divergence
from llamaq.measure.text import chunks_of
from llamaq.measure.weights import WeightError, relative_error, weight_errors

__all__ = ["Report", "compare", "store_report"]

PREFIX = "llamaq.report."


@dataclass(frozen=True)
class Report:
    """``base`` and ``text`` name what was compared with over what; ``weights`` are the matrices of both files."""

    base: str
    text: str
    divergence: Divergence
    weights: tuple[WeightError, ...]

    def summary(self) -> dict[str, float]:
        """`Divergence.summary` and ``weight_error``, the relative error of all matrices together."""
        return self.divergence.summary() | {"weight_error": relative_error(self.weights)}

    def metadata(self) -> dict[str, str | int | float]:
        """Keys and values for the file's metadata."""
        about: dict[str, str | int | float] = {
            "base": self.base,
            "text": self.text,
            "n_ctx": self.divergence.base.n_ctx,
            "tokens_scored": self.divergence.kl.size,
        }
        return {PREFIX + key: value for key, value in (about | self.summary()).items()}


def compare(
    base: str | os.PathLike[str],
    other: str | os.PathLike[str],
    text: str | bytes,
    *,
    text_name: str = "",
    n_ctx: int | None = None,
    limit: int | None = None,
    loading: Progress | None = None,
    reading: Progress | None = None,
    weighing: Progress | None = None,
    **options: Any,
) -> Report:
    """Reads ``text`` (at most ``limit`` chunks of ``n_ctx`` tokens) with both models (paths or names), and compares
    their weights.

    ``n_ctx`` None is 512, or the model's context where that is shorter.
    ``options`` are those of ``LLM.load`` for both; the three callbacks get work done and in total. Raises what loading
    raises, ModelError for files that are not of one model, ValueError for a text shorter than a chunk.
    """
    base, other = resolve(base), resolve(other)
    if n_ctx is None:
        with GGUFFile.open(base) as file:
            n_ctx = min(512, plan_of(file)[0].context_length)
    options = {"n_ctx": n_ctx, "n_batch": min(512, n_ctx)} | options
    with LLM.load(base, progress=loading, **options) as first, LLM.load(other, progress=loading, **options) as second:
        chunks = chunks_of(first.tokenizer, text, n_ctx, limit)
        found = divergence(first, second, chunks, progress=reading)
        threads = second.engine.threads
    with GGUFFile.open(base) as first_file, GGUFFile.open(other) as second_file:
        errors = weight_errors(first_file, second_file, threads=threads, progress=weighing)
    return Report(Path(base).name, text_name, found, tuple(errors))


def store_report(path: str | os.PathLike[str], report: Report) -> None:
    """Writes the summary into a file's metadata as ``llamaq.report.*``, in place of an earlier one.

    The file is written anew and takes its name when it is complete; of a split one, the first part. Raises GGUFError
    where the disk refuses.
    """
    with GGUFFile.open(path) as file:
        kept: dict[str, Any] = {key: value for key, value in file.metadata.items() if not key.startswith(PREFIX)}
        types = {key: type for key, type in file.metadata_types.items() if key in kept}
        tensors = [
            TensorData(name, info.format, info.shape, file.data(name))
            for name, info in file.tensors.items()
            if info.shard == 0
        ]
        write_gguf(file.paths[0], kept | report.metadata(), tensors, types=types)
