"""Guesses in rounds, whoever makes them: what has come is read, and then one guess after the other, while the next may
pay."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from llamaq.errors import ClosedError
from llamaq.serving.account import Account, by_probability
from llamaq.serving.generation import Generation
from llamaq.serving.request import Guess, Request

__all__ = ["PIECE", "Round", "Rounds"]

PIECE = 128
"""Rows of a long text that are read in a round."""

_FEW = 16
"""Rows; the account of a text pays for reading so few."""

_HOPE = 0.2
"""Steps that guesses may save for each token: reading a long prompt must not cost more than the tokens so far hope for.
A text pays at most once for what it never gets back."""

_SOON = 32
"""Tokens that every answer is taken to have."""


@dataclass
class Round:
    """What a text is asked for, and what came: ``floor`` and ``fee`` are what the chance of a guess, that all before it
    are right as well, must exceed to be read, and more to be made."""

    most: int
    account: Account
    floor: float
    fee: float
    chance: float = 1.0
    passes: int = 0
    guess: Guess = field(default_factory=lambda: Guess([], [], []))

    def take(self, token: int, probability: float) -> bool:
        """Takes a guess that has this probability, unless it is not worth its row, and says whether another may pay."""
        kind = by_probability(probability)
        chance = self.account.chance(kind)
        self.chance *= chance
        if not self.chance > self.floor:
            return False
        self.guess.tokens.append(token)
        self.guess.chances.append(chance)
        self.guess.kinds.append(kind)
        more = self.chance * self.account.of_drafts
        return len(self.guess.tokens) < self.most and more > self.floor + self.fee


class Rounds(ABC):
    """What guesses for texts of another model, and measures what that takes."""

    def __init__(self, share: float) -> None:
        """``share``: of a step's time, what a pass is taken to need until it has been measured."""
        self._share = share
        self._pass = self._row = 0.0  # seconds of a pass, and of a row in long ones, once they were measured

    @abstractmethod
    def forget(self, request: Request) -> None:
        """There is nothing to guess for a text any more."""

    @abstractmethod
    def _behind(self, request: Generation) -> int | None:
        """Tokens that are to be read before the first guess; None where there can be none."""

    @abstractmethod
    def _run(self, rounds: Mapping[Generation, Round], step: float) -> None:
        """Runs the rounds of texts beside a model whose steps take so many seconds. Raises ``ClosedError``."""

    def guess(
        self, requests: Sequence[Generation], most: int, price: float, worth: float, step: float
    ) -> dict[Request, Guess]:
        """Guesses for texts that wait for them. A row costs ``price`` steps of ``step`` seconds, a right guess saves
        ``worth`` of them. What the guesses cost is noted as the ``fee`` of the requests."""
        if not step:
            return {}
        floor = price / worth
        fee = (self._pass or self._share * step) / step / worth / max(1, len(requests))
        rounds: dict[Generation, Round] = {}
        rows = 0
        try:
            for request in requests:
                wish = Round(min(most, request.may_guess(most)), request.account, floor, fee)
                if wish.most and request.account.of_drafts > floor + fee:
                    behind = self._behind(request)
                    pays = _HOPE * max(request.made, _SOON) * step
                    if behind is not None and (behind <= _FEW or behind * self._row <= pays):
                        rounds[request] = wish
                        rows += min(behind, PIECE)
            began = time.perf_counter()
            self._run(rounds, step)
        except ClosedError:
            return {}
        self._note(rounds, rows, time.perf_counter() - began, step)
        return {request: asked.guess for request, asked in rounds.items() if asked.guess.tokens}

    def _note(self, rounds: Mapping[Generation, Round], rows: int, seconds: float, step: float) -> None:
        """Measures, and has the texts pay for what is not the reading of a long one."""
        passes = max((asked.passes for asked in rounds.values()), default=0)
        if not passes:
            return
        if rows <= _FEW * len(rounds):
            took = min(seconds / passes, 2 * self._pass or seconds)  # something else may have had the CPU
            self._pass += (took - self._pass) / 8 if self._pass else took
            for request in rounds:
                request.fee = seconds / step / len(rounds)
        elif not any(asked.guess.tokens for asked in rounds.values()):
            self._row = seconds / rows
