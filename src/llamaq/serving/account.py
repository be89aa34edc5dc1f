"""Whether guesses of one text are worth their rows: how many were right, and what they brought and cost so far."""

from __future__ import annotations

from bisect import bisect

__all__ = ["Account"]

_CREDIT = 1.0
"""Steps that a text may lose by guesses before one was right."""

_MOST = 4.0
"""Steps, at most, that earlier gains pay for: a text that was copied for long may go on as no other did."""

_ALLOWANCE = 0.01
"""Of each step: so much may be lost in the long run."""

_MATCHES = (4, 5, 7, 10, 16)
_CHANCES = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""How often guesses are right before any was tried, by the tokens that were the same before them: fewer than 4, fewer
than 5, ..."""

_WEIGHT = 3.0
"""Guesses for which those chances count."""


class Account:
    """Of one text. ``balance`` is in steps: what they take without guesses."""

    def __init__(self) -> None:
        self.drafted = self.accepted = 0
        self.balance = _CREDIT
        self._right = [_WEIGHT * chance for chance in _CHANCES]
        self._tried = [_WEIGHT] * len(_CHANCES)

    def chance(self, match: int) -> float:
        """How likely a guess after ``match`` equal tokens is right, where those before it are."""
        kind = bisect(_MATCHES, match)
        return self._right[kind] / self._tried[kind]

    def book(self, match: int, drafted: int, accepted: int, price: float, worth: float) -> None:
        """Notes a step: so many guesses, the first of which were right; what each cost, and one that is right saves."""
        self.balance = min(_MOST, self.balance + _ALLOWANCE + worth * accepted - price * drafted)
        self.drafted += drafted
        self.accepted += accepted
        kind = bisect(_MATCHES, match)
        self._right[kind] += accepted
        self._tried[kind] += accepted + (accepted < drafted)
