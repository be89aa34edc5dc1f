"""LiteLLM: a provider of models in this process. Needs the package litellm.

litellm.custom_provider_map = [{"provider": "llamaq", "custom_handler": LlamaqHandler({"small": "model.gguf"})}]
litellm.completion("llamaq/small", messages=[...])
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from litellm import CustomLLM, ModelResponse
from litellm.types.utils import Embedding, EmbeddingResponse, GenericStreamingChunk
from litellm.types.utils import Usage as LiteLLMUsage

from llamaq.chat.unread import without_unread
from llamaq.llm.llm import LLM
from llamaq.sampling import SamplingParams
from llamaq.structure import json_object, json_schema

if TYPE_CHECKING:
    from llamaq.chat import ChatCompletion, ChatEvent, ChatStream
    from llamaq.structure import Structure

__all__ = ["LlamaqHandler"]

logger = logging.getLogger("llamaq")

_REASONS = {"stop": "stop", "tool_calls": "tool_calls", "context": "length", "length": "length"}


class LlamaqHandler(CustomLLM):
    """``models`` are what callers may name: paths, or models that are loaded. Other names are what ``LLM.load`` makes
    of them; ``load`` are options of it. Each is loaded when it is first asked for, and stays."""

    def __init__(self, models: Mapping[str, str | LLM] | None = None, **load: Any) -> None:
        super().__init__()
        self._models: dict[str, str | LLM] = dict(models or {})
        self._load = load
        self._lock = threading.Lock()

    def llm(self, name: str) -> LLM:
        """The model of that name. Raises what ``LLM.load`` raises."""
        with self._lock:
            found = self._models.get(name, name)
            if not isinstance(found, LLM):
                found = self._models[name] = LLM.load(found, **self._load)
            return found

    def completion(self, *args: Any, **kwargs: Any) -> ModelResponse:
        call = _Call(self, args, kwargs)
        return call.response(call.llm.chat(call.messages, **call.options))

    async def acompletion(self, *args: Any, **kwargs: Any) -> ModelResponse:
        call = _Call(self, args, kwargs)
        return call.response(await call.llm.achat(call.messages, **call.options))

    def streaming(self, *args: Any, **kwargs: Any) -> Iterator[GenericStreamingChunk]:
        call = _Call(self, args, kwargs)
        stream = call.llm.chat(call.messages, stream=True, **call.options)
        for event in stream:
            yield _chunk(event, stream)

    async def astreaming(self, *args: Any, **kwargs: Any) -> AsyncIterator[GenericStreamingChunk]:
        call = _Call(self, args, kwargs)
        stream = call.llm.chat(call.messages, stream=True, **call.options)
        async for event in stream:
            yield _chunk(event, stream)

    def embedding(self, *args: Any, **kwargs: Any) -> EmbeddingResponse:
        model, texts = _named("model", 0, args, kwargs), _named("input", 1, args, kwargs)
        return _embedded(model, texts, self.llm(model).embed(texts))

    async def aembedding(self, *args: Any, **kwargs: Any) -> EmbeddingResponse:
        model, texts = _named("model", 0, args, kwargs), _named("input", 1, args, kwargs)
        return _embedded(model, texts, await self.llm(model).aembed(texts))


class _Call:
    """The arguments of a call, of which LiteLLM gives more than a dozen."""

    def __init__(self, handler: LlamaqHandler, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self.model: str = _named("model", 0, args, kwargs)
        self.llm = handler.llm(self.model)
        given = _named("messages", 1, args, kwargs)
        self.messages, unread = without_unread(self.llm.metadata, given)  # LiteLLM's own are among them
        if unread:
            logger.info("nothing reads these keys of messages: %s", ", ".join(unread))
        asked = dict(kwargs.get("optional_params") or {})
        asked.update(asked.pop("extra_body", None) or {})
        most = asked.get("max_completion_tokens", asked.get("max_tokens"))
        known = {name: value for name, value in asked.items() if name in SamplingParams.__dataclass_fields__}
        bias = {int(id): value for id, value in (known.pop("logit_bias", None) or {}).items()}
        for name in ("logprobs", "structure"):
            known.pop(name, None)
        sampling = SamplingParams(**known, logit_bias=bias)
        structure = _structure(asked.get("response_format"))
        self.options: dict[str, Any] = {
            "max_tokens": most,
            "sampling": replace(sampling, structure=structure),
            "stop": asked.get("stop") or (),
            "tools": asked.get("tools"),
            "tool_choice": asked.get("tool_choice") if asked.get("tools") else None,
        }

    def response(self, answer: ChatCompletion) -> ModelResponse:
        message: dict[str, Any] = {"role": "assistant", "content": answer.message.content or None}
        if answer.message.reasoning:
            message["reasoning_content"] = answer.message.reasoning
        if answer.message.tool_calls:
            message["tool_calls"] = [
                {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": json.dumps(c.arguments)}}
                for c in answer.message.tool_calls
            ]
        choice = {"index": 0, "message": message, "finish_reason": _REASONS.get(answer.finish_reason, "stop")}
        return ModelResponse(model=self.model, choices=[choice], usage=LiteLLMUsage(**_usage(answer)))


def _chunk(event: ChatEvent, stream: ChatStream) -> GenericStreamingChunk:
    ends, call = event.finish_reason is not None, event.tool_call
    use: Any = None
    if call is not None:
        function = {"name": call.name, "arguments": call.arguments}
        use = {"id": call.id, "type": "function", "function": function, "index": call.index}
    return {
        "text": event.text, "is_finished": ends, "index": 0, "tool_use": use,
        "finish_reason": _REASONS.get(event.finish_reason or "", "stop") if ends else "",
        "usage": _usage(stream) if ends else None,  # type: ignore[typeddict-item]
    }  # fmt: skip


def _usage(answer: ChatCompletion | ChatStream) -> dict[str, int]:
    read, made = answer.usage.prompt_tokens, answer.usage.completion_tokens
    return {"prompt_tokens": read, "completion_tokens": made, "total_tokens": read + made}


def _embedded(model: str, texts: Any, vectors: Any) -> EmbeddingResponse:
    data = [Embedding(embedding=vector, index=i, object="embedding") for i, vector in enumerate(vectors.tolist())]
    return EmbeddingResponse(model=model, data=data)


def _structure(format: Any) -> Structure | None:
    """What ``response_format`` asks for: a dict in OpenAI's shape, or a class of Pydantic."""
    if hasattr(format, "model_json_schema"):
        return json_schema(format.model_json_schema())
    kind = "text" if format is None else format["type"]
    if kind == "json_schema":
        return json_schema(format["json_schema"]["schema"])
    return json_object() if kind == "json_object" else None


def _named(name: str, place: int, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    return kwargs[name] if name in kwargs else args[place]
