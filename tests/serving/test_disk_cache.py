"""The files of the cache on disk by themselves, and what becomes of them without memory."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamaq import LLM
from llamaq.engine.page_pool import PagePool
from llamaq.errors import GGUFError
from llamaq.gguf import GGUFFile
from llamaq.serving import disk_cache
from llamaq.serving.disk_cache import DiskCache, default_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "kept"


def blocks(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.block"), key=lambda path: (path.stat().st_mtime_ns, path.name))


def test_a_write_that_fails_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = DiskCache(folder).of({})
    block.write(bytes(32), [np.zeros((2, 3), np.uint8)])

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        block.write(bytes(31) + b"x", [np.zeros((2, 3), np.uint8)])
    assert [path.suffix for path in folder.glob("*/*")].count(".block") == 1
    assert list(folder.glob("*/*.partial")) == []


def test_what_was_not_used_for_longest_goes(folder: Path) -> None:
    disk = DiskCache(folder, limit=10_000)
    block = disk.of({"name": "a"})
    for i in range(9):
        block.write(bytes([i]) * 32, [np.zeros(1000, np.uint8)])
        os.utime(block._path(bytes([i]) * 32), (i, i))
    disk.trim()
    assert len(blocks(folder)) == 9  # 9,720 bytes
    block.touch([bytes([0]) * 32])
    other = disk.of({"name": "b"})
    other.write(bytes(32), [np.zeros(1000, np.uint8)])
    disk.trim()
    left = [path.name[:2] for path in blocks(folder)]
    assert left == ["03", "04", "05", "06", "07", "08", "00", "00"]  # 9,000 bytes hold no more
    assert [kept.about["name"] for kept in disk.kept()] == ["b", "a"]


def test_a_file_that_may_still_change_is_not_remembered(folder: Path, tmp_path: Path, stories: Path) -> None:
    copy = tmp_path / "model.gguf"
    copy.write_bytes(stories.read_bytes())
    with GGUFFile.open(copy) as file:
        assert DiskCache(folder).model_digest(file, file.sha256) == file.sha256()
        assert DiskCache(folder).model_digest(file, None) is None


def test_another_file_in_the_place_of_a_model_gets_nothing_of_it(
    folder: Path, tmp_path: Path, stories: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the first one is loaded and has not been hashed yet, as a newer version comes that was downloaded."""
    monkeypatch.setattr(disk_cache, "_YOUNG", -1e30)
    model, newer = tmp_path / "model.gguf", tmp_path / "newer.gguf"
    data = bytearray(stories.read_bytes())
    model.write_bytes(data)
    data[-1] ^= 1
    newer.write_bytes(data)
    ids = [1 + 7 * i * i % 250 for i in range(300)]
    options: dict[str, Any] = {"n_ctx": 512, "threads": 1, "cache_dir": folder}
    with LLM.load(model, **options) as llm:
        if os.name == "posix":  # elsewhere a file that is loaded stays
            os.replace(newer, model)
        llm.generate(ids, max_tokens=1)
    assert len(blocks(folder)) == 1
    if os.name == "posix":
        with LLM.load(model, **options) as llm:
            assert llm.generate(ids, max_tokens=1).usage.disk_tokens == 0
        assert len(blocks(folder)) == 2


def test_a_model_that_was_written_to_is_not_kept(
    folder: Path, tmp_path: Path, stories: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor has it a receipt: what is packed is of other bytes, perhaps."""
    model = tmp_path / "model.gguf"
    model.write_bytes(stories.read_bytes())
    with (
        caplog.at_level(logging.WARNING, "llamaq"),
        LLM.load(model, n_ctx=512, threads=1, cache_dir=folder) as llm,
    ):
        os.utime(model, ns=(1, 1))
        done = llm.generate([1 + i % 250 for i in range(300)], max_tokens=1, receipt=True)
        with pytest.raises(GGUFError, match="written to after it had been opened; load it again"):
            done.receipt()
    assert blocks(folder) == []
    assert "the cache on disk cannot be written" in caplog.text


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LLAMAQ_CACHE_DIR", str(tmp_path))
    assert default_folder() == tmp_path
    monkeypatch.delenv("LLAMAQ_CACHE_DIR")
    assert default_folder().parts[-1] in ("llamaq", "cache")


def test_without_memory_for_a_copy_nothing_is_written(
    folder: Path, stories: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise MemoryError

    monkeypatch.setattr(PagePool, "read", full)
    with LLM.load(stories, n_ctx=512, threads=1, cache_dir=folder) as llm:
        assert llm.generate([5, 6, 7] * 100, max_tokens=1).usage.prompt_tokens == 300
    assert blocks(folder) == []
    assert "there is no memory for a copy" in caplog.text
