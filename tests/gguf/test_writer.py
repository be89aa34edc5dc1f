"""Writing GGUF: what is written reads back, here and in the gguf package, and no half file is ever seen."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gguf_files import EVERY_TYPE, build, opened
from llamaq.errors import GGUFError
from llamaq.formats import format_by_name
from llamaq.gguf import GGUFArray, GGUFFile, TensorData, ValueType, write_gguf
from llamaq.gguf.writer import Buffer, Writable

Shared = Callable[[str], Path]
F32, Q8_0 = format_by_name("F32"), format_by_name("Q8_0")


def _plain(file: GGUFFile) -> dict[str, Any]:
    return {
        key: (file.metadata_types[key], value.tolist() if isinstance(value, GGUFArray) else value)
        for key, value in file.metadata.items()
    }


def _copied(file: GGUFFile) -> list[TensorData]:
    return [TensorData(t.name, t.format, t.shape, file.data(t.name)) for t in file.tensors.values()]


@pytest.mark.parametrize(
    "name",
    ["stories260K-F32", "stories260K-BF16", "stories260K-Q5_1", "babyllama-tok361-pad256-Q4_K"],
)
def test_a_copy_of_a_real_model_is_the_same_file(shared: Shared, tmp_path: Path, name: str) -> None:
    path = shared("models") / f"{name}.gguf"
    original, copy = GGUFFile.open(path), tmp_path / "copy.gguf"
    write_gguf(copy, original.metadata, _copied(original), types=original.metadata_types)
    assert copy.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", ["llama-bpe", "bert-bge", "llama-spm"])
def test_a_copy_of_a_real_vocabulary(shared: Shared, tmp_path: Path, name: str) -> None:
    original = GGUFFile.open(shared("vocab") / f"ggml-vocab-{name}.gguf")
    copy = tmp_path / "copy.gguf"
    write_gguf(copy, original.metadata, types=original.metadata_types)
    assert _plain(GGUFFile.open(copy)) == _plain(original)


@pytest.mark.parametrize("order", ["<", ">"])
def test_every_value_type_survives(tmp_path: Path, order: str) -> None:
    original = opened(tmp_path, build(EVERY_TYPE, order=order))
    copy = tmp_path / "copy.gguf"
    write_gguf(copy, original.metadata, types=original.metadata_types)
    assert _plain(GGUFFile.open(copy)) == _plain(original)
    lists = {key: value for key, (_, value) in _plain(original).items()}
    write_gguf(copy, lists, types=original.metadata_types)
    assert _plain(GGUFFile.open(copy)) == _plain(original)


def test_the_gguf_package_reads_what_we_write(tmp_path: Path) -> None:
    from gguf import GGUFReader

    path = tmp_path / "model.gguf"
    weights = np.arange(24, dtype="<f4").reshape(2, 3, 4)
    metadata: dict[str, Writable] = {
        "general.architecture": "llama",
        "general.alignment": 64,
        "x.words": ["a", "bß"],
        "x.f": 0.5,
    }
    write_gguf(
        path,
        metadata,
        [TensorData("w", F32, (2, 3, 4), weights), TensorData("q", Q8_0, (1, 64), bytes(range(68)))],
    )
    reader: Any = GGUFReader(path)
    assert reader.alignment == 64
    assert reader.get_field("x.words").contents() == ["a", "bß"]
    assert reader.get_field("x.f").contents() == 0.5
    assert [tensor.name for tensor in reader.tensors] == ["w", "q"]
    assert np.array_equal(reader.tensors[0].data, weights)
    assert reader.tensors[1].data.tobytes() == bytes(range(68))
    assert all(tensor.data_offset % 64 == 0 for tensor in reader.tensors)


@pytest.mark.parametrize(
    ("value", "type", "back"),
    [
        (True, ValueType.BOOL, True),
        (0, ValueType.UINT32, 0),
        (2**32 - 1, ValueType.UINT32, 2**32 - 1),
        (-1, ValueType.INT32, -1),
        (2**32, ValueType.UINT64, 2**32),
        (-(2**31) - 1, ValueType.INT64, -(2**31) - 1),
        (1e-5, ValueType.FLOAT32, float(np.float32(1e-5))),
        ("text", ValueType.STRING, "text"),
        (b"bytes", ValueType.STRING, "bytes"),
        (np.float64(1e-5), ValueType.FLOAT64, 1e-5),
        (np.uint8(7), ValueType.UINT8, 7),
        (np.bool_(True), ValueType.BOOL, True),
        ([1, 2], ValueType.UINT32, [1, 2]),
        ([1, -2], ValueType.INT32, [1, -2]),
        ([1, 0.5], ValueType.FLOAT32, [1.0, 0.5]),
        ([False, True], ValueType.BOOL, [False, True]),
        (["a", b"\xff"], ValueType.STRING, ["a", "\udcff"]),
        (np.array([1, 2], dtype=np.int16), ValueType.INT16, [1, 2]),
        (np.array([1, 2], dtype=">u8"), ValueType.UINT64, [1, 2]),
        (np.array([], dtype=np.float32), ValueType.FLOAT32, []),
    ],
)
def test_types_of_values_without_one(tmp_path: Path, value: Any, type: ValueType, back: Any) -> None:
    path = tmp_path / "v.gguf"
    write_gguf(path, {"k": value})
    assert _plain(GGUFFile.open(path)) == {"k": (type, back)}


def test_data_comes_in_pieces_when_its_turn_comes(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    asked: list[str] = []

    def pieces(name: str) -> Iterator[Buffer]:
        asked.append(name)
        yield b""
        yield bytes(3)
        yield np.arange(10, dtype=np.uint8)[::2]  # this array is not contiguous
        yield memoryview(bytes(8))

    write_gguf(path, {}, [TensorData("a", F32, (4,), pieces("a")), TensorData("b", F32, (2, 2), pieces("b"))])
    assert asked == ["a", "b"]
    expected = bytes([0, 0, 0, 0, 2, 4, 6, 8, *[0] * 8])
    file = GGUFFile.open(path)
    assert file.data("a").tobytes() == file.data("b").tobytes() == expected
    assert path.stat().st_size % file.alignment == 0


@pytest.mark.parametrize(
    ("metadata", "tensors", "types", "message"),
    [
        ({"": 1}, [], {}, r"expected a key of 1 to 65535 bytes"),
        ({"k": []}, [], {}, r"key 'k': cannot be written: .*got no elements"),
        ({"k": [1, "a"]}, [], {}, r"key 'k': cannot be written: .*got int, str"),
        ({"k": [[1]]}, [], {}, r"key 'k': cannot be written: .*got list"),
        ({"k": 2**64}, [], {}, r"key 'k': cannot be written"),
        ({"k": -1}, [], {"k": ValueType.UINT32}, r"key 'k': cannot be written"),
        ({"k": 1e300}, [], {"k": ValueType.FLOAT32}, r"key 'k': cannot be written"),
        ({"k": 2}, [], {"k": ValueType.BOOL}, r"key 'k': cannot be written: expected booleans"),
        (
            {"k": [1]},
            [],
            {"k": ValueType.ARRAY},
            r"key 'k': cannot be written: expected the type of",
        ),
        ({"k": b"\xff"}, [], {}, r"key 'k': expected UTF-8"),
        ({"general.alignment": 48}, [], {}, r"expected a power of two"),
        ({"general.alignment": "32"}, [], {}, r"expected a power of two"),
        ({}, [TensorData("t" * 64, F32, (1,), bytes(4))], {}, r"expected a name of 1 to 63 bytes"),
        ({}, [TensorData("t", F32, (1,), bytes(4))] * 2, {}, r"tensor 't': expected each tensor once"),
        ({}, [TensorData("t", F32, (), bytes(4))], {}, r"expected 1 to 4 dimensions"),
        ({}, [TensorData("t", F32, (0,), b"")], {}, r"expected dimensions from 1"),
        ({}, [TensorData("t", F32, (-1,), b"")], {}, r"tensor 't': cannot be written"),
        ({}, [TensorData("t", Q8_0, (33,), bytes(34))], {}, r"multiple of 32"),
        (
            {},
            [TensorData("t", F32, (1,), bytes(3))],
            {},
            r"tensor 't': expected 4 bytes for F32 \(1,\), got 3;",
        ),
        (
            {},
            [TensorData("t", F32, (1,), [bytes(3), bytes(3)])],
            {},
            r"tensor 't': expected 4 bytes.*got 6 or more;",
        ),
    ],
)
def test_what_nobody_could_read_is_not_written(
    tmp_path: Path, metadata: Any, tensors: Any, types: Any, message: str
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"the old file")
    with pytest.raises(GGUFError, match=message) as caught:
        write_gguf(path, metadata, tensors, types=types)
    assert str(caught.value).startswith(str(path))
    assert "nothing was written" in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["model.gguf"]
    assert path.read_bytes() == b"the old file"


class Interrupted(BaseException):
    pass


@pytest.mark.parametrize("error", [Interrupted, KeyboardInterrupt, ValueError])
@pytest.mark.parametrize("named", [False, True])
def test_an_exception_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], named: bool
) -> None:
    if named:  # some systems have no file without a name
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)

    def pieces() -> Iterator[bytes]:
        yield bytes(100_000)
        assert len(list(tmp_path.glob("*.partial"))) <= 1
        assert not named or list(tmp_path.glob("*.partial"))
        raise error

    with pytest.raises(error):
        write_gguf(tmp_path / "model.gguf", {}, [TensorData("t", F32, (50_000,), pieces())])
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(GGUFError, match=r"cannot be written: it is a folder"):
        write_gguf(tmp_path, {})
    with pytest.raises(GGUFError, match=r"No such file or directory; create the folder first"):
        write_gguf(tmp_path / "absent" / "model.gguf", {})


def test_a_pipe_gets_the_bytes_of_the_file(tmp_path: Path) -> None:
    tensors = [TensorData("t", F32, (3,), b"123456789012"), TensorData("u", F32, (2,), b"12345678")]
    write_gguf(tmp_path / "model.gguf", {"k": 1}, tensors)
    os.mkfifo(pipe := tmp_path / "pipe")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_gguf(pipe, {"k": 1}, tensors)
        assert os.read(reader, 1 << 16) == (tmp_path / "model.gguf").read_bytes()
    finally:
        os.close(reader)
    assert pipe.is_fifo()


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, hard))
    try:
        with pytest.raises(GGUFError, match=r"cannot be written: File too large; raise the limit"):
            write_gguf(tmp_path / "model.gguf", {}, [TensorData("t", F32, (50_000,), bytes(200_000))])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.subprocess
def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write_gguf(path, {"general.name": "old"})
    script = (
        "import signal, sys\n"
        "from llamaq.formats import format_by_name\n"
        "from llamaq.gguf import TensorData, write_gguf\n"
        "def pieces():\n"
        "    yield bytes(100_000)\n"
        "    print('writing', flush=True)\n"
        "    signal.pause()\n"
        "write_gguf(sys.argv[1], {}, [TensorData('t', format_by_name('F32'), (50_000,), pieces())])\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, env=environment) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"writing\n"
        writer.send_signal(signal.SIGKILL)
    assert GGUFFile.open(path).metadata["general.name"] == "old"


def test_writing_over_a_file_that_is_open(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write_gguf(path, {}, [TensorData("t", F32, (2,), b"12345678")])
    file = GGUFFile.open(path)
    write_gguf(path, {"k": 1}, _copied(file))
    assert file.data("t").tobytes() == b"12345678"
    assert GGUFFile.open(path).metadata["k"] == 1
