"""Models fetched from a URL that is none of the hub's, into llamaq's own folder."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from llamaq.boundary.files import reason
from llamaq.boundary.progress import Progress
from llamaq.errors import DownloadError
from llamaq.hub.found import Found
from llamaq.hub.own import OwnFolder, own_folder

__all__ = ["fetch", "fetched"]

_LOCAL = ("localhost", "127.0.0.1", "::1")
_NAME = re.compile(r"[\w.+@=-][\w .+@=()-]{0,200}\.gguf", re.IGNORECASE | re.ASCII)
_PART = re.compile(r"-(\d{5})-of-(\d{5})(?=\.gguf$)", re.IGNORECASE)
_PIECE = 1 << 20  # bytes between calls of the progress callback
_SECONDS = 60.0  # seconds of silence that end a connection
_PAUSE = 1.0  # seconds before the next connection
_TRIES = 5  # connections in a row that break and bring nothing


def fetched(url: str) -> Found | None:
    """The model of a URL, where it was fetched before. Raises ``DownloadError`` for a URL that cannot be one's."""
    targets = [_target(part) for part in _parts(url)]
    if not all(map(os.path.isfile, targets)):
        return None
    name = targets[0].relative_to(own_folder()).as_posix()
    return Found(targets[0], name[: -len(".gguf")], OwnFolder.title)


def fetch(url: str, progress: Progress | None = None) -> Found:
    """Downloads a GGUF file (https alone; http from this machine), all parts of a split one, unless they are there.

    A connection that breaks is made anew; what was begun is gone on with, where the server says that the file is still
    the same. ``progress`` gets bytes done and in total, of one file after the other. Raises ``DownloadError``.
    """
    for part in _parts(url):
        target = _target(part)
        if not os.path.isfile(target):
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with _alone(target):
                    _download(part, target, progress)
            except OSError as error:
                raise DownloadError(f"{target}: cannot be written: {reason(error, 'set LLAMAQ_MODELS')}") from None
    found = fetched(url)
    assert found is not None
    return found


def _parts(url: str) -> list[str]:
    """The URLs of all parts, or the one."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOCAL):
        raise DownloadError(
            f"{url:.200}: models are fetched over https:// alone; fetch it otherwise, and give its path"
        )
    if parts.username or parts.password or not parts.hostname:
        raise DownloadError(f"{parts.hostname or url:.200}: a URL needs a host, and no password in it")
    path = unquote(parts.path)
    name = path.rpartition("/")[2]
    if not _NAME.fullmatch(name):
        raise DownloadError(f"{url:.200}: expected the URL of a GGUF file, ending in .gguf; got {name!r:.100}")
    part = _PART.search(path)
    count = min(int(part[2]), 1000) if part else 1
    names = [_PART.sub(f"-{i + 1:05}-of-{count:05}", path) for i in range(count)] if part else [path]
    return [SplitResult(parts.scheme, parts.netloc, quote(each), parts.query, "").geturl() for each in names]


def _target(url: str) -> Path:
    """Where a URL's file lies: what another URL calls the same lies in another folder."""
    folder, _, name = unquote(urlsplit(url).path).rpartition("/")
    place = f"{urlsplit(url).netloc}{folder}?{urlsplit(url).query}"
    host = re.sub(r"[^\w.-]", "-", urlsplit(url).hostname or "")
    return own_folder() / f"{host}-{hashlib.sha256(place.encode()).hexdigest()[:8]}" / name


