"""Mutated real files: reading them ends soon, with contents or a GGUFError, in memory bounded by their size.

The search lasts LLAMAQ_FUZZ_SECONDS (default 5).
"""

from __future__ import annotations

import os
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gguf_files import ARRAY, EVERY_TYPE, STRING, Entry, Tensor, build
from llamaq.errors import GGUFError
from llamaq.gguf import GGUFArray, GGUFFile
from llamaq.gguf.parse import parse

SECONDS = float(os.environ.get("LLAMAQ_FUZZ_SECONDS", "5"))
EXTREMES = [0, 1, 2, 3, 4, 8, 9, 12, 31, 127, 255, 1 << 16, 1 << 31, 1 << 32, 1 << 60, 1 << 63, (1 << 64) - 1]

Seed = tuple[bytes, int]
"""The front of a file, and how many bytes of tensor data it claims to have after that."""
Mutation = Callable[[bytes], bytes]


def _seeds(models: Path, vocab: Path) -> list[Seed]:
    """Files with every type, fronts of real files, and real metadata in the other byte order."""
    tensors: list[Tensor] = [("a", [3, 2, 2], 0, bytes(48)), ("b", [32, 2], 8, bytes(68))]
    seeds = [(build(EVERY_TYPE, tensors, order=order, version=v), 0) for order in "<>" for v in (2, 3)]
    for path in (
        models / "stories260K-Q4_0.gguf",
        models / "babyllama-tok361-pad256-Q4_K.gguf",
        vocab / "ggml-vocab-bert-bge.gguf",
    ):
        file = GGUFFile.open(path)
        size = path.stat().st_size
        front = min((info.offset for info in file.tensors.values()), default=size)
        seeds.append((path.read_bytes()[:front], size - front))
        seeds.append((build(_few_entries(file), tensors, order=">"), 0))
    return seeds


def _few_entries(file: GGUFFile) -> list[Entry]:
    entries: list[Entry] = []
    for key, value in file.metadata.items():
        if isinstance(value, GGUFArray):
            elements = value.bytes_list() if value.element_type == STRING else value.tolist()
            entries.append((key, ARRAY, (value.element_type, elements[:40])))
        else:
            entries.append((key, file.metadata_types[key], value))
    return entries


def _mutations() -> st.SearchStrategy[Mutation]:
    place = st.floats(0, 1, exclude_max=True)

    def flip(at: float, bit: int) -> Mutation:
        def apply(raw: bytes) -> bytes:
            copy = bytearray(raw)
            if copy:
                copy[int(at * len(copy))] ^= 1 << bit
            return bytes(copy)

        return apply

    def number(at: float, value: int, code: str) -> Mutation:
        field = struct.pack(code, value & ((1 << 8 * struct.calcsize(code)) - 1))

        def apply(raw: bytes) -> bytes:
            start = int(at * len(raw))
            return raw[:start] + field + raw[start + len(field) :]

        return apply

    def splice(source: float, target: float, size: int, drop: int) -> Mutation:
        def apply(raw: bytes) -> bytes:
            piece = raw[int(source * len(raw)) :][:size]
            start = int(target * len(raw))
            return raw[:start] + piece + raw[start + drop :]

        return apply

    def cut(at: float) -> Mutation:
        return lambda raw: raw[: int(at * len(raw))]

    values = st.sampled_from(EXTREMES) | st.integers(0, (1 << 64) - 1)
    codes = st.sampled_from(["<I", ">I", "<Q", ">Q", "<B"])
    sizes = st.integers(0, 64)
    return st.one_of(
        st.builds(flip, place, st.integers(0, 7)),
        st.builds(number, place, values, codes),
        st.builds(splice, place, place, sizes, sizes),
        st.builds(cut, place),
    )


def _read(raw: bytes, data_size: int) -> str:
    """Parses and, if the file is accepted, decodes all that it offers; returns the message if it is not."""
    try:
        contents = parse(memoryview(raw), "fuzz.gguf", file_size=len(raw) + data_size)
    except GGUFError as error:
        return str(error)
    for value in contents.metadata.values():
        if isinstance(value, GGUFArray):
            assert len(value.tolist()) == len(value)
    for info in contents.tensors.values():
        assert info.nbytes > 0
        assert info.offset + info.nbytes <= len(raw) + data_size
    return ""


@pytest.mark.slow
def test_mutated_files(shared: Callable[[str], Path]) -> None:
    seeds = _seeds(shared("models"), shared("vocab"))
    assert [_read(*seed) for seed in seeds] == [""] * len(seeds)

    # Not reproducible on purpose: every run searches elsewhere; hypothesis prints the example that fails.
    @settings(deadline=None, max_examples=200, database=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(seeds), st.lists(_mutations(), min_size=1, max_size=4))
    def reading_ends_well(seed: Seed, mutations: list[Mutation]) -> None:
        raw, data_size = seed
        for mutate in mutations:
            raw = mutate(raw)
        tracemalloc.start()
        try:
            started = time.process_time()
            message = _read(raw, data_size)
            assert time.process_time() - started < 5
            assert tracemalloc.get_traced_memory()[1] < 64 * len(raw) + (1 << 20)
        finally:
            tracemalloc.stop()
        assert not message or message.startswith("fuzz.gguf: byte ")

    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        reading_ends_well()
