"""POST /tokenize and /detokenize."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llamaq.server.endpoint import Job
from llamaq.server.errors import Refusal
from llamaq.server.fields import read_fields
from llamaq.server.native.completion import ids_of
from llamaq.server.native.protocol import DETOKENIZE, TOKENIZE
from llamaq.server.service import Service
from llamaq.serving.stream import Stream

__all__ = ["Detokenized", "Tokenized"]


class Tokenized(Job):
    """The tokens of a text."""

    asked_in = "content"
    answers = 0
    is_long = True

    def __init__(self, service: Service, body: dict[str, Any]) -> None:
        super().__init__(service)
        self._values, self.ignored = read_fields(TOKENIZE, body, strict=service.settings.strict)
        self.model = self._values.get("model")
        self._tokens: list[Any] = []

    def prepare(self) -> Sequence[Stream]:
        values, tokenizer = self._values, self.served.llm.tokenizer
        special, parse = values.get("add_special", False), values.get("parse_special", True)
        self._tokens = [*ids_of(tokenizer, values.get("content", ""), special=special, parse=parse)]
        if values.get("with_pieces"):
            told = {id: {"id": id, "piece": _piece(tokenizer.token_bytes(id, special=True))} for id in {*self._tokens}}
            self._tokens = [told[id] for id in self._tokens]  # one object for each token of the vocabulary
        return []

    async def whole(self) -> dict[str, Any]:
        return {"tokens": self._tokens}


class Detokenized(Job):
    """The text of tokens."""

    asked_in = "tokens"
    answers = 0

    def __init__(self, service: Service, body: dict[str, Any]) -> None:
        super().__init__(service)
        self._values, self.ignored = read_fields(DETOKENIZE, body, strict=service.settings.strict)
        self.model = self._values.get("model")
        if "tokens" not in self._values:
            raise Refusal(400, "tokens is missing", param="tokens")
        self._text = ""

    def prepare(self) -> Sequence[Stream]:
        self._text = self.served.llm.tokenizer.decode(self._values["tokens"], special=True)
        return []

    async def whole(self) -> dict[str, Any]:
        return {"content": self._text}


def _piece(raw: bytes) -> str | list[int]:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return list(raw)
