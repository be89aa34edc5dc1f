"""A batch from its input file to its output file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from llamaq.batch.job import BatchJob
from llamaq.batch.output import Output
from llamaq.batch.requests import Request, read_requests
from llamaq.boundary.progress import Progress
from llamaq.errors import LlamaqError

__all__ = ["Answering", "Summary", "run_batch"]

_SHOWN = 5

Answering = Callable[[Iterator[Request], Callable[[Request, str], None]], None]
"""Calls the function with each request and its line of the output, in any order."""


@dataclass(frozen=True)
class Summary:
    """Requests of the input, how many had answers from an earlier run, and how many have errors; the numbers of the
    first lines that have."""

    total: int
    kept: int
    failed: int
    failed_lines: tuple[int, ...]


def run_batch(
    job: BatchJob,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    answering: Answering | None = None,
    *,
    progress: Progress | None = None,
    loading: Progress | None = None,
) -> Summary:
    """Answers each request of ``source``, a file in OpenAI's batch format, with a line of ``target``, in its order.

    The bytes of ``target`` depend on ``source`` and ``job`` alone, not on how many requests run at once, on threads, or
    on where a run was stopped: until all is done, what is there lies in a file beside it (its name and ``.partial``),
    from which the next run goes on. A line that is no request, or that the model refuses, gets a line that says so.
    ``answering`` is who answers, such as a cluster; None: the model, loaded here for as long as it takes. ``progress``
    gets requests done and in total, ``loading`` bytes. Raises ``LlamaqError`` for files that cannot be read or written,
    or whose lines are of another batch, and what ``LLM.load`` does.
    """
    source, target = Path(source), Path(target)
    if target.exists() and source.exists() and os.path.samefile(source, target):
        raise LlamaqError(f"{target}: expected another file than the input; give another name")
    numbers = {request.id: request.number for request in read_requests(source, job.identity, job.seed)}
    told = progress or (lambda done, total: None)
    with Output(target, numbers) as output:
        kept = done = output.done

        def note(request: Request, line: str) -> None:
            nonlocal done
            if not output.has(request.id):  # a cluster may answer twice
                output.add(request.id, line)
                done += 1
                told(done, len(numbers))

        told(done, len(numbers))
        requests = read_requests(source, job.identity, job.seed)
        missing = (request for request in requests if request.id in numbers and not output.has(request.id))
        if done < len(numbers):
            if answering is not None:
                answering(missing, note)
            else:
                with job.answerer(loading) as answerer:
                    answerer.run(missing, note)
        if done < len(numbers):
            raise LlamaqError(f"{source}: has other requests than when it was begun with; run this again")
        output.finish()
        failed = sorted(numbers[id] for id in output.failed)
    return Summary(len(numbers), kept, len(failed), tuple(failed[:_SHOWN]))
