"""Times one choice of a token at a vocabulary of 128 256, for the defaults and for each sampler alone, on one core.

    python benchmarks/sampling.py --json sampling.json

The logits are those of a peaked distribution (a few tokens hold most of the probability, as after real text) and of a
flat one (thousands do). ``percent_of_token`` holds the defaults against the time of a model's token, where it is given.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamaq.sampling import Sampler, SamplingParams
from report import machine

__all__ = ["measure"]

OFF: dict[str, Any] = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "greedy": {"temperature": 0.0},
    "everything off": OFF,
    "penalties, then the defaults": {"repeat_penalty": 1.1, "presence_penalty": 0.1, "frequency_penalty": 0.1},
    "DRY on 4096 tokens, then the defaults": {"dry_multiplier": 0.8, "dry_penalty_last_n": -1},
    "log-probabilities and the defaults": {"logprobs": 5},
    "top-n-sigma alone": {**OFF, "top_n_sigma": 1.0},
    "typical alone": {**OFF, "typical_p": 0.9},
    "top-p alone": {**OFF, "top_p": 0.95},
    "min-p alone": {**OFF, "min_p": 0.05},
    "XTC alone": {**OFF, "xtc_probability": 1.0},
    "dynamic temperature alone": {**OFF, "dynatemp_range": 0.5},
    "Mirostat 1": {"mirostat": 1},
    "Mirostat 2": {"mirostat": 2},
    "min-p and adaptive-p": {**OFF, "min_p": 0.05, "adaptive_target": 0.5},
}


def logits_of(kind: str, vocabulary: int) -> NDArray[np.float32]:
    """Logits of kind "peaked" fall with the cube of the rank; those of kind "flat" are a normal distribution."""
    rng = np.random.default_rng(0)
    x = -3 * np.log(rng.permutation(vocabulary) + 1) if kind == "peaked" else rng.standard_normal(vocabulary) * 2
    return np.asarray(x, np.float32)


def seconds(params: SamplingParams, logits: NDArray[np.float32], rounds: int) -> float:
    """The least of a choice, with what it teaches the sampler; other work on the machine only adds to it."""
    sampler = Sampler(params)
    sampler.feed(np.random.default_rng(1).integers(0, 1000, 4096).tolist())

    def choose() -> None:
        token = sampler.sample(logits)
        if params.logprobs is not None:
            sampler.logprob(token)
            sampler.top_logprobs()
        sampler.accept(token)

    choose()
    return min(timed(choose) for _ in range(rounds))


def timed(work: Callable[[], None]) -> float:
    """Seconds that it took."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure(vocabulary: int, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds by settings and kind of logits."""
    kinds = {kind: logits_of(kind, vocabulary) for kind in ("peaked", "flat")}
    return {
        name: {
            kind: round(1e3 * seconds(SamplingParams(seed=1, **settings), logits, rounds), 4)
            for kind, logits in kinds.items()
        }
        for name, settings in SETTINGS.items()
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabulary", type=int, default=128_256)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--token-ms", type=float, help="milliseconds of a token of the model to hold it against")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    result: dict[str, Any] = {
        "mode": "sampling",
        "machine": machine(),
        "vocabulary": args.vocabulary,
        "rounds": args.rounds,
        "least_ms": measure(args.vocabulary, args.rounds),
    }
    if args.token_ms:
        result["token_ms"] = args.token_ms
        share = result["least_ms"]["defaults"]["peaked"] / args.token_ms
        result["percent_of_token"] = round(100 * share, 2)
    text = json.dumps(result, indent=2) + "\n"
    print(text, end="")
    if args.json:
        args.json.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
