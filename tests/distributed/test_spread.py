"""Requests spread over workers: none too many at once, each answered once, whoever is quick."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llamaq import LlamaqError
from llamaq.batch import Request
from llamaq.distributed.spread import (
    alone_on_machine,
    cpus_claimed,
    load_for,
    spread,
    threads_for,
    whole_load,
    whole_path,
)
from llamaq.engine.adapters import AdapterFile
from llamaq.hub import Found


@pytest.mark.parametrize(("workers", "each"), [(1, 1), (2, 3), (5, 2)])
def test_every_request_is_answered_and_nobody_has_too_many(workers: int, each: int) -> None:
    rng = random.Random(workers)
    busy = [0] * workers
    most = [0] * workers
    answered: list[tuple[int, str]] = []

    def ask(worker: int, request: Request) -> tuple[int, str]:
        busy[worker] += 1
        most[worker] = max(most[worker], busy[worker])
        return worker, request.id

    def wait(running: list[tuple[int, str]]) -> list[tuple[int, str]]:
        ready = rng.sample(running, rng.randint(1, len(running)))
        for worker, _ in ready:
            busy[worker] -= 1
        return ready

    def take(future: tuple[int, str]) -> str | None:
        return None if rng.random() < 0.3 else future[1]  # some workers die

    def done(request: Request, line: str) -> None:
        assert line == request.id
        answered.append((request.number, line))

    requests = [Request(i, f"id-{i}", None, "", {}) for i in range(50)]
    spread(iter(requests), range(workers), each, ask=ask, wait=wait, take=take, done=done)
    assert sorted(answered) == [(i, f"id-{i}") for i in range(50)]
    assert most == [each] * workers
    assert busy == [0] * workers


def test_a_request_that_kills_whoever_is_asked_ends_the_run() -> None:
    asked: list[int] = []

    def ask(worker: int, request: Request) -> int:
        asked.append(worker)
        return len(asked)

    with pytest.raises(LlamaqError, match="line 7: whoever was asked"):
        spread(
            [Request(7, "a", None, "", {})], [0, 1], 1, ask=ask, wait=lambda running: running, take=lambda future: None,
            done=lambda request, line: None,
        )  # fmt: skip
    assert asked == [0, 1, 0, 1, 0, 1, 0, 1]


def test_what_a_worker_gets_of_its_machine() -> None:
    assert [threads_for(n, [16, 8]) for n in (1, 2, 3, 4, 8, 64)] == [8, 8, 4, 4, 2, 1]
    assert load_for({"n_ctx": 64, "pre": None}, 2, [4, 4]) == {"threads": 4, "pack": True, "n_ctx": 64}
    assert load_for({"threads": 3, "pack": True}, 4, [4, 4]) == {"threads": 3, "pack": True}
    assert load_for({}, 4, [4, 4]) == {"threads": 2, "pack": False}


def test_a_cpu_of_each_machine_is_left_to_others() -> None:
    assert [cpus_claimed(n, [16, 8]) for n in (1, 2, 3, 4)] == [7, 7, 3.5, 3.5]
    assert [cpus_claimed(n, [1, 1]) for n in (1, 2, 8)] == [0, 0, 0]


def test_replicas_that_share_a_machine() -> None:
    cases = {(1, 1): True, (2, 1): True, (3, 1): False, (3, 4): False, (3, 5): True}
    assert {case: alone_on_machine(*case, [8, 4]) for case in cases} == cases


def test_workers_in_other_folders_find_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.gguf").touch()
    assert whole_path("m.gguf") == tmp_path / "m.gguf"
    found = whole_path(Found(Path("m.gguf"), "m", ""))
    assert isinstance(found, Found)
    assert found.path == tmp_path / "m.gguf"
    assert whole_path("qwen3:0.6b") == "qwen3:0.6b"


def test_what_is_loaded_beside_the_model_has_whole_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.gguf", "b.gguf", "eyes.gguf", "small.gguf"):
        Path(name).touch()
    a, b = tmp_path / "a.gguf", tmp_path / "b.gguf"
    load = {"mmproj": "eyes.gguf", "draft": "small.gguf", "cache_dir": "kept", "pre": None, "n_ctx": 64}
    whole = {"mmproj": tmp_path / "eyes.gguf", "draft": tmp_path / "small.gguf", "cache_dir": tmp_path / "kept"}
    assert whole_load(load) == {**whole, "pre": None, "n_ctx": 64}
    assert load_for(load, 1, [2]) == {**whole, "n_ctx": 64, "threads": 2, "pack": True}
    there = Path("/there/c.gguf").absolute()
    cases: list[tuple[Any, Any]] = [
        ("a.gguf", [(a, 1.0)]), (Path("a.gguf"), [(a, 1.0)]), ({"a.gguf": 0.5}, [(a, 0.5)]),
        (str(there), [(there, 1.0)]), (AdapterFile("b.gguf"), [(b, 1.0)]),
        (["a.gguf", AdapterFile("b.gguf", 0.5, "x")], [(a, 1.0), (b, 0.5, "x")]),
    ]  # fmt: skip
    for given, expected in cases:
        assert whole_load({"adapters": given}) == {"adapters": [AdapterFile(*each) for each in expected]}
    assert whole_load({"adapters": ()}) == {"adapters": ()}
    for wrong in ({"mmproj": "c.gguf"}, {"adapters": ["c.gguf"]}, {"adapters": {"c.gguf": 1.0}}):
        with pytest.raises(ValueError, match=r"of this folder, or have a whole path, .*; got c\.gguf"):
            whole_load(wrong)
    with pytest.raises(ValueError, match="draft must be a path or a name"):
        whole_load({"draft": SimpleNamespace(model=None)})
    assert whole_load({"draft": "qwen3:0.6b"}) == {"draft": "qwen3:0.6b"}
