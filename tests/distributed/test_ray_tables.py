"""Tables of ray.data: the same rows however they are cut into blocks and batches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray.data

from llamaq import SamplingParams
from llamaq.distributed.ray import processor
from llamaq.distributed.rows import RowJob, RowWorker
from ray_clusters import cluster_of
from waiting import wait_until

LOAD = {"n_ctx": 128, "n_cache": 1024, "threads": 1}
ROWS: list[dict[str, Any]] = [{"id": i, "name": f"Number {i}"} for i in range(11)] + [{"id": 99, "name": None}]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[str]:
    with cluster_of(2, 2) as (address, _, _):
        ray.init(address=address, log_to_driver=False)
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield address


def asked(row: dict[str, Any]) -> dict[str, Any]:
    return {"embed": row["name"]} if row["id"] % 3 == 0 else {"prompt": row["name"], "max_tokens": 5}


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row without NumPy."""
    return {name: value.tolist() if hasattr(value, "tolist") else value for name, value in row.items()}


@pytest.mark.parametrize(("workers", "batch", "blocks"), [(1, 64, 1), (2, 2, 5), (4, 3, 12)])
def test_rows_are_those_of_one_worker(stories: Path, workers: int, batch: int, blocks: int) -> None:
    worker = RowWorker(RowJob(stories, LOAD, SamplingParams(seed=2), preprocess=asked))
    expected = worker.answer(ROWS)
    worker.close()
    run = processor(stories, sampling=SamplingParams(seed=2), workers=workers, batch=batch, load=LOAD, preprocess=asked)
    found = run(ray.data.from_items(ROWS).repartition(blocks)).take_all()
    assert [plain(row) for row in sorted(found, key=lambda row: row["id"])] == expected
    assert [row["id"] for row in expected if row["error"]] == [99]


def test_rows_of_the_user(stories: Path, tmp_path: Path) -> None:
    run = processor(
        stories, max_tokens=4, load=LOAD, preprocess=lambda row: {"prompt": row["name"]},
        postprocess=lambda row: {"id": row["id"], "story": row["text"]},
    )  # fmt: skip
    run(ray.data.from_items(ROWS).repartition(3)).write_parquet(str(tmp_path))
    found = ray.data.read_parquet(str(tmp_path)).take_all()
    assert len(found) == 12
    assert sum(row["error"] is not None for row in found) == 1
    assert all(set(row) == {"id", "story", "error"} for row in found)


STORIES: list[dict[str, Any]] = [{"id": i, "prompt": f"Number {i}"} for i in range(200)]
DRIVER = """
import sys
import ray
from llamaq.distributed.ray import processor

address, model, source, kept, out = sys.argv[1:]
ray.init(address=address, log_to_driver=False)
run = processor(model, max_tokens=60, batch=5, load={"n_ctx": 128, "n_cache": 1024, "threads": 1}, keep=kept)
run(ray.data.read_parquet(source)).write_parquet(out)
"""


def test_a_job_that_is_killed_goes_on(cluster: str, stories: Path, tmp_path: Path) -> None:
    """As its user would write it, from files to files; the second time cut otherwise."""
    source, kept, out = (str(tmp_path / name) for name in ("in", "kept", "out"))
    ray.data.from_items(STORIES).repartition(8).write_parquet(source)
    words = [sys.executable, "-c", DRIVER, cluster, str(stories), source, kept, out]
    driver = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: driver.poll() is not None or len(keys_in(kept)) > 20)
    assert driver.poll() is None
    driver.kill()
    driver.wait()
    before, files = keys_in(kept), {*os.listdir(kept)}
    assert 20 < len(before) < len(STORIES)
    run = processor(stories, max_tokens=60, batch=8, workers=3, load=LOAD, keep=kept)
    run(ray.data.read_parquet(source).repartition(3)).write_parquet(out, mode="overwrite")
    found = sorted(ray.data.read_parquet(out).take_all(), key=lambda row: row["id"])
    worker = RowWorker(RowJob(stories, LOAD, max_tokens=60))
    assert [plain(row) for row in found] == worker.answer(STORIES)
    worker.close()
    assert not {*before} & {*keys_in(kept, but=files)}


def keys_in(folder: str, but: Collection[str] = ()) -> list[str]:
    """Of the answers that are kept."""
    paths = [path for path in Path(folder).glob("*.jsonl") if path.name not in but]
    lines = [line for path in paths for line in path.read_text().splitlines(keepends=True)]
    return [json.loads(line)["key"] for line in lines if line.endswith("\n")]
