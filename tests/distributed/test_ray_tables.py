"""Tables of ray.data: the same rows however they are cut into blocks and batches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray.data

from llamaq import SamplingParams
from llamaq.distributed.ray import processor
from llamaq.distributed.rows import RowJob, RowWorker
from ray_clusters import cluster_of

LOAD = {"n_ctx": 128, "n_cache": 1024, "threads": 1}
ROWS: list[dict[str, Any]] = [{"id": i, "name": f"Number {i}"} for i in range(11)] + [{"id": 99, "name": None}]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with cluster_of(2, 2) as (address, _, _):
        ray.init(address=address, log_to_driver=False)
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield


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
