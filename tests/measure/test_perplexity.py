"""Perplexity: independent numbers, the method by hand, and the command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from command import Command
from llamaq.llm.llm import LLM
from llamaq.measure import chunks_of, perplexity


@pytest.fixture
def command(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(capsysbinary, monkeypatch)


@pytest.fixture(scope="module")
def text(shared: Callable[[str], Path]) -> Path:
    return shared("text/tinystories-valid-excerpt.txt")


@pytest.fixture(scope="module")
def model(shared: Callable[[str], Path]) -> Path:
    return shared("models/stories260K-F32.gguf")


@pytest.mark.parametrize("name", ["F32", "Q8_0", "Q4_0"])
def test_an_independent_forward_pass_finds_the_same(shared: Callable[[str], Path], text: Path, name: str) -> None:
    known = json.loads(shared("text/ppl_reference.json").read_text())
    expected = known[f"stories260K-{name}|{text.name}[:20000]"]
    words = " ".join(text.read_text(encoding="utf-8").split())[:20000]
    with LLM.load(shared(f"models/stories260K-{name}.gguf"), n_ctx=256, threads=1, cache_type="f32") as llm:
        ids = llm.tokenizer.encode(words, add_special=False)  # the reference has it so; llama.cpp puts BOS before it
        found = perplexity(llm, chunks_of(llm.tokenizer, ids, expected["n_ctx"], expected["chunks"]))
    assert found.losses.size == expected["n_scored"]
    assert found.value == pytest.approx(expected["ppl_second_half"], rel=1e-3 if name != "F32" else 1e-6)


def test_the_second_half_of_each_chunk_is_scored(model: Path, text: Path) -> None:
    calls = []
    with LLM.load(model, n_ctx=32, threads=1, n_batch=10) as llm:
        chunks = chunks_of(llm.tokenizer, text.read_bytes()[:400], 32, 3)
        assert chunks.shape == (3, 32)
        assert (chunks[:, 0] == llm.tokenizer.bos_id).all()
        found = perplexity(llm, chunks, progress=lambda done, total: calls.append((done, total)))
        for chunk, losses in zip(chunks, found.losses, strict=True):
            logits = llm.logits(chunk.tolist()).astype(np.float64)[16:31]
            chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            np.testing.assert_allclose(losses, -np.log(chances[np.arange(15), chunk[17:]]), rtol=1e-6)
    assert calls == [(32, 96), (64, 96), (96, 96)]
    flat = found.losses.ravel()
    assert found.uncertainty == pytest.approx(found.value * flat.std() / np.sqrt(44))


def test_chunks(model: Path) -> None:
    with LLM.load(model, n_ctx=8, threads=1) as llm:
        ids = llm.tokenizer.encode("Once upon a time there was a little girl")
        assert len(ids) > 9
        np.testing.assert_array_equal(
            chunks_of(llm.tokenizer, "Once upon a time there was a little girl", 5)[0], ids[:5]
        )
        second = chunks_of(llm.tokenizer, ids, 5)[1]
        assert second.tolist() == [llm.tokenizer.bos_id, *ids[6:10]]
        with pytest.raises(ValueError, match="one chunk needs 50; give a longer text"):
            chunks_of(llm.tokenizer, "Once", 50)
        with pytest.raises(ValueError, match="at least 4"):
            chunks_of(llm.tokenizer, "Once", 3)


def test_the_command(command: Command, model: Path, text: Path, tmp_path: Path) -> None:
    part = tmp_path / "part.txt"
    part.write_bytes(text.read_bytes()[:2000] + b"\n")
    argv = ["perplexity", model, "-f", part, "-c", 64, "--chunks", 4, "-t", 1]
    done = command(*argv)
    assert (done.code, done.err) == (0, "")
    first, second = done.out.decode().splitlines()
    found = json.loads(command(*argv, "--json").out)
    assert first == f"Final estimate: PPL = {found['perplexity']:.4f} +/- {found['uncertainty']:.5f}"
    assert second.startswith("124 tokens scored, in 4 chunks of 64; 256 read in ")
    piped = json.loads(command(*argv[:3], "-", *argv[4:], "--json", stdin=part.read_bytes()).out)
    assert piped["perplexity"] == found["perplexity"]
    with LLM.load(model, n_ctx=64, threads=1) as llm:
        chunks = chunks_of(llm.tokenizer, part.read_text().removesuffix("\n"), 64, 4)
        assert perplexity(llm, chunks).value == found["perplexity"]


def test_what_the_command_refuses(command: Command, model: Path, tmp_path: Path) -> None:
    assert command("perplexity", model).code == 2
    short = tmp_path / "short.txt"
    short.write_text("Once upon a time")
    done = command("perplexity", model, "-f", short, "-c", 64)
    assert (done.code, done.out) == (1, b"")
    assert "give a longer text or lower --ctx-size" in done.err
