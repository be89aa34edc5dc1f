"""Rows for guessed tokens in steps that have few: which texts get them, and how many.

A step of one row and one of several read the same weights, so that further rows cost little while memory sets the pace.
The model's own logits decide about each guess (``Generation.work``), as they would have without it; what they refuse
is cut from the cache, and a state goes back to what it was before the guesses. So guesses change the time that a text
takes, and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import accumulate
from operator import mul, sub
from typing import Protocol

from llamaq.engine.kv_cache import PAGE_TOKENS, KVCache
from llamaq.serving.generation import Generation
from llamaq.serving.request import Guess, Request

__all__ = ["MOST_ROWS", "Costs", "Speculation"]

MOST_ROWS = 16
"""Of a step with guesses: numerics "fast" is exact up to so many (docs/numerics.md)."""

_MOST_GUESSES = 8
"""Of one text in a step."""


class Costs:
    """What steps take by their number of rows: a line through the latest, which begins as a guess."""

    _SLOPE = 0.15  # times of one row: each further one takes so much where nothing was measured
    _WEIGHT = 0.25  # that guess weighs so much, as a variance of the numbers of rows
    _LEAST = 0.01  # times of one row: no row is for nothing
    _MEMORY = 64  # steps

    def __init__(self) -> None:
        self._steps = 0
        self._rows = self._seconds = self._variance = self._covariance = 0.0

    def note(self, rows: int, seconds: float) -> None:
        """A step took so long."""
        if self._steps:
            seconds = min(seconds, 2 * self._at(rows))  # something else may have had the CPU
        self._steps = min(self._steps + 1, self._MEMORY)
        share = 1 / self._steps
        x, y = rows - self._rows, seconds - self._seconds
        self._rows += share * x
        self._seconds += share * y
        self._variance = (1 - share) * (self._variance + share * x * x)
        self._covariance = (1 - share) * (self._covariance + share * x * y)

    def price(self, rows: int) -> float:
        """What a further row takes, of the time of a step of so many."""
        return self._slope / self._at(rows) if self._steps else self._SLOPE

    def seconds(self, rows: int) -> float:
        """What a step of so many takes; 0 where nothing was measured."""
        return self._at(rows) if self._steps else 0.0

    @property
    def _slope(self) -> float:
        one = self._seconds / (1 + self._SLOPE * (self._rows - 1))
        found = (self._covariance + self._WEIGHT * self._SLOPE * one) / (self._variance + self._WEIGHT)
        return min(max(found, self._LEAST * one), self._seconds / self._rows)

    def _at(self, rows: int) -> float:
        return self._seconds + self._slope * (rows - self._rows)


class Drafts(Protocol):
    """A draft model (``drafter``)."""

    def guess(
        self, requests: Sequence[Generation], most: int, price: float, worth: float, step: float
    ) -> dict[Request, Guess]: ...
    def forget(self, request: Request) -> None: ...


class Speculation:
    """Gives requests their ``drafts``: what they guess themselves, or else the ``drafter``."""

    def __init__(self, cache: KVCache) -> None:
        self.costs = Costs()
        self.drafter: Drafts | None = None
        self._cache = cache

    def draft(self, rows: Mapping[Request, int], most: int, lock: AbstractContextManager[object]) -> None:
        """Adds guesses to the rows of a step of up to ``most``: those that are worth more than they cost, the likeliest
        first, and where no page of others must go for them. ``lock`` is held while the cache gives room.
        """
        base = sum(rows.values())
        left, price, worth = min(MOST_ROWS, most) - base, self.costs.price(base), 1 / max(1, len(rows))
        for request in rows:
            request.drafts, request.kinds = [], []
            request.price, request.worth, request.fee = price, worth, 0.0
            request.returns = self._cache.states is not None
        if left <= 0:
            return
        able = [request for request, count in rows.items() if count == request.pending and request.wants_guesses]
        guesses = self._guesses(able, base, min(left, _MOST_GUESSES))
        offers = []
        for request, guess in guesses.items():
            values = _values(guess.chances, price / worth if request.returns else 0.0)
            offers += [(value, request) for value in values if value * worth > price]
        offers.sort(key=lambda offer: offer[0], reverse=True)
        counts = Counter(request for _, request in offers[:left])
        with lock:
            for request, count in counts.items():
                self._give(request, guesses[request], count)

    def forget(self, request: Request) -> None:
        """The request has ended."""
        if isinstance(request, Generation) and request.states is not None:
            request.states.close()
        if self.drafter is not None:
            self.drafter.forget(request)

    def _guesses(self, requests: Sequence[Request], base: int, most: int) -> dict[Request, Guess]:
        """Those of the requests themselves where they have any that are worth a row; or else the draft model's."""
        found: dict[Request, Guess] = {}
        for request in requests:
            guess = request.guess(most)
            if guess is not None and guess.tokens and guess.chances[0] * request.worth > request.price:
                found[request] = guess
        if self.drafter is not None:
            others = [r for r in requests if r not in found and isinstance(r, Generation)]
            if others:
                found |= self.drafter.guess(others, most, others[0].price, others[0].worth, self.costs.seconds(base))
        return found

    def _give(self, request: Request, guess: Guess, count: int) -> None:
        """So many of the guesses, as far as there is room for them."""
        assert request.sequence is not None
        length = len(request.ids)
        count = min(count, max(0, self._cache.spare(request.sequence) - length))
        if request.returns:  # each page's last state is there for other texts, as it is without guesses
            count = min(count, -length % PAGE_TOKENS)
        if count and self._cache.divide(request.sequence, length):
            request.drafts, request.kinds = guess.tokens[:count], guess.kinds[:count]
            self._cache.reserve(request.sequence, length + count)


def _values(chances: Sequence[float], price: float) -> Iterator[float]:
    """How likely each guess comes; less what those before it, each for a ``price``, are read again for if it alone does
    not, where they are."""
    right = [*accumulate(chances, mul)]
    again = (n * (before - now) * price for n, (before, now) in enumerate(zip([1.0, *right], right, strict=False)))
    return accumulate(map(sub, right, again), min)
