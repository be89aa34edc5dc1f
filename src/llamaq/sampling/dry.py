"""DRY ("don't repeat yourself"): a token that would prolong a repetition is the less likely the longer that is.

Source: text-generation-webui, pull request 5677 (p-e-w), and llama.cpp's treatment of breakers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np

from llamaq import _core
from llamaq.tokenizer import Tokenizer

from .params import SamplingParams

__all__ = ["Dry"]

_LONGEST_BREAKER = 40  # characters
_LONGEST_TAIL = 20  # tokens
_MOST = 88.7228391  # log of the greatest float32, so that the penalty stays a float32


class Dry:
    """The sampler for one vocabulary; without ``tokenizer`` nothing breaks a repetition."""

    def __init__(self, params: SamplingParams, tokenizer: Tokenizer | None) -> None:
        self._params = params
        breakers = tuple(params.dry_sequence_breakers)
        self._tails: _Tails = _tails(tokenizer, breakers) if tokenizer and breakers else {}

    def apply(self, candidates: _core.Candidates, history: Sequence[int]) -> None:
        """Takes ``multiplier * base ** (length - allowed_length)`` off the logit of each token that would prolong a
        repetition of at least ``allowed_length`` tokens; where it prolongs several, the longest counts."""
        p = self._params
        if p.dry_penalty_last_n == 0:
            return
        window = history if p.dry_penalty_last_n < 0 else history[-p.dry_penalty_last_n :]
        if len(window) <= p.dry_allowed_length:
            return
        limit = self._since_breaker(window)
        if limit < p.dry_allowed_length:
            return
        longest: dict[int, int] = {}
        lengths = np.minimum(_core.repeats(np.array(window, np.int32))[:-1], limit)
        for i in np.flatnonzero(lengths >= p.dry_allowed_length).tolist():
            token = window[i + 1]
            longest[token] = max(longest.get(token, 0), int(lengths[i]))
        # A breaker on its own is never penalized.
        ids = [id for id in longest if [] not in self._tails.get(id, [])]
        most = int(_MOST / _core.log(p.dry_base)) if p.dry_base > 1.000001 else 0
        penalties = []
        for id in ids:
            exponent = longest[id] - p.dry_allowed_length
            penalties.append(p.dry_multiplier * _power(p.dry_base, min(exponent, most) if most else exponent))
        candidates.set(ids, candidates.get(ids) - np.array(penalties, np.float32))

    def _since_breaker(self, window: Sequence[int]) -> int:
        """How many tokens there are after the last breaker."""
        if not self._tails:
            return len(window)
        for after in range(len(window)):
            tails = self._tails.get(window[-1 - after])
            if tails is None:
                continue
            following = list(window[len(window) - after :])
            found = [len(tail) for tail in tails if following[: len(tail)] == tail]
            if found:
                return after - max(found)
        return len(window)


def _power(base: float, exponent: int) -> float:
    """A power by multiplications alone: C's pow may differ in its last bit."""
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


_Tails = dict[int, list[list[int]]]
_known: WeakKeyDictionary[Tokenizer, dict[tuple[str, ...], _Tails]] = WeakKeyDictionary()


def _tails(tokenizer: Tokenizer, breakers: tuple[str, ...]) -> _Tails:
    """For each token in which a breaker begins, the tokens that complete it: none where the token holds it whole."""
    known = _known.setdefault(tokenizer, {})
    if breakers not in known:
        known.clear()  # a model is mostly used with the same ones
        known[breakers] = _find_tails(tokenizer, breakers)
    return known[breakers]


def _find_tails(tokenizer: Tokenizer, breakers: tuple[str, ...]) -> _Tails:
    tails: defaultdict[int, list[list[int]]] = defaultdict(list)
    texts = [breaker[:_LONGEST_BREAKER].encode("utf-8", "surrogatepass") for breaker in breakers if breaker]
    for id in range(tokenizer.n_vocab):
        piece = tokenizer.token_bytes(id, special=True)
        for text in texts:
            rests = [b""] if text in piece else [text[n:] for n in range(1, len(text)) if piece.endswith(text[:n])]
            for rest in rests:
                tail = tokenizer.encode(rest, add_special=False, continuation=True)[:_LONGEST_TAIL]
                if tail not in tails[id]:
                    tails[id].append(tail)
    return {id: found for id, found in tails.items() if found}
