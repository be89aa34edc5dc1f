"""Mutated real files: reading them ends soon, with contents or a GGUFError, in memory bounded by their size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzzing import Mutation, bounded, mutated, mutations, search
from gguf_files import ARRAY, EVERY_TYPE, STRING, Entry, Tensor, build
from llamaq.errors import GGUFError
from llamaq.gguf import GGUFArray, GGUFFile
from llamaq.gguf.parse import parse

Seed = tuple[bytes, int]
"""The front of a file, and how many bytes of tensor data it claims to have after that."""


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

    @given(st.sampled_from(seeds), st.lists(mutations(), min_size=1, max_size=4))
    def reading_ends_well(seed: Seed, changes: list[Mutation]) -> None:
        raw = mutated(seed[0], changes)
        with bounded(64 * len(raw) + (1 << 20)):
            message = _read(raw, seed[1])
        assert not message or message.startswith("fuzz.gguf: byte ")

    search(reading_ends_well, examples=200)
