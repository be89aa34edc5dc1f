"""Requests spread over workers of whatever kind, and what each of those gets of its machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from llamaq.batch.requests import Request
from llamaq.boundary.arguments import shown
from llamaq.engine.adapters import adapter_files
from llamaq.errors import LlamaqError
from llamaq.gguf import GGUFFile
from llamaq.hub import Found

__all__ = ["alone_on_machine", "cpus_claimed", "load_for", "spread", "threads_for", "whole_load", "whole_path"]

_RETRIES = 8

W = TypeVar("W")
F = TypeVar("F", bound=Hashable)


def spread(
    requests: Iterable[Request], workers: Sequence[W], each: int, *, ask: Callable[[W, Request], F],
    wait: Callable[[list[F]], Sequence[F]], take: Callable[[F], str | None], done: Callable[[Request, str], None],
) -> None:  # fmt: skip
    """Has every request answered: ``each`` worker has so many at once, and a new one goes to who has the fewest.

    ``ask`` begins one, ``wait`` gives those that are ready, one at least, ``take`` the line that came of one, which
    ``done`` gets. Where that is None, who was asked is gone: the request is asked of another, and after that has
    happened ``_RETRIES`` times ``LlamaqError`` is raised.
    """
    running: dict[F, tuple[int, Request, int]] = {}
    busy = [0] * len(workers)
    again: list[tuple[Request, int, int]] = []  # request, times that it was asked, the worker that had it last

    def end_some() -> None:
        for future in wait(list(running)):
            number, request, tries = running.pop(future)
            busy[number] -= 1
            line = take(future)
            if line is not None:
                done(request, line)
            elif tries == _RETRIES:
                raise LlamaqError(
                    f"line {request.number}: whoever was asked for it was gone before the answer, {tries} times; "
                    "look for want of memory on the machines"
                )
            else:
                again.append((request, tries, number))

    coming = iter(requests)
    while True:
        while min(busy) >= each:
            end_some()
        if again:
            request, tries, gone = again.pop(0)
        elif (following := next(coming, None)) is not None:
            request, tries, gone = following, 0, -1
        elif running:
            end_some()
            continue
        else:
            return
        number = min((i for i in range(len(workers)) if busy[i] < each), key=lambda i: (i == gone, busy[i]))
        busy[number] += 1
        running[ask(workers[number], request)] = number, request, tries + 1


def threads_for(workers: int, cpus: Sequence[int]) -> int:
    """Threads of each worker where machines have so many CPUs: all of the smallest, shared by those that it gets."""
    return max(1, min(cpus) // -(-workers // len(cpus)))


def cpus_claimed(workers: int, cpus: Sequence[int]) -> float:
    """CPUs that each worker claims of its machine where others must have their turn there: one CPU is left free, for a
    task that reads or writes a table claims a whole one, and would wait for ever."""
    return (min(cpus) - 1) / -(-workers // len(cpus))


def load_for(load: Mapping[str, Any], workers: int, cpus: Sequence[int]) -> dict[str, Any]:
    """The arguments of ``LLM.load`` for each of the workers. Where machines get several, these share the weights in the
    file's mapping, so that a machine holds them once; the bits are the same. Raises ``ValueError`` for what belongs to
    this process."""
    own = {"threads": threads_for(workers, cpus), "pack": workers <= len(cpus)}
    return {**own, **{name: value for name, value in whole_load(load).items() if value is not None}}


def alone_on_machine(replicas: int, threads: int, cpus: Sequence[int]) -> bool:
    """Whether no machine gets a second of so many replicas, each of which claims so many CPUs: there is a machine for
    each, or none has CPUs for two."""
    return replicas <= len(cpus) or 2 * threads > max(cpus)


def whole_path(model: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """A model as workers find it, which run in other folders: a file of this one by its whole path; a name, and a file
    that only they have, as it is."""
    if isinstance(model, Found):
        own, projector = model.path.absolute(), model.projector and model.projector.absolute()
        return replace(model, path=own, projector=projector, adapters=tuple(x.absolute() for x in model.adapters))
    return Path(model).absolute() if os.path.exists(model) else model


def whole_load(load: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of ``LLM.load`` for workers, which run in other folders: files by their whole paths. Raises
    ``ValueError`` for a file that is not here and has no whole path, and for a draft model that is loaded here,
    ``TypeError`` for adapters that are no files."""
    found = dict(load)
    draft = found.get("draft")
    if hasattr(draft, "model") or isinstance(draft, GGUFFile):
        raise ValueError(f"draft must be a path or a name, which each worker loads, got {shown(draft)}")
    if isinstance(draft, str | os.PathLike):
        found["draft"] = whole_path(draft)
    if found.get("cache_dir") is not None:
        found["cache_dir"] = Path(found["cache_dir"]).absolute()  # each machine makes its own
    if found.get("mmproj") is not None:
        found["mmproj"] = _whole_file("mmproj", found["mmproj"])
    files = adapter_files(found.get("adapters") or ())
    if files:
        found["adapters"] = [replace(file, path=_whole_file("adapters", file.path)) for file in files]
    return found


def _whole_file(name: str, path: str | os.PathLike[str]) -> Path:
    if not os.path.exists(path) and not os.path.isabs(path):
        raise ValueError(
            f"{name} must be a file of this folder, or have a whole path, for workers run in other folders; got {path}"
        )
    return Path(path).absolute()
