"""Random questions, and all of their answers that must not depend on guesses."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np

from llamaq import LLM, SamplingParams
from llamaq.serving.stream import Completion, Stream
from llamaq.structure import json_schema, regex

__all__ = ["Asking", "Outcome", "alone", "fresh", "outcome", "together"]

STRUCTURES = [
    regex("(a|b)( [a-z]{1,4}){3,12}"),
    json_schema({"type": "object", "properties": {"name": {"type": "string", "maxLength": 9}}, "required": ["name"]}),
    json_schema({"enum": ["one of two", "one of three"]}),
]

Outcome = tuple[Any, ...]


def outcome(done: Completion) -> Outcome:
    """All of an answer but its times and what was cached and guessed."""
    return done.text, done.tokens, done.finish_reason, done.seed, done.stop, done.events, done.usage.dropped_tokens


class Suppressing:
    """A logit processor that is asked in turn: what it gives depends on how often it was called, and with what."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, float]] = []

    def __call__(self, ids: np.ndarray[Any, Any], logits: np.ndarray[Any, Any]) -> None:
        self.calls.append((len(ids), float(logits.max())))
        logits[(7 * len(self.calls)) % len(logits)] -= 5


class Asking:
    """Random questions, the same ones for each seed."""

    def __init__(self, seed: int, vocabulary: int, texts: bool) -> None:
        self.rng, self.vocabulary, self.texts = random.Random(seed), vocabulary, texts
        self.earlier: list[list[int]] = []

    def prompt(self) -> list[int]:
        """Ids that repeat themselves, or go on an earlier prompt."""
        rng = self.rng
        piece = [rng.randrange(4, self.vocabulary) for _ in range(rng.randrange(2, 12))]
        ids = [*piece, *(rng.randrange(4, self.vocabulary) for _ in range(rng.randrange(6))), *piece, *piece[:3]]
        if self.earlier and rng.random() < 0.5:
            earlier = rng.choice(self.earlier)
            ids = [*earlier[: rng.randrange(1, len(earlier) + 1)], *ids]
        self.earlier.append(ids[:90])
        return ids[:90]

    def sampling(self) -> SamplingParams:
        rng = self.rng
        params = SamplingParams(
            seed=rng.randrange(1000), temperature=rng.choice([0.0, 0.0, 0.3, 0.8, 1.5]),
            logprobs=rng.choice([None, None, 0, 3]), min_tokens=rng.choice([0, 0, 20]),
            ignore_eos=rng.random() < 0.3, logit_bias={5: -2.0} if rng.random() < 0.2 else {},
        )  # fmt: skip
        others: list[dict[str, Any]] = [
            {"mirostat": 1}, {"mirostat": 2, "mirostat_tau": 2.0}, {"dry_multiplier": 0.8}, {"adaptive_target": 0.5},
            {"repeat_penalty": 1.2, "frequency_penalty": 0.1}, {"xtc_probability": 0.5}, {"dynatemp_range": 0.3},
            {"typical_p": 0.7, "top_n_sigma": 1.0},
        ]  # fmt: skip
        if rng.random() < 0.5:
            params = replace(params, **rng.choice(others))
        if rng.random() < 0.2:
            params = replace(params, logit_processors=[Suppressing()])
        if self.texts and rng.random() < 0.25:
            params = replace(params, structure=rng.choice(STRUCTURES), min_tokens=0, ignore_eos=False)
        return params

    def question(self) -> dict[str, Any]:
        rng = self.rng
        shift = rng.random() < 0.2
        return {
            "ids": self.prompt(), "sampling": self.sampling(), "overflow": "shift" if shift else "error",
            "max_tokens": rng.choice([0, 1, 2, 20, 60, 160]) if shift else rng.choice([1, 7, 30, 60, None]),
            "stop": rng.choice([[], [], [" the", "e", "\n"], ["xyz"]]),
        }  # fmt: skip


def fresh(question: dict[str, Any]) -> dict[str, Any]:
    """The question with processors that nobody has called."""
    params = question["sampling"]
    processors = [Suppressing() for _ in params.logit_processors]
    return {**question, "sampling": replace(params, logit_processors=processors)}


def alone(llm: LLM, questions: list[dict[str, Any]]) -> list[Outcome]:
    return [outcome(llm.model.start(**fresh(question)).result()) for question in questions]


def together(llm: LLM, questions: list[dict[str, Any]]) -> tuple[list[Outcome], int, int]:
    """The answers, some at once and beside others that are cancelled; tokens drafted for them, and accepted."""
    rng, got, drafted, accepted = random.Random(3), list[Outcome](), 0, 0
    while len(got) < len(questions):
        some = questions[len(got) : len(got) + rng.choice([1, 2, 4])]
        streams = [llm.model.prepare(**fresh(question)) for question in some]
        other = llm.model.prepare(**fresh(rng.choice(questions)))
        Stream.begin(*streams, *([other] if rng.random() < 0.3 else []))
        other.cancel()
        done = [stream.result() for stream in streams]
        got += map(outcome, done)
        drafted += sum(each.usage.drafted_tokens for each in done)
        accepted += sum(each.usage.accepted_tokens for each in done)
    return got, drafted, accepted
