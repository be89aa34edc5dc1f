"""POST /apply-template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llamaq.chat import chat_request
from llamaq.server.openai.chat import Chat
from llamaq.server.service import Service
from llamaq.serving.stream import Stream

__all__ = ["AppliedTemplate"]

_READ = ("tools", "tool_choice", "template", "template_kwargs")


class AppliedTemplate(Chat):
    """The prompt that a chat of this body has, as a text, without an answer to it."""

    def __init__(self, service: Service, body: dict[str, Any]) -> None:
        super().__init__(service, body)
        self.answers = 0
        self.streamed = False
        self._prompt = ""

    def prepare(self) -> Sequence[Stream]:
        options: dict[str, Any] = {name: value for name, value in self.options().items() if name in _READ}
        model = self.served.llm.model
        self._prompt = chat_request(model.metadata, model.tokenizer, self._values["messages"], **options).prompt
        return []

    async def whole(self) -> dict[str, Any]:
        return {"prompt": self._prompt}

    def tally(self) -> str:
        return ""
