"""Texts written by stages in a row: groups of texts follow each other through them, so that all stages have work."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from llamaq.distributed.stages import Stage, Work
from llamaq.errors import ContextOverflowError, LlamaqError
from llamaq.sampling import Sampler, SamplingParams
from llamaq.serving.answer import Answer, Event
from llamaq.tokenizer import Tokenizer

__all__ = ["Chain", "LocalChain", "Pipeline", "StageLost", "Text"]

F = TypeVar("F", bound=Hashable)
_RESTARTS = 8


class StageLost(Exception):
    """A stage is gone, and a new one, with an empty cache, takes its place."""


class Chain(Protocol[F]):
    """Stages in a row, wherever they run."""

    def begin(self, work: Work) -> F:
        """Sends work through all of them, behind what was sent before."""

    def ready(self, futures: list[F]) -> Sequence[F]:
        """Those whose logits are there, one at least."""

    def logits(self, future: F) -> NDArray[np.float32]:
        """Raises ``StageLost``."""

    def recover(self) -> None:
        """Waits until all stages are there."""


class LocalChain:
    """Stages in this process, a thread for each."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = stages
        self._threads = [ThreadPoolExecutor(1) for _ in stages]

    def begin(self, work: Work) -> Future[NDArray[np.float32]]:
        before: Future[NDArray[np.float32]] | None = None
        for stage, thread in zip(self._stages, self._threads, strict=True):
            before = thread.submit(_run, stage, work, before)
        assert before is not None
        return before

    def ready(self, futures: list[Future[NDArray[np.float32]]]) -> Sequence[Future[NDArray[np.float32]]]:
        return list(wait(futures, return_when=FIRST_COMPLETED).done)

    def logits(self, future: Future[NDArray[np.float32]]) -> NDArray[np.float32]:
        return future.result()

    def recover(self) -> None:
        raise LlamaqError("a stage of this process cannot be replaced")

    def close(self) -> None:
        for thread in self._threads:
            thread.shutdown()


def _run(stage: Stage, work: Work, before: Future[NDArray[np.float32]] | None) -> NDArray[np.float32]:
    return stage.run(work, None if before is None else before.result())


@dataclass(frozen=True)
class Text:
    """An answer: its text, the ids of its tokens without an end token, and why it ended."""

    text: str
    tokens: tuple[int, ...]
    finish_reason: str


@dataclass
class _Writing:
    """A text on its way: all its tokens so far, of which ``read`` are in the stages' caches."""

    number: int
    ids: list[int]
    answer: Answer
    sequence: int
    read: int = 0
    events: list[Event] = field(default_factory=list)

    @property
    def text(self) -> Text:
        reason = self.events[-1].finish_reason
        assert reason is not None
        return Text("".join(event.text for event in self.events), tuple(self.answer.tokens), reason)


