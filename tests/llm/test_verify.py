"""Receipts: what they say of an answer, and what ``verify`` says of them, hostile ones among them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters import random_factors, write_adapter
from command import Command
from llamaq import LLM, Receipt, SamplingParams, structure, verify
from llamaq.engine import bundled
from llamaq.errors import ClosedError, ContextOverflowError, ReceiptError
from llamaq.gguf import GGUFFile
from llamaq.llm.verify import context_of

RECORDED = Path(__file__).parents[1] / "data" / "receipt.json"
"""Of the bundled model, made on AVX-512: ``llamaq run "Tell me a story about a fox" -n 32 --seed 7 --receipt``."""
TEXT = RECORDED.read_text(encoding="utf-8")
SEEDED = SamplingParams(seed=3)


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    with LLM.load(threads=1, n_cache=4096) as found:
        yield found


@pytest.fixture
def command(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(capsysbinary, monkeypatch)


@pytest.fixture
def recorded() -> Receipt:
    return Receipt.parse(TEXT)


def test_the_receipt_in_the_repository_holds(llm: LLM) -> None:
    """On every level and architecture: CI runs it with all of them."""
    found = verify(llm, Receipt.load(RECORDED))
    assert (found.same, found.tokens, found.chosen, found.differing, found.first) == (True, 32, True, 0, None)


def test_a_receipt_is_read_as_it_was_written(recorded: Receipt, tmp_path: Path) -> None:
    assert recorded.json() == TEXT
    recorded.save(tmp_path / "a.json")
    assert Receipt.load(tmp_path / "a.json") == recorded
    odd = replace(recorded, sampling=SamplingParams(
        logit_bias={5: float("-inf"), 7: 0.1}, samplers="kt", temperature=1 / 3, dry_sequence_breakers=["\u2028", "é"],
        structure=structure.regex("a+").following("</think>"),
    ))  # fmt: skip
    assert Receipt.parse(odd.json()).sampling == odd.sampling


def test_a_receipt_does_not_depend_on_company_cache_or_steps(llm: LLM) -> None:
    prompts = ["Tell me a story", "Tell me a song", "Once upon a time"]
    alone = []
    for prompt in prompts:
        with LLM.load(threads=2, n_batch=3) as other:
            alone.append(other.generate(prompt, sampling=SEEDED, max_tokens=12, receipt=True).receipt())
    for _ in range(2):  # the second time from the cache
        together = llm.batch(prompts, sampling=SEEDED, max_tokens=12, receipt=True)
        assert [done.receipt() for done in together] == alone
    assert all(verify(llm, receipt).same for receipt in alone)


def test_digests_are_of_the_logits(llm: LLM) -> None:
    receipt = llm.generate("Once upon", sampling=SEEDED, max_tokens=5, receipt=True).receipt()
    logits = llm.logits([*receipt.prompt, *receipt.tokens[:-1]], first=len(receipt.prompt) - 1)
    whole = [hashlib.blake2b(row.tobytes(), digest_size=32).digest() for row in logits]
    assert [digest[:8].hex() for digest in whole] == list(receipt.logits)
    assert receipt.digest == hashlib.sha256(b"".join(whole)).hexdigest()
    for row, top in zip(logits, receipt.top, strict=True):
        assert [np.float32(value) for _, value in top] == sorted(row, reverse=True)[:3]
    with GGUFFile.open(bundled.path()) as file:
        assert receipt.sha256 == file.sha256() == hashlib.sha256(bundled.path().read_bytes()).hexdigest()


def test_an_end_token_is_part_of_it_and_chats_have_one(llm: LLM) -> None:
    done = llm.chat([{"role": "user", "content": "Hello"}], sampling=SamplingParams(temperature=0), receipt=True)
    receipt = done.receipt()
    assert receipt.tokens[-1] in llm.tokenizer.eog_ids
    assert verify(llm, receipt).same
    assert receipt == Receipt.parse(receipt.json())


def test_a_stream_has_one_of_what_was_read(llm: LLM) -> None:
    stream = llm.stream("Once upon a time", sampling=SEEDED, receipt=True)
    tokens = [next(stream).token for _ in range(4)]
    receipt = stream.receipt()
    assert list(receipt.tokens) == tokens
    assert verify(llm, receipt).same
    stream.cancel()


@pytest.mark.parametrize("logprobs", [None, 2])
def test_forced_tokens_have_no_logits(llm: LLM, logprobs: int | None) -> None:
    sampling = SamplingParams(seed=1, structure=structure.regex('\\{"first name": "[A-Z][a-z]+"\\}'), logprobs=logprobs)
    receipt = llm.generate("Tom said", sampling=sampling, max_tokens=40, receipt=True).receipt()
    assert (None in receipt.logits) == (logprobs is None)
    assert verify(llm, receipt).same
    assert verify(llm, Receipt.parse(receipt.json())).same


def test_functions_leave_the_logits_to_compare(llm: LLM) -> None:
    def lift(ids: Any, logits: Any) -> None:
        logits[300] += 20

    sampling = SamplingParams(logit_processors=[lift])
    receipt = llm.generate("Tom", sampling=sampling, max_tokens=4, receipt=True).receipt()
    found = verify(llm, receipt)
    assert (found.same, found.chosen, receipt.tokens) == (True, False, (300,) * 4)
    first = verify(llm, replace(receipt, tokens=changed(receipt.tokens, 2, 301))).first
    assert first is not None
    assert first.index == 3  # the one after it
    with pytest.raises(ReceiptError, match="no logits to compare"):
        verify(llm, replace(receipt, logits=(None,) * 4))


def test_adapters_are_part_of_it(stories: Path, tmp_path: Path, command: Command) -> None:
    for name in "ab":
        write_adapter(tmp_path / f"{name}.gguf", {"blk.1.attn_v.weight": random_factors(name, 32, 64, 4)})
    a, b = (tmp_path / f"{name}.gguf" for name in "ab")
    with LLM.load(stories, n_ctx=64, threads=1, adapters={a: 0.5}) as other:
        plain = other.generate("Tom", max_tokens=8, sampling=SEEDED, adapter={}, receipt=True).receipt()
        receipt = other.generate("Tom", max_tokens=8, sampling=SEEDED, receipt=True).receipt()
        assert receipt.adapters == ((hashlib.sha256(a.read_bytes()).hexdigest(), 0.5),)
        assert (receipt.logits == plain.logits, plain.adapters) == (False, ())
        assert verify(other, receipt).same  # the default does not count
        assert verify(other, plain).same
        assert not verify(other, replace(receipt, adapters=((receipt.adapters[0][0], 0.25),))).same
        other.load_adapter(b)
        done = other.generate("Tom", max_tokens=8, sampling=SEEDED, adapter={"b": 2.0, "a": 1.0}, receipt=True)
        several = done.receipt()
        assert verify(other, Receipt.parse(several.json())).same
        other.load_adapter(a, name="again")
        twice = other.generate("Tom", max_tokens=8, sampling=SEEDED, adapter={"a": 1.0, "again": 0.5}, receipt=True)
        assert verify(other, twice.receipt()).same
        other.unload_adapter("again")
        with pytest.raises(ReceiptError, match="load them"):
            verify(other, twice.receipt())
    receipt.save(tmp_path / "run.json")
    several.save(tmp_path / "two.json")
    missing = command("verify", tmp_path / "run.json", stories)
    assert (missing.code, "load them by --lora" in missing.err) == (2, True)
    assert command("verify", tmp_path / "run.json", stories, "--lora", b).code == 2
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.gguf").write_bytes(b.read_bytes())
    clash = command("verify", tmp_path / "run.json", stories, "--lora", f"{a},{tmp_path / 'other' / 'a.gguf'}")
    assert (clash.code, "got 'a'; --lora NAME=FILE gives another one" in clash.err) == (2, True)
    assert command("verify", tmp_path / "run.json", stories, "--lora", a).code == 0
    assert command("verify", tmp_path / "two.json", stories, "--lora", f"{b},{a}").code == 0


def changed(values: tuple[Any, ...], index: int, value: Any) -> tuple[Any, ...]:
    return (*values[:index], value, *values[index + 1 :])


def test_the_first_difference_is_told(llm: LLM, recorded: Receipt) -> None:
    digest = verify(llm, replace(recorded, logits=changed(recorded.logits, 5, "0" * 16)))
    assert digest.first is not None
    assert (digest.same, digest.differing, digest.first.index, digest.first.logits) == (False, 1, 5, True)
    assert digest.first.top_here == digest.first.top_recorded == recorded.top[5]
    token = verify(llm, replace(recorded, tokens=changed(recorded.tokens, 5, 99))).first
    assert token is not None
    assert (token.index, token.recorded, token.here, token.logits) == (5, 99, recorded.tokens[5], False)
    for other in (replace(recorded, seed=8), replace(recorded, sampling=SamplingParams(temperature=5.0, top_p=1.0))):
        assert (first := verify(llm, other).first) is not None
        assert not first.logits


def test_what_is_missing_is_no_agreement(llm: LLM, recorded: Receipt) -> None:
    """Digests that are left out, and one of all that does not fit the others."""
    found = verify(llm, replace(recorded, logits=(None,) * 32))
    assert (found.same, found.first and found.first.index) == (False, 0)
    with pytest.raises(ReceiptError, match="altered"):
        verify(llm, replace(recorded, digest="0" * 64))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sha256": "0" * 64}, "give that model"),
        ({"numerics": "fast"}, "fast numerics"),
        (
            {"adapters": (("0" * 64, 0.5),)},
            r"LoRA files of SHA-256 0000000000000000\.\.\. \(scale 0\.5\); load them",
        ),
        ({"cache_type": "q8_0"}, "cache is q8_0"),
        ({"tokens": (), "logits": (), "top": ()}, "nothing to verify"),
        ({"prompt": (10**6,)}, "altered"),
        ({"tokens": (2,) * 32}, "end token"),
        ({"sampling": SamplingParams(logit_bias={10**6: 1.0})}, "does not fit"),
    ],
)
def test_what_cannot_be_verified(llm: LLM, recorded: Receipt, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ReceiptError, match=message):
        verify(llm, replace(recorded, **change))


def test_answers_without_receipts(llm: LLM, stories: Path) -> None:
    with pytest.raises(ReceiptError, match="receipt=True"):
        llm.generate("Tom", max_tokens=1).receipt()
    with pytest.raises(ReceiptError, match="receipt=True"):
        llm.chat([{"role": "user", "content": "Hello"}], max_tokens=1).receipt()
    with LLM.load(stories, n_ctx=32, threads=1) as other:
        done = other.generate("Tom", max_tokens=40, overflow="shift", sampling=SEEDED, receipt=True)
        with pytest.raises(ReceiptError, match="shifted"):
            done.receipt()
        short = other.generate("Tom", max_tokens=4, receipt=True)
        with pytest.raises(ReceiptError, match="give that model"):
            verify(llm, short.receipt())
    with pytest.raises(ClosedError):
        short.receipt()
    file = GGUFFile.open(stories)
    file.override({"general.name": "another"})
    with LLM.load(file, n_ctx=32, threads=1) as other, pytest.raises(ReceiptError, match="overridden"):
        other.generate("Tom", max_tokens=1, receipt=True).receipt()


def test_a_text_that_fills_its_context(stories: Path) -> None:
    with LLM.load(stories, n_ctx=32, threads=1) as other:
        done = other.generate("Tom", sampling=SamplingParams(seed=1, ignore_eos=True), receipt=True)
        receipt = done.receipt()
        assert (done.finish_reason, len(receipt.prompt) + len(receipt.tokens)) == ("context", 33)
        assert verify(other, receipt).same
        assert context_of(other.model.parts.file, receipt) == 32
        with pytest.raises(ReceiptError, match="altered"):
            context_of(other.model.parts.file, replace(receipt, tokens=receipt.tokens * 2))
    with LLM.load(stories, n_ctx=16, threads=1) as small, pytest.raises(ContextOverflowError):
        verify(small, receipt)


HOSTILE: list[Any] = [None, True, -1, 0, 1, 2**31, 10**400, 1e308, "", "x", "\ud800", "é" * 1000, [], {}, [[]], [None],
                      [1], [-1], ["x"], {"a": 1}, [[1, 2, 3]], [[[1, 2]]], [[[1, "x"]]], {"structure": 5},
                      {"structure": {"kind": "regex", "text": "(a", "after": []}, "logit_bias": {}},
                      {"logit_bias": {"x": 1}}, {"logit_bias": {"1": "nan"}}]  # fmt: skip


def test_hostile_receipts_are_refused(llm: LLM, recorded: Receipt) -> None:
    whole = json.loads(TEXT)
    for key in whole:
        for value in HOSTILE:
            check(llm, json.dumps({**whole, key: value}))
        check(llm, json.dumps({k: v for k, v in whole.items() if k != key}))
    for key in whole["sampling"]:
        for value in HOSTILE:
            check(llm, json.dumps({**whole, "sampling": {**whole["sampling"], key: value}}))
    for text in ("", "[]", "{", "[" * 100_000, '{"llamaq_receipt": NaN}', "\x00", "1" * 5000, TEXT[:-20]):
        with pytest.raises(ReceiptError):
            Receipt.parse(text)
    with pytest.raises(ReceiptError):
        Receipt.parse(b"\xff\xfe{")


def check(llm: LLM, text: str) -> None:
    """A receipt that was altered is refused as one, or is verified."""
    with suppress(ReceiptError, ContextOverflowError):
        verify(llm, Receipt.parse(text))


def test_the_command_line(command: Command, recorded: Receipt, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    done = command("run", "-p", "Tell me a story about a fox", "-n", 32, "--seed", 7, "-t", 1, "--receipt", path)
    assert done.code == 0
    assert replace(Receipt.load(path), isa=recorded.isa) == recorded
    same = command("verify", path)
    assert (same.code, same.out.split(b":")[0]) == (0, b"the same, bit for bit")
    replace(recorded, tokens=changed(recorded.tokens, 5, 99)).save(path)
    differs = command("verify", path, bundled.path())
    assert differs.code == 1
    assert b"differs: its choice, from the same logits, at token 5 of 32" in differs.out
    assert b"recorded: token 99 " in differs.out
    path.write_text("{}")
    broken = command("verify", path)
    assert (broken.code, broken.out) == (2, b"")
    assert broken.err.startswith(f"llamaq: error: cannot be verified: {path}: expected a receipt")
    replace(recorded, model="../nothing.gguf").save(path)
    assert command("verify", path).code == command("verify", path, tmp_path / "none.gguf").code == 2
    assert command("verify", path, "-m", bundled.path()).code == 0


def test_receipts_are_for_one_answer(command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("llamaq.cli.run.is_terminal", lambda file: True)
    refused = command("run", "-m", bundled.path(), "--receipt", tmp_path / "a.json")
    assert refused.code == 2
    assert "--receipt is for one answer" in refused.err


def test_a_context_matters_where_the_model_computes_by_it(
    llm: LLM, recorded: Receipt, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, needed = llm.model.parts.file, len(recorded.prompt) + len(recorded.tokens)
    assert context_of(file, recorded) == needed
    monkeypatch.setattr("llamaq.llm.verify.plan_of", lambda file, n_ctx: (None, n_ctx > 100))
    assert context_of(file, recorded) == recorded.n_ctx
    with pytest.raises(ReceiptError, match="load it with n_ctx=1024"):
        verify(llm, recorded)
