"""Damaged files taken all the way: models up to a generated token, sessions, importance matrices, splits. Each is
refused with a LlamaqError or runs, soon and in bounded memory."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzzing import EXTREMES, Mutation, bounded, mutated, mutations, runs, search
from gguf_files import ARRAY, BOOL, FLOAT32, FLOAT64, INT32, INT64, STRING, UINT32, UINT64, Entry, Tensor, build
from llamaq import LLM, SamplingParams
from llamaq.formats import format_by_name
from llamaq.gguf import GGUFArray, GGUFFile, TensorData, write_gguf
from llamaq.gguf.imatrix import Imatrix, Squares, read, save

MODELS = ["stories260K-Q4_0", "stories260K-Q8_0"]
MEMORY = 64 << 20
"""Bytes that a damaged file of a quarter of a megabyte may cost."""

Content = tuple[list[Entry], list[Tensor]]


def content(path: Path) -> Content:
    """What a file holds, as `build` takes it."""
    with GGUFFile.open(path) as file:
        entries: list[Entry] = []
        for key, value in file.metadata.items():
            if isinstance(value, GGUFArray):
                elements = value.bytes_list() if value.element_type == STRING else value.tolist()
                entries.append((key, ARRAY, (value.element_type, elements)))
            else:
                entries.append((key, file.metadata_types[key], value))
        tensors: list[Tensor] = [
            (name, info.shape[::-1], info.format.id, bytes(file.data(name))) for name, info in file.tensors.items()
        ]
        return entries, tensors


def wrong_values() -> st.SearchStrategy[tuple[int, Any]]:
    """Types and values for an entry that are rarely right."""
    whole = st.sampled_from(EXTREMES)
    real = st.sampled_from([0.0, -1.0, 1e-45, 1e38, math.inf, -math.inf, math.nan, 0.5])
    arrays = st.tuples(st.sampled_from([UINT32, INT64]), st.lists(whole.map(lambda n: n % 2**31), max_size=6))
    return st.one_of(
        st.tuples(st.just(UINT64), whole),
        st.tuples(st.just(UINT32), whole.map(lambda n: n % 2**32)),
        st.tuples(st.just(INT32), st.sampled_from([-1, -(2**31), 7])),
        st.tuples(st.sampled_from([FLOAT32, FLOAT64]), real),
        st.tuples(st.just(BOOL), st.integers(0, 1)),
        st.tuples(st.just(STRING), st.sampled_from(["", "llama", "gpt2", "yarn", "bert", "\0", "x" * 1000])),
        st.tuples(st.just(ARRAY), arrays),
        st.tuples(st.just(ARRAY), st.tuples(st.just(STRING), st.lists(st.sampled_from(["", "a", "▁"]), max_size=4))),
    )


KEYS = [
    "rope.dimension_count", "rope.freq_base", "rope.scaling.type", "rope.scaling.factor",
    "rope.scaling.original_context_length", "rope.scaling.attn_factor", "attention.key_length",
    "attention.value_length", "attention.head_count", "attention.head_count_kv", "vocab_size", "expert_count",
    "context_length", "block_count", "feed_forward_length", "pooling_type",
]  # fmt: skip
"""Keys of an architecture that a seed may lack."""


@st.composite
def model(draw: st.DrawFn, seed: Content) -> bytes:
    """A file with wrong entries, wrong tensors, weights that are no numbers, or any bytes changed."""
    entries, tensors = list(seed[0]), list(seed[1])
    kind = draw(st.sampled_from(["entries", "entries", "entries", "tensors", "weights", "bytes"]))
    if kind == "entries":
        for _ in range(draw(st.integers(1, 3))):
            i = draw(st.integers(0, len(entries)))
            key = entries[i][0] if i < len(entries) else f"llama.{draw(st.sampled_from(KEYS))}"
            entries[i : i + 1] = [(key, *draw(wrong_values()))] if draw(st.integers(0, 5)) else []
    elif kind == "tensors":
        i = draw(st.integers(0, len(tensors) - 1))
        name, dims, format, data = tensors[i]
        change = draw(st.sampled_from(["gone", "name", "dims", "format", "twice"]))
        if change == "dims":
            dims = draw(st.permutations(list(dims))) if draw(st.booleans()) else [*dims, draw(st.sampled_from([1, 2]))]
        elif change == "name":
            name = draw(st.sampled_from(["blk.99.attn_q.weight", "output.bias", str(tensors[0][0]) + "x"]))
        elif change == "format":
            format = draw(st.integers(0, 40))
        tensors[i : i + 1] = {"gone": [], "twice": [tensors[i]] * 2}.get(change, [(name, dims, format, data)])
    elif kind == "weights":
        i = draw(st.integers(0, len(tensors) - 1))
        name, dims, format, data = tensors[i]
        tensors[i] = (name, dims, format, mutated(data, draw(st.lists(mutations_in_place(), min_size=1, max_size=8))))
    raw = build(entries, tensors)
    return mutated(raw, draw(st.lists(mutations(), min_size=1, max_size=3))) if kind == "bytes" else raw


def mutations_in_place() -> st.SearchStrategy[Mutation]:
    """Infinities and what is no number, as half or single precision, somewhere in a tensor."""

    def put(at: float, piece: bytes) -> Mutation:
        def apply(raw: bytes) -> bytes:
            start = int(at * (len(raw) - len(piece))) // 2 * 2
            return raw[:start] + piece + raw[start + len(piece) :]

        return apply

    numbers = [np.float16(x).tobytes() for x in (math.inf, math.nan, 65504)]
    numbers += [np.float32(x).tobytes() for x in (math.inf, math.nan, 3e38)]
    return st.builds(put, st.floats(0, 1, exclude_max=True), st.sampled_from(numbers))


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

    @given(model(content(path)))
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