@dataclass
class _Begun:
    """What is there of a file, and which version of it: a strong ETag."""

    path: Path

    @property
    def tag_path(self) -> Path:
        return self.path.with_name(self.path.name + ".etag")

    @property
    def nbytes(self) -> int:
        return self.path.stat().st_size if os.path.exists(self.path) else 0

    def headers(self) -> dict[str, str]:
        """What asks for the rest alone, of the same version."""
        tag = self.tag_path.read_text(encoding="utf-8") if os.path.exists(self.tag_path) else ""
        return {"Range": f"bytes={self.nbytes}-", "If-Range": tag} if self.nbytes and tag else {}

    def opened(self, reply: Any) -> IO[bytes]:
        """The file to write the reply to."""
        tag = reply.headers.get("ETag") or ""
        kept = tag if tag.isprintable() and len(tag) < 200 and not tag.startswith("W/") else ""
        self.tag_path.write_text(kept, encoding="utf-8")
        return open(self.path, "ab" if reply.status == 206 else "wb")

    def finish(self, target: Path) -> None:
        os.replace(self.path, target)
        self.tag_path.unlink(missing_ok=True)


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Sees that no other process fetches it, where the file system can tell."""
    lock = target.with_name(target.name + ".lock")
    with open(lock, "w") as file:
        try:
            _lock(file)
        except (BlockingIOError, PermissionError):  # the latter is Windows'
            raise DownloadError(f"{target}: another process fetches it; wait for that one") from None
        except OSError:  # some file systems have no locks
            pass
        yield
        if sys.platform != "win32":
            lock.unlink(missing_ok=True)
    if sys.platform == "win32":  # no open file can be removed there, nor one that another process has just opened
        with suppress(OSError):
            lock.unlink(missing_ok=True)


def _lock(file: IO[str]) -> None:
    """A lock that ends with the file or the process; an error at once where another one has it."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _download(url: str, target: Path, progress: Progress | None) -> None:
    begun = _Begun(target.with_name(target.name + ".partial"))
    tries = 0
    while True:
        before = begun.nbytes
        with _told(url):
            try:
                _receive(url, begun, progress)
            except (http.client.HTTPException, ConnectionError, TimeoutError):
                tries = tries + 1 if begun.nbytes <= before else 0
                if tries >= _TRIES:
                    raise
                time.sleep(_PAUSE)
                continue
            except HTTPError as error:
                if error.code != 416 or not before:  # there is no rest to ask for
                    raise
                error.close()
                begun.path.unlink()
                continue
        begun.finish(target)
        return


def _receive(url: str, begun: _Begun, progress: Progress | None) -> None:
    """Takes what comes in one connection, to the end of the file."""
    local = urlsplit(url).hostname in _LOCAL
    opener = build_opener(_Redirects, *([ProxyHandler({})] if local else []))
    with opener.open(
        Request(url, headers={"Accept-Encoding": "identity", **begun.headers()}), timeout=_SECONDS
    ) as reply:
        have = begun.nbytes if reply.status == 206 else 0
        if reply.status == 206 and not str(reply.headers.get("Content-Range")).startswith(f"bytes {have}-"):
            raise DownloadError(f"{url:.200}: the server sends another part than was asked for")
        length = reply.headers.get("Content-Length") or ""
        if not (length.isascii() and length.isdecimal() and len(length) < 16):
            raise DownloadError(f"{url:.200}: the server does not say how large the file is")
        total = have + int(length)
        free = shutil.disk_usage(begun.path.parent).free
        if int(length) > free:
            raise DownloadError(
                f"{begun.path.parent}: {length} bytes are to come, and {free} are free; free some space"
            )
        with begun.opened(reply) as file:
            while have < total:
                if progress is not None:
                    progress(have, total)
                piece = reply.read(min(_PIECE, total - have))
                if not piece:
                    raise http.client.IncompleteRead(b"", total - have)
                file.write(piece)
                have += len(piece)
        if progress is not None:
            progress(total, total)


class _Redirects(HTTPRedirectHandler):
    """Follows to https alone, and from this machine to this machine."""

    def redirect_request(
        self, request: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        new, old = urlsplit(urljoin(request.full_url, newurl)), urlsplit(request.full_url)
        if new.scheme != "https" and (new.scheme, new.hostname) != (old.scheme, old.hostname):
            raise DownloadError(f"{request.full_url:.200} leads to {newurl:.200}, which is no https")
        return super().redirect_request(request, fp, code, msg, headers, newurl)


@contextmanager
def _told(url: str) -> Iterator[None]:
    try:
        yield
    except HTTPError as error:
        with error:
            raise DownloadError(f"{url:.200}: the server answers {error.code} {error.reason}; check the URL") from None
    except (URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        why = getattr(error, "reason", None) or error or type(error).__name__
        raise DownloadError(f"{url:.200}: the download broke off: {why}; check the network, and try again") from None
