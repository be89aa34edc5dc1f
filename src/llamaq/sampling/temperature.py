"""Temperature, fixed or after the entropy of the distribution.

Source of the latter: "dynamic temperature" (kalomaze), as in llama.cpp.
"""

from __future__ import annotations

from llamaq import _core

from .params import SamplingParams

__all__ = ["apply_temperature"]

_GREEDY = 1e-10  # quotients by less could overflow, and tell tokens apart that are all but equal


def apply_temperature(candidates: _core.Candidates, params: SamplingParams) -> None:
    """Divides the logits by the temperature; 0 or less leaves the most likely token alone.

    With ``dynatemp_range`` the temperature runs from ``temperature - range`` (not below 0) to ``temperature + range``,
    as the entropy, by the greatest that so many tokens can have, to the power of ``dynatemp_exponent``.
    """
    temperature = params.temperature
    if params.dynatemp_range > 0:
        if len(candidates) < 2:
            return
        low = max(0.0, temperature - params.dynatemp_range)
        share = candidates.entropy / _core.log(len(candidates))
        share = _core.exp(params.dynatemp_exponent * _core.log(share)) if share > 0 else 0.0**params.dynatemp_exponent
        temperature = low + (temperature + params.dynatemp_range - low) * share
    if temperature < _GREEDY:
        candidates.top_k(1)
    elif temperature != 1:
        candidates.scale(temperature)
