"""Guesses of a draft model: a smaller one with the same tokens goes on with the texts of the model that decides.

It runs while that waits, on a scheduler of its own, for all texts of a step together. Guesses take rounds: in each it
reads what has come since the last, and then one guess after the other, as long as the next is worth its time. Long
prompts it reads in pieces, one between two steps, so that nobody waits long for it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from threading import Event

from llamaq.errors import ClosedError
from llamaq.sampling.logprobs import LogProbabilities
from llamaq.serving.answer import common_prefix
from llamaq.serving.generation import Generation
from llamaq.serving.request import F32, Capture, Guess, Request
from llamaq.serving.rounds import PIECE, Round, Rounds
from llamaq.serving.scheduler import Scheduler

__all__ = ["Drafter", "Drafting"]

logger = logging.getLogger("llamaq")

_PATIENCE = 2.0
"""Seconds, at least, that a round may take: others may use the draft model, too."""


class Drafting(Request):
    """A text as the draft model has it; ``over`` is set between its rounds. ``ends`` are tokens that are no guesses,
    as are those from ``vocabulary`` on."""

    def __init__(self, ids: list[int], vocabulary: int, ends: frozenset[int]) -> None:
        super().__init__(ids, len(ids) - 1)
        self.max_rows = PIECE
        self.over = Event()
        self.error: BaseException | None = None
        self.base = self.dropped = 0
        """Tokens at its beginning that the text which is guessed for had at the last round, and had dropped by then."""
        self.round: Round | None = None
        self._vocabulary, self._ends = vocabulary, ends
        self._next: tuple[int, float] | None = None
        self._likely = LogProbabilities(1)

    def work(self, read: int, logits: F32, captured: Mapping[Capture, F32]) -> None:
        self._next = None
        if len(logits):
            self._likely.load(logits[-1])
            self._next = self._likely.likeliest()

    def settle(self) -> None:
        if self.round is None:
            return
        self.round.passes += 1
        if self._next is not None and self._wants_more(*self._next):
            self.ids.append(self._next[0])
            self.first_wanted = len(self.ids) - 1
        else:
            self._end_round()

    def _wants_more(self, token: int, probability: float) -> bool:
        """Takes a guess, and says whether another one may pay."""
        assert self.round is not None
        return token < self._vocabulary and token not in self._ends and self.round.take(token, probability)

    def on_end(self, error: BaseException | None) -> None:
        self.error = error
        self._end_round()

    def _end_round(self) -> None:
        self.round = None
        self.over.set()

    @property
    def paused(self) -> bool:
        return self.round is None


class Drafter(Rounds):
    """Asks a draft model, by its scheduler, what may come next in texts of another one. One thread uses it, and
    ``forget`` under the lock of the other's scheduler."""

    def __init__(self, scheduler: Scheduler, vocabulary: int, share: float) -> None:
        """Both models know the ids below ``vocabulary``; ``share`` as for ``Rounds``."""
        super().__init__(share)
        self.scheduler = scheduler
        self._vocabulary = vocabulary
        self._texts: dict[Request, Drafting | None] = {}  # None: there will be no guesses

    def forget(self, request: Request) -> None:
        """Its cache keeps the text while there is room."""
        text = self._texts.pop(request, None)
        if text is not None:
            self.scheduler.cancel(text)

    def _text(self, request: Generation) -> Drafting | None:
        """What the draft model has of a text; None where it can't have it."""
        text = self._texts.get(request)
        if text is not None or request not in self._texts:
            since = text.base if text is not None and text.dropped == request.dropped else 0
            if max(request.ids[since:], default=0) >= self._vocabulary:  # what the draft model cannot read
                self.forget(request)
                text = None
            elif text is None:
                text = Drafting([*request.ids], self._vocabulary, request.answer.end_ids)
                text.base, text.kept = len(request.ids), self.scheduler.known(request.ids)
                text.dropped = request.dropped
            self._texts[request] = text
        fits = len(request.ids) + 1 < self.scheduler.n_ctx
        return text if fits else None

    def _behind(self, request: Generation) -> int | None:
        text = self._text(request)
        if text is None:
            return None
        read = min(text.kept if text.sequence is None else text.read, text.base)
        return len(request.ids) - read

    def _run(self, rounds: Mapping[Generation, Round], step: float) -> None:
        texts = {request: text for request in rounds if (text := self._texts[request]) is not None}
        scheduler = self.scheduler
        with scheduler.lock:
            scheduler.check_open()
            new = []
            for request, text in texts.items():
                asked = rounds[request]
                asked.most = min(asked.most, self.scheduler.n_ctx - len(request.ids))
                text.over.clear()
                text.round = asked
                self._go_on(text, request)
                if text.age == 0:
                    new.append(text)
            scheduler.submit(*new)
            scheduler.wake()
        until = time.monotonic() + _PATIENCE + 4 * step
        for request, text in texts.items():
            if not text.over.wait(max(0.0, until - time.monotonic())):
                scheduler.cancel(text)
            if text.done:
                self._texts[request] = None
            if text.error is not None and not isinstance(text.error, ClosedError):
                logger.warning("a text gets no guesses of the draft model: %s", text.error)
                rounds[request].guess = Guess([], [], [])

    def _go_on(self, text: Drafting, request: Generation) -> None:
        """Gives a text the tokens that have come, in the place of its guesses."""
        ids, base = request.ids, text.base if text.dropped == request.dropped else 0
        same = base + common_prefix(text.ids[base:], ids[base:])
        self.scheduler.room.cut(text, min(same, len(ids) - 1))
        text.ids += ids[len(text.ids) :]
        text.base, text.dropped, text.first_wanted = len(ids), request.dropped, len(ids) - 1
        if text.age == 0:
            text.prompt_tokens = len(ids)
