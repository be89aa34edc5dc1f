"""POST /api/chat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from llamaq.chat import ChatRequest, chat_request
from llamaq.server.about import template_facts
from llamaq.server.errors import Refusal
from llamaq.server.fields import Field, extra_keys
from llamaq.server.ollama.answering import Answering
from llamaq.server.ollama.protocol import CHAT, MESSAGE_KEYS
from llamaq.server.service import Service

__all__ = ["Chat"]


class Chat(Answering):
    """An answer to a conversation."""

    fields: ClassVar[tuple[Field, ...]] = CHAT

    def __init__(self, service: Service, body: dict[str, Any]) -> None:
        super().__init__(service, body)
        self.ignored += extra_keys("messages", body.get("messages"), MESSAGE_KEYS, strict=service.settings.strict)

    def says_nothing(self) -> bool:
        return not self.values.get("messages")

    def conversation(self) -> ChatRequest:
        model, template, tools = self.served.llm.model, self.service.settings.template, self.values.get("tools", [])
        if tools and not template_facts(model.metadata, template).tools:
            raise Refusal(400, f'"{self.served.name}" does not support tools', param="tools")
        return chat_request(
            model.metadata, model.tokenizer, self.values["messages"], tools=tools, template=template,
            template_kwargs=self.variables(), encoder=model.encoder, picture_progress=self.go_on,
        )  # fmt: skip

    def piece(self, text: str, thinking: str, calls: Sequence[dict[str, Any]]) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if thinking:
            message["thinking"] = thinking
        if calls:
            message["tool_calls"] = list(calls)
        return {"message": message}
