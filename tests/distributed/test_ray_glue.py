"""What llamaq asks of Ray and makes of its answers, with a stand-in for it: the other files need Ray."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from batch_files import BAD, job_of, requests_of, write_lines
from llamaq import LLM, LlamaqError, SamplingParams
from llamaq.batch import run_batch
from ray_stand_in import StandIn

GLUE = "llamaq.distributed.ray"


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """The stand-in in Ray's place, and llamaq's modules imported with it."""
    own = StandIn()

    def forget() -> None:
        for name in [name for name in sys.modules if name.startswith(GLUE)]:
            del sys.modules[name]

    for name in [name for name in sys.modules if name == "ray" or name.startswith("ray.")]:
        monkeypatch.delitem(sys.modules, name)
    for name, module in own.modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    forget()
    yield own
    forget()


@pytest.fixture
def glue(stand_in: StandIn) -> ModuleType:
    return importlib.import_module(GLUE)


@pytest.mark.parametrize(("workers", "parallel"), [(1, 16), (3, 2)])
def test_a_file_of_requests(
    stand_in: StandIn, glue: ModuleType, stories: Path, tmp_path: Path, workers: int, parallel: int
) -> None:
    source = write_lines(tmp_path / "in", [*requests_of(9), *BAD])
    run_batch(job_of(stories, threads=1), source, tmp_path / "alone")
    job = job_of(stories, threads=None, parallel=parallel)
    run_batch(job, source, tmp_path / "out", glue.cluster_batch(job, "local", workers=workers))
    assert (tmp_path / "out").read_bytes() == (tmp_path / "alone").read_bytes()
    assert [given["address"] for given in stand_in.inits] == ["local"]
    assert not stand_in.connected
    assert stand_in.killed == stand_in.actors
    assert len(stand_in.actors) == workers
    threads = 4 // workers
    for actor in stand_in.actors:
        assert actor.options == {"num_cpus": threads, "max_restarts": -1, "max_concurrency": parallel,
                                 "scheduling_strategy": "SPREAD"}  # fmt: skip


def test_a_worker_that_dies_is_asked_again(
    stand_in: StandIn, glue: ModuleType, stories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{GLUE}.batches._PAUSE", 0.0)
    source = write_lines(tmp_path / "in", requests_of(12))
    job = job_of(stories, threads=1, parallel=2)
    run_batch(job, source, tmp_path / "alone")
    answering = glue.cluster_batch(job, "local", workers=2)

    def killing(requests: Any, done: Any) -> None:
        left = [1, 0]

        def note(request: Any, line: str) -> None:
            done(request, line)
            if left:
                stand_in.actors[left.pop()].die()

        answering(requests, note)

    run_batch(job, source, tmp_path / "out", killing)
    assert (tmp_path / "out").read_bytes() == (tmp_path / "alone").read_bytes()


def test_clusters_that_are_none(stand_in: StandIn, glue: ModuleType) -> None:
    job = job_of(Path("none.gguf"))
    stand_in.refuses = True
    with pytest.raises(LlamaqError, match=r"no Ray cluster at 'auto': nobody is there; start one with 'ray start"):
        glue.cluster_batch(job)(iter(()), lambda request, line: None)
    with pytest.raises(LlamaqError, match="no Ray cluster at 'localhost:1'"):
        glue.cluster_batch(job, "localhost:1")(iter(()), lambda request, line: None)
    stand_in.refuses = False
    stand_in.nodes = [{"Alive": True, "Resources": {}}, {"Alive": False, "Resources": {"CPU": 8.0}}]
    with pytest.raises(LlamaqError, match="no machine of the Ray cluster lends CPUs"):
        glue.cluster_batch(job)(iter(()), lambda request, line: None)
    assert not stand_in.connected


def test_workers_and_stages_that_cannot_begin(
    stand_in: StandIn, glue: ModuleType, stories: Path, tmp_path: Path
) -> None:
    """They say why at once: the next would fail as well."""
    source = write_lines(tmp_path / "in", requests_of(1))
    job = job_of(stories)
    answering = glue.cluster_batch(replace(job, load={"n_ctx": -1}), "local")
    with pytest.raises(LlamaqError, match=r"a machine of the cluster cannot begin its work: ValueError: n_ctx must be"):
        run_batch(job, source, tmp_path / "out", answering)
    assert not (tmp_path / "out.partial").exists()
    with pytest.raises(LlamaqError, match=r"cannot begin its work: .*threads"), glue.staged(stories, threads=-1):
        pass


def test_without_ray(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(LlamaqError, match=r"needs Ray: pip install 'llamaq\[ray\]'"):
        importlib.import_module(GLUE)


def test_stages_on_actors(stand_in: StandIn, glue: ModuleType, stories: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{GLUE}.stages._PAUSE", 0.0)
    prompts = ["Once upon a time", "Tom saw", "A very long day " * 5, "x"]
    options: dict[str, Any] = {"max_tokens": 30, "samplings": [SamplingParams(seed=i) for i in range(4)]}
    with LLM.load(stories, n_ctx=128, threads=1) as llm:
        expected = [each.text for each in llm.batch(prompts, **options)]
    with glue.staged(stories, n_ctx=128, texts=4) as model:
        assert [actor.options["num_cpus"] for actor in stand_in.actors] == [2, 2]
        assert {actor.options["scheduling_strategy"] for actor in stand_in.actors} == {"SPREAD"}
        assert len(model.lanes) == 4
        assert [each.text for each in model.batch(prompts, **options)] == expected
        for actor in stand_in.actors:
            stream = model.stream(prompts[2], max_tokens=30, sampling=SamplingParams(seed=2))
            began = next(stream).text
            actor.die()
            assert began + "".join(event.text for event in stream) == expected[2]
    assert stand_in.killed == stand_in.actors[::-1]


def test_a_stage_that_never_comes_back(
    stand_in: StandIn, glue: ModuleType, stories: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{GLUE}.stages._PAUSE", 0.0)
    monkeypatch.setattr(f"{GLUE}.stages._LONGEST", 0.2)
    with glue.staged(stories, n_ctx=128, texts=1) as model:
        stand_in.actors[1].die(restarts=False)
        with pytest.raises(LlamaqError, match=r"a stage of the model (does not come back|was not there within)"):
            model.generate("x", max_tokens=2)


def test_tables(stand_in: StandIn, glue: ModuleType) -> None:
    asked: dict[str, Any] = {}
    dataset = SimpleNamespace(map_batches=lambda worker, **given: asked.update(given))
    glue.processor("m.gguf", workers=3, batch=7, load={"n_ctx": 64}, id="name", keep="x")(dataset)
    (job,) = asked.pop("fn_constructor_args")
    assert job.keep == Path("x").resolve()  # workers run in other folders
    assert (job.model, job.load, job.id) == ("m.gguf", {"threads": 1, "pack": False, "n_ctx": 64}, "name")
    assert asked == {"compute": ("actors", 3), "batch_size": 7, "batch_format": "pyarrow", "num_cpus": 1.0}
    for wrong in ({"batch": 0}, {"workers": 0}, {"preprocess": 5}, {"id": 5}, {"keep": 5}):
        with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
            glue.processor("m.gguf", **wrong)


def test_deployments(stand_in: StandIn, glue: ModuleType) -> None:
    scaling = {"min_replicas": 1, "max_replicas": 3}
    models = {
        "small": {"path": "s.gguf", "num_replicas": 2, "settings": {"template": "chatml"}},
        "large": {"path": "l.gguf", "threads": 3, "parallel": 2, "load": {"n_ctx": 64}, "autoscaling_config": scaling},
    }
    app = glue.openai_app(models)
    assert app.given["ray_actor_options"] == {"num_cpus": 0}
    small, large = app.args
    assert small.args == ("small", "s.gguf", {}, {"parallel": 4, "template": "chatml"}, 1, 2)
    assert large.args == ("large", "l.gguf", {"n_ctx": 64}, {"parallel": 2}, 3, 3)
    assert (small.given["num_replicas"], large.given["autoscaling_config"]) == (2, scaling)
    assert (large.given["ray_actor_options"], large.given["max_ongoing_requests"]) == ({"num_cpus": 3}, 4)
    for wrong, message in (({}, "one model"), ({"m": {}}, "needs the path"), ({"m": {"path": "x", "y": 1}}, "'y'")):
        with pytest.raises(ValueError, match=message):
            glue.openai_app(wrong)


@pytest.mark.parametrize(
    ("scaling", "alone"),
    [
        ({}, True),
        ({"num_replicas": 2}, False),
        ({"num_replicas": "auto"}, False),
        ({"autoscaling_config": {"max_replicas": 3}}, False),
        ({"num_replicas": 2, "threads": 3}, True),
        ({"num_replicas": 2, "load": {"pack": True}}, True),
    ],
)
def test_replicas_of_one_machine_share_the_weights(
    stand_in: StandIn, glue: ModuleType, stories: Path, monkeypatch: pytest.MonkeyPatch, scaling: dict[str, Any],
    alone: bool,
) -> None:  # fmt: skip
    asked: list[dict[str, Any]] = []
    load = LLM.load

    def noted(path: Path, **options: Any) -> LLM:
        asked.append(options)
        return load(path, **options)

    monkeypatch.setattr(LLM, "load", noted)
    (model,) = glue.openai_app({"m": {"path": stories, **scaling}}).args
    model.what(*model.args)
    assert asked == [{"threads": scaling.get("threads", 1), "pack": alone}]


def test_requests_that_begin_alike_go_to_one_replica(stand_in: StandIn, glue: ModuleType) -> None:
    """Every door has the same order for a key, a replica that comes or goes moves few keys, and all get a share."""
    serving = importlib.import_module(f"{GLUE}.serving")
    replicas = [SimpleNamespace(replica_id=SimpleNamespace(unique_id=f"r{i}")) for i in range(4)]

    def order(key: str, among: list[Any]) -> list[str]:
        router = serving.PrefixRouter()
        ranks = asyncio.run(router.choose_replicas(among, SimpleNamespace(args=(key,))))
        assert all(len(rank) == 1 for rank in ranks)
        return [rank[0].replica_id.unique_id for rank in ranks]

    first = {f"key {i}": order(f"key {i}", replicas) for i in range(200)}
    assert all(order(key, replicas[::-1]) == found for key, found in first.items())
    counts = [sum(found[0] == f"r{i}" for found in first.values()) for i in range(4)]
    assert min(counts) > 25
    for key, found in first.items():
        assert order(key, replicas[1:]) == [name for name in found if name != "r0"]
    assert len(asyncio.run(serving.PrefixRouter().choose_replicas(replicas, None))) == 4
