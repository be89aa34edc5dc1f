"""The cache on disk: the same bits with and without, whatever happens to its files."""

from __future__ import annotations

import errno
import json
import logging
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from llamaq import LLM, SamplingParams
from llamaq.engine import bundled
from llamaq.gguf import GGUFFile
from llamaq.serving import disk_cache
from llamaq.serving.disk_cache import BlockFolder, DiskCache
from llamaq.serving.disk_prefixes import BLOCK, DiskPrefixes
from llamaq.serving.request import OWNER, Request
from tiny_models import tiny_model

REFUSED = "[Errno 28] No space left on device"
SEEDED = SamplingParams(seed=5, ignore_eos=True)
IDS = [1 + 7 * i * i % 250 for i in range(2 * BLOCK + 40)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "kept"


@pytest.fixture
def open_llm(stories: Path) -> Iterator[Callable[..., LLM]]:
    with ExitStack() as opened:

        def load(folder: Path | None, path: Path = stories, **options: Any) -> LLM:
            options = {"n_ctx": 1024, "threads": 1, "cache_dir": folder, **options}
            return opened.enter_context(LLM.load(path, **options))

        yield load


def answer(llm: LLM, ids: list[int] = IDS, **options: Any) -> tuple[Any, int]:
    """An answer with the digests of its logits, and how many tokens came from the disk."""
    done = llm.generate(ids, max_tokens=4, sampling=SEEDED, receipt=True, **options)
    return (done.receipt().tokens, done.receipt().digest), done.usage.disk_tokens


def blocks(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.block"), key=lambda path: (path.stat().st_mtime_ns, path.name))


CASES = [("", "f16"), ("", "f32"), ("bundled", "q8_0"), ("gemma3", "f16"), ("gptoss", "f16"), ("lfm2", "f16"),
         ("qwen35", "f16"), ("llama4", "f16")]  # fmt: skip


@pytest.mark.parametrize(("name", "cache_type"), CASES)
def test_what_was_read_is_not_read_again(
    open_llm: Callable[..., LLM], shared: Callable[[str], Path], stories: Path, folder: Path, name: str, cache_type: str
) -> None:
    path = {"": stories, "bundled": bundled.path()}.get(name) or shared(f"tiny-models/{name}.gguf")
    options = {"path": path, "cache_type": cache_type}
    without = answer(open_llm(None, **options))
    assert without[1] == 0
    with LLM.load(path, n_ctx=1024, threads=1, n_batch=BLOCK, cache_type=cache_type, cache_dir=folder) as first:
        assert answer(first) == without
    second = open_llm(folder, **options)
    assert answer(second) == (without[0], 2 * BLOCK)
    other = [*IDS[:BLOCK], 3, *IDS[BLOCK + 1 :]]
    assert answer(second, other)[0] == answer(open_llm(None, **options), other)[0]


STATES = ["lfm2", "qwen35", "granitehybrid", "mamba2", "nemotron-h"]


@pytest.mark.parametrize("name", STATES)
def test_a_state_is_kept_wherever_the_prompt_ends(
    open_llm: Callable[..., LLM], folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Steps as long as they come end behind the last block, too, alone and beside another prompt."""
    monkeypatch.setattr(disk_cache, "_YOUNG", -1e30)  # some of the files were made just now
    path, _ = tiny_model(name)
    ids = [1 + 7 * i * i % 59 for i in range(5 * BLOCK)]
    lengths = [BLOCK + 1, BLOCK + 140, 3 * BLOCK - 1, 3 * BLOCK, 4 * BLOCK + 200]
    texts = [[i + 2, *ids[: length - 1]] for i, length in enumerate(lengths)]
    options = {"n_ctx": 8 * BLOCK, "n_cache": 16 * BLOCK, "threads": 1}
    without = [answer(open_llm(None, path, **options), text)[0] for text in texts]
    with LLM.load(path, cache_dir=folder, **options) as first:
        assert answer(first, texts[0]) == (without[0], 0)
        first.batch(texts[1:], max_tokens=4, sampling=SEEDED)
    found = [answer(open_llm(folder, path, **options), text) for text in texts]
    assert [each for each, _ in found] == without
    assert [tokens for _, tokens in found] == [(length - 1) // BLOCK * BLOCK for length in lengths]


def test_the_answer_says_so(open_llm: Callable[..., LLM], folder: Path) -> None:
    with LLM.load(open_llm(None).model.parts.file.path, n_ctx=1024, cache_dir=folder) as first:
        first.session().extend(IDS)
    llm = open_llm(folder)
    session = llm.session()
    done = session.generate(IDS, max_tokens=2)
    assert done.usage.cached_tokens == done.usage.disk_tokens == 2 * BLOCK
    assert session.why.endswith(f"; {2 * BLOCK} of those in the cache came from the disk")
    again = llm.generate(IDS, max_tokens=2)
    assert (again.usage.cached_tokens, again.usage.disk_tokens) == (len(IDS) - 1, 0)


def test_short_texts_and_others_are_not_kept(open_llm: Callable[..., LLM], folder: Path) -> None:
    llm = open_llm(folder)
    llm.generate(IDS[: BLOCK - 1], max_tokens=1)
    llm.score(IDS)
    llm.embed([IDS])
    llm.logits(IDS)
    llm.model.scheduler.room.beyond.close()  # type: ignore[union-attr]
    assert blocks(folder) == []


def test_adapters_have_keys_of_their_own(
    open_llm: Callable[..., LLM], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    came = []
    for mark in ((), (("0" * 64, 1.0),), (("0" * 64, 0.5),), (("0" * 64, 1.0),), ()):
        monkeypatch.setattr(Request, "mark", mark)
        with LLM.load(open_llm(None).model.parts.file.path, n_ctx=1024, cache_dir=folder) as llm:
            came.append(llm.generate(IDS, max_tokens=1).usage.disk_tokens)
    assert came == [0, 0, 0, 2 * BLOCK, 2 * BLOCK]


def test_random_texts_have_the_same_bits(open_llm: Callable[..., LLM], folder: Path) -> None:
    """Texts that begin alike, small caches, files that are damaged or gone between them, and models loaded anew."""
    rng = random.Random(7)
    without = open_llm(None, n_cache=4096)
    starts = [[rng.randrange(3, 500) for _ in range(3 * BLOCK)] for _ in range(3)]
    came = 0
    for _ in range(8):
        with LLM.load(without.model.parts.file.path, n_ctx=1024, threads=1, cache_dir=folder) as llm:
            for _ in range(3):
                ids = rng.choice(starts)[: rng.randrange(BLOCK // 2, 3 * BLOCK)]
                ids = [*ids, *(rng.randrange(3, 500) for _ in range(rng.randrange(1, 100)))]
                found, tokens = answer(llm, ids)
                assert found == answer(without, ids)[0]
                came += tokens
        whole = sorted(path for path in blocks(folder) if path.stat().st_size)  # names do not depend on the clock
        for path in rng.sample(whole, 2):
            damage(path, rng.choice(["cut", "flip", "gone", "empty"]), rng)
    assert came > 2 * BLOCK


def damage(path: Path, how: str, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    if how == "gone":
        path.unlink()
    elif how == "folder":
        path.unlink()
        path.mkdir()
    else:
        data[rng.randrange(len(data))] ^= 1
        path.write_bytes({"cut": data[:-1], "flip": data, "empty": b"", "long": data + b"x"}[how])


@pytest.mark.parametrize("how", ["cut", "flip", "empty", "long", "folder", "gone", "swapped"])
@pytest.mark.parametrize("which", [0, 1])
def test_damaged_blocks_are_dropped(
    open_llm: Callable[..., LLM], folder: Path, caplog: pytest.LogCaptureFixture, how: str, which: int
) -> None:
    path = open_llm(None).model.parts.file.path
    with LLM.load(path, n_ctx=1024, cache_dir=folder) as first:
        right = answer(first)[0]
    second, earlier = blocks(folder)  # the earlier one of a text was used later
    found = (earlier, second)[which]
    if how == "swapped":
        found.write_bytes((second, earlier)[which].read_bytes())
    else:
        damage(found, how, random.Random(1))
    with LLM.load(path, n_ctx=1024, cache_dir=folder) as llm:
        assert answer(llm) == (right, which * BLOCK)
    damaged = how in ("flip", "swapped")  # the others are told by their size
    assert any("damaged block" in record.message for record in caplog.records) == damaged
    if how != "folder":  # it was written anew
        assert answer(open_llm(folder)) == (right, 2 * BLOCK)


def test_a_full_disk_is_told_once(
    open_llm: Callable[..., LLM], folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    right = answer(open_llm(None))[0]
    with LLM.load(open_llm(None).model.parts.file.path, n_ctx=1024, cache_dir=folder) as llm:
        monkeypatch.setattr(disk_cache, "put", full)
        assert answer(llm)[0] == right
        llm.model.scheduler.room.beyond.close()  # type: ignore[union-attr]
        answer(llm, IDS[::-1])
    told = [record.message for record in caplog.records if "cache on disk" in record.message]
    assert told == [
        "the cache on disk cannot be written, and is left alone from now on: [Errno 28] No space left on device"
    ]


def test_a_disk_that_is_nearly_full_is_left_alone(
    open_llm: Callable[..., LLM], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    llm = open_llm(folder)
    answer(llm)
    llm.close()
    assert blocks(folder) == []


def test_a_folder_that_cannot_be_is_no_harm(open_llm: Callable[..., LLM], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert answer(open_llm(tmp_path / "file" / "below"))[0] == answer(open_llm(None))[0]


def test_a_long_text_takes_half_of_the_limit_at_most(open_llm: Callable[..., LLM], folder: Path) -> None:
    with LLM.load(open_llm(None).model.parts.file.path, n_ctx=1024, cache_dir=folder) as llm:
        answer(llm)
    size = max(path.stat().st_size for path in blocks(folder))
    DiskCache(folder).clear()
    llm = open_llm(folder, cache_limit=3 * size)
    answer(llm)
    llm.close()
    assert len(blocks(folder)) == 1


def test_settings_that_change_the_bytes_have_folders_of_their_own(
    open_llm: Callable[..., LLM], shared: Callable[[str], Path], folder: Path
) -> None:
    path = open_llm(None).model.parts.file.path
    for options in ({}, {"cache_type": "f32"}, {"path": shared("models/stories260K-F32.gguf")}):
        llm = open_llm(folder, **options)
        assert answer(llm)[1] == 0
        llm.close()
    assert len(DiskCache(folder).kept()) == 3
    file = GGUFFile.open(path)
    file.override({"llama.rope.freq_base": 5000.0})
    llm = open_llm(folder, path=file)
    assert llm.generate(IDS, max_tokens=1).usage.disk_tokens == 0
    llm.close()
    assert len(DiskCache(folder).kept()) == 4
    assert answer(open_llm(folder, threads=2, n_ctx=800, n_batch=100))[1] == 2 * BLOCK


@pytest.mark.subprocess
@pytest.mark.parametrize("isas", [("", ""), ("scalar", "")], ids=["at once", "levels"])
def test_processes_share_it(open_llm: Callable[..., LLM], folder: Path, isas: tuple[str, str]) -> None:
    right = answer(open_llm(None))[0]
    script = (
        "import sys; from llamaq import LLM, SamplingParams\n"
        "ids = [1 + 7 * i * i % 250 for i in range(552)]\n"
        "for _ in range(3):\n"
        "    with LLM.load(sys.argv[1], n_ctx=1024, threads=1, cache_dir=sys.argv[2]) as llm:\n"
        "        sampling = SamplingParams(seed=5, ignore_eos=True)\n"
        "        done = llm.generate(ids, max_tokens=4, sampling=sampling, receipt=True)\n"
        "        print(done.receipt().digest, done.usage.disk_tokens)\n"
    )
    path = str(open_llm(None).model.parts.file.path)
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, path, str(folder)], stdout=subprocess.PIPE, text=True,
            env={**os.environ, **({"LLAMAQ_ISA": isa} if isa else {})},
        )
        for isa in isas
    ]  # fmt: skip
    for process in started:
        lines = process.communicate()[0].split("\n")
        assert process.returncode == 0
        assert [line.split()[0] for line in lines if line] == [right[1]] * 3
        assert lines[2].split()[1] == str(2 * BLOCK)
    assert answer(open_llm(folder)) == (right, 2 * BLOCK)


def test_owners_do_not_find_each_others(open_llm: Callable[..., LLM], folder: Path) -> None:
    with LLM.load(open_llm(None).model.parts.file.path, n_ctx=1024, cache_dir=folder) as llm:
        answer(llm)
    came = []
    for owner in ("one", "two", "one"):
        with LLM.load(open_llm(None).model.parts.file.path, n_ctx=1024, cache_dir=folder) as llm:
            token = OWNER.set(owner)
            came.append(answer(llm)[1])
            OWNER.reset(token)
    assert came == [0, 0, 2 * BLOCK]


def test_many_with_one_beginning_read_it_once(
    open_llm: Callable[..., LLM], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LLM.load(open_llm(None).model.parts.file.path, n_ctx=1024, cache_dir=folder) as first:
        right = [first.generate([*IDS, i], max_tokens=4, sampling=SEEDED).tokens for i in range(5, 11)]
    read: list[int] = []
    original = DiskPrefixes._read

    def counted(*args: Any) -> Any:
        read.append(1)
        return original(*args)

    monkeypatch.setattr(DiskPrefixes, "_read", counted)
    llm = open_llm(folder, n_cache=8192)
    done = llm.batch([[*IDS, i] for i in range(5, 11)], max_tokens=4, sampling=SEEDED)
    assert [each.tokens for each in done] == right
    assert all(each.usage.cached_tokens >= 2 * BLOCK for each in done)
    assert len(read) == 1


def test_a_cache_without_room_reads_by_itself(open_llm: Callable[..., LLM], folder: Path) -> None:
    with LLM.load(open_llm(None).model.parts.file.path, n_ctx=1024, cache_dir=folder) as first:
        right = answer(first)[0]
    llm = open_llm(folder, n_ctx=640)
    with ExitStack() as ending:
        other = llm.stream("Once", sampling=SEEDED)  # its pages, and those that are brought, do not fit
        ending.callback(other.cancel)
        next(other)
        assert answer(llm)[0] == right


def test_the_digest_of_a_model_is_remembered(
    open_llm: Callable[..., LLM], folder: Path, stories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_cache, "_YOUNG", -1e30)
    copy = tmp_path / "model.gguf"
    copy.write_bytes(stories.read_bytes())
    hashed: list[int] = []
    original = GGUFFile.sha256

    def counted(file: GGUFFile) -> str:
        hashed.append(1)
        return original(file)

    monkeypatch.setattr(GGUFFile, "sha256", counted)
    for expected in (0, 2 * BLOCK, 2 * BLOCK):
        with LLM.load(copy, n_ctx=1024, threads=1, cache_dir=folder) as llm:
            done = llm.generate(IDS, max_tokens=1)
            assert done.usage.disk_tokens == expected
    assert len(hashed) == 1
    data = bytearray(copy.read_bytes())
    data[-1] ^= 1
    copy.write_bytes(data)
    with LLM.load(copy, n_ctx=1024, threads=1, cache_dir=folder) as llm:
        assert llm.generate(IDS, max_tokens=1).usage.disk_tokens == 0
    assert len(hashed) == 2
    with GGUFFile.open(copy) as file:
        for path in (folder / "digests").glob("*.json"):
            for text in (
                "",
                "[]",
                "[" * 70_000,
                '{"look": 1}',
                json.dumps({**json.loads(path.read_text()), "sha256": 5}),
            ):
                path.write_text(text)
                assert DiskCache(folder).model_digest(file, None) is None


def test_files_are_for_their_owner_alone(open_llm: Callable[..., LLM], folder: Path) -> None:
    llm = open_llm(folder)
    answer(llm)
    llm.close()
    if os.name == "posix":
        assert folder.stat().st_mode & 0o077 == 0
        assert all(path.stat().st_mode & 0o077 == 0 for path in folder.rglob("*"))


def test_clearing_leaves_what_others_put_there(open_llm: Callable[..., LLM], folder: Path) -> None:
    llm = open_llm(folder)
    answer(llm)
    llm.close()
    (folder / "notes.txt").write_text("mine")
    own = blocks(folder)[0].parent / "mine.block"
    own.write_text("mine")
    total = sum(path.stat().st_size for path in blocks(folder)) - 4
    assert DiskCache(folder).clear() == total
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == ["mine.block", "notes.txt"]


def test_what_the_disk_cannot_read_is_told(
    open_llm: Callable[..., LLM], folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LLM.load(open_llm(None).model.parts.file.path, n_ctx=1024, cache_dir=folder) as first:
        right = answer(first)[0]

    def broken(*args: object) -> bool:
        raise MemoryError

    monkeypatch.setattr(BlockFolder, "read", broken)
    with caplog.at_level(logging.WARNING, "llamaq"):
        assert answer(open_llm(folder)) == (right, 0)
    assert "the cache on disk cannot be read: MemoryError" in caplog.text
