"""``Llama.embed`` and ``create_embedding``: lists of numbers, one vector for each text, or for each token of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llamaq.llm.embedding import Embedder, Pooling
from llamaq.serving.reading import wait

from .constants import (
    LLAMA_POOLING_TYPE_CLS,
    LLAMA_POOLING_TYPE_LAST,
    LLAMA_POOLING_TYPE_MEAN,
    LLAMA_POOLING_TYPE_NONE,
)
from .model import Model

__all__ = ["create_embedding", "embed"]

_POOLINGS: dict[int, Pooling] = {
    LLAMA_POOLING_TYPE_MEAN: "mean",
    LLAMA_POOLING_TYPE_CLS: "cls",
    LLAMA_POOLING_TYPE_LAST: "last",
}


def create_embedding(llama: Model, input: str | Sequence[str], model: str | None) -> dict[str, Any]:
    """OpenAI's shape around ``embed``."""
    vectors, count = embed(llama, [input] if isinstance(input, str) else input, normalize=False, truncate=True)
    data = [{"object": "embedding", "embedding": vector, "index": i} for i, vector in enumerate(vectors)]
    usage = {"prompt_tokens": count, "total_tokens": count}
    return {"object": "list", "data": data, "model": model or llama.model_path, "usage": usage}


def embed(llama: Model, texts: Sequence[str], *, normalize: bool, truncate: bool) -> tuple[list[Any], int]:
    """A vector for each text, or a list of those of its tokens where nothing pools them; and the count of tokens.

    Raises ``RuntimeError`` for a model without ``embedding=True``, ``ValueError`` for a text of more than ``n_batch``
    tokens that may not be cut.
    """
    if not llama.context_params.embeddings:
        raise RuntimeError("Llama model was made without embedding=True, which embeddings need")
    prompts = [llama.tokenize(text.encode("utf-8", "surrogateescape")) for text in texts]
    if truncate:
        prompts = [ids[: llama.n_batch] for ids in prompts]
    longest = max(map(len, prompts), default=0)
    if longest > llama.n_batch:
        raise ValueError(f"Requested tokens ({longest}) exceed batch size of {llama.n_batch}; raise n_batch")
    model, pooling = llama.llm.model, llama.pooling_type()
    unpooled = pooling == LLAMA_POOLING_TYPE_NONE
    embedder = Embedder(llama.parts.file, llama.llm.plan, "mean" if unpooled else _POOLINGS.get(pooling), normalize)
    results = wait(model.scheduler, [embedder.request(model.prompt_ids(ids)) for ids in prompts])
    found = (
        [embedder.unpooled(result).tolist() for result in results] if unpooled else embedder.pooled(results).tolist()
    )
    return found, sum(map(len, prompts))
