"""A file of requests on a cluster of processes: the bytes of one process, whatever is killed in the middle."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batch_files import BAD, job_of, requests_of, write_lines
from llamaq import LlamaqError
from llamaq.batch import run_batch
from llamaq.distributed.ray import cluster_batch
from ray_clusters import cluster_of, kill_actor
from waiting import wait_until


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[str, list[Any], Any]]:
    with cluster_of(2, 2) as found:
        yield found


@pytest.fixture(scope="module")
def expected(stories: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    folder = tmp_path_factory.mktemp("batch")
    source = write_lines(folder / "in", [*requests_of(30), *BAD])
    run_batch(job_of(stories), source, folder / "out")
    return source, (folder / "out").read_bytes()


@pytest.mark.parametrize(("workers", "parallel"), [(1, 16), (2, 3), (4, 1)])
def test_any_number_of_workers(
    cluster: tuple[str, list[Any], Any], expected: tuple[Path, bytes], stories: Path, tmp_path: Path, workers: int,
    parallel: int,
) -> None:  # fmt: skip
    source, same = expected
    job = job_of(stories, threads=1, parallel=parallel)
    run_batch(job, source, tmp_path / "out", cluster_batch(job, cluster[0], workers=workers))
    assert (tmp_path / "out").read_bytes() == same


@pytest.mark.parametrize("what", ["worker", "node"])
def test_what_is_killed_in_the_middle_changes_nothing(
    cluster: tuple[str, list[Any], Any], expected: tuple[Path, bytes], stories: Path, tmp_path: Path, what: str
) -> None:
    source, same = expected
    address, nodes, running = cluster
    job, begun = job_of(stories, threads=1, parallel=2), tmp_path / "out.partial"
    thread = threading.Thread(
        target=run_batch, args=(job, source, tmp_path / "out", cluster_batch(job, address, workers=2))
    )
    thread.start()
    wait_until(lambda: not thread.is_alive() or (begun.exists() and begun.stat().st_size > 10_000))
    assert thread.is_alive()
    if what == "worker":
        kill_actor("_Worker")
    else:
        running.remove_node(nodes.pop(), allow_graceful=False)
    thread.join()
    assert (tmp_path / "out").read_bytes() == same


def test_no_cluster_is_an_error() -> None:
    import ray

    ray.shutdown()
    job = job_of(Path("none.gguf"))
    with pytest.raises(LlamaqError, match="no Ray cluster at"):
        cluster_batch(job, "127.0.0.1:1")(iter(()), lambda request, line: None)
