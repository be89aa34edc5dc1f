"""The answer of a chat as it comes."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llamaq.boundary.arguments import flag, instance, texts
from llamaq.chat.holding import held_to
from llamaq.chat.messages import ChatCompletion, ChatEvent, ChatFinishReason, ChatMessage, with_system
from llamaq.chat.request import ChatRequest, chat_request, checked

if TYPE_CHECKING:
    from llamaq.chat.options import ChatOptions, Messages, PromptOptions
    from llamaq.serving.model import Model
    from llamaq.serving.stream import Stream, Usage

__all__ = ["ChatStream"]

_OWN = ("tools", "template", "template_kwargs", "tool_format", "tool_choice", "reasoning", "picture_progress")
"""Options of the prompt."""


class ChatStream(Iterator[ChatEvent], AsyncIterator[ChatEvent]):
    """The events of an answer to ``request``, for ``for`` or ``async for``; the last one has the finish reason.

    ``message`` is the answer so far, and ``text`` the stream of the text behind it.
    """

    def __init__(self, request: ChatRequest, text: Stream, *, one_call: bool = False) -> None:
        self.request = request
        self.text = text
        self._reader = request.reader(one_call=one_call)
        self._ready: deque[ChatEvent] = deque()
        self._reason: ChatFinishReason | None = None
        self._stop: str | None = None

    @staticmethod
    def render(model: Model, messages: Messages, options: PromptOptions) -> ChatRequest:
        """The prompt alone; see ``LLM.render_chat``."""
        messages = with_system(messages, model.defaults.system)
        own = checked({**options})
        return chat_request(model.metadata, model.tokenizer, messages, encoder=model.encoder, **own)

    @classmethod
    def start(cls, model: Model, messages: Messages, options: ChatOptions) -> ChatStream:
        """Renders the conversation and asks for an answer; see ``LLM.chat``."""
        (answer,) = cls.prepare(model, messages, options)
        type(answer.text).begin(answer.text)
        return answer

    @classmethod
    def prepare(cls, model: Model, messages: Messages, options: ChatOptions, count: int = 1) -> list[ChatStream]:
        """Renders the conversation once for so many answers, with the seeds of ``SamplingParams.nth``, which begin with
        ``Stream.begin``."""
        model.check_writes()
        own: Any = {key: value for key, value in options.items() if key in _OWN}
        return cls.answers(model, cls.render(model, messages, own), options, count)

    @classmethod
    def answers(cls, model: Model, request: ChatRequest, options: ChatOptions, count: int = 1) -> list[ChatStream]:
        """As ``prepare``, for a conversation that has been rendered with these options."""
        from llamaq.sampling import SamplingParams  # this needs the compiled core

        model.check_writes()
        rest: dict[str, Any] = {key: value for key, value in options.items() if key not in _OWN}
        parallel = flag("parallel_tool_calls", rest.pop("parallel_tool_calls", True))
        sampling = rest.pop("sampling", None)
        given = None if sampling is None else instance("sampling", sampling, SamplingParams).structure
        structure = held_to(request, model.tokenizer, given, parallel=parallel)
        if structure is not given:
            sampling = replace(sampling or model.defaults.sampling, structure=structure)
        stop = rest.get("stop")
        rest["stop"] = (*request.stop, *(() if stop is None else texts("stop", stop)))
        rest = {"special": request.shown, **rest}
        own_sampling = [sampling if sampling is None else sampling.nth(i) for i in range(count)]
        rest["inserted"] = request.inserted
        return [
            cls(request, model.prepare(request.ids, **rest, sampling=each), one_call=not parallel)
            for each in own_sampling
        ]

    def __iter__(self) -> ChatStream:
        return self

    def __aiter__(self) -> ChatStream:
        return self

    def __next__(self) -> ChatEvent:
        while not self._ready:
            if self._reason is not None:
                raise StopIteration
            self._ready += self._reader.read(next(self.text))
        return self._next()

    async def __anext__(self) -> ChatEvent:
        while not self._ready:
            if self._reason is not None:
                raise StopAsyncIteration
            self._ready += self._reader.read(await anext(self.text))
        return self._next()

    @property
    def message(self) -> ChatMessage:
        return self._reader.message

    @property
    def usage(self) -> Usage:
        """What has been used so far."""
        usage = self.text.usage
        return replace(usage, completion_tokens=self._reader.tokens) if self._reader.cut else usage

    @property
    def reasoning_tokens(self) -> int:
        """How many of the answer's tokens so far the reasoning took."""
        return self._reader.reasoning_tokens

    def cancel(self) -> None:
        """Ends the answer, from any thread. What was there already still comes, then the last event."""
        self.text.cancel()

    def result(self) -> ChatCompletion:
        """Waits for the rest, and gives the whole answer."""
        for _ in self:
            pass
        return self._completion()

    async def aresult(self) -> ChatCompletion:
        """``result`` for coroutines."""
        async for _ in self:
            pass
        return self._completion()

    def _next(self) -> ChatEvent:
        event = self._ready.popleft()
        self._reason, self._stop = event.finish_reason, event.stop
        if self._reader.cut:
            self.text.cancel()
        return event

    def _completion(self) -> ChatCompletion:
        assert self._reason is not None
        return ChatCompletion(self.message, self._reason, self.usage, self.text.seed, self._stop, self.text.recorded)
