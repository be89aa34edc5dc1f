"""POST /api/embed and /api/embeddings."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from llamaq.server.endpoint import Job
from llamaq.server.errors import Refusal, refusal_of
from llamaq.server.fields import Field
from llamaq.server.ollama.protocol import EMBED, EMBEDDINGS, read_request
from llamaq.server.service import Service
from llamaq.server.vectors import vectors_of
from llamaq.serving.stream import Stream

__all__ = ["Embed", "OldEmbedding"]


class Embed(Job):
    """A vector of length 1 for each text."""

    fields: ClassVar[tuple[Field, ...]] = EMBED
    asked_in = "input"
    is_long = True

    def __init__(self, service: Service, body: dict[str, Any]) -> None:
        super().__init__(service)
        self._began = time.monotonic_ns()
        self._values, _, self.ignored = read_request(self.fields, body, strict=service.settings.strict)
        self.model = self._values.get("model")
        self.keep_alive = self._values.get("keep_alive")
        texts = self._values.get(self.asked_in) or []
        self._texts: list[str] = [texts] if isinstance(texts, str) else [] if texts == [""] else texts
        self._ids: list[list[int]] = []
        self._loading = 0

    def prepare(self) -> Sequence[Stream]:
        self._loading = time.monotonic_ns() - self._began
        width = self.served.llm.hparams.width
        if self._values.get("dimensions", 0) > width:
            raise Refusal(400, f"dimensions must be at most {width}, the width of this model", param="dimensions")
        self._ids = [self._ids_of(text) for text in self._texts]
        return []

    async def whole(self) -> dict[str, Any]:
        vectors = await self.vectors()
        return {
            "model": self.served.name, "embeddings": vectors, "total_duration": time.monotonic_ns() - self._began,
            "load_duration": self._loading, "prompt_eval_count": sum(map(len, self._ids)),
        }  # fmt: skip

    async def vectors(self) -> list[list[float]]:
        if not self._ids:
            return []
        try:
            found = await vectors_of(self.served.llm, self._ids)
        except ValueError as error:
            raise refusal_of(error, param=self.asked_in, asked=True) from None
        if dimensions := self._values.get("dimensions"):
            found = found[:, :dimensions]
            found = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        numbers: list[list[float]] = found.astype(float).tolist()
        return numbers

    def tally(self) -> dict[str, int]:
        return {"in": sum(map(len, self._ids))}

    def _ids_of(self, text: str) -> list[int]:
        model = self.served.llm.model
        ids, n_ctx = model.prompt_ids(text, self.asked_in), model.n_ctx
        if len(ids) <= n_ctx or not self._values.get("truncate", True):
            return model.fitting(ids)
        special = model.tokenizer.special
        end = ids[-1:] if ids[-1] in (special.eos, special.sep) else []
        return [*ids[: n_ctx - len(end)], *end]


class OldEmbedding(Embed):
    """A vector of one text."""

    fields: ClassVar[tuple[Field, ...]] = EMBEDDINGS
    asked_in = "prompt"

    async def whole(self) -> dict[str, Any]:
        found = await self.vectors()
        return {"embedding": found[0] if found else []}
