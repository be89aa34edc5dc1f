"""POST /embedding, /embeddings and /rerank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamaq.errors import ModelError
from llamaq.llm.ranking import Ranker
from llamaq.server.endpoint import Job
from llamaq.server.errors import Refusal, refusal_of
from llamaq.server.fields import read_fields
from llamaq.server.native.completion import ids_of
from llamaq.server.native.protocol import EMBEDDING, RERANK
from llamaq.server.service import Service
from llamaq.server.vectors import scores_of, vectors_of
from llamaq.serving.stream import Stream

__all__ = ["Embeddings", "Ranking"]


class Embeddings(Job):
    """A vector for each text."""

    asked_in = "content"
    is_long = True

    def __init__(self, service: Service, body: dict[str, Any]) -> None:
        super().__init__(service)
        self._values, self.ignored = read_fields(EMBEDDING, body, strict=service.settings.strict)
        self.model = self._values.get("model")
        self.asked_in = "input" if "input" in self._values else "content"
        if self.asked_in not in self._values:
            raise Refusal(400, "content is missing", param="content")
        self._ids: list[list[int]] = []

    def prepare(self) -> Sequence[Stream]:
        model = self.served.llm.model
        ids = [ids_of(model.tokenizer, parts) for parts in self._values[self.asked_in]]
        self._ids = [model.fitting(model.prompt_ids(each)) for each in ids]
        return []

    async def whole(self) -> list[dict[str, Any]]:
        norm = self._values.get("embd_normalize", 2)
        vectors = await vectors_of(self.served.llm, self._ids, normalize=norm == 2)
        return [{"index": i, "embedding": [_scaled(vector, norm).tolist()]} for i, vector in enumerate(vectors)]

    def tally(self) -> dict[str, int]:
        return {"in": sum(map(len, self._ids))}


class Ranking(Job):
    """How well documents answer a query, the best first."""

    def __init__(self, service: Service, body: dict[str, Any]) -> None:
        super().__init__(service)
        self._values, self.ignored = read_fields(RERANK, body, strict=service.settings.strict)
        self.model = self._values.get("model")
        self.asked_in = "texts" if "texts" in self._values else "documents"
        for name in ("query", self.asked_in):
            if name not in self._values:
                raise Refusal(400, f"{name} is missing", param=name)
        self._documents: list[str] = self._values[self.asked_in]
        self._counts: list[int] = []

    def prepare(self) -> Sequence[Stream]:
        llm = self.served.llm
        try:
            ranker = Ranker(llm.model.parts.file, llm.plan, llm.tokenizer)
        except ModelError as error:
            raise Refusal(501, str(error), param="model") from None
        pairs = [ranker.ids(self._values["query"], document) for document in self._documents]
        self._counts = [len(llm.model.fitting(pair)) for pair in pairs]
        return []

    async def whole(self) -> Any:
        try:
            scores = await scores_of(self.served.llm, self._values["query"], self._documents, self._counts)
        except ValueError as error:
            raise refusal_of(error, param=self.asked_in, asked=True) from None
        best = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[: self._values.get("top_n")]
        if self.asked_in == "texts":
            texts = self._documents if self._values.get("return_text") else None
            return [{"index": i, "score": scores[i], **({} if texts is None else {"text": texts[i]})} for i in best]
        count = sum(self._counts)
        usage = {"prompt_tokens": count, "total_tokens": count}
        results = [{"index": i, "relevance_score": scores[i]} for i in best]
        return {"model": self.served.name, "object": "list", "usage": usage, "results": results}

    def tally(self) -> dict[str, int]:
        return {"in": sum(self._counts)}


def _scaled(vector: NDArray[np.float32], norm: int) -> NDArray[np.float64]:
    """The numbers so that their p-norm is 1, or the largest is 32760 (0), or as they are (-1)."""
    wide = vector.astype(np.float64)
    if norm in (-1, 2):  # 2 is what the model's vectors have already
        return wide
    if norm == 0:
        return wide / (float(np.abs(wide).max()) or 1.0) * 32760
    return wide / (float((np.abs(wide) ** norm).sum() ** (1 / norm)) or 1.0)
