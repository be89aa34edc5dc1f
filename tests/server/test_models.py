"""Several models: loaded when they are asked for, unloaded when nobody uses them."""

from __future__ import annotations

import asyncio
import math
import shutil
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from asgi import TEMPLATE, Client
from llamaq import LLM
from llamaq.engine.memory import available_memory
from llamaq.hub import Found
from llamaq.server import Settings, app
from llamaq.server.errors import Refusal
from llamaq.server.models import Models, _needed
from llamaq.server.served import Entry

LOAD = {"threads": 1, "n_ctx": 128}
TOM = {"prompt": "Tom", "max_tokens": 3, "seed": 1}


@pytest.fixture
def folder(stories: Path, tmp_path: Path) -> Path:
    """Models a, b and c, files that are none, and one in a folder."""
    for name in ("a.gguf", "b.gguf", "c.gguf", "sub/a.gguf", "mmproj-a.gguf", "a.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(stories, tmp_path / name)
    return tmp_path


def run(models: Models, scenario: Callable[[Models], Awaitable[None]]) -> None:
    async def whole() -> None:
        try:
            await scenario(models)
        finally:
            await models.close()

    asyncio.run(whole())
    assert [entry for entry in models.listed() if entry.served is not None and not entry.stays] == []


def of(source: Any, **settings: Any) -> Models:
    return Models(source, Settings(load=LOAD, **settings))


def states(models: Models) -> dict[str, str]:
    return {entry.name: entry.state for entry in models.listed()}


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


@contextmanager
def slow_loads() -> Iterator[threading.Event]:
    """Loads wait until the event is set; there is never more than one."""
    go, load, one = threading.Event(), LLM.load, threading.Lock()

    def slow(*args: Any, **options: Any) -> LLM:
        assert one.acquire(blocking=False)
        go.wait()
        try:
            return load(*args, **options)
        finally:
            one.release()

    with mock.patch.object(LLM, "load", slow):
        try:
            yield go
        finally:
            go.set()


def test_a_folder_has_the_models_of_its_files(folder: Path) -> None:
    models = of(folder)
    assert states(models) == dict.fromkeys(("a", "b", "c", "sub/a"), "on disk")
    entry = models.find("b")
    assert (entry.path, entry.size) == (folder / "b.gguf", (folder / "b.gguf").stat().st_size)
    assert entry.modified == pytest.approx((folder / "b.gguf").stat().st_mtime)
    for name in ("b", "B", "b.gguf", "b:latest", str(folder / "b.gguf")):
        assert models.find(name) is entry
    with pytest.raises(Refusal) as caught:
        models.find("d")
    assert (caught.value.status, caught.value.code) == (404, "model_not_found")
    with pytest.raises(Refusal) as caught:
        models.find(None)
    assert (caught.value.status, caught.value.param) == (400, "model")
    shutil.copy(folder / "a.gguf", folder / "d.gguf")
    assert models.find("d").state == "on disk"
    (folder / "d.gguf").unlink()
    assert "d" not in states(models)


def test_a_split_model_is_one(stories: Path, tmp_path: Path) -> None:
    for i in (1, 2, 3):
        (tmp_path / f"big-{i:05}-of-00003.gguf").write_bytes(b"x" * i)
    (entry,) = of(tmp_path).listed()
    assert (entry.name, entry.size, entry.path.name) == ("big", 6, "big-00001-of-00003.gguf")


def test_one_model_has_the_names_it_is_given(stories: Path) -> None:
    models = of([stories], names=("x", "y"))
    assert models.find(None) is models.find("y") is models.find(stories.name)
    with pytest.raises(Refusal):
        models.find("z")
    assert of(stories, names=("x", "*")).find("z").name == "x"
    with pytest.raises(ValueError, match="names"):
        of([stories, stories], names=("x",))
    assert [entry.name for entry in of([stories, stories]).listed()] == [stories.stem, str(stories)]
    with pytest.raises(ValueError, match="model"):
        of([])


def test_a_model_that_was_found_by_its_name_is_called_by_it(stories: Path) -> None:
    """And has the settings that its owner wants."""
    found = Found(stories, "tales:small", "ollama", ("tales",), {"temperature": 0.0, "seed": 3})

    async def scenario(models: Models) -> None:
        for name in ("tales:small", "tales", "TALES", stories.name):
            assert models.find(name).name == "tales:small"
        async with models.use("tales") as served:
            assert served.llm.model.defaults is not None
            assert (
                served.llm.model.defaults == LLM.load(found, **LOAD).model.defaults != LLM.load(stories).model.defaults
            )

    run(of([found, stories]), scenario)
    run(of(found), scenario)


def test_a_model_is_loaded_when_it_is_asked_for_and_gives_its_answers(folder: Path, model: LLM) -> None:
    client = Client(app([folder, model], Settings(template=TEMPLATE, load=LOAD)))

    async def scenario() -> None:
        replies = await asyncio.gather(
            *(client.apost("/v1/completions", {**TOM, "model": name}) for name in ("a", "b", model_name, "a"))
        )
        assert [reply.json["model"] for reply in replies] == ["a", "b", model_name, "a"]
        assert len({reply.json["choices"][0]["text"] for reply in replies}) == 1
        assert len({reply.json["system_fingerprint"] for reply in replies}) == 3
        listed = (await client.asend("GET", "/v1/models", b"", {})).json["data"]
        assert {each["id"]: each["status"]["value"] for each in listed} == {
            "a": "loaded", "b": "loaded", "c": "unloaded", "sub/a": "unloaded", model_name: "loaded",
        }  # fmt: skip
        assert (await client.apost("/v1/completions", TOM)).status == 400
        await client.app.state.service.models.close()

    model_name = "stories260K-Q8_0"
    asyncio.run(scenario())
    assert not model.model.scheduler.closed


def test_requests_for_a_model_that_is_being_loaded_wait_for_the_one_load(folder: Path) -> None:
    async def scenario(models: Models) -> None:
        async def ask(name: str) -> LLM:
            async with models.use(name) as served:
                return served.llm

        with slow_loads() as go:
            calls = [asyncio.ensure_future(ask(name)) for name in ("a", "a", "b", "a")]
            await until(lambda: states(models)["b"] == "loading")
            calls[0].cancel()  # the others still get it
            go.set()
            done = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(done[0], asyncio.CancelledError)
        assert done[1] is done[3] is not done[2]
        assert states(models) == {"a": "loaded", "b": "loaded", "c": "on disk", "sub/a": "on disk"}

    run(of(folder), scenario)


def test_the_longest_unused_makes_room(folder: Path) -> None:
    async def scenario(models: Models) -> None:
        for name in ("a", "b", "a", "c"):
            await models.load(name)
        assert [name for name, state in states(models).items() if state == "loaded"] == ["a", "c"]

    run(of(folder, models_max=2), scenario)


def test_what_is_in_use_is_never_unloaded(folder: Path) -> None:
    """Who wants another model waits, and comes before those who ask for the one in use later."""

    async def scenario(models: Models) -> None:
        order = []

        async def ask(name: str) -> None:
            async with models.use(name) as served:
                order.append(name)
                assert not served.llm.model.scheduler.closed

        async with models.use("a", keep_alive=0) as served:
            other = asyncio.ensure_future(ask("b"))
            await until(lambda: models._room is not None)
            later = asyncio.ensure_future(ask("a"))
            await asyncio.sleep(0)
            await models.unload("a")
            assert states(models)["a"] == "loaded"
            served.llm.tokenize("x")
        await asyncio.gather(other, later)
        assert order == ["b", "a"]

    run(of(folder, models_max=1), scenario)


def test_a_model_in_use_that_is_to_go_goes_when_its_last_user_leaves(folder: Path) -> None:
    async def scenario(models: Models) -> None:
        async with models.use("a"), models.use("a"):
            await models.unload("a")
            assert states(models)["a"] == "loaded"
        assert states(models)["a"] == "on disk"
        await models.load("a")
        assert states(models)["a"] == "loaded"

    run(of(folder), scenario)


def test_who_waits_too_long_for_room_is_told_so(folder: Path) -> None:
    async def scenario(models: Models) -> None:
        async with models.use("a"):
            with pytest.raises(Refusal) as caught:
                await models.load("b")
        assert (caught.value.status, "retry-after" in caught.value.headers) == (503, True)
        await models.load("b")

    run(of(folder, models_max=1, queue_seconds=0.01), scenario)


def test_memory_bounds_what_is_loaded(folder: Path) -> None:
    """Two have room and three have not, though none has filled its cache yet."""

    async def scenario(models: Models) -> None:
        need = (await models.load("a")).memory
        free = available_memory()
        assert free is not None
        models._budget = need * 5 // 2
        await models.load("b")
        await models.load("c")
        assert states(models) == {"a": "on disk", "b": "loaded", "c": "loaded", "sub/a": "on disk"}

    run(of(folder), scenario)


def test_what_sees_pictures_counts_before_it_is_loaded(shared: Callable[[str], Path]) -> None:
    model, mmproj = (shared(f"tiny-models/gemma3v{end}.gguf") for end in ("", "-mmproj"))
    named, brought = Entry(model, ["m"]), Entry(model, ["m"], source=Found(model, "m", "here", projector=mmproj))
    for entry, load in ((named, LOAD), (named, {**LOAD, "mmproj": mmproj}), (brought, LOAD)):
        with LLM.load(entry.source, **load) as llm:
            assert (llm.memory.projector > 0) == (load is not LOAD or entry is brought)
            assert _needed(entry, load) == llm.memory.total


def test_a_model_that_is_too_large_is_the_fault_of_its_request_alone(folder: Path) -> None:
    async def scenario(models: Models) -> None:
        with mock.patch("llamaq.engine.memory.available_memory", return_value=1000), pytest.raises(Refusal) as caught:
            await models.load("a")
        assert (caught.value.status, caught.value.headers["x-should-retry"]) == (503, "false")
        assert "MiB" in caught.value.message
        await models.load("b")
        assert states(models)["a"] == "on disk"

    run(of(folder), scenario)


def test_idle_models_go_when_their_time_is_over(folder: Path) -> None:
    async def scenario(models: Models) -> None:
        async with models.use("a"):
            assert models.find("a").expires is None
        await until(lambda: states(models)["a"] == "on disk")
        began = time.time()
        await models.load("b", keep_alive=1000)
        assert began + 1000 <= (models.find("b").expires or 0) <= time.time() + 1000
        await models.load("c", keep_alive=math.inf)
        assert models.find("c").expires is None
        await models.load("c", keep_alive=0)
        assert states(models) == {"a": "on disk", "b": "loaded", "c": "on disk", "sub/a": "on disk"}
        await models.unload("b")
        assert states(models)["b"] == "on disk"
        await models.unload("b")  # it need not be there

    run(of(folder, idle_seconds=0.001), scenario)


def test_a_model_of_the_caller_stays(model: LLM) -> None:
    async def scenario(models: Models) -> None:
        await models.load(None, keep_alive=0)
        with pytest.raises(Refusal, match="stays"):
            await models.unload(None)

    run(of(model), scenario)
    assert not model.model.scheduler.closed


def test_files_that_are_gone_or_broken(folder: Path) -> None:
    async def scenario(models: Models) -> None:
        (folder / "a.gguf").write_bytes(b"GGUF nonsense")
        models.find("b")
        (folder / "b.gguf").unlink()
        for name, status in (("a", 500), ("b", 404)):
            with pytest.raises(Refusal) as caught:
                await models.load(name)
            assert caught.value.status == status
            assert str(folder) not in caught.value.message
            with pytest.raises(Refusal):
                async with models.header(name):
                    pass
        shutil.copy(folder / "c.gguf", folder / "a.gguf")
        await models.load("a")

    run(of(folder), scenario)


def test_a_file_that_is_replaced_is_loaded_anew_once_nobody_uses_the_old_one(folder: Path) -> None:
    async def scenario(models: Models) -> None:
        async with models.use("a") as first:
            shutil.copy(folder / "b.gguf", folder / "new")
            (folder / "new").replace(folder / "a.gguf")
            async with models.use("a") as second:
                assert second is first
            assert first.llm.generate("Tom", max_tokens=2).text
        async with models.use("a") as third:
            assert third is not first
            assert third.fingerprint != first.fingerprint

    run(of(folder), scenario)


def test_the_header_of_a_model_needs_no_load(folder: Path) -> None:
    async def scenario(models: Models) -> None:
        async with models.header("a") as file:
            on_disk = dict(file.metadata)["general.architecture"]
        await models.load("a")
        async with models.header("a") as file:
            assert dict(file.metadata)["general.architecture"] == on_disk == "llama"
        assert states(models)["b"] == "on disk"

    run(of(folder), scenario)


def test_the_end_tells_who_waits_for_a_load(folder: Path) -> None:
    async def scenario(models: Models) -> None:
        with slow_loads() as go:
            calls = [asyncio.ensure_future(models.load(name)) for name in ("a", "b")]
            await until(lambda: states(models)["b"] == "loading")
            models.end()
            go.set()
            for refused in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(refused, Refusal)
                assert refused.status == 503
        with pytest.raises(Refusal):
            await models.load("c")

    run(of(folder), scenario)
