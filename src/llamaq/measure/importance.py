"""Importance matrices: what the columns of each matrix are multiplied with, on average over a text."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from llamaq.boundary.progress import Progress
from llamaq.engine.engine import Engine
from llamaq.errors import ModelError
from llamaq.gguf.imatrix import Imatrix, Squares
from llamaq.llm.llm import LLM

__all__ = ["collect_importance"]


def collect_importance(
    llm: LLM,
    chunks: NDArray[np.int32],
    imatrix: Imatrix,
    *,
    output: bool = False,
    progress: Progress | None = None,
    after_chunk: Callable[[], None] = lambda: None,
) -> None:
    """Reads the chunks and adds to ``imatrix``, so that one that was saved goes on as if it had never stopped.

    Matrices of the model's blocks are covered, with ``output`` the one behind the logits too, which makes it slower.
    ``progress`` gets the tokens read and in total, ``after_chunk`` is called when a chunk has been added. Raises
    ModelError where activations are not finite, or where ``imatrix`` comes from a model of another shape.
    """
    engine, (count, n_ctx) = llm.engine, chunks.shape
    imatrix.chunk_size = n_ctx
    try:
        for i, chunk in enumerate(chunks):
            engine.collect_squares()  # the sums begin at 0
            llm.logits(chunk.tolist(), first=0 if output else n_ctx - 1)  # a text without logits is not read
            _add(engine, imatrix, output)
            imatrix.chunks += 1
            after_chunk()
            if progress is not None:
                progress((i + 1) * n_ctx, count * n_ctx)
    finally:
        engine.collect_squares(False)


def _add(engine: Engine, imatrix: Imatrix, output: bool) -> None:
    """Adds one chunk. Sums are float32, as in the file: they round alike whether or not they were saved in between."""
    behind_logits = {weight.name for weight in engine.plan.nodes[-1].op.reads()}
    found = {name: sums for name, sums in engine.squares().items() if output or name not in behind_logits}
    for name, (_, sums) in found.items():
        if not np.isfinite(sums).all():
            raise ModelError(
                f"tensor {name!r}: expected finite activations, got infinite ones or NaN; "
                "the model is damaged or overflows: try a file of the original weights"
            )
        known = imatrix.entries.get(name)
        if known is not None and known.sums.shape != sums.shape:
            raise ModelError(
                f"tensor {name!r}: expected {sums.shape} sums as the model has, got an importance matrix with "
                f"{known.sums.shape}; it was made from another model"
            )
    for name, (rows, sums) in found.items():
        entry = imatrix.entries.setdefault(
            name, Squares(np.zeros(sums.shape, np.float32), np.zeros(len(rows), np.float32))
        )
        entry.sums = (entry.sums + sums).astype(np.float32)
        entry.counts = entry.counts + rows.astype(np.float32)
