"""Rows for guessed tokens in steps that have few: which texts get them, and how many.

A step of one row and one of several read the same weights, so that further rows cost little while memory sets the pace.
The model's own logits decide about each guess (``Generation.work``), as they would have without it; what they refuse
is cut from the cache. So guesses change the time that a text takes, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping

from llamaq.engine.kv_cache import KVCache
from llamaq.serving.request import Request

__all__ = ["MOST_ROWS", "Costs", "Speculation"]

MOST_ROWS = 16
"""Of a step with guesses: numerics "fast" is exact up to so many (docs/numerics.md)."""

_MOST_GUESSES = 8
"""Of one text in a step."""


class Costs:
    """What steps take by their number of rows: a line through the latest, which begins as a guess."""

    _SLOPE = 0.15  # of the time of one row: what each further one takes where nothing was measured
    _WEIGHT = 0.25  # of that guess, as a variance of the numbers of rows
    _LEAST = 0.01  # of the time of one row: no row is for nothing
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

    @property
    def _slope(self) -> float:
        one = self._seconds / (1 + self._SLOPE * (self._rows - 1))
        found = (self._covariance + self._WEIGHT * self._SLOPE * one) / (self._variance + self._WEIGHT)
        return min(max(found, self._LEAST * one), self._seconds / self._rows)

    def _at(self, rows: int) -> float:
        return self._seconds + self._slope * (rows - self._rows)


class Speculation:
    """Gives requests their ``drafts``. The scheduler's lock guards it."""

    def __init__(self, cache: KVCache) -> None:
        self.costs = Costs()
        self._cache = cache

    def draft(self, rows: Mapping[Request, int], most: int) -> None:
        """Adds guesses to the rows of a step of up to ``most``: those that are worth more than they cost, the likeliest
        first, and where no page of others must go for them. A sequence with a state, which cannot be cut, gets none.
        """
        for request in rows:
            request.drafts = []
        base = sum(rows.values())
        left = min(MOST_ROWS, most) - base
        if not rows or left <= 0 or self._cache.states is not None:
            return
        price, worth = self.costs.price(base), 1 / len(rows)
        guesses, offers = {}, []
        for request, count in rows.items():
            if count == request.pending and (found := request.guess(min(left, _MOST_GUESSES))) is not None:
                guesses[request] = found.tokens
                offers += [(found.chance**n, request) for n in range(1, len(found.tokens) + 1)]
        offers.sort(key=lambda offer: offer[0], reverse=True)
        counts = dict.fromkeys(guesses, 0)
        for chance, request in offers[:left]:
            if chance * worth > price:
                counts[request] += 1
        for request, count in counts.items():
            self._give(request, guesses[request][:count])
            request.price, request.worth = price, worth

    def _give(self, request: Request, tokens: list[int]) -> None:
        """As many of the guesses as there is room for."""
        assert request.sequence is not None
        length = len(request.ids)
        request.drafts = tokens[: max(0, self._cache.spare(request.sequence) - length)]
        if request.drafts:
            self._cache.reserve(request.sequence, length + len(request.drafts))