class Pipeline(Generic[F]):
    """Writes texts through a chain of stages, which have room for so many ``texts`` of ``n_ctx`` tokens: ``groups`` of
    them are on the way at once, each in steps of up to ``n_batch`` rows. Each text is what one engine writes alone."""

    def __init__(
        self, chain: Chain[F], tokenizer: Tokenizer, *, n_ctx: int, texts: int, n_batch: int, groups: int
    ) -> None:
        self._chain = chain
        self._tokenizer = tokenizer
        self._n_ctx, self._n_batch = n_ctx, n_batch
        self._groups: list[list[_Writing]] = [[] for _ in range(groups)]
        self._room = texts
        self._sequences = count()
        self._forget: list[int] = []  # sequences that the stages need no more

    def write(
        self, prompts: Sequence[Sequence[int]], samplings: Sequence[SamplingParams], max_tokens: int | None
    ) -> list[Text]:
        """The answers to prompts of token ids, in their order. Raises ``ContextOverflowError`` for a prompt that is
        longer than the context, ``LlamaqError`` where stages are lost again and again."""
        waiting = deque(
            self._writing(i, list(ids), sampling, max_tokens)
            for i, (ids, sampling) in enumerate(zip(prompts, samplings, strict=True))
        )
        found: dict[int, Text] = {}
        running: dict[F, tuple[list[_Writing], list[tuple[_Writing, int]]]] = {}
        lost = 0
        while True:
            for group in self._groups:
                if all(group is not each for each, _ in running.values()):
                    self._admit(group, waiting)
                    if group:
                        work, parts = self._work(group)
                        running[self._chain.begin(work)] = group, parts
            if not running:
                return [found[i] for i in range(len(prompts))]
            try:
                for future in self._chain.ready(list(running)):
                    logits = self._chain.logits(future)
                    self._take(*running.pop(future), logits, found)
            except StageLost as error:
                lost += 1
                if lost > _RESTARTS:
                    raise LlamaqError(f"stages were lost {lost} times; the last time: {error}") from error
                self._start_anew(running)

    def _writing(self, number: int, ids: list[int], sampling: SamplingParams, max_tokens: int | None) -> _Writing:
        if not 0 < len(ids) <= self._n_ctx:
            message = f"the prompt has {len(ids)} tokens, the context {self._n_ctx}; shorten it or raise n_ctx"
            raise ContextOverflowError(message, needed=len(ids), available=self._n_ctx)
        answer = Answer(self._tokenizer, Sampler(sampling, self._tokenizer), ids, max_tokens=max_tokens)
        return _Writing(number, ids, answer, next(self._sequences))

    def _admit(self, group: list[_Writing], waiting: deque[_Writing]) -> None:
        """Lets texts into a group while there is room, and no other group has fewer."""
        while waiting and self._room and len(group) == min(map(len, self._groups)):
            self._room -= 1
            group.append(waiting.popleft())

    def _work(self, group: list[_Writing]) -> tuple[Work, list[tuple[_Writing, int]]]:
        """The next step of a group: of each text the tokens that are not read yet, as many as there is room for; and
        how many of each."""
        parts: list[tuple[_Writing, int]] = []
        left = self._n_batch
        for text in sorted(group, key=lambda text: len(text.ids) - text.read):  # single tokens come first
            if rows := min(len(text.ids) - text.read, left):
                parts.append((text, rows))
                left -= rows
        tokens: list[int] = []
        sequences: list[int] = []
        positions: list[int] = []
        wanted: list[bool] = []
        for text, rows in parts:
            end = text.read + rows
            tokens += text.ids[text.read : end]
            sequences += [text.sequence] * rows
            positions += range(text.read, end)
            wanted += [False] * (rows - 1) + [end == len(text.ids)]
        work = Work(
            np.array(tokens, np.int32), np.array(sequences, np.int32), np.array(positions, np.int32),
            np.array(wanted, np.bool_), tuple(self._forget),
        )  # fmt: skip
        self._forget.clear()
        return work, parts

    def _take(
        self,
        group: list[_Writing],
        parts: list[tuple[_Writing, int]],
        logits: NDArray[np.float32],
        found: dict[int, Text],
    ) -> None:
        """Goes on with the texts of a step whose logits are there."""
        rows = iter(logits)
        for text, count_read in parts:
            text.read += count_read
            if text.read < len(text.ids):
                continue
            before = len(text.answer.tokens)
            text.events += text.answer.take(next(rows), self._n_ctx - len(text.ids))
            text.ids += text.answer.tokens[before:]
            if text.events[-1].finish_reason is not None:
                found[text.number] = text.text
                group.remove(text)
                self._forget.append(text.sequence)
                self._room += 1

    def _start_anew(self, running: dict[F, tuple[list[_Writing], list[tuple[_Writing, int]]]]) -> None:
        """Has everything read again that the stages knew: one of them knows nothing any more."""
        running.clear()
        self._chain.recover()
        for group in self._groups:
            for text in group:
                self._forget.append(text.sequence)
                text.sequence, text.read = next(self._sequences), 0
