"""POST /apply-template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llamaq.server.openai.chat import Chat
from llamaq.server.service import Service
from llamaq.serving.stream import Stream

__all__ = ["AppliedTemplate"]


class AppliedTemplate(Chat):
    """The prompt that a chat of this body has, as a text, without an answer to it."""

    def __init__(self, service: Service, body: dict[str, Any]) -> None:
        super().__init__(service, body)
        self.answers, self.streamed, self._prompt = 0, False, ""

    def prepare(self) -> Sequence[Stream]:
        self._prompt = self.served.llm.render_chat(self.said(), **self.prompt_options()).prompt
        return ()

    async def whole(self) -> dict[str, Any]:
        return {"prompt": self._prompt}

    def tally(self) -> dict[str, int]:
        return {}
