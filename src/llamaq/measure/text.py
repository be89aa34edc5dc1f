"""A text as llama.cpp's tools measure with it, and the loss of its tokens.

It is cut into chunks of ``n_ctx`` tokens, each read from an empty context. Where the tokenizer begins texts with BOS,
that takes the place of each chunk's first token. Tokens that follow the chunk's second half are scored, so that the
model always has half a context before them (ggml-org/llama.cpp, tools/perplexity/README.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llamaq.errors import naming
from llamaq.tokenizer import Tokenizer

__all__ = ["chunks_of", "log_sums", "scored_from"]

_ROWS = 8  # rows of logits worked on at a time, so that temporary arrays stay in the cache


def chunks_of(
    tokenizer: Tokenizer, text: str | bytes | Sequence[int], n_ctx: int, limit: int | None = None
) -> NDArray[np.int32]:
    """Token ids, int32 (chunks, n_ctx), of a text or of ids; at most ``limit`` chunks, and what fills none is left out.

    A text is encoded with the special tokens that the model expects around it, as llama.cpp does. Raises ValueError
    where there is less than one chunk, or a chunk has nothing to score.
    """
    if n_ctx < 4 or (limit is not None and limit < 1):
        raise ValueError(f"expected chunks of at least 4 tokens, and at least one of them, got {limit} of {n_ctx}")
    ids = tokenizer.encode(text) if isinstance(text, str | bytes) else text
    count = min(len(ids) // n_ctx, limit or len(ids))
    if count == 0:
        message = f"the text has {len(ids)} tokens, one chunk needs {n_ctx}; give a longer text or lower n_ctx"
        raise naming(ValueError(message), "n_ctx")
    chunks = np.array(ids[: count * n_ctx], np.int32).reshape(count, n_ctx)
    if tokenizer.add_bos and tokenizer.bos_id is not None:
        chunks[:, 0] = tokenizer.bos_id
    return chunks


def scored_from(n_ctx: int) -> int:
    """The first position of a chunk after which the next token is scored."""
    return n_ctx // 2


def log_sums(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Logarithm of the sum of ``exp(logits)`` of each row, float64 (rows,): what to subtract for log-probabilities."""
    sums = np.empty(len(logits))
    for i in range(0, len(logits), _ROWS):
        rows = logits[i : i + _ROWS]
        top = rows.max(axis=1, keepdims=True)
        sums[i : i + _ROWS] = top[:, 0] + np.log(np.exp(rows - top).sum(axis=1, dtype=np.float64))
    return sums
