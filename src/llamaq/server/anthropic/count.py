"""POST /v1/messages/count_tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llamaq.server.anthropic.asking import conversation_of, model_of, needed, prompt_options, unused_parts
from llamaq.server.anthropic.protocol import COUNT
from llamaq.server.endpoint import Job
from llamaq.server.fields import read_fields
from llamaq.server.service import Service
from llamaq.serving.stream import Stream

__all__ = ["TokenCount"]


class TokenCount(Job):
    """The number of tokens that the same conversation would have as a prompt."""

    answers = 0

    def __init__(self, service: Service, body: dict[str, Any]) -> None:
        super().__init__(service)
        self._values, self.ignored = read_fields(COUNT, body, strict=service.settings.strict)
        needed(self._values, "messages")
        self.ignored += unused_parts(self._values, body, strict=service.settings.strict)
        self.model = model_of(self._values, service.models)
        self._options = prompt_options(self._values, service.settings)
        self._options["picture_progress"] = self.go_on
        self._count = 0

    def prepare(self) -> Sequence[Stream]:
        llm = self.served.llm
        llm.model.check_writes()
        request = llm.render_chat(conversation_of(self._values), **self._options)
        self._count = len(request.ids)
        return []

    async def whole(self) -> dict[str, Any]:
        return {"input_tokens": self._count}

    def tally(self) -> dict[str, int]:
        return {"counted": self._count}
