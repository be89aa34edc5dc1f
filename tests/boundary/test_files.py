"""Users' files: texts in any encoding, what is no regular file, and files that appear whole or not at all."""

from __future__ import annotations

import codecs
import errno
import os
import re
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaq.boundary import files
from llamaq.boundary.atomic import atomic_file, discard
from llamaq.boundary.files import decode_text, open_file, read_text
from llamaq.errors import GGUFError, LlamaqError, SessionError
from llamaq.gguf import GGUFFile

ENCODINGS = [
    ("utf-8", b""),
    ("utf-8", codecs.BOM_UTF8),
    ("utf-16-le", codecs.BOM_UTF16_LE),
    ("utf-16-be", codecs.BOM_UTF16_BE),
    ("utf-32-le", codecs.BOM_UTF32_LE),
    ("utf-32-be", codecs.BOM_UTF32_BE),
]


@given(st.text(alphabet=st.characters(exclude_characters="\0\ufeff", exclude_categories=["Cs"])), st.booleans())
def test_a_text_is_read_in_the_encoding_of_its_mark(text: str, exact: bool) -> None:
    for encoding, mark in ENCODINGS:
        want = text if exact else text.replace("\r\n", "\n").replace("\r", "\n")
        assert decode_text(mark + text.encode(encoding), "it", exact=exact) == want


@given(st.binary(max_size=20))
def test_any_bytes_are_text_or_refused_by_name(raw: bytes) -> None:
    for exact in (False, True):
        refused = ""
        try:
            text = decode_text(raw, "it.txt", exact=exact)
        except LlamaqError as error:
            refused = str(error)
        if refused:
            assert re.fullmatch(r"it\.txt: .*; save it as UTF-8", refused)
        elif exact and not raw.startswith(tuple(mark for _, mark in ENCODINGS[1:])):
            assert text.encode("utf-8", "surrogateescape") == raw


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("Hä".encode("latin-1"), r"byte 1: expected UTF-8, got b'\\xe4'"),
        ("Hi".encode("utf-16-le"), "a zero byte at its beginning, as UTF-16 without a byte order mark has"),
        ("Hi".encode("utf-16-be"), "a zero byte at its beginning"),
        (codecs.BOM_UTF16_LE + b"H", r"byte 2: expected UTF-16, got b'H'"),
        (codecs.BOM_UTF8 + b"\xff", r"byte 3: expected UTF-8, got b'\\xff'"),
    ],
)
def test_what_is_no_text_is_refused(raw: bytes, message: str) -> None:
    with pytest.raises(LlamaqError, match=f"^it: .*{message}"):
        decode_text(raw, "it")


def test_a_text_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_TEXT", 5 << 20)
    with pytest.raises(LlamaqError, match="/dev/zero: expected a text of at most 5242880 bytes, got more"):
        read_text("/dev/zero")
    (tmp_path / "long").write_bytes(b"a" * (5 << 20))
    assert len(read_text(tmp_path / "long")) == 5 << 20


def test_pipes_are_waited_for_where_they_are_wanted(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("from a pipe",))
    writer.start()
    assert read_text(pipe) == "from a pipe"
    writer.join()
    for read in (open_file, lambda path: read_text(path, pipes=False)):
        with pytest.raises(LlamaqError, match=f"{pipe}: expected a file, got a pipe or device; save it to a file"):
            read(pipe)


def test_what_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(LlamaqError, match=f"{tmp_path}: expected a file, got a folder"):
        read_text(tmp_path)
    with pytest.raises(GGUFError, match="none: no such file; check the path"):
        open_file(tmp_path / "none", GGUFError)
    with pytest.raises(LlamaqError, match=r"'a\\x00b': cannot be opened"):
        read_text("a\0b")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(LlamaqError, match=r"loop: cannot be opened: Too many levels .*in a circle"):
        read_text(tmp_path / "loop")
    with pytest.raises(LlamaqError, match="loop: cannot be written: Too many levels"), atomic_file(tmp_path / "loop"):
        pass


