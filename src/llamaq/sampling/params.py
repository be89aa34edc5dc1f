"""The settings of sampling: one frozen dataclass, names and defaults as in llama.cpp."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from llamaq.boundary.arguments import INT32, flag, function, instance, items, real, texts, whole
from llamaq.boundary.calls import answering
from llamaq.errors import naming
from llamaq.structure import Structure

from .order import DEFAULT_ORDER, parse_order

__all__ = ["LogitProcessor", "SamplingParams"]

T = TypeVar("T")

LogitProcessor: TypeAlias = Callable[[NDArray[np.int32], NDArray[np.float32]], "NDArray[np.float32] | None"]
"""Gets the ids of all tokens so far and the logits (vocabulary,); changes them in place or returns others.
Calls of one object never overlap; they come from threads of the library."""

_BIAS = "a dict of token ids and what is added to their logits, such as {15043: -1.0}"
_STRUCTURE = "what llamaq.structure makes, such as json_schema({...})"

_LARGE = 1e30  # no setting that makes sense is larger, and sums of it stay numbers

_OPTIONS = ("max_tokens", "stop", "special", "overflow", "keep", "timeout", "prediction", "receipt")
_STRUCTURES = ("grammar", "json_schema", "schema", "regex", "response_format", "format")

_RANGES = {
    "temperature": (-_LARGE, _LARGE),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "typical_p": (0.0, 1.0),
    "top_n_sigma": (-_LARGE, _LARGE),
    "xtc_probability": (0.0, 1.0),
    "xtc_threshold": (0.0, 1.0),
    "repeat_penalty": (1e-6, 1e6),
    "presence_penalty": (-1e6, 1e6),
    "frequency_penalty": (-1e6, 1e6),
    "dry_multiplier": (0.0, 1e6),
    "dry_base": (1.0, 1e6),
    "dynatemp_range": (0.0, _LARGE),
    "dynatemp_exponent": (0.0, 1e6),
    "mirostat_tau": (0.0, 1e6),
    "mirostat_eta": (0.0, 1e6),
    "adaptive_target": (-1.0, 1.0),
    "adaptive_decay": (0.0, 0.99),
}
_COUNTS = {
    "top_k": (0, INT32),
    "min_keep": (0, INT32),
    "repeat_last_n": (-1, INT32),
    "dry_allowed_length": (1, INT32),
    "dry_penalty_last_n": (-1, INT32),
    "mirostat": (0, 2),
    "min_tokens": (0, INT32),
    "seed": (0, None),
    "logprobs": (0, INT32),
}


def _elsewhere(name: str, value: str) -> str | None:
    if name in _OPTIONS:
        return f"it is an option of LLM.generate, stream and chat: {name}={value}"
    return "llamaq.structure makes what structure takes" if name in _STRUCTURES else None


def _answering(kind: type[T]) -> type[T]:
    init: Any = kind.__init__
    setattr(kind, "__init__", answering(elsewhere=_elsewhere)(init))  # noqa: B010 - a method cannot be assigned to
    return kind


@_answering
@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How the next token is chosen. docs/sampling.md has what each sampler does; the defaults are llama.cpp's.

    The samplers run in the order of ``samplers`` (names, ``"top_k;temperature"`` or letters, ``"kt"``) on logits to
    which ``logit_processors`` and then ``logit_bias`` (token id to number, -inf forbids) were applied. What is 0
    turns off ``top_k``, ``min_p``, ``xtc_probability``, ``dry_multiplier``, ``dynatemp_range``, ``mirostat``, the
    ``presence_penalty`` and the ``frequency_penalty``; what is 1, ``top_p``, ``typical_p`` and the
    ``repeat_penalty``; a negative number ``top_n_sigma`` (0 too) and ``adaptive_target``. ``temperature`` 0 or less
    takes the most likely token. Windows (``repeat_last_n``, ``dry_penalty_last_n``) count tokens, prompt included; -1
    is all of them. ``mirostat`` 1 or 2 takes the place of the whole chain but the temperature.

    ``seed`` None draws a random one; ``logprobs`` asks for log-probabilities of the model, before any sampler, and
    of so many most likely tokens; ``min_tokens`` are generated before an end token may come, and ``ignore_eos``
    lets none come. ``structure`` (made by ``llamaq.structure``) says what the text must match.

    Raises ``ValueError`` for a value out of range, ``TypeError`` for one of the wrong kind.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    typical_p: float = 1.0
    top_n_sigma: float = -1.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    repeat_last_n: int = 64
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = 64
    dry_sequence_breakers: Sequence[str] = ("\n", ":", '"', "*")
    dynatemp_range: float = 0.0
    dynatemp_exponent: float = 1.0
    mirostat: int = 0
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    adaptive_target: float = -1.0
    adaptive_decay: float = 0.9
    min_keep: int = 0
    samplers: str | Sequence[str] = DEFAULT_ORDER
    logit_bias: Mapping[int, float] = field(default_factory=dict, hash=False)
    logit_processors: Sequence[LogitProcessor] = ()
    seed: int | None = None
    logprobs: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    structure: Structure | None = None

    def __post_init__(self) -> None:
        checked: dict[str, Any] = {name: real(name, getattr(self, name), *limits) for name, limits in _RANGES.items()}
        for name, limits in _COUNTS.items():
            value = getattr(self, name)
            if value is not None or name not in ("seed", "logprobs"):
                checked[name] = whole(name, value, *limits)
        checked["ignore_eos"] = flag("ignore_eos", self.ignore_eos)
        checked["samplers"] = parse_order(self.samplers)
        checked["dry_sequence_breakers"] = texts("dry_sequence_breakers", self.dry_sequence_breakers)
        processors = items("logit_processors", self.logit_processors, "functions")
        checked["logit_processors"] = tuple(function("each of logit_processors", each) for each in processors)
        bias_of = instance("logit_bias", self.logit_bias, Mapping, _BIAS)  # type: ignore[type-abstract]
        checked["logit_bias"] = {
            whole("each id of logit_bias", id, 0, INT32): real("each number of logit_bias", bias)
            for id, bias in bias_of.items()
        }
        for id, bias in checked["logit_bias"].items():
            if bias != -math.inf and abs(bias) > 1e6:
                message = f"logit_bias must map token ids to numbers up to 1e6 (or -inf), got {id}: {bias}"
                raise naming(ValueError(message), "logit_bias")
        if self.structure is not None:
            instance("structure", self.structure, Structure, _STRUCTURE)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def check_vocabulary(self, size: int) -> None:
        """Raises ``ValueError`` where ``logit_bias`` has an id beyond a vocabulary of ``size`` tokens."""
        highest = max(self.logit_bias, default=0)
        if highest >= size:
            message = f"logit_bias has token {highest}, but the vocabulary's {size} tokens are 0 to {size - 1}"
            raise naming(ValueError(message), "logit_bias")

    def nth(self, index: int) -> SamplingParams:
        """The settings of answer ``index`` of several to one prompt: the seed goes up by one with each."""
        return self if self.seed is None else replace(self, seed=self.seed + whole("index", index, 0))
