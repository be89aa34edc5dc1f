"""``Llama.create_completion``: the text that goes on with a prompt, whole or piece by piece, in OpenAI's shape."""

from __future__ import annotations

import time
import uuid
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llamaq.llm.infill import infill_ids
from llamaq.serving.answer import Event

from .model import Model
from .processors import StoppingCriteriaList
from .settings import check_room, max_tokens_of, sampling_of, stops_of

if TYPE_CHECKING:
    from llamaq.serving.reading import Score
    from llamaq.serving.stream import Stream
    from llamaq.tokenizer import Tokenizer

__all__ = ["Stopped", "Stopping", "complete", "finish_reason", "usage_of"]


class Stopped(Exception):
    """A stopping criterion ended the answer."""


class Stopping:
    """Asks the criteria before each token; the one that would follow a yes is not drawn."""

    def __init__(self, criteria: Any) -> None:
        self._criteria = criteria if callable(criteria) else StoppingCriteriaList(criteria)

    def __call__(self, ids: NDArray[np.int32], logits: NDArray[np.float32]) -> None:
        if self._criteria(ids, logits):
            raise Stopped


def complete(llama: Model, values: Mapping[str, Any]) -> dict[str, Any] | Iterator[dict[str, Any]]:
    """The answer to a call with these arguments. Raises ``ValueError`` where the prompt leaves no room for it."""
    ids = _prompt_ids(llama, values["prompt"], values["suffix"])
    check_room(len(ids), llama.n_ctx())
    criteria = values["stopping_criteria"]
    sampling = sampling_of(
        values, seed=llama.seeds.next(values["seed"]), last_n=llama.last_n_tokens_size, logprobs=values["logprobs"],
        before=() if criteria is None else [Stopping(criteria)],
    )  # fmt: skip
    stop, most = stops_of(values["stop"]), max_tokens_of(values["max_tokens"])
    stream = llama.llm.model.start(ids, max_tokens=most, sampling=sampling, stop=stop)
    answer = _Answer(llama, values, ids, stream)
    return answer.chunks() if values["stream"] else answer.whole()


def finish_reason(reason: str) -> str:
    """Why an answer ended, in OpenAI's words."""
    return {"context": "length", "cancelled": "stop"}.get(reason, reason)


def usage_of(stream: Stream) -> dict[str, int]:
    """Tokens of a prompt and of the answer to it."""
    usage = stream.usage
    prompt, made = usage.prompt_tokens, usage.completion_tokens
    return {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made}


def _prompt_ids(llama: Model, prompt: str | Sequence[int], suffix: str | None) -> list[int]:
    if suffix is not None:
        text = prompt if isinstance(prompt, str) else llama.detokenize(prompt).decode("utf-8", "replace")
        return infill_ids(llama.parts.tokenizer, text, suffix, "spm" if llama.spm_infill else None)
    if isinstance(prompt, str) and prompt:
        return llama.tokenize(prompt.encode("utf-8", "surrogateescape"), True, True)
    return llama.llm.prompt_ids(prompt)


class _Answer:
    def __init__(self, llama: Model, values: Mapping[str, Any], ids: list[int], stream: Stream) -> None:
        self._llama = llama
        self._values = values
        self._ids = ids
        self._stream = stream
        prompt = values["prompt"]
        self._prompt = prompt if isinstance(prompt, str) else llama.detokenize(prompt).decode("utf-8", "ignore")
        self._head = {
            "id": f"cmpl-{uuid.uuid4()}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": values["model"] or llama.model_path,
        }

    def whole(self) -> dict[str, Any]:
        self._stream.gather()
        events = list(self._events())
        text = "".join(event.text for event in events)
        lists = self._lists()
        if lists is not None and self._values["echo"]:
            lists.add_prompt(self._ids, self._score())
        for event in events:
            if lists is not None:
                lists.add(event)
        choice = {
            "text": self._prompt + text if self._values["echo"] else text,
            "index": 0,
            "logprobs": lists and lists.found,
            "finish_reason": finish_reason(events[-1].finish_reason or "stop"),
        }
        return {**self._head, "choices": [choice], "usage": usage_of(self._stream)}

    def chunks(self) -> Generator[dict[str, Any], None, None]:
        offset, last = len(self._prompt), "stop"
        for event in self._events():
            lists = self._lists(offset)
            if lists is not None:
                lists.add(event)
            if event.text or (lists is not None and lists.found["tokens"]):
                yield self._chunk(event.text, lists and lists.found, None)
            offset += len(event.text)
            last = event.finish_reason or last
        yield self._chunk("", None, finish_reason(last))

    def _score(self) -> Score | None:
        """Of the prompt; None for one that is a single token."""
        count = self._values["logprobs"]
        return self._llama.llm.score(self._ids, top_logprobs=count) if len(self._ids) > 1 else None

    def _events(self) -> Iterator[Event]:
        """Those of the stream; what a stopping criterion ends has a last one, too."""
        try:
            yield from self._stream
        except Stopped:
            yield Event(self._stream.held, None, "stop")

    def _chunk(self, text: str, logprobs: Any, reason: str | None) -> dict[str, Any]:
        choice = {"text": text, "index": 0, "logprobs": logprobs, "finish_reason": reason}
        return {**self._head, "choices": [choice]}

    def _lists(self, offset: int | None = None) -> _Lists | None:
        if self._values["logprobs"] is None:
            return None
        begin = 0 if self._values["echo"] else len(self._prompt)
        return _Lists(self._llama.parts.tokenizer, begin if offset is None else offset)


class _Lists:
    """The log-probabilities of a completion, a list for each thing; ``offset`` is where its text goes on."""

    def __init__(self, tokenizer: Tokenizer, offset: int) -> None:
        self.found: dict[str, list[Any]] = {"tokens": [], "text_offset": [], "token_logprobs": [], "top_logprobs": []}
        self._tokenizer = tokenizer
        self._offset = offset

    def add(self, event: Event) -> None:
        if event.token is not None and event.token not in self._tokenizer.eog_ids:
            self._add(event.token, event.logprob, event.top_logprobs)

    def add_prompt(self, ids: list[int], score: Score | None) -> None:
        """The tokens of a prompt but for BOS; nothing is told of how likely the first was."""
        tops = () if score is None else (score.top_logprobs or [()] * len(score.tokens))
        known = [] if score is None else list(zip(score.tokens, score.logprobs, tops, strict=True))
        if ids[0] != self._tokenizer.bos_id:
            known.insert(0, (ids[0], None, ()))
        for number, (id, logprob, top) in enumerate(known):
            self._add(id, float(logprob) if number else None, top)

    def _add(self, token: int, logprob: float | None, top: Sequence[tuple[int, float]]) -> None:
        text = self._text(token)
        self.found["tokens"].append(text)
        self.found["text_offset"].append(self._offset)
        self.found["token_logprobs"].append(logprob)
        likely = {self._text(id): number for id, number in top}
        self.found["top_logprobs"].append(None if logprob is None else {**likely, text: logprob})
        self._offset += len(text)

    def _text(self, token: int) -> str:
        return self._tokenizer.token_bytes(token).decode("utf-8", "ignore")
