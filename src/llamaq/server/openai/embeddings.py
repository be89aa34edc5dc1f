"""POST /v1/embeddings."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamaq.server.endpoint import Job
from llamaq.server.errors import Refusal, refusal_of
from llamaq.server.fields import read_fields
from llamaq.server.openai.protocol import EMBEDDING
from llamaq.server.service import Service
from llamaq.server.vectors import vectors_of
from llamaq.serving.stream import Stream

__all__ = ["Embeddings"]


class Embeddings(Job):
    """A vector of length 1 for each text."""

    asked_in = "input"
    is_long = True

    def __init__(self, service: Service, body: dict[str, Any]) -> None:
        super().__init__(service)
        self._values, self.ignored = read_fields(EMBEDDING, body, strict=service.settings.strict)
        self.model = self._values.get("model")
        if "input" not in self._values:
            raise Refusal(400, "input is missing", param="input")
        self._ids: list[list[int]] = []

    def prepare(self) -> Sequence[Stream]:
        model, width = self.served.llm.model, self.served.llm.hparams.width
        if self._values.get("dimensions", 1) > width:
            raise Refusal(400, f"dimensions must be at most {width}, the width of this model", param="dimensions")
        self._ids = [model.fitting(model.prompt_ids(text, "input")) for text in self._values["input"]]
        return []

    async def whole(self) -> dict[str, Any]:
        try:
            vectors = await vectors_of(self.served.llm, self._ids)
        except ValueError as error:
            raise refusal_of(error, param="input", asked=True) from None
        count = sum(map(len, self._ids))
        data = [
            {"object": "embedding", "index": i, "embedding": self._shown(vector)} for i, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": count, "total_tokens": count}
        return {"object": "list", "data": data, "model": self.served.name, "usage": usage}

    def tally(self) -> dict[str, int]:
        return {"in": sum(map(len, self._ids))}

    def _shown(self, vector: NDArray[np.float32]) -> list[float] | str:
        if (dimensions := self._values.get("dimensions")) is not None:
            vector = vector[:dimensions]
            vector = vector / (float(np.linalg.norm(vector)) or 1.0)
        if self._values.get("encoding_format") == "base64":
            return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
        numbers: list[float] = vector.astype(float).tolist()
        return numbers
