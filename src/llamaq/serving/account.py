"""Whether guesses of one text are worth their rows: how many were right, and what they brought and cost so far."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence

__all__ = ["DRAFTS", "OF_FUNCTION", "OF_STRUCTURE", "Account", "by_match", "by_probability"]

_CREDIT = 1.0
"""Steps that a text may lose by guesses before one was right."""

_MOST = 4.0
"""Steps, at most, that earlier gains pay for: a text that was copied for long may go on as no other did."""

_ALLOWANCE = 0.01
"""Of each step: so much may be lost in the long run."""

_MATCHES = (4, 5, 7, 10, 16)
_OF_MATCHES = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""How often guesses from the same text are right before any was tried, by the tokens that were the same before them:
fewer than 4, fewer than 5, ..."""

_OF_OTHERS = (0.2, 0.3, 0.45, 0.6, 0.75, 0.85)
"""The same for those from other texts."""

_PROBABILITIES = (0.3, 0.5, 0.7, 0.85, 0.95)
_OF_PROBABILITIES = (0.2, 0.4, 0.5, 0.65, 0.8, 0.9)
"""The same for those of a draft model, by the probability that it gives them."""

DRAFTS = range(len(_OF_MATCHES + _OF_OTHERS), len(_OF_MATCHES + _OF_OTHERS + _OF_PROBABILITIES))
"""The kinds of guesses that a draft model makes."""

OF_FUNCTION = DRAFTS.stop
"""The kind of those of a user's function."""

OF_STRUCTURE = OF_FUNCTION + 1
"""The kind of those that a structure will force."""

_CHANCES = (*_OF_MATCHES, *_OF_OTHERS, *_OF_PROBABILITIES, 0.5, 0.98)

_WEIGHT = 3.0
"""Guesses for which those chances count."""


def by_match(match: int, *, other: bool = False) -> int:
    """The kind of a guess from a place, in the text or an ``other`` one, before which so many tokens were the same."""
    return len(_OF_MATCHES) * other + bisect(_MATCHES, match)


def by_probability(probability: float) -> int:
    """The kind of a guess to which a draft model gives this probability."""
    return DRAFTS.start + bisect(_PROBABILITIES, probability)


class Account:
    """Of one text. ``balance`` is in steps: what they take without guesses."""

    def __init__(self) -> None:
        self.drafted = self.accepted = 0
        self.balance = _CREDIT
        self._right = [_WEIGHT * chance for chance in _CHANCES]
        self._tried = [_WEIGHT] * len(_CHANCES)

    def chance(self, kind: int) -> float:
        """How likely a guess of a kind is right, where those before it are."""
        return self._right[kind] / self._tried[kind]

    @property
    def of_drafts(self) -> float:
        """How likely the next guess of a draft model is right."""
        tried = slice(DRAFTS.start, DRAFTS.stop)
        return sum(self._right[tried]) / sum(self._tried[tried])

    def book(
        self, kinds: Sequence[int], accepted: int, price: float, worth: float, fee: float = 0.0, again: int = 0
    ) -> None:
        """Notes a step with guesses of these kinds, the first of which were right: what each row cost, what one that
        is right saves, what it cost to make them, and how many are read again."""
        cost = price * (len(kinds) + again) + fee
        self.balance = min(_MOST, self.balance + _ALLOWANCE + worth * accepted - cost)
        self.drafted += len(kinds)
        self.accepted += accepted
        for kind in kinds[:accepted]:
            self._right[kind] += 1
        for kind in kinds[: accepted + 1]:
            self._tried[kind] += 1
