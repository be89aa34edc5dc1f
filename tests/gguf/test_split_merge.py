"""Models split and merged again: the same file, within the limits, never over what is read."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from command import Command
from gguf_files import EVERY_TYPE, Tensor, build
from llamaq.errors import GGUFError
from llamaq.formats import format_by_name
from llamaq.gguf import GGUFFile, TensorInfo
from llamaq.gguf.split import merge_gguf, part_sizes, plan_parts, split_gguf
from llamaq.llm.llm import LLM

TENSORS: list[Tensor] = [(f"t{i}", [8 * (i + 1)], 0, bytes([i]) * 32 * (i + 1)) for i in range(7)]


@pytest.fixture
def command(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(capsysbinary, monkeypatch)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "whole.gguf"
    path.write_bytes(build(EVERY_TYPE, TENSORS))
    return path


@settings(max_examples=60)
@given(
    st.lists(st.integers(1, 100), max_size=30),
    st.none() | st.integers(1, 8),
    st.none() | st.integers(1, 300),
    st.booleans(),
)
def test_parts_keep_order_and_limits(
    sizes: list[int], max_tensors: int | None, max_bytes: int | None, metadata_alone: bool
) -> None:
    f32 = format_by_name("F32")
    infos = [TensorInfo(f"t{i}", f32, (size,), 4 * size, 0) for i, size in enumerate(sizes)]
    parts = plan_parts(infos, max_tensors=max_tensors, max_bytes=max_bytes, metadata_alone=metadata_alone)
    assert [info for part in parts for info in part] == infos
    if metadata_alone and infos:
        assert parts.pop(0) == []
    for part in parts:
        assert part or not infos
        assert max_tensors is None or len(part) <= max_tensors
        assert max_bytes is None or len(part) == 1 or sum(info.nbytes for info in part) <= max_bytes


@pytest.mark.parametrize(
    ("limits", "count"),
    [
        ({"max_tensors": 3}, 3),
        ({"max_bytes": 400}, 3),
        ({"max_bytes": 1}, 7),
        ({"max_tensors": 3, "metadata_alone": True}, 4),
        ({}, 1),
    ],
    ids=str,
)
def test_split_and_merged_is_the_same_file(model: Path, limits: dict[str, int], count: int, tmp_path: Path) -> None:
    calls = []
    paths = split_gguf(model, tmp_path / "part", **limits, progress=lambda done, total: calls.append((done, total)))
    with GGUFFile.open(model) as file:
        sizes = part_sizes(file, plan_parts(list(file.tensors.values()), **limits))
    assert [path.stat().st_size for path in paths] == sizes
    assert paths == [tmp_path / f"part-{i + 1:05}-of-{count:05}.gguf" for i in range(count)]
    assert calls[-1] == (896, 896)
    with GGUFFile.open(model) as whole, GGUFFile.open(paths[-1]) as parts:
        assert parts.paths == tuple(paths)
        assert list(parts.tensors) == list(whole.tensors)
        assert all(parts.data(name).tobytes() == whole.data(name).tobytes() for name in whole.tensors)
        assert parts.metadata_types.items() >= whole.metadata_types.items()
        again = split_gguf(paths[0], tmp_path / "again", **limits)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths]
    for source, target in ((paths[0], "a.gguf"), (model, "b.gguf")):
        merge_gguf(source, tmp_path / target)
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()
    with GGUFFile.open(tmp_path / "a.gguf") as merged:
        assert not [key for key in merged.metadata if key.startswith("split.")]


def test_what_is_read_is_not_overwritten(model: Path, tmp_path: Path) -> None:
    paths = split_gguf(model, tmp_path / "part", max_tensors=3)
    before = [path.read_bytes() for path in paths]
    with pytest.raises(GGUFError, match="is the file that is read"):
        merge_gguf(paths[0], paths[1])
    with pytest.raises(GGUFError, match="is the file that is read"):
        split_gguf(paths[0], tmp_path / "part", max_tensors=3)
    assert [path.read_bytes() for path in paths] == before


def test_a_failure_leaves_no_part(model: Path, tmp_path: Path) -> None:
    (tmp_path / "part-00003-of-00003.gguf").mkdir()
    with pytest.raises(GGUFError, match="it is a folder"):
        split_gguf(model, tmp_path / "part", max_tensors=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part-00003-of-00003.gguf", "whole.gguf"]
    (tmp_path / "part-00001-of-00003.gguf").symlink_to("elsewhere")
    with pytest.raises(GGUFError, match="it is a folder"):
        split_gguf(model, tmp_path / "part", max_tensors=3)
    assert (tmp_path / "part-00001-of-00003.gguf").is_symlink()
    assert not (tmp_path / "elsewhere").exists()


def test_the_commands(command: Command, shared: Callable[[str], Path], tmp_path: Path) -> None:
    model = shared("models/stories260K-Q8_0.gguf")
    planned = command("split", model, tmp_path / "p", "--split-max-size", "100K", "--dry-run").out.decode()
    assert not list(tmp_path.iterdir())
    done = command("split", model, tmp_path / "p", "--split-max-size", "100K")
    assert (done.code, done.err) == (0, "")
    names = [line.split(":")[0] for line in done.out.decode().splitlines()]
    assert names == [line.split(":")[0] for line in planned.splitlines()] == sorted(map(str, tmp_path.iterdir()))
    assert len(names) == 4
    assert [re.sub(r": \d+ tensors,", ":", line) for line in planned.splitlines()] == done.out.decode().splitlines()
    assert command("merge", names[1], tmp_path / "one.gguf").code == 0
    logits = []
    for path in (model, names[2], tmp_path / "one.gguf"):
        with LLM.load(path, n_ctx=8, threads=1) as llm:
            logits.append(llm.logits([1, 2, 3]))
    np.testing.assert_array_equal(logits[0], logits[1])
    np.testing.assert_array_equal(logits[0], logits[2])
    assert command("split", model, tmp_path / "p", "--split-max-size", "big").code == 2
    assert command("split", model, tmp_path / "q", "--split-max-tensors", "200").out.decode().count("\n") == 1
