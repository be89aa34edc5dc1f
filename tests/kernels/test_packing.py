"""Packing: sixteen rows to sixteen lanes, the same bytes on every level, and no second copy of the file in memory."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from llamaq import _core, formats
from llamaq.engine.engine import Engine
from llamaq.gguf import GGUFFile
from llamaq.gguf.writer import TensorData, write_gguf
from tiny_llama import plan_of, tiny_llama

PACKED = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS",
          "Q1_0", "Q2_0", "TQ1_0", "TQ2_0", "MXFP4", "NVFP4", "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S",
          "IQ3_XXS", "IQ3_S", "F16", "BF16", "F32"]  # fmt: skip


def rearranged(name: str, data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What packing makes of GGUF rows: of each block the numbers of two bytes, of one, then words of four."""
    fmt = formats.format_by_name(name)
    padded = np.zeros((-(-len(data) // 16) * 16, data.shape[1]), np.uint8)
    padded[: len(data)] = data
    blocks = padded.reshape(-1, 16, data.shape[1] // fmt.block_bytes, fmt.block_bytes)
    dtype = formats.BLOCKS[name]
    if dtype.names is None:
        return lanes(blocks, fmt.block_bytes).ravel()
    width = np.full(fmt.block_bytes, 4)
    for field in dtype.names:
        assert dtype.fields is not None
        base, offset = dtype.fields[field][:2]
        if base.base == np.float16 or (base.shape == () and base.itemsize < 4):
            width[offset : offset + base.itemsize] = base.base.itemsize
    halves, singles, words = blocks[..., width == 2], blocks[..., width == 1], blocks[..., width == 4]
    if name == "Q6_K":  # each half has two words of scales, eight of high bits and sixteen of low ones
        parts = [[48 + 2 * h, 49 + 2 * h, *range(32 + 8 * h, 40 + 8 * h), *range(16 * h, 16 + 16 * h)] for h in (0, 1)]
        words = words.reshape(*words.shape[:-1], -1, 4)[..., np.concatenate(parts), :].reshape(words.shape)
    size, width_of_field = {"Q5_0": (4, 1), "Q5_1": (4, 1), "Q1_0": (16, 1), "Q2_0": (16, 2)}.get(name, (0, 1))
    words = np.concatenate([regrouped(words[..., :size], width_of_field), words[..., size:]], axis=-1)
    return np.concatenate([lanes(halves, 2), lanes(singles, 1), lanes(words, 4)], axis=-1).ravel()


def regrouped(words: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """In each four bytes, fields of ``width`` bits move: byte b gets those that were the b-th of four neighbours."""
    bits = np.unpackbits(words, axis=-1, bitorder="little").reshape(*words.shape[:-1], -1, 8 // width, 4, width)
    return np.packbits(bits.swapaxes(-2, -3).reshape(*words.shape[:-1], -1), axis=-1, bitorder="little")


def lanes(parts: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """(groups, 16 rows, blocks, bytes) as (groups, blocks, bytes / size * 16 * size)."""
    groups, rows, blocks, width = parts.shape
    split = parts.reshape(groups, rows, blocks, width // size, size).transpose(0, 2, 3, 1, 4)
    return split.reshape(groups, blocks, rows * width)


@pytest.mark.parametrize("name", PACKED)
@settings(max_examples=20)
@given(rows=st.integers(1, 40), blocks=st.integers(1, 19), seed=st.integers(0, 2**32 - 1))
def test_every_level_packs_the_bytes_of_the_layout(name: str, rows: int, blocks: int, seed: int) -> None:
    fmt = formats.format_by_name(name)
    data = np.random.default_rng(seed).integers(0, 256, (rows, blocks * fmt.block_bytes), np.uint8)
    want = rearranged(name, data)
    for isa in _core.isas():
        np.testing.assert_array_equal(_core.pack(isa, fmt.id, data, blocks * fmt.block), want)


@pytest.mark.parametrize("name", ["Q8_0", "F16", "TQ1_0"])
def test_matrices_larger_than_what_is_packed_at_a_time(name: str) -> None:
    fmt = formats.format_by_name(name)
    data = np.random.default_rng(1).integers(0, 256, (9001, fmt.row_bytes(1024)), np.uint8)
    want = rearranged(name, data)
    np.testing.assert_array_equal(_core.pack(_core.isas()[-1], fmt.id, data, 1024), want)


@pytest.fixture(scope="module")
def big_model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A model of 2 x 48 MB of float rows, and its plan."""
    metadata, tensors = tiny_llama(width=256, vocab=3 * 2**14)
    path = tmp_path_factory.mktemp("packing") / "big.gguf"
    f32 = formats.format_by_name("F32")
    write_gguf(path, metadata, [TensorData(name, f32, x.shape, x.view(np.uint8)) for name, x in tensors.items()])
    return path, plan_of(metadata, tensors)[1]


def resident(path: Path) -> int:
    """Bytes of the mapped file that are counted as this process's memory."""
    maps = Path("/proc/self/smaps").read_text(encoding="utf-8")
    sizes = re.findall(rf"{re.escape(str(path))}\n(?:\S+:.*\n)*?Rss:\s+(\d+) kB", maps)
    assert sizes
    return sum(map(int, sizes)) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_file_goes_as_its_packed_form_comes(big_model: tuple[Path, Any]) -> None:
    path, plan = big_model
    seen: list[tuple[int, int]] = []
    with GGUFFile.open(path) as file:
        Engine(plan, file, threads=2, progress=lambda done, _: seen.append((done, resident(path))))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert max(pages for _, pages in seen) < 24 * 2**20
    assert seen[-1][1] < 2 * 2**20


def test_an_error_of_the_progress_callback_ends_loading(big_model: tuple[Path, Any]) -> None:
    path, plan = big_model

    def progress(done: int, total: int) -> None:
        if done:
            raise ZeroDivisionError(f"{done} of {total}")

    with GGUFFile.open(path) as file, pytest.raises(ZeroDivisionError, match=" of "):
        Engine(plan, file, threads=2, progress=progress)
