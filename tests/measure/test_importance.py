"""Importance matrices: sums as the NumPy executor has them, for any number of threads, and the command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from command import Command
from engines import Source
from llamaq.engine.engine import Engine
from llamaq.engine.kv_cache import KVCache
from llamaq.engine.loading import plan_of as plan_of_file
from llamaq.errors import GGUFError, ModelError
from llamaq.gguf import GGUFFile
from llamaq.gguf.imatrix import Imatrix, Squares, merged, read, save
from llamaq.llm.llm import LLM
from llamaq.measure import chunks_of, collect_importance
from llamaq.models import ARCHITECTURES
from llamaq.plan.ops.norm import normed
from llamaq.plan.plan import Node
from llamaq.plan.reference import Reference
from llamaq.plan.step import Step
from tiny_encoders import ENCODERS
from tiny_llama import pack, plan_of, tiny_llama
from tiny_models import tiny_model

DECODERS = sorted({tiny for entry in ARCHITECTURES.values() for tiny in entry.tiny if tiny not in ENCODERS})


@pytest.fixture
def command(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(capsysbinary, monkeypatch)


@pytest.fixture(scope="module")
def model(shared: Callable[[str], Path]) -> Path:
    return shared("models/stories260K-Q8_0.gguf")


@pytest.fixture(scope="module")
def text(shared: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "part.txt"
    path.write_bytes(shared("text/tinystories-valid-excerpt.txt").read_bytes()[:1500])
    return path


@pytest.mark.parametrize("variant", [{}, {"tied": True, "biases": True}], ids=str)
@pytest.mark.parametrize("rows", [3, 40])
def test_sums_are_those_of_the_reference(variant: dict[str, bool], rows: int) -> None:
    metadata, tensors = tiny_llama(seed=2, **variant)
    _, plan = plan_of(metadata, tensors)
    weights = pack(tensors, "Q8_0")
    tokens = np.random.default_rng(0).integers(0, 50, rows)
    slots: dict[int, NDArray[np.float32]] = {}
    expected: dict[str, NDArray[np.float64]] = {}

    def watch(index: int, node: Node, outs: tuple[NDArray[np.float32], ...]) -> None:
        matrices = [weight.name for weight in node.op.reads() if weight.role == "matrix"]
        if matrices:
            x, norm = slots[node.ins[0]], node.op.norm_first
            read = x if norm is None else normed(norm, x, tensors.__getitem__)
            expected.update(dict.fromkeys(matrices, (read.astype(np.float64) ** 2).sum(axis=0)))
        slots.update(zip(node.outs, outs, strict=True))

    step = Step.of(tokens, wanted="all")
    Reference(plan, weights).forward(step, trace=watch)
    found = []
    for threads in (1, 3):
        engine = Engine(plan, Source(weights), threads=threads)
        cache = KVCache(plan, 64)
        engine.forward(step, cache)
        engine.collect_squares()
        assert all(count.tolist() == [0] for count, _ in engine.squares().values())
        engine.forward(step, cache)
        found.append(engine.squares())
        engine.close()
    assert found[0].keys() == expected.keys()
    for name, (count, sums) in found[0].items():
        assert count.tolist() == [rows]
        np.testing.assert_allclose(sums, [expected[name]], rtol=1e-12)
        np.testing.assert_array_equal(sums, found[1][name][1])


def test_collected_over_chunks(model: Path, text: Path) -> None:
    with LLM.load(model, n_ctx=64, threads=1, n_batch=20) as llm:
        chunks = chunks_of(llm.tokenizer, text.read_bytes(), 64, 3)
        found, saved = Imatrix(), []
        collect_importance(llm, chunks, found, after_chunk=lambda: saved.append(found.chunks))
        assert saved == [1, 2, 3]
        assert found.chunk_size == 64
        assert set(found.entries) == {
            name for name in llm.plan.tensors if name.startswith("blk.") and "norm" not in name
        }
        assert all(entry.counts.tolist() == [192] for entry in found.entries.values())
        (first, second), whole = (Imatrix(), Imatrix()), Imatrix()
        collect_importance(llm, chunks[:1], first)
        collect_importance(llm, chunks[1:], second)
        both = merged([first, second])
        collect_importance(llm, chunks, whole, output=True)
    assert set(whole.entries) - set(found.entries) == {"token_embd.weight"}
    for name, entry in found.entries.items():
        np.testing.assert_array_equal(whole.entries[name].sums, entry.sums)
        np.testing.assert_allclose(both.entries[name].sums, entry.sums, rtol=1e-6)
    assert both.chunks == 3


def test_the_command_writes_and_resumes(command: Command, model: Path, text: Path, tmp_path: Path) -> None:
    argv = ["imatrix", model, "-f", text, "-c", 32, "-t", 1, "-o"]
    done = command(*argv, tmp_path / "whole.gguf", "--chunks", 5)
    assert (done.code, done.err) == (0, "")
    assert done.out.decode().startswith(f"{tmp_path / 'whole.gguf'}: 35 tensors, 5 chunks of 32; 160 tokens read in ")
    assert command(*argv, tmp_path / "part.gguf", "--chunks", 2, "--resume").code == 0
    assert read(tmp_path / "part.gguf").chunks == 2
    assert command(*argv, tmp_path / "part.gguf", "--chunks", 5, "--resume").code == 0
    assert (tmp_path / "part.gguf").read_bytes() == (tmp_path / "whole.gguf").read_bytes()
    assert all((values > 0).any() for values in read(tmp_path / "whole.gguf").means().values())
    twice = command(*argv, tmp_path / "twice.gguf", "--chunks", 5, "--in-file", tmp_path / "whole.gguf")
    assert twice.code == 0
    assert read(tmp_path / "twice.gguf").chunks == 10


def test_what_the_command_refuses(command: Command, model: Path, text: Path, tmp_path: Path) -> None:
    out = tmp_path / "i.gguf"
    argv = ["imatrix", model, "-f", text, "-c", 32, "-t", 1, "--chunks", 1, "-o", out]
    assert command(*argv).code == 0
    done = command(*argv[:5], 16, *argv[6:], "--resume")
    assert done.code == 1
    assert "in chunks of 16, got" in done.err
    assert command(*argv, "--resume", "--in-file", out).code == 2


def test_other_models_do_not_mix(model: Path, text: Path, tmp_path: Path) -> None:
    name = "blk.0.attn_q.weight"
    other = Imatrix({name: Squares(np.ones((1, 3), np.float32), np.ones(1, np.float32))})
    with LLM.load(model, n_ctx=32, threads=1) as llm:
        chunks = chunks_of(llm.tokenizer, text.read_bytes(), 32, 1)
        with pytest.raises(ModelError, match="made from another model"):
            collect_importance(llm, chunks, other)
        same = Imatrix()
        collect_importance(llm, chunks, same)
    save(tmp_path / "other.gguf", other)
    with pytest.raises(GGUFError, match="different models"):
        merged([same, read(tmp_path / "other.gguf")])


def test_experts_have_sums_of_their_own_in_the_file(shared: Callable[[str], Path], tmp_path: Path) -> None:
    chunks, found = np.random.default_rng(1).integers(4, 2000, (2, 16), np.int32), Imatrix()
    with LLM.load(shared("tiny-models/mixtral.gguf"), n_ctx=32, threads=2) as llm:
        collect_importance(llm, chunks, found)
    save(tmp_path / "experts.gguf", found)
    again = read(tmp_path / "experts.gguf")
    for name in ("gate", "up", "down"):
        entry = again.entries[f"blk.1.ffn_{name}_exps.weight"]
        assert entry.sums.shape == (4, 128 if name == "down" else 64)
        assert entry.counts.sum() == 2 * chunks.size  # two experts for each token
        np.testing.assert_array_equal(entry.sums, found.entries[f"blk.1.ffn_{name}_exps.weight"].sums)
    assert again.entries["blk.1.ffn_gate_inp.weight"].counts.tolist() == [chunks.size]


@pytest.mark.parametrize("tiny", DECODERS)
def test_every_matrix_of_every_architecture_has_sums(tiny: str) -> None:
    """Those of experts that no token went to are none, and so are all of layers for pictures where there are none."""
    path, reference = tiny_model(tiny)
    with GGUFFile.open(path) as file:
        plan = plan_of_file(file, 64)[1]
        engine = Engine(plan, file, threads=2)
        engine.collect_squares()
        engine.forward(Step.of(reference["ids"], wanted="all"), KVCache(plan, 64))
        found = engine.squares()
        engine.close()
        assert found.keys() == {weight.name for weight in plan.weights if weight.role in ("matrix", "stack")}
        for name, (rows, sums) in found.items():
            *stack, _, cols = file.tensors[name].shape
            assert sums.shape == (*(stack or [1]), cols), name
            assert ((sums.sum(axis=1) > 0) == (rows > 0)).all(), name
            times, rest = divmod(rows.sum(), len(reference["ids"]))
            assert rest == 0, name
            assert times > 0 or tiny == "mllama", name
