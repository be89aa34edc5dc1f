"""POST /completion and /completions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any, ClassVar, TypeAlias

from llamaq.sampling import SamplingParams
from llamaq.server.dialect import dumps, sse
from llamaq.server.endpoint import Job, merged
from llamaq.server.errors import Refusal
from llamaq.server.fields import Field, read_fields
from llamaq.server.native.protocol import COMPLETION, Parts
from llamaq.server.native.told import cut_out, settings_of, stop_of
from llamaq.server.openai.asking import (
    adapter_of,
    finish_reason,
    sampling_of,
    structure_of,
    timings_of,
    token_entry,
    usage_of,
    with_defaults,
)
from llamaq.server.openai.protocol import MOST_TOGETHER
from llamaq.server.service import Service
from llamaq.serving.answer import Event
from llamaq.serving.stream import Options, Stream
from llamaq.tokenizer import Tokenizer

__all__ = ["Completion", "ids_of"]

Step: TypeAlias = tuple[int, int]
"""Tokens of a prompt that have been read, and all of them."""


class Completion(Job):
    """Texts that go on; ``n_cmpl`` for each prompt."""

    asked_in = "prompt"
    fields: ClassVar[Sequence[Field]] = COMPLETION

    def __init__(self, service: Service, body: dict[str, Any]) -> None:
        super().__init__(service)
        self.values, self.ignored = read_fields(self.fields, body, strict=service.settings.strict)
        self.model = self.values.get("model")
        self.streamed = self.values.get("stream", False)
        self._prompts = self.prompts()
        self._n = self.values.get("n_cmpl", 1)
        self.answers = len(self._prompts) * self._n
        if self.answers > MOST_TOGETHER:
            message = f"prompt and n_cmpl ask for {self.answers} answers; a request may have {MOST_TOGETHER}"
            raise Refusal(400, message, param="n_cmpl")
        self._biases: list[tuple[int | str, float]] = self.values.get("logit_bias", [])
        settings = {name: value for name, value in self.values.items() if name != "logit_bias"}
        self._sampling = sampling_of(settings, self.values.get("n_probs") or None)
        self.headers["x-llamaq-seed"] = str(self._sampling.seed)
        self._made: list[_Answer] = []

    def prompts(self) -> list[Parts]:
        if "prompt" not in self.values:
            raise Refusal(400, "prompt is missing", param="prompt")
        found: list[Parts] = self.values["prompt"]
        return found

    def prompt_ids(self, prompt: Parts) -> list[int]:
        """Runs in a thread, as ``prepare`` does."""
        model = self.served.llm.model
        return model.prompt_ids(ids_of(model.tokenizer, prompt))

    def options(self) -> Options:
        """Runs in a thread, as ``prepare`` does."""
        return {"max_tokens": self.values.get("n_predict", self.values.get("max_tokens")),
                "stop": self.values.get("stop", ())}  # fmt: skip

    def prepare(self) -> Sequence[Stream]:
        model = self.served.llm.model
        options: dict[str, Any] = {**self.options(), "adapter": adapter_of(self.values, self.served)}
        self._sampling = with_defaults(self._sampling, self.values, model.defaults.sampling)
        self.headers["x-llamaq-seed"] = str(self._sampling.seed)
        structure = structure_of(self.values)
        sampling = replace(self._sampling, structure=structure, logit_bias=_bias_of(model.tokenizer, self._biases))
        for ids in [self.prompt_ids(prompt) for prompt in self._prompts]:
            text = model.tokenizer.decode(ids, special=True)
            for i in range(self._n):
                answer = _Answer(self, len(self._made), text, sampling.nth(i))
                progress = answer.note if self.values.get("return_progress") and self.streamed else None
                answer.stream = model.prepare(ids, **options, sampling=answer.sampling, progress=progress)
                self._made.append(answer)
        return [answer.stream for answer in self._made]

    async def whole(self) -> Any:
        wanted = self.values.get("response_fields", ())
        found = [cut_out(await answer.whole(), wanted) for answer in self._made]
        return found[0] if len(found) == 1 else found

    async def frames(self) -> AsyncGenerator[str, None]:
        wanted = self.values.get("response_fields", ())
        async with aclosing(merged([answer.events() for answer in self._made])) as events:
            async for number, event in events:
                answer = self._made[number]
                if isinstance(event, Event):
                    answer.add(event)
                    if (piece := answer.piece(event)) is not None:
                        yield sse(dumps(piece))
                    if event.finish_reason is not None:
                        yield sse(dumps(cut_out({**answer.end(event), "content": "", "tokens": []}, wanted)))
                else:
                    yield sse(dumps(answer.progress(event)))

    def tally(self) -> dict[str, int]:
        if not self._made:
            return {}
        usage = usage_of([answer.stream for answer in self._made], self._n)
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        return {"in": usage["prompt_tokens"], "cached": cached, "out": usage["completion_tokens"]}


class _Answer:
    """One answer, as far as it has been read."""

    stream: Stream

    def __init__(self, job: Completion, index: int, prompt: str, sampling: SamplingParams) -> None:
        self.sampling = sampling
        self.steps: asyncio.Queue[Step] = asyncio.Queue()
        self._job = job
        self._index = index
        self._prompt = prompt
        self._text: list[str] = []
        self._tokens: list[int] = []
        self._entries: list[dict[str, Any]] = []
        self._began = time.monotonic()

    def events(self) -> AsyncIterator[Event | Step]:
        return _with_steps(self.stream, self.steps) if self._job.values.get("return_progress") else self.stream

    def note(self, read: int, total: int) -> None:
        self.steps.put_nowait((read, total))

    def add(self, event: Event) -> None:
        tokenizer = self._job.served.llm.tokenizer
        self._text.append(event.text)
        if event.token is not None and event.token not in tokenizer.eog_ids:
            self._tokens.append(event.token)
            if event.logprob is not None:
                self._entries.append(token_entry(tokenizer, event.token, event.logprob, event.top_logprobs))

    async def whole(self) -> dict[str, Any]:
        events = (await self.stream.aresult()).events
        for event in events:
            self.add(event)
        found = self.end(events[-1])
        return found if "n_probs" not in self._job.values else {**found, "completion_probabilities": self._entries}

    def piece(self, event: Event) -> dict[str, Any] | None:
        """What is sent of an event; the last one may have nothing but its end."""
        is_token = event.token is not None and event.token not in self._job.served.llm.tokenizer.eog_ids
        if not is_token and not event.text:
            return None
        found = self._head(event.text, [event.token] if is_token and event.token is not None else [])
        if is_token and event.logprob is not None:
            found["completion_probabilities"] = self._entries[-1:]
        if self._job.values.get("timings_per_token"):
            found["timings"] = timings_of([self.stream], 1, self.stream.why)
        return found

    def progress(self, step: Step) -> dict[str, Any]:
        read, total = step
        told = {"total": total, "cache": self.stream.usage.cached_tokens, "processed": read,
                "time_ms": round(1e3 * (time.monotonic() - self._began))}  # fmt: skip
        return {**self._head("", []), "prompt_progress": told}

    def end(self, last: Event) -> dict[str, Any]:
        """The whole answer. Raises ``Refusal`` where it was ended from outside."""
        assert last.finish_reason is not None
        finish_reason(last.finish_reason)
        job, text = self._job, "".join(self._text)
        tokens = self._tokens if job.values.get("return_tokens") else []
        return {
            **self._head(text, tokens), "stop": True, "model": job.served.name,
            "generation_settings": settings_of(self.sampling, job.values), "prompt": self._prompt,
            "has_new_line": "\n" in text, **stop_of(last.finish_reason, last.stop), "tokens_cached": self.stream.kept,
            "timings": timings_of([self.stream], 1, self.stream.why),
        }  # fmt: skip

    def _head(self, text: str, tokens: Sequence[int]) -> dict[str, Any]:
        return {
            "index": self._index, "content": text, "tokens": list(tokens), "stop": False, "id_slot": -1,
            "tokens_predicted": len(self._tokens), "tokens_evaluated": self.stream.usage.prompt_tokens,
        }  # fmt: skip


def ids_of(tokenizer: Tokenizer, parts: Parts, *, special: bool = True, parse: bool = True) -> list[int]:
    """The tokens of texts and ids in turn; ``special`` puts BOS and the like around a text that it begins with. Raises
    ``TokenizerError``."""
    if isinstance(parts, str):
        return tokenizer.encode(parts, add_special=special, parse_special=parse)
    found: list[int] = []
    for i, part in enumerate(parts):
        if isinstance(part, str):
            goes_on = any(map(tokenizer.token_bytes, found))
            found += tokenizer.encode(part, add_special=special and i == 0, parse_special=parse, continuation=goes_on)
        else:
            found.append(part)
    return found


def _bias_of(tokenizer: Tokenizer, pairs: Sequence[tuple[int | str, float]]) -> dict[int, float]:
    found: dict[int, float] = {}
    for token, bias in pairs:
        ids = [token] if isinstance(token, int) else tokenizer.encode(token, add_special=False)
        found |= dict.fromkeys(ids, bias)
    return found


async def _with_steps(stream: Stream, steps: asyncio.Queue[Step]) -> AsyncGenerator[Event | Step, None]:
    """The events of a stream, and what of its prompt has been read meanwhile."""
    reading, step = asyncio.ensure_future(anext(stream)), asyncio.ensure_future(steps.get())
    try:
        while True:
            await asyncio.wait((reading, step), return_when=asyncio.FIRST_COMPLETED)
            if step.done():
                yield step.result()
                step = asyncio.ensure_future(steps.get())
                continue
            event = reading.result()
            yield event
            if event.finish_reason is not None:
                return
            reading = asyncio.ensure_future(anext(stream))
    finally:
        step.cancel()
        reading.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await reading
