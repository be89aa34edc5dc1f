"""Reading GGUF: types, byte orders, versions, shapes, split sets, and what is refused with which words."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gguf_files as made
from gguf_files import ARRAY, EVERY_TYPE, INT32, STRING, UINT32, Entry, Tensor, build, opened
from llamaq.formats import FORMATS
from llamaq.gguf import GGUFArray, GGUFFile
from llamaq.gguf.array import packed_end

Shared = Callable[[str], Path]
F32 = 0


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_value_type(tmp_path: Path, version: int, order: str) -> None:
    file = opened(tmp_path, build(EVERY_TYPE, version=version, order=order))
    assert file.version == version
    assert file.byte_order == ("little" if order == "<" else "big")
    assert list(file.metadata) == [key for key, _, _ in EVERY_TYPE]
    for key, type, value in EVERY_TYPE:
        got = file.metadata[str(key)]
        if type != ARRAY:
            assert got == value
            assert file.metadata_types[str(key)] == type
            continue
        element_type, elements = value
        assert isinstance(got, GGUFArray)
        assert got.element_type == file.metadata_types[str(key)] == element_type
        assert len(got) == len(elements)
        if element_type == STRING:
            assert got.bytes_list() == [e.encode() if isinstance(e, str) else e for e in elements]
        else:
            assert got.tolist() == got.numpy().tolist() == elements
            assert not got.numpy().flags.writeable
    assert file.metadata["t.true"] is True
    assert file.metadata["t.false"] is False


@pytest.mark.parametrize("order", ["<", ">"])
def test_arrays_behave_as_sequences(tmp_path: Path, order: str) -> None:
    file = opened(tmp_path, build(EVERY_TYPE, order=order))
    words, pieces, numbers = file.metadata["a.str"], file.metadata["a.bytes"], file.metadata[f"a.{INT32}"]
    assert isinstance(words, GGUFArray)
    assert isinstance(pieces, GGUFArray)
    assert isinstance(numbers, GGUFArray)
    assert list(words) == words.tolist() == [words[i] for i in range(4)] == ["a", "", "bß", "x" * 300]
    assert words[-2] == "bß"
    assert words[1:3] == ["", "bß"]
    assert "bß" in words
    assert numbers[-1] == 1
    assert type(numbers[0]) is int
    assert [str(piece).encode("utf-8", "surrogateescape") for piece in pieces] == pieces.bytes_list()
    assert repr(words) == "GGUFArray(STRING, 4 elements)"
    for array, index in ((words, 4), (words, -5), (numbers, 3)):
        with pytest.raises(IndexError):
            array[index]
    with pytest.raises(TypeError, match="bytes_list"):
        words.numpy()
    with pytest.raises(TypeError, match="numpy"):
        numbers.bytes_list()


_strings = st.one_of(
    st.binary(max_size=12),
    st.sampled_from([b"", b"\0", bytes(9), b"a\0\0\0\0\0\0b", b"x" * 255, b"y" * 256, b"z" * 65535, b"w" * 65536]),
)


@settings(max_examples=150)
@given(st.lists(_strings, max_size=40), st.integers(1, 400), st.booleans(), st.data())
def test_walk_over_strings_agrees_with_the_plain_one(
    strings: list[bytes], repeats: int, little: bool, data: st.DataObject
) -> None:
    strings = [*strings, *([b"token"] * repeats * 5), *strings]
    before = data.draw(st.binary(max_size=9))
    block = b"".join(made.text(raw, "<" if little else ">") for raw in strings)
    view = memoryview(before + block + b"\1\0\0\0\0\0\0\0!")
    order: Any = "little" if little else "big"
    assert packed_end(view, len(before), len(strings), order) == len(before) + len(block)
    cut = data.draw(st.integers(0, max(0, len(block) - 1)))
    assert packed_end(view[: len(before) + cut], len(before), len(strings), order) is None


@pytest.mark.parametrize("alignment", [8, 32, 64, 4096])
def test_alignment(tmp_path: Path, alignment: int) -> None:
    tensors: list[Tensor] = [("a", [3], F32, bytes(range(12))), ("b", [1], F32, b"abcd")]
    file = opened(tmp_path, build([("general.alignment", UINT32, alignment)], tensors, alignment=alignment))
    assert file.alignment == alignment
    assert file.data("a").tobytes() == bytes(range(12))
    assert file.data("b").tobytes() == b"abcd"
    assert file.tensors["b"].offset % alignment == 0


@pytest.mark.parametrize("order", ["<", ">"])
def test_every_format(tmp_path: Path, order: str) -> None:
    tensors: list[Tensor] = [
        (format.name, [2 * format.block, 3], number, bytes(6 * format.block_bytes))
        for number, format in FORMATS.items()
    ]
    file = opened(tmp_path, build([], tensors, order=order))
    assert list(file.tensors) == [format.name for format in FORMATS.values()]
    for number, format in FORMATS.items():
        info = file.tensors[format.name]
        assert info.format is FORMATS[number]
        assert info.shape == (3, 2 * format.block)
        assert info.n_elements == 6 * format.block
        assert info.nbytes == 6 * format.block_bytes
        assert file.data(format.name).shape == (3, 2 * format.block_bytes)


def test_data_is_a_read_only_view_with_the_rows_first(tmp_path: Path) -> None:
    raw = np.arange(2 * 3 * 4 * 5, dtype="<f4").tobytes()
    file = opened(tmp_path, build([], [("t", [5, 4, 3, 2], F32, raw)]))
    data = file.data("t")
    assert file.tensors["t"].shape == (2, 3, 4, 5)
    assert data.shape == (2, 3, 4, 20)
    assert data.dtype == np.uint8
    assert data.tobytes() == raw
    assert not data.flags.writeable
    assert np.shares_memory(data, file.data("t"))
    with pytest.raises(KeyError):
        file.data("u")


def test_close_leaves_views_alive(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    raw = os.urandom(5 * 4096)
    path.write_bytes(build(EVERY_TYPE, [("t", [5 * 1024], F32, raw)]))
    with GGUFFile.open(path) as file:
        assert "1 tensors" in repr(file)
        data, words = file.data("t"), file.metadata["a.str"]
        assert file.mapped
        assert data.tobytes() == raw
    file.close()
    path.unlink()
    assert isinstance(words, GGUFArray)
    assert words[0] == "a"
    assert data.tobytes() == raw
    with pytest.raises(ValueError, match="closed"):
        file.data("t")


# These tests read real files.


def _oracle_value(field: Any) -> Any:
    value = field.contents()
    return value.item() if isinstance(value, np.generic) else value


@pytest.mark.parametrize(
    "name",
    [
        "models/stories260K-F32.gguf",
        "models/stories260K-BF16.gguf",
        "models/stories260K-Q5_1.gguf",
        "models/babyllama-tok361-pad256-Q4_K.gguf",
        "vocab/ggml-vocab-llama-spm.gguf",
    ],
)
def test_agrees_with_the_gguf_package(shared: Shared, name: str) -> None:
    from gguf import GGUFReader

    path = shared(name)
    ours, theirs = GGUFFile.open(path), GGUFReader(path)
    fields = {key: field for key, field in theirs.fields.items() if not key.startswith("GGUF.")}
    assert list(ours.metadata) == list(fields)
    for key, value in ours.metadata.items():
        plain = value.tolist() if isinstance(value, GGUFArray) else value
        assert plain == _oracle_value(fields[key])
    assert list(ours.tensors) == [tensor.name for tensor in theirs.tensors]
    for tensor in theirs.tensors:
        info = ours.tensors[tensor.name]
        assert info.format.id == tensor.tensor_type
        assert info.shape == tuple(int(n) for n in reversed(tensor.shape))
        assert info.offset == tensor.data_offset
        assert ours.data(tensor.name).tobytes() == tensor.data.tobytes()


def _swapped(format: str, raw: bytes) -> bytes:
    """The data as a big-endian machine would have written it."""
    if format in ("F32", "F16", "BF16"):
        return np.frombuffer(raw, dtype="<u4" if format == "F32" else "<u2").byteswap().tobytes()
    fields = {"Q4_0": "<u2,V16", "Q8_0": "<u2,V32", "Q5_1": "<u2,<u2,<u4,V16"}[format]
    return np.frombuffer(raw, dtype=np.dtype(fields)).byteswap().tobytes()


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("name", ["F32", "F16", "BF16", "Q4_0", "Q5_1", "Q8_0"])
def test_big_endian_copy_of_a_real_file(shared: Shared, tmp_path: Path, name: str, version: int) -> None:
    little = GGUFFile.open(shared(f"models/stories260K-{name}.gguf"))
    entries: list[Entry] = []
    for key, value in little.metadata.items():
        if isinstance(value, GGUFArray):
            elements = value.bytes_list() if value.element_type == STRING else value.tolist()
            entries.append((key, ARRAY, (value.element_type, elements)))
        else:
            entries.append((key, little.metadata_types[key], value))
    tensors: list[Tensor] = [
        (
            info.name,
            info.shape[::-1],
            info.format.id,
            _swapped(info.format.name, little.data(info.name).tobytes()),
        )
        for info in little.tensors.values()
    ]
    big = opened(tmp_path, build(entries, tensors, order=">", version=version))
    assert big.byte_order == "big"
    for key, value in little.metadata.items():
        got = big.metadata[key]
        if isinstance(value, GGUFArray):
            assert isinstance(got, GGUFArray)
            assert got.tolist() == value.tolist()
        else:
            assert got == value
    for tensor in little.tensors:
        data = big.data(tensor)
        assert np.array_equal(data, little.data(tensor))
        assert not data.flags.writeable


@pytest.mark.parametrize("name", ["llama-bpe", "gemma-4", "nomic-bert-moe", "falcon"])
def test_big_vocabularies_stay_packed_and_decode(shared: Shared, name: str) -> None:
    file = GGUFFile.open(shared(f"vocab/ggml-vocab-{name}.gguf"))
    tokens, types = file.metadata["tokenizer.ggml.tokens"], file.metadata["tokenizer.ggml.token_type"]
    assert isinstance(tokens, GGUFArray)
    assert isinstance(types, GGUFArray)
    raw = tokens.bytes_list()
    assert len(raw) == len(tokens) == len(types.numpy())
    assert [text.encode("utf-8", "surrogateescape") for text in tokens.tolist()] == raw
    assert tokens[len(tokens) - 1] == raw[-1].decode()
