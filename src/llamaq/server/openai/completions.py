"""POST /v1/completions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from llamaq.errors import TokenizerError
from llamaq.llm.infill import infill_ids, with_stops
from llamaq.server.dialect import dumps, sse
from llamaq.server.endpoint import Job, merged
from llamaq.server.errors import Refusal, refusal_of
from llamaq.server.fields import read_fields
from llamaq.server.openai.asking import (
    adapter_of,
    finish_reason,
    head_of,
    sampling_of,
    structure_of,
    timings_of,
    usage_of,
    with_defaults,
)
from llamaq.server.openai.classic import Lists
from llamaq.server.openai.protocol import COMPLETION, MOST_TOGETHER
from llamaq.server.service import Service
from llamaq.serving.stream import Options, Stream

__all__ = ["Completion"]


class Completion(Job):
    """Texts that go on; ``n`` for each prompt."""

    asked_in = "prompt"

    def __init__(self, service: Service, body: dict[str, Any]) -> None:
        super().__init__(service)
        self._values, self.ignored = read_fields(COMPLETION, body, strict=service.settings.strict)
        values = self._values
        self.model = values.get("model")
        self._prompts: list[str | list[int]] = values.get("prompt", [""])
        self._n = values.get("n", 1)
        self.answers = len(self._prompts) * self._n
        self._check()
        self.streamed = values.get("stream", False)
        self._logprobs: int | None = values.get("logprobs")
        self._sampling = sampling_of(values, self._logprobs)
        self._ids: list[list[int]] = []
        self._streams: list[Stream] = []
        self._head: dict[str, Any] = {}

    def _check(self) -> None:
        values = self._values
        if self.answers > MOST_TOGETHER:
            message = f"prompt and n ask for {self.answers} answers; a request may have {MOST_TOGETHER}"
            raise Refusal(400, message, param="n")
        if "stream_options" in values and not values.get("stream"):
            raise Refusal(400, "stream_options needs stream: true", param="stream_options")
        if "suffix" in values and not all(isinstance(prompt, str) for prompt in self._prompts):
            raise Refusal(400, "suffix needs prompts that are texts", param="suffix")

    def prepare(self) -> Sequence[Stream]:
        values, model = self._values, self.served.llm.model
        self._head = head_of(self.served, "text_completion", "cmpl")
        self._sampling = with_defaults(self._sampling, values, model.defaults.sampling)
        self.headers["x-llamaq-seed"] = str(self._sampling.seed)
        sampling = replace(self._sampling, structure=structure_of(values))
        asked: Options = {"max_tokens": values.get("max_tokens"), "stop": values.get("stop", ())}
        options: dict[str, Any] = {**(with_stops(model.tokenizer, asked) if "suffix" in values else asked)}
        options["adapter"] = adapter_of(values, self.served)
        self._ids = [self._ids_of(prompt) for prompt in self._prompts]
        for ids in self._ids:
            for i in range(self._n):
                self._streams.append(model.prepare(ids, **options, sampling=sampling.nth(i)))
        return self._streams

    def _ids_of(self, prompt: str | list[int]) -> list[int]:
        model = self.served.llm.model
        if "suffix" in self._values and isinstance(prompt, str):
            try:
                return infill_ids(model.tokenizer, prompt, self._values["suffix"])
            except TokenizerError as error:
                raise refusal_of(error, param="suffix") from None
        return model.prompt_ids(prompt)

    async def whole(self) -> dict[str, Any]:
        before = await self._before()
        choices = []
        for number, stream in enumerate(self._streams):
            done = await stream.aresult()
            text, lists = before[number // self._n]
            if (logprobs := self._lists(len(text), lists)) is not None:
                logprobs.add(done.events)
            choices.append(
                {
                    "text": text + done.text, "index": number,
                    "logprobs": None if logprobs is None else logprobs.found,
                    "finish_reason": finish_reason(done.finish_reason),
                }
            )  # fmt: skip
        return {**self._head, "choices": choices, **self._counts()}

    async def frames(self) -> AsyncGenerator[str, None]:
        head = dumps(self._head)[:-1]

        def frame(number: int, text: str, reason: str | None = None, logprobs: Any = None) -> str:
            end = f'"index":{number},"logprobs":{dumps(logprobs)},"finish_reason":{dumps(reason)}'
            return sse(f'{head},"choices":[{{"text":{dumps(text)},{end}}}]}}')

        lengths = []
        before = await self._before()
        for number in range(len(self._streams)):
            text, lists = before[number // self._n]
            lengths.append(len(text))
            if text or lists:
                yield frame(number, text, logprobs=lists)
        async with aclosing(merged(self._streams)) as events:
            async for number, event in events:
                if (logprobs := self._lists(lengths[number])) is not None:
                    logprobs.add([event])
                lengths[number] += len(event.text)
                reason = None if event.finish_reason is None else finish_reason(event.finish_reason)
                if event.text or reason or (logprobs and logprobs.found["tokens"]):
                    yield frame(number, event.text, reason, logprobs and logprobs.found)
        if self._values.get("stream_options", {}).get("include_usage"):
            yield sse(f'{head},"choices":[],{dumps(self._counts())[1:]}')
        yield sse("[DONE]")

    def tally(self) -> dict[str, int]:
        usage = usage_of(self._streams, self._n)
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        return {"in": usage["prompt_tokens"], "cached": cached, "out": usage["completion_tokens"]}

    def _counts(self) -> dict[str, Any]:
        return {
            "usage": usage_of(self._streams, self._n),
            "timings": timings_of(self._streams, self._n, self._streams[0].why),
        }

    async def _before(self) -> list[tuple[str, dict[str, list[Any]] | None]]:
        """What ``echo`` puts before the answers to each prompt: its text and the lists of its tokens."""
        if not self._values.get("echo"):
            return [("", None)] * len(self._prompts)
        llm = self.served.llm
        texts = [each if isinstance(each, str) else llm.tokenizer.decode(each) for each in self._prompts]
        if self._logprobs is None:
            return [(text, None) for text in texts]
        scores = await asyncio.gather(*(llm.ascore(ids, top_logprobs=self._logprobs) for ids in self._ids))
        found: list[tuple[str, dict[str, list[Any]] | None]] = []
        for text, ids, score in zip(texts, self._ids, scores, strict=True):
            lists = Lists(llm.tokenizer)
            lists.add_prompt(ids, score)
            found.append((text, lists.found))
        return found

    def _lists(self, offset: int, before: dict[str, list[Any]] | None = None) -> Lists | None:
        """For log-probabilities, where they are asked for, after those of what came before."""
        if self._logprobs is None:
            return None
        lists = Lists(self.served.llm.tokenizer, offset)
        for name, values in (before or {}).items():
            lists.found[name] += values
        return lists
