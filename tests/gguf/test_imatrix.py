"""Importance matrix files: both formats, and files that are neither."""

from __future__ import annotations

import os
import struct
import tracemalloc
from pathlib import Path

import gguf
import numpy as np
import pytest

from gguf_files import build
from llamaq.errors import GGUFError
from llamaq.gguf.imatrix import Imatrix, Squares, read, save
from llamaq.quantization import Importance


def example() -> Imatrix:
    rng = np.random.default_rng(0)
    dense = Squares(rng.random((1, 6), np.float32), np.array([512], np.float32))
    experts = Squares(rng.random((3, 4), np.float32), np.array([5, 0, 7], np.float32))
    return Imatrix({"blk.0.attn_q.weight": dense, "blk.0.ffn_up_exps.weight": experts}, ("a.txt", "b.txt"), 3, 512)


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    made = example()
    save(tmp_path / "i.gguf", made)
    found = read(tmp_path / "i.gguf")
    assert (found.datasets, found.chunks, found.chunk_size) == (("a.txt", "b.txt"), 3, 512)
    assert found.entries.keys() == made.entries.keys()
    for name, entry in made.entries.items():
        np.testing.assert_array_equal(found.entries[name].sums, entry.sums)
        np.testing.assert_array_equal(found.entries[name].counts, entry.counts)


def test_means(tmp_path: Path) -> None:
    made = example()
    save(tmp_path / "i.gguf", made)
    means = read(tmp_path / "i.gguf").means()
    dense, experts = means["blk.0.attn_q.weight"], means["blk.0.ffn_up_exps.weight"]
    np.testing.assert_array_equal(dense, made.entries["blk.0.attn_q.weight"].sums / np.float32(512))
    assert experts.shape == (3, 4)
    np.testing.assert_array_equal(experts[1], np.ones(4))  # an expert that no token chose
    assert dense.dtype == experts.dtype == np.float32


def test_the_gguf_package_finds_names_and_shapes_of_llama_cpp(tmp_path: Path) -> None:
    save(tmp_path / "i.gguf", example())
    tensors = {t.name: t for t in gguf.GGUFReader(tmp_path / "i.gguf").tensors}
    shapes = {name: t.shape.tolist() for name, t in tensors.items()}
    assert shapes == {
        "blk.0.attn_q.weight.in_sum2": [6],
        "blk.0.attn_q.weight.counts": [1],
        "blk.0.ffn_up_exps.weight.in_sum2": [4, 3],
        "blk.0.ffn_up_exps.weight.counts": [1, 3],
    }


def text(value: str) -> bytes:
    return struct.pack("<i", len(value)) + value.encode()


def binary(tail: bytes = b"") -> bytes:
    """Two entries as llama.cpp wrote them before its GGUF format: means times calls."""
    one = text("blk.0.attn_q.weight") + struct.pack("<ii2f", 4, 2, 4.0, 8.0)
    two = text("output.weight") + struct.pack("<ii1f", 0, 1, 7.0)
    return struct.pack("<i", 2) + one + two + tail


@pytest.mark.parametrize("tail", [b"", struct.pack("<i", 9) + text("wiki.txt")], ids=["bare", "with its text"])
def test_the_older_binary_format(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "old.dat"
    path.write_bytes(binary(tail))
    means = read(path).means()
    np.testing.assert_array_equal(means["blk.0.attn_q.weight"], np.float32([[1.0, 2.0]]))
    np.testing.assert_array_equal(means["output.weight"], np.float32([[1.0]]))
    assert (read(path).chunks, read(path).datasets) == ((9, ("wiki.txt",)) if tail else (0, ()))


@pytest.mark.parametrize("cut", range(len(binary())))
def test_a_binary_file_that_ends_early(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "old.dat"
    path.write_bytes(binary()[:cut])
    with pytest.raises(GGUFError, match="make it again"):
        read(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other"
    path.write_bytes(build([("general.type", 8, "model")]))
    with pytest.raises(GGUFError, match="expected 'imatrix'"):
        read(path)
    path.write_bytes(b"some text that is no importance matrix")
    with pytest.raises(GGUFError, match="older binary"):
        read(path)
    path.write_bytes(build([("general.type", 8, "imatrix")], [("a.in_sum2", [1], 0, struct.pack("<f", 1.0))]))
    with pytest.raises(GGUFError, match=r"a\.counts"):
        read(path)
    path.write_bytes(struct.pack("<i", 1) + text("a") + struct.pack("<iif", 1, 1, float("nan")))
    with pytest.raises(GGUFError, match="not finite"):
        read(path)
    with pytest.raises(GGUFError, match="check the path"):
        read(tmp_path / "absent")


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(GGUFError, match="pipe: expected a file, got a pipe or device"):
        read(tmp_path / "pipe")


def test_a_large_file_of_another_kind_is_not_read(tmp_path: Path) -> None:
    """4 GiB, all holes but the length of the first name."""
    path = tmp_path / "other"
    path.write_bytes(struct.pack("<ii", 5, 1 << 30))
    os.truncate(path, 1 << 32)
    tracemalloc.start()
    try:
        with pytest.raises(GGUFError, match="name of an entry: expected an importance matrix"):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("chunks", [-3, 2**40, "many"])
def test_a_count_of_chunks_that_cannot_be_is_none(tmp_path: Path, chunks: int | str) -> None:
    kind = 8 if isinstance(chunks, str) else 11
    values = [("a.in_sum2", [1], 0, struct.pack("<f", 1.0)), ("a.counts", [1], 0, struct.pack("<f", 1.0))]
    path = tmp_path / "i.gguf"
    path.write_bytes(build([("general.type", 8, "imatrix"), ("imatrix.chunk_count", kind, chunks)], values))
    assert read(path).chunks == 0
    assert Importance.of(path).metadata["quantize.imatrix.chunks_count"] == 0
