"""Split sets: any part opens all of them, and parts that do not belong together are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gguf_files import INT32, STRING, UINT16, Entry, Tensor, build, opened
from llamaq.errors import GGUFError
from llamaq.gguf import GGUFFile


def _shard(index: int, count: int, total: int, names: list[str], **options: Any) -> bytes:
    entries: list[Entry] = [
        ("split.no", UINT16, index),
        ("split.count", UINT16, count),
        ("split.tensors.count", INT32, total),
    ]
    if index == 0:
        entries.insert(0, ("general.architecture", STRING, "llama"))
    tensors: list[Tensor] = [(name, [8], 0, name.encode().ljust(32)) for name in names]
    return build(entries, tensors, **options)


@pytest.fixture
def split(tmp_path: Path) -> Path:
    for index, names in enumerate((["a", "b"], ["c"], ["d", "e"])):
        _part(tmp_path, index).write_bytes(_shard(index, 3, 5, names))
    return tmp_path


def _part(folder: Path, index: int) -> Path:
    return folder / f"my-model-{index + 1:05}-of-00003.gguf"


@pytest.mark.parametrize("given_part", [0, 1, 2])
def test_any_part_opens_the_set(split: Path, given_part: int) -> None:
    file = GGUFFile.open(_part(split, given_part))
    assert file.path == _part(split, given_part)
    assert file.paths == tuple(_part(split, index) for index in range(3))
    assert file.metadata["general.architecture"] == "llama"
    assert list(file.tensors) == list("abcde")
    assert [info.shard for info in file.tensors.values()] == [0, 0, 1, 2, 2]
    for name in file.tensors:
        assert file.data(name).tobytes() == name.encode().ljust(32)


def test_a_link_opens_the_set_beside_it(split: Path, tmp_path: Path) -> None:
    """Download caches hold links by name to blobs without one."""
    cache = tmp_path / "links"
    cache.mkdir()
    for index in range(3):
        blob = _part(split, index).rename(split / f"blob{index}")
        _part(cache, index).symlink_to(blob)
    assert len(GGUFFile.open(_part(cache, 2)).tensors) == 5


def test_a_missing_part_is_named(split: Path) -> None:
    _part(split, 1).unlink()
    with pytest.raises(GGUFError, match=r"my-model-00002-of-00003.gguf: no such file: part 2 of 3") as caught:
        GGUFFile.open(_part(split, 2))
    assert "one folder" in str(caught.value)


@pytest.mark.parametrize(
    ("part", "content", "message"),
    [
        (1, _shard(2, 3, 5, ["c"]), r"'split.no': expected 1, got 2"),
        (1, _shard(1, 4, 5, ["c"]), r"'split.count': expected 3, got 4"),
        (1, _shard(1, 3, 5, ["a"]), r"tensor 'a': expected each tensor once, got one that .*-00001-of-"),
        (0, _shard(0, 3, 9, ["a", "b"]), r"'split.tensors.count': expected 9 tensors in all parts, got 5"),
        (
            1,
            _shard(1, 3, 5, ["c"], order=">"),
            r"expected little-endian as in the first part, got big-endian",
        ),
        (1, build([("split.no", STRING, "1")]), r"'split.no': expected an integer, got '1'"),
        (1, build(), r"'split.no': expected 1, got None"),
        (2, _shard(2, 3, 5, ["d", "e"])[:-1], r"-00003-of-00003.gguf: byte \d+: tensor 'e'"),
        (1, b"PK\3\4", r"-00002-of-00003.gguf: byte 0: .*zip archive"),
    ],
)
def test_parts_that_do_not_belong_together(split: Path, part: int, content: bytes, message: str) -> None:
    _part(split, part).write_bytes(content)
    with pytest.raises(GGUFError, match=message):
        GGUFFile.open(_part(split, 0))


@pytest.mark.parametrize("name", ["model.gguf", "m-00001-of-00002.gguf", "m-1-of-3.gguf", "m-00004-of-00003.gguf"])
def test_a_renamed_part_is_refused(split: Path, name: str) -> None:
    renamed = _part(split, 0).rename(split / name)
    with pytest.raises(GGUFError, match=r"split.count.*NAME-00001-of-00003.gguf.*names back"):
        GGUFFile.open(renamed)


def test_a_set_of_one_is_a_file(tmp_path: Path) -> None:
    assert list(opened(tmp_path, _shard(0, 1, 1, ["a"])).tensors) == ["a"]
