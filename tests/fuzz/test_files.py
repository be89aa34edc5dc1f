"""Damaged files taken all the way: models up to a generated token, sessions, importance matrices, splits. Each is
refused with a LlamaqError or runs, soon and in bounded memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from damaged_files import content, damaged_file
from fuzzing import Mutation, bounded, mutated, mutations, runs, search
from llamaq import LLM, SamplingParams
from llamaq.formats import format_by_name
from llamaq.gguf import GGUFFile, TensorData, write_gguf
from llamaq.gguf.imatrix import Imatrix, Squares, read, save

MODELS = ["stories260K-Q4_0", "stories260K-Q8_0"]
MEMORY = 64 << 20
"""Bytes that a damaged file of a quarter of a megabyte may cost."""

KEYS = [f"llama.{name}" for name in (
    "rope.dimension_count", "rope.freq_base", "rope.scaling.type", "rope.scaling.factor",
    "rope.scaling.original_context_length", "rope.scaling.attn_factor", "attention.key_length",
    "attention.value_length", "attention.head_count", "attention.head_count_kv", "vocab_size", "expert_count",
    "context_length", "block_count", "feed_forward_length", "pooling_type",
)]  # fmt: skip
"""Keys of an architecture that a seed may lack."""


def run(path: Path) -> None:
    """Loads a model and lets it write a token."""
    with LLM.load(path, n_ctx=32, threads=1, n_batch=8) as llm:
        llm.generate("Tom", max_tokens=1, sampling=SamplingParams(temperature=0))
        llm.embed("Tom")
        llm.score("Tom saw")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rope_dims_2g", "block_count_60m"])
def test_files_that_once_took_the_machine(shared: Callable[[str], Path], name: str) -> None:
    with bounded(MEMORY):
        runs(lambda: run(shared(f"cases/{name}.gguf")), name)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_damaged_models(shared: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    path, numbers = shared(f"models/{name}.gguf"), itertools.count()

    @given(damaged_file(content(path), KEYS))
    def ends_well(raw: bytes) -> None:
        target = tmp_path / f"{next(numbers)}.gguf"
        target.write_bytes(raw)
        with bounded(MEMORY):
            runs(lambda: run(target), target, "not numbers")
        target.unlink()

    search(ends_well)


@pytest.mark.slow
def test_damaged_sessions(llm: LLM, tmp_path: Path) -> None:
    session, path = llm.session(), tmp_path / "a.session"
    session.extend("Once upon a time there was a little girl who had a red ball, and a dog, and a cat, and a bird.")
    session.save(path)
    seed, tokens = path.read_bytes(), session.tokens

    @given(st.lists(mutations(), min_size=1, max_size=4))
    def ends_well(changes: list[Mutation]) -> None:
        raw = mutated(seed, changes)
        path.write_bytes(raw)
        with bounded(8 * len(seed) + (8 << 20)):
            assert not runs(lambda: session.load(path), path) or raw == seed
        assert session.tokens == tokens

    search(ends_well)


def imatrix_seeds(folder: Path) -> list[bytes]:
    """A file of each format."""
    path = folder / "seed.gguf"
    sums = np.arange(64, dtype=np.float32).reshape(2, 32)
    entries = {"blk.0.a.weight": Squares(sums, np.ones(2, np.float32)),
               "b.weight": Squares(sums[:1], np.ones(1, np.float32))}  # fmt: skip
    save(path, Imatrix(entries, ("text",), 3, 512))
    old = (2).to_bytes(4, "little")
    for name in (b"a.weight", b"b.weight"):
        old += len(name).to_bytes(4, "little") + name + (5).to_bytes(4, "little") + (8).to_bytes(4, "little")
        old += np.ones(8, "<f4").tobytes()
    return [path.read_bytes(), old + (3).to_bytes(4, "little") + (4).to_bytes(4, "little") + b"text"]


@pytest.mark.slow
def test_damaged_importance_matrices(tmp_path: Path) -> None:
    seeds, path = imatrix_seeds(tmp_path), tmp_path / "a.imatrix"

    @given(st.sampled_from(seeds), st.lists(mutations(), min_size=1, max_size=4))
    def ends_well(seed: bytes, changes: list[Mutation]) -> None:
        raw = mutated(seed, changes)
        path.write_bytes(raw)
        with bounded(64 * len(raw) + (4 << 20)):
            runs(lambda: [entry.means() for entry in read(path).entries.values()], path)

    for seed in seeds:
        path.write_bytes(seed)
        assert read(path).entries
    search(ends_well, examples=200)


@pytest.mark.slow
def test_damaged_parts_of_a_split(tmp_path: Path) -> None:
    f32, names = format_by_name("F32"), [tmp_path / f"m-{i:05}-of-00003.gguf" for i in (1, 2, 3)]
    for i, path in enumerate(names):
        tensors = [TensorData(f"t{i}", f32, (2, 4), np.full((2, 4), i, np.float32))]
        counts = {"split.no": i, "split.count": 3, "split.tensors.count": 3}
        write_gguf(path, {"general.architecture": "llama", **counts} if i == 0 else counts, tensors)
    seeds = [path.read_bytes() for path in names]
    with GGUFFile.open(names[0]) as file:
        assert sorted(file.tensors) == ["t0", "t1", "t2"]

    def read_all(path: Path) -> None:
        with GGUFFile.open(path) as file:
            for name in file.tensors:
                file.data(name)

    @given(st.integers(0, 2), st.lists(mutations(), min_size=1, max_size=4), st.integers(0, 2))
    def ends_well(which: int, changes: list[Mutation], opened: int) -> None:
        for path, seed in zip(names, seeds, strict=True):
            path.write_bytes(seed)
        names[which].write_bytes(mutated(seeds[which], changes))
        with bounded(4 << 20):
            runs(lambda: read_all(names[opened]), tmp_path)

    search(ends_well, examples=200)
