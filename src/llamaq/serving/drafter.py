"""Guesses of a draft model: a smaller one with the same tokens goes on with the texts of the model that decides.

It runs while that waits, on a scheduler of its own, for all texts of a step together. Guesses take rounds: in each it
reads what has come since the last, and then one guess after the other, as long as the next is worth its time. Long
prompts it reads in pieces, one between two steps, so that nobody waits long for it.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event

from llamaq.errors import ClosedError
from llamaq.sampling.logprobs import LogProbabilities
from llamaq.serving.account import Account, by_probability
from llamaq.serving.answer import common_prefix
from llamaq.serving.generation import Generation
from llamaq.serving.request import F32, Capture, Guess, Request
from llamaq.serving.scheduler import Scheduler

__all__ = ["Drafter", "Drafting"]

logger = logging.getLogger("llamaq")

_PIECE = 128
"""Rows of a prompt that are read in a round."""

_FEW = 16
"""Rows; the account of a text pays for reading so few."""

_HOPE = 0.2
"""Steps that guesses may save for each token: reading a long prompt must not cost more than the tokens so far hope for.
A text pays at most once for what it never gets back."""

_SOON = 32
"""Tokens that every answer is taken to have."""

_PATIENCE = 2.0
"""Seconds, at least, that a round may take: others may use the draft model, too."""


@dataclass
class _Round:
    """What a text is asked for, and what came: ``floor`` and ``fee`` are what the chance of a guess, that all before it
    are right as well, must exceed to be read, and more to be made."""

    most: int
    account: Account
    floor: float
    fee: float
    chance: float = 1.0
    passes: int = 0
    guess: Guess = field(default_factory=lambda: Guess([], [], []))


class Drafting(Request):
    """A text as the draft model has it; ``over`` is set between its rounds. ``ends`` are tokens that are no guesses,
    as are those from ``vocabulary`` on."""

    def __init__(self, ids: list[int], vocabulary: int, ends: frozenset[int]) -> None:
        super().__init__(ids, len(ids) - 1)
        self.max_rows = _PIECE
        self.over = Event()
        self.error: BaseException | None = None
        self.base = self.dropped = 0
        """Tokens at its beginning that the text which is guessed for had at the last round, and had dropped by then."""
        self.round: _Round | None = None
        self._vocabulary, self._ends = vocabulary, ends
        self._next: tuple[int, float] | None = None
        self._likely = LogProbabilities(1)

    def work(self, read: int, logits: F32, captured: Mapping[Capture, F32]) -> None:
        self._next = None
        if len(logits):
            self._likely.load(logits[-1])
            [(token, logprob)] = self._likely.top()
            self._next = token, math.exp(logprob)

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
        asked, kind = self.round, by_probability(probability)
        assert asked is not None
        chance = asked.account.chance(kind)
        asked.chance *= chance
        if token >= self._vocabulary or token in self._ends or not asked.chance > asked.floor:
            return False
        guess = asked.guess
        guess.tokens.append(token)
        guess.chances.append(chance)
        guess.kinds.append(kind)
        return len(guess.tokens) < asked.most and asked.chance * asked.account.of_drafts > asked.floor + asked.fee

    def on_end(self, error: BaseException | None) -> None:
        self.error = error
        self._end_round()

    def _end_round(self) -> None:
        self.round = None
        self.over.set()

    @property
    def paused(self) -> bool:
        return self.round is None


class Drafter:
    """Asks a draft model, by its scheduler, what may come next in texts of another one. One thread uses it, and
    ``forget`` under the lock of the other's scheduler."""

    def __init__(self, scheduler: Scheduler, vocabulary: int, share: float) -> None:
        """Both models know the ids below ``vocabulary``. ``share``: of a step's time, what a pass of the draft model is
        taken to need until it has been measured."""
        self.scheduler = scheduler
        self._vocabulary = vocabulary
        self._texts: dict[Request, Drafting | None] = {}  # None: there will be no guesses
        self._share = share
        self._pass = self._row = 0.0  # seconds of a pass, and of a row in long ones, once they were measured

    def guess(
        self, requests: Sequence[Generation], most: int, price: float, worth: float, step: float
    ) -> dict[Request, Guess]:
        """Guesses for texts that wait for them. A row costs ``price`` steps of ``step`` seconds, a right guess saves
        ``worth`` of them. What the guesses cost is noted as the ``fee`` of the requests."""
        if self.scheduler.closed or not step:
            return {}
        floor = price / worth
        fee = (self._pass or self._share * step) / step / worth / max(1, len(requests))
        texts: dict[Generation, Drafting] = {}
        rounds: dict[Generation, _Round] = {}
        rows = 0
        try:
            for request in requests:
                wish = _Round(min(most, request.may_guess(most)), request.account, floor, fee)
                if wish.most and request.account.of_drafts > floor + fee and (text := self._text(request)) is not None:
                    behind = self._behind(request, text)
                    if behind <= _FEW or behind * self._row <= _HOPE * max(request.made, _SOON) * step:
                        texts[request], rounds[request] = text, wish
                        rows += min(behind, _PIECE)
            began = time.perf_counter()
            self._run(texts, rounds, step)
        except ClosedError:
            return {}
        self._note(texts, rounds, rows, time.perf_counter() - began, step)
        return {request: asked.guess for request, asked in rounds.items() if asked.guess.tokens}

    def forget(self, request: Request) -> None:
        """There is nothing to guess for a text any more; the draft model's cache keeps it while there is room."""
        text = self._texts.pop(request, None)
        if text is not None:
            self.scheduler.cancel(text)

    def _text(self, request: Generation) -> Drafting | None:
        """What the draft model has of a text; None where it can't have it."""
        text = self._texts.get(request)
        if text is None and request not in self._texts:
            known = max(request.ids) < self._vocabulary
            text = Drafting([*request.ids], self._vocabulary, request.answer.end_ids) if known else None
            if text is not None:
                text.base, text.kept = len(request.ids), self.scheduler.known(request.ids)
                text.dropped = request.dropped
            self._texts[request] = text
        fits = len(request.ids) + 1 < self.scheduler.n_ctx
        return text if fits else None

    def _behind(self, request: Generation, text: Drafting) -> int:
        """Tokens that it has yet to read."""
        read = min(text.kept if text.sequence is None else text.read, text.base)
        return len(request.ids) - read

    def _run(self, texts: Mapping[Generation, Drafting], rounds: Mapping[Generation, _Round], step: float) -> None:
        """Has the rounds run. Raises ``ClosedError``."""
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

    def _note(
        self, texts: Mapping[Generation, Drafting], rounds: Mapping[Generation, _Round], rows: int, seconds: float,
        step: float,
    ) -> None:  # fmt: skip
        """Measures, and has the texts pay for what is not the reading of a long one."""
        passes = max((asked.passes for asked in rounds.values()), default=0)
        if not passes:
            return
        if rows <= _FEW * len(texts):
            took = min(seconds / passes, 2 * self._pass or seconds)  # something else may have had the CPU
            self._pass += (took - self._pass) / 8 if self._pass else took
            for request in texts:
                request.fee = seconds / step / len(texts)
        elif not any(asked.guess.tokens for asked in rounds.values()):
            self._row = seconds / rows
