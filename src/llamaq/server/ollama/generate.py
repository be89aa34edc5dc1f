"""POST /api/generate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

from llamaq.chat import ChatRequest, chat_request, file_templates
from llamaq.chat.options import ChatOptions
from llamaq.chat.reasoning import Beginning
from llamaq.errors import TokenizerError
from llamaq.llm.infill import infill_ids, with_stops
from llamaq.server.errors import Refusal
from llamaq.server.fields import Field
from llamaq.server.ollama.answering import Answering
from llamaq.server.ollama.protocol import GENERATE

__all__ = ["Generate"]


class Generate(Answering):
    """An answer to one text, or what follows it; ``context`` takes it up later."""

    asked_in = "prompt"
    fields: ClassVar[tuple[Field, ...]] = GENERATE

    def says_nothing(self) -> bool:
        self._raw = self.values.get("raw", False)
        for name in ("system", "context", "suffix", "images"):
            if self._raw and self.values.get(name):
                raise Refusal(400, f"raw: true takes the prompt as it is, without {name}", param=name)
        return not self.values.get("prompt")

    def conversation(self) -> ChatRequest:
        model, prompt = self.served.llm.model, self.values["prompt"]
        template = self.service.settings.template
        images = self.values.get("images", [])
        if "suffix" in self.values:
            if images:
                raise Refusal(400, "suffix: texts are filled in without images", param="images")
            try:
                return _plain(prompt, infill_ids(model.tokenizer, prompt, self.values["suffix"]))
            except TokenizerError:
                raise Refusal(400, f'suffix: "{self.served.name}" does not support insert', param="suffix") from None
        if not images and (self._raw or (template is None and not file_templates(model.metadata))):
            request = _plain(prompt, model.prompt_ids(prompt))
        else:
            system = [{"role": "system", "content": text}] if (text := self.values.get("system")) else []
            said = {"role": "user", "content": [*images, {"type": "text", "text": prompt}] if images else prompt}
            request = chat_request(
                model.metadata, model.tokenizer, [*system, said], template=template,
                template_kwargs=self.variables(), encoder=model.encoder, picture_progress=self.go_on,
            )  # fmt: skip
        return self._going_on(request)

    def asked(self) -> ChatOptions:
        found = super().asked()
        return {**found, **with_stops(self.served.llm.tokenizer, found)} if "suffix" in self.values else found

    def piece(self, text: str, thinking: str, calls: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return {"response": text, **({"thinking": thinking} if thinking else {})}

    def ending(self) -> dict[str, Any]:
        without = self._raw or self.values.get("images")  # ids of a picture's rows are no tokens
        return {} if without else {"context": self._chat.text.tokens}

    def _going_on(self, request: ChatRequest) -> ChatRequest:
        """The prompt behind what came before."""
        before = self.values.get("context")
        if not before:
            return request
        model = self.served.llm.model
        ids = request.ids[request.ids[:1] == [model.tokenizer.bos_id] :]
        return replace(request, ids=model.prompt_ids([*before, *ids], "context"))


def _plain(prompt: str, ids: list[int]) -> ChatRequest:
    """A text that is no conversation."""
    return ChatRequest(prompt, ids, Beginning(may_open=False), (), (), frozenset(), (), (), None, None)
