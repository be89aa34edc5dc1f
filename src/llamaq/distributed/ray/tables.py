"""Tables of ``ray.data`` answered row by row."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import ray.data

from llamaq.boundary.arguments import function, path_of, text, whole
from llamaq.distributed.ray.cluster import cpus_of_nodes
from llamaq.distributed.rows import COLUMNS, Row, RowJob, RowWorker
from llamaq.distributed.spread import cpus_claimed, load_for, whole_path
from llamaq.sampling import SamplingParams

if TYPE_CHECKING:
    from ray.data import Dataset

__all__ = ["processor"]

_TYPES = {"string": pa.string(), "int64": pa.int64(), "floats": pa.list_(pa.float32())}


def processor(
    model: str | os.PathLike[str],
    *,
    sampling: SamplingParams | None = None,
    max_tokens: int | None = None,
    workers: int | None = None,
    batch: int = 64,
    load: Mapping[str, Any] | None = None,
    preprocess: Callable[[dict[str, Any]], Row] | None = None,
    postprocess: Callable[[dict[str, Any]], Row] | None = None,
    id: str = "id",
    keep: str | os.PathLike[str] | None = None,
) -> Callable[[Dataset], Dataset]:
    """What makes of a dataset one with the model's answers: ``processor("model.gguf")(dataset)``.

    ``preprocess`` makes of a row what is asked, else the row says it itself: ``messages`` of a conversation, a
    ``prompt``, a text to ``embed`` or to ``score`` (after ``score_after``), and if it likes ``sampling`` (a dict),
    ``max_tokens``, ``stop``, ``tools``, ``tool_choice``, ``template`` and ``template_kwargs``. It then has the columns
    ``text``, ``finish_reason``, ``prompt_tokens``, ``completion_tokens``, ``embedding`` or ``logprobs``, as it asked,
    and ``error``, which is None, or says why it has none of them. ``postprocess`` makes of such a row the one to keep.

    The seed of a row comes from ``sampling.seed`` (None: 0) and its column ``id``, where it has none from what it asks
    for: how rows are cut into blocks and ``batch``es and by whom they are answered changes no bit. Answers lie in the
    folder ``keep``, which all machines share, as soon as they are there; a job that is run again takes from there what
    it has, however it is cut this time, and asks for the rest. ``workers`` actors
    (None: one on each machine) have the model, each with ``load`` of ``LLM.load``; the file must have the same path
    everywhere. Raises ``TypeError``, ``ValueError``.
    """
    if preprocess is not None:
        function("preprocess", preprocess)
    if postprocess is not None:
        function("postprocess", postprocess)
    workers = None if workers is None else whole("workers", workers, 1)
    batch = whole("batch", batch, 1)
    folder = None if keep is None else path_of("keep", keep).resolve()
    job = (sampling or SamplingParams(), max_tokens, preprocess, postprocess, text("id", id), folder)

    def answered(dataset: Dataset) -> Dataset:
        cpus = cpus_of_nodes()
        count = workers or len(cpus)
        own = load_for(load or {}, count, cpus)
        found: Dataset = dataset.map_batches(
            _TableWorker,
            fn_constructor_args=(RowJob(whole_path(model), own, *job),),
            compute=ray.data.ActorPoolStrategy(size=count),
            batch_size=batch,
            batch_format="pyarrow",
            num_cpus=cpus_claimed(count, cpus),
        )
        return found

    return answered


class _TableWorker:
    """An actor with the model."""

    def __init__(self, job: RowJob) -> None:
        self._worker = RowWorker(job)
        self._keeps = job.postprocess is None

    def __call__(self, table: pa.Table) -> pa.Table:
        rows = self._worker.answer(table.to_pylist())
        if not self._keeps:
            names = dict.fromkeys(name for row in rows for name in row)
            columns = {name: [row.get(name) for row in rows] for name in names if name != "error"}
            return pa.table({**columns, "error": pa.array([row["error"] for row in rows], pa.string())})
        for name, kind in COLUMNS.items():
            column = pa.array([row[name] for row in rows], _TYPES[kind])
            place = table.column_names.index(name) if name in table.column_names else len(table.column_names)
            table = table.remove_column(place) if place < len(table.column_names) else table
            table = table.add_column(place, name, column)
        return table
