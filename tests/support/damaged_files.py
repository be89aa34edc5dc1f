"""Damaged GGUF files for searches: wrong entries, wrong tensors, weights that are no numbers, any bytes changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from fuzzing import EXTREMES, Mutation, mutated, mutations
from gguf_files import ARRAY, BOOL, FLOAT32, FLOAT64, INT32, INT64, STRING, UINT32, UINT64, Entry, Tensor, build
from llamaq.gguf import GGUFArray, GGUFFile

__all__ = ["Content", "content", "damaged_file"]

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


@st.composite
def damaged_file(draw: st.DrawFn, seed: Content, keys: Sequence[str]) -> bytes:
    """A file with wrong entries, also of ``keys`` that it may lack, wrong tensors, weights that are no numbers, or any
    bytes changed."""
    entries, tensors = list(seed[0]), list(seed[1])
    kind = draw(st.sampled_from(["entries", "entries", "entries", "tensors", "weights", "bytes"]))
    if kind == "entries":
        for _ in range(draw(st.integers(1, 3))):
            i = draw(st.integers(0, len(entries)))
            key = entries[i][0] if i < len(entries) else draw(st.sampled_from(keys))
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
