"""The chain: samplers in the order that the settings give, then the selector that ends it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from llamaq._core import Candidates
from llamaq.tokenizer import Tokenizer

from .dry import Dry
from .params import SamplingParams
from .penalties import penalize
from .selectors import AdaptiveP, Chance, Mirostat, Selector
from .temperature import apply_temperature

__all__ = ["Chain"]


class Chain:
    """The samplers of ``params``. One that is off costs nothing."""

    def __init__(self, params: SamplingParams, tokenizer: Tokenizer | None, source: random.Random) -> None:
        self._params = params
        self._random = source
        self._dry = Dry(params, tokenizer) if params.dry_multiplier > 0 and "dry" in params.samplers else None
        apply: dict[str, Callable[[Candidates, Sequence[int]], None]] = {
            "penalties": lambda c, history: penalize(c, params, history),
            "dry": self._apply_dry,
            "top_n_sigma": lambda c, _: c.top_n_sigma(params.top_n_sigma) if params.top_n_sigma > 0 else None,
            "top_k": lambda c, _: c.top_k(params.top_k) if params.top_k > 0 else None,
            "typ_p": lambda c, _: c.typical(params.typical_p, params.min_keep) if params.typical_p < 1 else None,
            "top_p": lambda c, _: c.top_p(params.top_p, params.min_keep) if params.top_p < 1 else None,
            "min_p": lambda c, _: c.min_p(params.min_p, params.min_keep) if params.min_p > 0 else None,
            "xtc": self._apply_xtc,
            "temperature": lambda c, _: apply_temperature(c, params),
        }
        names = ("temperature",) if params.mirostat else params.samplers
        self._steps = [apply[name] for name in names if name != "adaptive_p"]
        self.selector: Selector = Chance()
        if params.mirostat:
            self.selector = Mirostat(params)
        elif params.adaptive_target >= 0:
            self.selector = AdaptiveP(params)

    def narrow(self, candidates: Candidates, history: Sequence[int]) -> None:
        """Leaves the distribution to draw from; ``history`` are the ids of all tokens so far."""
        for step in self._steps:
            step(candidates, history)
        self.selector.apply(candidates)

    def draw(self, candidates: Candidates) -> int:
        """A token of the distribution, by chance."""
        token = candidates.pick(self._random.random())
        self.selector.chosen(candidates, token)
        return token

    def _apply_dry(self, candidates: Candidates, history: Sequence[int]) -> None:
        if self._dry is not None:
            self._dry.apply(candidates, history)

    def _apply_xtc(self, candidates: Candidates, history: Sequence[int]) -> None:
        """XTC ("exclude top choices"): by chance, the most likely but the last that reaches the threshold go."""
        p = self._params
        if p.xtc_probability <= 0 or p.xtc_threshold > 0.5 or len(candidates) < 2:
            return
        if self._random.random() < p.xtc_probability:
            candidates.exclude_top(p.xtc_threshold, p.min_keep)
