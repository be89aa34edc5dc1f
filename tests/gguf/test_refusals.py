"""What is refused, and with which words: file, byte, key or tensor, expected, got, remedy."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path
from typing import Any

import pytest

from gguf_files import ARRAY, BOOL, INT32, STRING, UINT32, Tensor, build, opened
from llamaq.errors import GGUFError
from llamaq.gguf import GGUFFile

F32 = 0


def _entry_file(key: str | bytes = "k", type: int = STRING, value: Any = "v") -> bytes:
    return build([(key, type, value)])


def _tensor_file(*tensors: Tensor, offsets: list[int] | None = None, **options: Any) -> bytes:
    return build([], tensors, offsets=offsets, **options)


_ONE = bytes(4)
_HUGE = struct.pack("<Q", 1 << 63)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_entry_file(b"k\xff"), r"byte 33: metadata entry 0: expected UTF-8 in the key, got b'k\\xff'"),
        (_entry_file(value=b"\xc3"), r"byte 45: key 'k': expected UTF-8 in the value"),
        (_entry_file(""), r"byte 24: metadata entry 0: expected a key of 1 to 65535 bytes"),
        (_entry_file("k" * 65536), r"expected a key of 1 to 65535 bytes, got 'kkk.*65536 long"),
        (build([("k", BOOL, 1)] * 2), r"byte 38: key 'k': expected each key once"),
        (_entry_file(type=BOOL, value=2), r"byte 37: key 'k': expected a boolean, 0 or 1, got 2"),
        (_entry_file(type=ARRAY, value=(BOOL, [0, 1, 7])), r"byte 51: key 'k': expected booleans.*got 7"),
        (
            _entry_file()[:33] + struct.pack("<IQ", 13, 0),
            r"byte 33: key 'k': expected a value type from 0 to 12",
        ),
        (_entry_file(type=ARRAY, value=(ARRAY, [])), r"byte 37: .*got an array of arrays"),
        (
            _entry_file(type=ARRAY, value=(STRING, ["a", "b"]))[:-1],
            r"byte 66: key 'k': expected 1 bytes of string 1",
        ),
        (build([])[:16] + _HUGE, r"byte 16: header: expected at most 0 metadata entries in the 0 bytes"),
        (build([])[:8] + _HUGE * 2, r"byte 8: header: expected at most 0 tensors in the 8 bytes"),
        (_entry_file("general.alignment", UINT32, 0), r"expected a power of two from 8 to 16777216, got 0"),
        (_entry_file("general.alignment", UINT32, 48), r"expected a power of two.*got 48"),
        (_entry_file("general.alignment", UINT32, 1 << 31), r"expected a power of two.*got 2147483648"),
        (_entry_file("general.alignment", INT32, 32), r"'general.alignment': expected a UINT32, got INT32"),
        (_entry_file("general.alignment", ARRAY, (UINT32, [32])), r"expected a UINT32, got ARRAY"),
        (_tensor_file((b"\xff", [1], F32, _ONE)), r"byte 32: tensor 0: expected UTF-8 in the name"),
        (_tensor_file(("", [1], F32, _ONE)), r"byte 24: tensor 0: expected a name of 1 to 63 bytes"),
        (_tensor_file(("ß" * 32, [1], F32, _ONE)), r"expected a name of 1 to 63 bytes"),
        (_tensor_file(("t", [1], F32, _ONE), ("t", [1], F32, _ONE)), r"byte 57: tensor 't': expected each"),
        (_tensor_file(("t", [], F32, _ONE)), r"byte 33: tensor 't': expected 1 to 4 dimensions, got 0"),
        (_tensor_file(("t", [1] * 5, F32, _ONE)), r"byte 33: tensor 't': expected 1 to 4 dimensions, got 5"),
        (
            _tensor_file(("t", [1, 0], F32, _ONE)),
            r"byte 37: tensor 't': expected dimensions from 1.*\[1, 0\]",
        ),
        (
            _tensor_file(("t", [1 << 63], F32, _ONE)),
            r"byte 37: tensor 't': expected dimensions from 1 to 2\^63",
        ),
        (_tensor_file(("t", [1 << 62] * 4, F32, _ONE)), r"tensor 't': expected \d+ bytes of data for F32"),
        (_tensor_file(("t", [1], 4, _ONE)), r"byte 45: .*known tensor format, got 4; ggml dropped it"),
        (_tensor_file(("t", [1], 99, _ONE)), r"byte 45: .*known tensor format, got 99"),
        (
            _tensor_file(("t", [33], 8, bytes(68))),
            r"byte 37: .*rows of a multiple of 32 elements for Q8_0, got 33",
        ),
        (_tensor_file(("t", [1], F32, _ONE), offsets=[8]), r"byte 72: tensor 't': .*alignment 32, got 8"),
        (_tensor_file(("t", [1], F32, _ONE), offsets=[32]), r"byte 96: .*4 bytes of data.*got 0 bytes"),
        (_tensor_file(("t", [1], F32, b"abc")), r"byte 64: .*4 bytes of data.*got 3 bytes"),
        (
            _tensor_file(("s", [16], F32, bytes(64)), ("t", [1], F32, _ONE), offsets=[0, 32]),
            r"byte 128: tensor 't': .*tensor 's' holds up to byte 160",
        ),
        (build(version=1), r"byte 4: header: expected GGUF version 2 or 3, got version 1; .*August 2023"),
        (build(version=4), r"got version 4; update llamaq"),
        (build(version=7, order=">"), r"got version 7; update llamaq"),
    ],
)
def test_refusals_say_what_and_where(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(GGUFError) as caught:
        opened(tmp_path, content)
    assert re.search(message, str(caught.value)), str(caught.value)
    assert re.match(r".*made\.gguf: byte \d+: .+: expected .+, got .+; .+", str(caught.value))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file; .*download"),
        (b"GG", "b'GG'"),
        (b"lmgg" + bytes(60), "unversioned GGML file"),
        (b"fmgg" + bytes(60), "GGMF file"),
        (b"tjgg" + bytes(60), "GGJT file; .*convert"),
        (b"algg" + bytes(60), "GGLA adapter"),
        (b"nsgg" + bytes(60), "session"),
        (b"FUGG" + bytes(60), "backwards"),
        (b"PK\3\4" + bytes(60), "zip archive.*convert_hf_to_gguf"),
        (b"\x80\2}q" + bytes(60), "pickle"),
        (struct.pack("<Q", 90) + b'{"__metadata__":{}', "safetensors file; convert"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer.*git lfs pull"),
        (b"\n <!DOCTYPE html><html>", "web page; the download failed"),
        (b"<HTML><body>", "web page"),
        (b'{"architectures": ["LlamaForCausalLM"]}', "JSON text.*configuration"),
        (b"\x1f\x8b\x08" + bytes(60), "gzip"),
        (bytes(4096), "zeros; .*download it again"),
        (b"Once upon a time", "b'Once upo'; give the path of a GGUF file"),
    ],
)
def test_other_files_are_recognised(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(GGUFError, match=message):
        opened(tmp_path, content)


def test_paths_that_are_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GGUFError, match=r"absent.gguf: no such file; check the path"):
        GGUFFile.open(tmp_path / "absent.gguf")
    with pytest.raises(GGUFError, match=r"expected a file, got a folder"):
        GGUFFile.open(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(GGUFError, match=r"got a pipe or device"):
        GGUFFile.open(tmp_path / "pipe")
    with pytest.raises(GGUFError, match=r"got a pipe or device"):
        GGUFFile.open("/dev/null")
    for bad in ("a\0b", "\ud800", b"model.gguf", 5, None):
        with pytest.raises((ValueError, TypeError), match=r"path must be a path"):
            GGUFFile.open(bad)
    with pytest.raises(GGUFError, match=r"no such file"):
        GGUFFile.open(tmp_path / "pipe" / "model.gguf")

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)  # the tests may run as root, whom no file refuses
    with pytest.raises(GGUFError, match=r"Permission denied; ask for the right to read it"):
        GGUFFile.open(tmp_path / "mine.gguf")
