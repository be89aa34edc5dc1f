"""All that an answer can be asked with at once, in company, with guesses of every kind and a cache on disk that others
damage: it is what the model alone says, bit for bit.

LLAMAQ_COMBINED_REQUESTS says how many requests each case has (default 16), LLAMAQ_COMBINED_SEED which.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters import random_factors, write_adapter, write_vector
from asking import Asking, fresh, outcome
from llamaq import LLM
from llamaq.engine.kv_cache import PAGE_TOKENS
from llamaq.engine.nextn import NextN
from llamaq.serving import disk_cache, disk_prefixes, scheduler
from llamaq.serving.account import Account
from llamaq.serving.disk_cache import DiskCache
from llamaq.serving.drafter import Drafter
from llamaq.serving.generation import Generation
from llamaq.serving.request import Guess
from llamaq.serving.rounds import Rounds
from llamaq.serving.speculation import Costs
from llamaq.serving.stream import Completion, Stream
from nextn_models import knowing, written
from pages import check_pages
from tiny_models import tiny_model
from waiting import wait_until

REQUESTS = int(os.environ.get("LLAMAQ_COMBINED_REQUESTS", "16"))
SEED = int(os.environ.get("LLAMAQ_COMBINED_SEED", "1"))
THREADS = 4
BLOCK = 64
"""Tokens of a block on disk, here."""
ROOM: dict[str, Any] = {"n_ctx": 256, "n_cache": 480}
CHOICES: list[Any] = [None, None, {}, "one", "two", {"one": 0.5, "two": -1.0}, {"lean": 0.7, "one": 1.0}, "lean"]
"""Of adapters; the default is none."""


class Question:
    """What is asked, and what the model says to that alone."""

    def __init__(self, asking: Asking, beginnings: list[list[int]]) -> None:
        rng, self.asked = asking.rng, asking.question()
        if rng.random() < 0.6:
            begun = rng.choice(beginnings)
            self.asked["ids"] = [*begun[: rng.randrange(1, len(begun))], *self.asked["ids"]]
        self.asked["adapter"] = rng.choice(CHOICES)
        self.asked["receipt"] = self.asked["overflow"] == "error"

    def learn(self, llm: LLM) -> None:
        self.done = llm.model.start(**fresh(self.asked)).result()
        self.want = whole(self.done)

    def prepare(self, llm: LLM, rng: random.Random, **more: Any) -> Stream:
        """The answer, not begun yet; half of them are predicted, well or badly."""
        if rng.random() < 0.5:
            more["prediction"] = [rng.randrange(4, 60) if rng.random() < 0.1 else id for id in self.done.tokens]
        stream = llm.model.prepare(**{**fresh(self.asked), **more})
        stream._request.known = self.done.tokens  # type: ignore[attr-defined]
        return stream

    def check(self, done: Completion) -> None:
        assert whole(done) == self.want, self.asked

    def check_beginning(self, events: list[Any]) -> None:
        """Of an answer that may have been cancelled, whose last event lets go of held text."""
        cancelled = events[-1:] and events[-1].finish_reason == "cancelled"
        seen = events[: -1 if cancelled else None]
        assert tuple(seen) == self.done.events[: len(seen)], self.asked


def whole(done: Completion) -> tuple[Any, ...]:
    """All that must be the same; a receipt has a digest of the logits behind each token."""
    if done.recorded is None:
        return outcome(done)
    receipt = done.receipt()
    return *outcome(done), receipt.tokens, receipt.logits, receipt.top, receipt.digest, receipt.adapters


@dataclass
class Work:
    """What one thread does: one thing after the other, with models that share a cache on disk."""

    llms: list[LLM]
    questions: list[Question]
    folder: Path
    rng: random.Random
    drafted: int = 0
    accepted: int = 0
    from_disk: int = 0
    errors: list[BaseException] = field(default_factory=list)

    def run(self) -> None:
        acts = [self.several, self.several, self.slow, self.given_up, self.timed, self.talk, self.damage, self.scored]
        try:
            for question in self.questions:
                self.rng.choice(acts)(question, self.rng.choice(self.llms))
        except BaseException as error:
            self.errors.append(error)

    def several(self, question: Question, llm: LLM) -> None:
        some = [question, *self.rng.sample(self.questions, self.rng.choice([0, 1, 3]))]
        streams = [each.prepare(llm, self.rng) for each in some]
        Stream.begin(*streams)
        for each, stream in zip(some, streams, strict=True):
            done = stream.result()
            each.check(done)
            self.drafted += done.usage.drafted_tokens
            self.accepted += done.usage.accepted_tokens
            self.from_disk += done.usage.disk_tokens

    def slow(self, question: Question, llm: LLM) -> None:
        stream = question.prepare(llm, self.rng)
        Stream.begin(stream)
        events = []
        for event in stream:
            events.append(event)
            if self.rng.random() < 0.05:
                self.given_up(self.rng.choice(self.questions), llm)
        assert tuple(events) == question.done.events, question.asked

    def given_up(self, question: Question, llm: LLM) -> None:
        """By somebody who cancels, or holds the stream no more."""
        stream = question.prepare(llm, self.rng)
        Stream.begin(stream)
        events = [event for _, event in zip(range(self.rng.randrange(12)), stream, strict=False)]
        if not stream.ended and self.rng.random() < 0.7:
            stream.cancel()
            events += stream
        question.check_beginning(events)

    def timed(self, question: Question, llm: LLM) -> None:
        stream = question.prepare(llm, self.rng, timeout=self.rng.choice([0.0, 1e-3, 1e-2, 0.1]))
        Stream.begin(stream)
        question.check_beginning([*stream])

    def talk(self, question: Question, llm: LLM) -> None:
        """The prompt in two pieces, twice: by a session and by its fork."""

        def options() -> dict[str, Any]:
            return {key: value for key, value in fresh(question.asked).items() if key not in ("ids", "adapter")}

        ids, own = question.asked["ids"], llm.session(adapter=question.asked["adapter"])
        half = self.rng.randrange(len(ids)) if len(ids) <= llm.n_ctx else 0
        if half:
            own.extend(ids[:half])
        fork = own.fork()
        question.check(own.generate(ids[half:], **options()))
        if self.rng.random() < 0.3:
            own.save(path := self.folder.parent / f"{threading.get_ident()}.session")
            llm.session(adapter=question.asked["adapter"]).load(path)
        question.check(fork.generate(ids[half:], **options()))

    def damage(self, question: Question, llm: LLM) -> None:
        """Files of the cache change and go while others use them; an adapter comes and goes."""
        for path in [*self.folder.glob("*/*.block")]:
            with suppress(OSError):
                if self.rng.random() < 0.2:
                    path.unlink()
                elif self.rng.random() < 0.3:
                    data = bytearray(path.read_bytes() or b"x")
                    data[self.rng.randrange(len(data))] ^= 1
                    path.write_bytes(data[: self.rng.choice([None, -1, 100])])
        if self.rng.random() < 0.2:
            DiskCache(self.folder).clear()
        adapter = question.asked["adapter"]
        if isinstance(adapter, str):
            path = next(each.path for each in llm.adapters if each.name == adapter)
            again = llm.load_adapter(path, name=f"again {threading.get_ident()}")
            stream = question.prepare(llm, self.rng, adapter=again)
            llm.unload_adapter(again)
            Stream.begin(stream)
            question.check(stream.result())

    def scored(self, question: Question, llm: LLM) -> None:
        """Each token that was chosen has the log-probability that it had when it was."""
        asked, done = question.asked, question.done
        if done.tokens and not done.usage.dropped_tokens and len(asked["ids"]) <= llm.n_ctx:
            tokens = done.tokens[: llm.n_ctx - len(asked["ids"])]
            found = llm.score(tokens, prompt=asked["ids"], adapter=asked["adapter"]).logprobs
            for event, logprob in zip(done.events, found, strict=False):
                assert event.logprob is None or event.logprob == logprob, asked


def adapters_for(llm: LLM, folder: Path) -> list[Path]:
    """Two LoRA adapters of a model's matrices, and a control vector."""
    plan, tensors = llm.plan, llm.model.parts.file.tensors
    shapes = {weight.name: tensors[weight.name].shape for weight in plan.weights if weight.role == "matrix"}
    architecture = str(llm.metadata["general.architecture"])
    found = []
    for seed, (name, part) in enumerate((("one", ""), ("two", "blk.1."))):
        own = [(key, x) for key, x in shapes.items() if len(x) == 2 and part in key and key != "token_embd.weight"]
        factors = {key: random_factors(key, *shape, 3, seed) for key, shape in own}
        found.append(write_adapter(folder / f"{name}.gguf", factors, architecture=architecture, alpha=0.6))
    rng, widths = np.random.default_rng(1), [plan.nodes[end].cols[0] for end in plan.layer_ends[2:]]
    vectors = {f"direction.{i}": rng.normal(0, 0.3, n).astype(np.float32) for i, n in enumerate(widths, 1)}
    return [*found, write_vector(folder / "lean.gguf", vectors)]


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guesses cost nothing and come from everywhere; blocks on disk are small; busy answers lose their room soon."""
    rng, guess, begin = random.Random(SEED), Generation.guess, Drafter.__init__

    def mixed(self: Generation, most: int) -> Guess | None:
        how, known = rng.random(), getattr(self, "known", ())
        if how < 0.4:
            return guess(self, most)
        if how < 0.6 or not known:
            return None  # a draft model or a block is asked
        most = min(self.may_guess(most), rng.randrange(9))
        tokens = [*known[self.made : self.made + most]]
        tokens = [rng.randrange(60) if rng.random() < 0.15 else token for token in tokens]
        return Guess.alike(tokens, 1.0, 0) if tokens else None

    monkeypatch.setattr(Generation, "guess", mixed)
    monkeypatch.setattr(Costs, "price", lambda self, rows: 0.0)
    monkeypatch.setattr(Account, "balance", property(lambda self: 1.0, lambda self, value: None), raising=False)
    monkeypatch.setattr(Rounds, "_note", lambda self, *args: None)
    monkeypatch.setattr(NextN, "share", property(lambda self: 0.0, lambda self, value: None), raising=False)
    monkeypatch.setattr(Drafter, "__init__", lambda self, own, vocabulary, share: begin(self, own, vocabulary, 0.0))
    monkeypatch.setattr(disk_prefixes, "BLOCK", BLOCK)
    monkeypatch.setattr(disk_prefixes, "_PAGES", BLOCK // PAGE_TOKENS)
    monkeypatch.setattr(disk_cache, "_YOUNG", -1e30)
    monkeypatch.setattr(scheduler, "_PATIENCE", 0.005)


BLOCKS = [f"{name}+block" for name in ("qwen35", "deepseek3", "glm4moe-normed", "nemotron-h-latent")]
WITHOUT_DRAFT = ["gemma4", "gptoss", "llama4", "granitehybrid", "mamba2", "nemotron-h"]


def options_of(name: str, shared: Callable[[str], Path]) -> dict[str, Any]:
    """Arguments of ``LLM.load``: text, windows, states, experts; with a draft model or a block of its own, or none."""
    if name == "stories":
        return {"path": shared("models/stories260K-Q8_0.gguf"), "draft": shared("models/stories260K-Q4_0.gguf")}
    if name == "demo":
        return {"cache_type": "q8_0"}
    if name in BLOCKS:
        return {"path": written(*knowing(name.removesuffix("+block"), 0.03))}
    path = tiny_model(name)[0]
    return {"path": path} if name in WITHOUT_DRAFT else {"path": path, "draft": path}


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("name", ["stories", "demo", "gemma3", "lfm2", *BLOCKS, *WITHOUT_DRAFT])
def test_an_answer_is_that_of_the_model_alone(
    shared: Callable[[str], Path], tmp_path: Path, name: str, record_property: Callable[[str, object], None]
) -> None:
    """Samplers, structures, processors, adapters, predictions, stops, shifts, cancels, timeouts, sessions."""
    options, folder = options_of(name, shared) | ROOM, tmp_path / "kept"
    with ExitStack() as opened:
        plain = {key: value for key, value in options.items() if key != "draft"}
        with LLM.load(**plain, threads=1, speculation=False) as llm:
            files = adapters_for(llm, tmp_path)
            for file in files:
                llm.load_adapter(file)
            asking = Asking(SEED, llm.tokenizer.n_vocab, name in ("stories", "demo"))
            begun = [[asking.rng.randrange(4, asking.vocabulary) for _ in range(150)] for _ in range(3)]
            questions = [Question(asking, begun) for _ in range(REQUESTS)]
            for question in questions:
                question.learn(llm)
        llms = []
        for batch in (512, 24):
            more: dict[str, Any] = {"cache_dir": folder, "cache_limit": 1 << 21, "n_batch": batch, "threads": 2}
            llms.append(opened.enter_context(LLM.load(**options, **more)))
            for file in files:
                llms[-1].load_adapter(file)
        works = [Work(llms, questions[i::THREADS], folder, random.Random(SEED + i)) for i in range(THREADS)]
        threads = [threading.Thread(target=work.run, daemon=True) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for work in works:
            for error in work.errors:
                raise error
        counts = {key: sum(getattr(work, key) for work in works) for key in ("drafted", "accepted", "from_disk")}
        record_property("counts", counts)
        assert counts["drafted"] > counts["accepted"] > REQUESTS
        for llm in llms:
            wait_until(lambda llm=llm: llm.model.scheduler.idle)  # type: ignore[misc]
            check_pages(llm.model.scheduler)
