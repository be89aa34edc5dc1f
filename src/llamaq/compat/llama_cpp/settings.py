"""How the arguments of a call become llamaq's settings of sampling."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from llamaq.boundary.arguments import texts, whole
from llamaq.sampling import SamplingParams

from .constants import LLAMA_DEFAULT_SEED
from .llama_grammar import structure_of

if TYPE_CHECKING:
    from llamaq.sampling.params import LogitProcessor
    from llamaq.structure import Structure

__all__ = ["Seeds", "check_room", "max_tokens_of", "sampling_of", "stops_of"]

_RANDOM = (-1, LLAMA_DEFAULT_SEED)
_TAKEN_OVER = ("top_p", "min_p", "typical_p", "repeat_penalty", "frequency_penalty", "presence_penalty",
               "mirostat_tau", "mirostat_eta")  # fmt: skip


class Seeds:
    """The seed of each call that names none: a sequence that ``seed`` begins, or random ones for -1."""

    def __init__(self, seed: int) -> None:
        self.seed = whole("seed", seed)
        self._random = random.SystemRandom() if self.seed == -1 else random.Random(self.seed)
        self._lock = threading.Lock()

    def next(self, given: int | None) -> int | None:
        """The seed of a call: ``given``, where it is one; None is a random one."""
        if given is None:
            with self._lock:
                return self._random.getrandbits(32)
        return plain_seed(given)


def plain_seed(seed: int) -> int | None:
    """A seed as llamaq takes it; None is a random one."""
    return None if whole("seed", seed) in _RANDOM else seed & 0xFFFFFFFF


def sampling_of(
    values: Mapping[str, Any], *, seed: int | None, last_n: int, logprobs: int | None = None,
    structure: Structure | None = None, before: Iterable[LogitProcessor] = (),
) -> SamplingParams:  # fmt: skip
    """Settings from the arguments of a call. ``structure`` counts where they have no grammar; ``before`` are
    processors that run before those of the call. Raises ``ValueError`` for what llamaq has not."""
    if values["tfs_z"] != 1.0:
        raise ValueError(f"tfs_z={values['tfs_z']} is not possible: llama.cpp has dropped that sampler, use min_p")
    temperature = values["temperature"] if "temperature" in values else values["temp"]
    settings: dict[str, Any] = {name: values[name] for name in _TAKEN_OVER}
    if temperature < 0:  # this draws from all tokens, as the model has them
        settings |= {"samplers": ("penalties",)}
        temperature = 1.0
    processors = values["logits_processor"]
    if processors is not None and not isinstance(processors, Iterable):
        processors = [processors]
    bias = values.get("logit_bias") or {}
    return SamplingParams(
        temperature=temperature,
        top_k=max(values["top_k"], 0),
        mirostat=values["mirostat_mode"],
        repeat_last_n=last_n,
        logit_bias={int(id): float(number) for id, number in bias.items()},
        logit_processors=(*before, *(processors or ())),
        seed=seed,
        logprobs=logprobs,
        structure=structure_of(values["grammar"]) or structure,
        **settings,
    )


def stops_of(stop: Any) -> tuple[str, ...]:
    """Texts that end an answer."""
    return () if stop is None else texts("stop", stop)


def max_tokens_of(value: int | None) -> int | None:
    """Tokens of an answer; None is as many as the context has room for."""
    return None if value is None or whole("max_tokens", value) <= 0 else value


def check_room(count: int, n_ctx: int) -> None:
    """Raises ``ValueError``, in words that callers look for, where a prompt leaves no room for an answer."""
    if count >= n_ctx:
        message = f"Requested tokens ({count}) exceed context window of {n_ctx}; shorten the prompt or raise n_ctx"
        raise ValueError(message)