@contextmanager
def no_more_files(spare: int = 0) -> Iterator[None]:
    """Acts as if the process had as many files open as it may, but for ``spare`` ones."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + spare, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_too_many_open_files_have_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    remedy = r"Too many open files; close some, or raise the limit \(ulimit -n\)"
    with no_more_files():
        with pytest.raises(LlamaqError, match=f"a: cannot be opened: {remedy}"):
            read_text(tmp_path / "a")
        with pytest.raises(LlamaqError, match=f"a: cannot be written: {remedy}"), atomic_file(tmp_path / "a"):
            pass
    assert read_text(tmp_path / "a") == "a"
    for spare, verb in ((0, "opened"), (1, "mapped")):  # a mapping keeps a descriptor of its own
        with no_more_files(spare), pytest.raises(GGUFError, match=f"a: cannot be {verb}: {remedy}"):
            GGUFFile.open(tmp_path / "a")


def write(path: Path, data: bytes) -> None:
    with atomic_file(path, SessionError) as file:
        file.write(data)


@pytest.mark.parametrize("named", [False, True])
def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool) -> None:
    if named:  # some systems have no file without a name
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    (tmp_path / "far").mkdir()
    for name in ("there", "absent"):
        (tmp_path / f"{name}-link").symlink_to(Path("far") / name)
    (tmp_path / "second-link").symlink_to("there-link")
    (tmp_path / "far" / "there").write_bytes(b"old")
    before = (tmp_path / "far" / "there").stat().st_ino
    write(tmp_path / "second-link", b"new")
    write(tmp_path / "absent-link", b"too")
    assert os.readlink(tmp_path / "there-link") == "far/there"
    assert os.readlink(tmp_path / "second-link") == "there-link"
    assert (tmp_path / "far" / "there").read_bytes() == b"new"
    assert (tmp_path / "far" / "there").stat().st_ino != before
    assert (tmp_path / "far" / "absent").read_bytes() == b"too"
    with pytest.raises(TypeError), atomic_file(tmp_path / "there-link") as file:
        file.write(b"half") and file.write("no bytes")
    assert (tmp_path / "far" / "there").read_bytes() == b"new"
    discard(tmp_path / "second-link")
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "absent", "absent-link", "far", "second-link", "there-link",
    ]  # fmt: skip


@pytest.mark.skipif(not hasattr(os, "fchmod"), reason="the system has no permissions of this kind")
@pytest.mark.parametrize("named", [False, True])
def test_a_file_that_takes_anothers_place_keeps_its_permissions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    if named:
        monkeypatch.setattr(os, "O_TMPFILE", 0, raising=False)
    path = tmp_path / "private.json"
    path.touch(mode=0o600)
    with atomic_file(path, GGUFError) as file:
        file.write(b"new")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", 0o600)


def test_a_device_is_written_to(tmp_path: Path) -> None:
    keyboard, terminal = os.openpty()
    device = Path(os.ttyname(terminal))
    (tmp_path / "link").symlink_to(device)
    try:
        before = device.stat()
        write(device, b"one")
        assert os.read(keyboard, 10) == b"one"
        write(tmp_path / "link", b"two")
        assert os.read(keyboard, 10) == b"two"
        discard(tmp_path / "link")
        assert (device.stat().st_rdev, device.stat().st_ino) == (before.st_rdev, before.st_ino)
    finally:
        os.close(keyboard)
        os.close(terminal)


def test_a_pipe_is_written_to_where_somebody_reads(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(SessionError, match="nobody reads the pipe: start its reader first"):
        write(pipe, b"lost")
    data = os.urandom(300_000)  # this is more than a pipe holds: the writer must wait
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    held = os.open(pipe, os.O_WRONLY)  # otherwise the reader could come too early, and see an end

    def write_all() -> None:
        write(pipe, data)
        os.close(held)

    writer = threading.Thread(target=write_all)
    writer.start()
    with os.fdopen(reader, "rb") as file:
        assert file.read() == data
    writer.join()
    assert pipe.is_fifo()


def test_a_folder_that_cannot_be_synced_has_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that may be written but not listed cannot be opened; and the last descriptor may just be gone."""
    opened = os.open

    def refuse(path: str, flags: int, *rest: int) -> int:
        if flags == os.O_RDONLY:
            raise OSError(errno.EACCES, "Permission denied")
        return opened(path, flags, *rest)

    monkeypatch.setattr(os, "open", refuse)
    write(tmp_path / "a", b"data")
    assert (tmp_path / "a").read_bytes() == b"data"


def test_a_long_name_has_room_for_its_partial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    for name in ("a" * 255, "語" * 85):
        write(tmp_path / name, b"data")
        assert (tmp_path / name).read_bytes() == b"data"
