"""Addresses of models on the Hugging Face hub: ``hf:user/repo[:QUANT|/file.gguf][@revision]``, or a page's URL."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

__all__ = ["Address", "address_of", "is_url"]

HUB = "https://huggingface.co"
_HOSTS = {"huggingface.co", "www.huggingface.co", "hf.co"}
_REPO = re.compile(r"(?=.{3,96}$)[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_QUANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
_SHAPE = "hf:user/repo, hf:user/repo:QUANT or hf:user/repo/file.gguf, each with @revision behind it if need be"


@dataclass(frozen=True)
class Address:
    """A repository and what of it is meant: a quantization, or a file (or a pattern with * that one fits), at a
    ``revision`` (empty: main)."""

    repo: str
    quant: str = ""
    file: str = ""
    revision: str = ""

    def __post_init__(self) -> None:
        """Raises ``ValueError`` where it cannot be one."""
        for right, what in (
            (_REPO.fullmatch(self.repo) and "--" not in self.repo, f"a repository {self.repo!r:.120}"),
            (not self.quant or _QUANT.fullmatch(self.quant), f"a quantization {self.quant!r:.80}"),
            (not self.revision or _REVISION.fullmatch(self.revision), f"a revision {self.revision!r:.120}"),
            (not self.file or _is_inside(self.file), f"a file {self.file!r:.120}"),
        ):
            if not right or ".." in self.repo + self.revision:
                raise ValueError(f"an address on the hub is {_SHAPE}; it cannot have {what}")

    def __str__(self) -> str:
        what = f":{self.quant}" if self.quant else f"/{self.file}" if self.file else ""
        return f"hf:{self.repo}{what}" + (f"@{self.revision}" if self.revision else "")

    @property
    def page(self) -> str:
        """The repository's page."""
        return f"{endpoint()}/{self.repo}"


def endpoint() -> str:
    """The hub, or what HF_ENDPOINT says to ask in its place."""
    return (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")


def is_url(name: str) -> bool:
    """Whether a name begins as a URL does."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", name) is not None


def address_of(name: str) -> Address | None:
    """The address that a name is; None where it is no address on the hub. Raises ``ValueError`` for a wrong one."""
    if name.startswith("hf:") and not name.startswith("hf://"):
        return _parsed(name.removeprefix("hf:"))
    if name.startswith("hf://"):
        return _parsed(name.removeprefix("hf://"))
    if is_url(name):
        return _of_url(name)
    host, slash, rest = name.partition("/")
    return _parsed(rest) if slash and host.lower() in _HOSTS else None


def _is_inside(file: str) -> bool:
    """Whether a path is one within a repository."""
    parts = file.split("/")
    return file.isprintable() and "\\" not in file and not {"", ".", ".."} & {*parts}


def _parsed(text: str) -> Address:
    what, _, revision = text.partition("@")
    user, _, rest = what.partition("/")
    repo, colon, quant = rest.partition(":")
    repo, _, file = repo.partition("/")
    if colon and (file or not quant):
        raise ValueError(f"an address on the hub is {_SHAPE}; got hf:{text!s:.120}")
    quant = "" if quant.lower() == "latest" else quant  # a habit from Ollama
    return Address(f"{user}/{repo}", quant, file, "" if revision == "main" else revision)


def _of_url(url: str) -> Address | None:
    """``https://huggingface.co/user/repo[/resolve/revision/file]``."""
    parts = urlsplit(url)
    own = urlsplit(endpoint())
    if not (parts.scheme == "https" and parts.netloc.lower() in _HOSTS) and (
        (parts.scheme, parts.netloc.lower()) != (own.scheme, own.netloc.lower())
    ):
        return None
    pieces = [unquote(piece) for piece in parts.path.strip("/").split("/")]
    if len(pieces) >= 5 and pieces[2] in ("resolve", "blob"):
        revision = "" if pieces[3] == "main" else pieces[3]
        return Address("/".join(pieces[:2]), file="/".join(pieces[4:]), revision=revision)
    revision = pieces[3] if len(pieces) == 4 and pieces[2] == "tree" and pieces[3] != "main" else ""
    return Address("/".join(pieces[:2]), revision=revision)
