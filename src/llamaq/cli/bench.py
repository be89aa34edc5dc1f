"""``llamaq bench``: how fast a model runs here, with llama-bench's options and columns."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from llamaq.boundary.arguments import MOST_THREADS, whole
from llamaq.cli.bench_options import ABOUT, LEAST_RUNS, MOST_RUNS, PATIENCE, add_options, model_paths, workloads
from llamaq.cli.command import Command
from llamaq.cli.model_names import located, without_name
from llamaq.cli.options import INTERRUPTED, threads_default
from llamaq.cli.progress import Bar, Status

if TYPE_CHECKING:
    from llamaq.cli.bench_output import Model, Record, Settings
    from llamaq.measure.limits import MachineLimits
    from llamaq.measure.speed import Workload

__all__ = ["COMMAND"]


def bench(args: argparse.Namespace) -> int:
    """Runs the command; 130 after Ctrl-C."""
    paths = [located(name, args).path for name in model_paths(args)]
    tests = workloads(args, smoke=not paths)
    if not paths:
        paths = [without_name().path]
    settings = _settings(args)
    from llamaq.cli.bench_output import OUTPUTS, Model

    with contextlib.ExitStack() as stack:
        models = [stack.enter_context(Model.open(path)) for path in paths]
        output = stack.enter_context(OUTPUTS[args.output](models, settings))
        status = stack.enter_context(Status())
        try:
            for model, setting in itertools.product(models, settings):
                for record in _records(model, setting, tests, args, status):
                    status.clear()
                    output.add(record)
        except KeyboardInterrupt:
            return INTERRUPTED
    return 0


def _settings(args: argparse.Namespace) -> list[Settings]:
    """Every combination of the settings that a model is loaded with."""
    from llamaq.cli.bench_output import Settings
    from llamaq.engine.kv_cache import CACHE_TYPES
    from llamaq.engine.topology import default_threads

    keys, values = args.cache_type_k or ["f16"], args.cache_type_v or args.cache_type_k or ["f16"]
    if keys != values:
        args.parser.error(f"the cache has one type of numbers, not {','.join(keys)} and {','.join(values)}")
    for kind in keys:
        if kind not in CACHE_TYPES:
            args.parser.error(f"-ctk and -ctv: expected one of {', '.join(CACHE_TYPES)}, got {kind!r}")
    wanted = [whole("threads", n, -1, MOST_THREADS) for n in args.threads or [int(threads_default())]]
    threads = [n if n > 0 else default_threads().threads for n in wanted]
    batches, steps = args.batch_size or [2048], args.ubatch_size or [512]
    return [Settings(*each) for each in itertools.product(threads, batches, steps, keys, [args.pack], [args.numerics])]


def _records(
    model: Model, settings: Settings, tests: list[Workload], args: argparse.Namespace, status: Status
) -> Iterator[Record]:
    """Loads the model and measures, one test after the other."""
    from llamaq.cli.bench_output import make_record
    from llamaq.engine.engine import Engine
    from llamaq.engine.memory import check_memory, memory_need
    from llamaq.measure.limits import probe
    from llamaq.measure.speed import seconds, work_of

    rows = max(settings.rows, *(test.n_parallel for test in tests))
    needs: dict[str, Any] = {"threads": settings.n_threads, "max_rows": rows, "pack": settings.pack}
    check_memory(memory_need(model.plan, model.file.tensors, 0, cache_type=settings.cache_type, **needs))
    with Bar("loading", "B", binary=True) as progress:
        status.clear()
        engine = Engine(model.plan, model.file, progress=progress, numerics=settings.numerics, **needs)
    with contextlib.closing(engine):
        status.show("measuring the machine")
        latest = probe(settings.n_threads)
        for number, test in enumerate(tests, 1):
            status.show(label := f"{model.path.name}: {test} ({number} of {len(tests)})")
            began = datetime.now(timezone.utc)
            runs = seconds(engine, test, settings.rows, settings.cache_type, warm_up=not args.no_warmup)
            limits = [latest]  # the machine's limits, before and after each run
            samples, stopped = _samples(_enough(runs, args.repetitions), test, limits, label, status, args.parser.told)
            latest = limits[-1]
            if samples:
                work = work_of(test, model.plan, model.file.tensors, settings.rows, settings.cache_type)
                yield make_record(model, settings, test, samples, began, limits, work)
            if stopped:
                raise KeyboardInterrupt


def _samples(
    runs: Iterator[float], test: Workload, limits: list[MachineLimits], label: str, status: Status,
    tell: Callable[[Exception], str],
) -> tuple[list[float], bool]:  # fmt: skip
    """Seconds of the runs, none where the cache does not fit (which ``tell`` words); and whether Ctrl-C ended them.
    After each the machine is probed anew: what it can do changes with what else runs on it."""
    from llamaq.errors import InsufficientMemoryError
    from llamaq.measure.limits import probe

    samples: list[float] = []
    try:
        for sample in runs:
            samples.append(sample)
            status.show(f"{label}, {len(samples)} runs, {test.tokens / sample:.1f} t/s")
            limits.append(probe(limits[0].threads))
    except InsufficientMemoryError as error:
        status.clear()
        print(f"llamaq: left out: {tell(error)}", file=sys.stderr)
    except KeyboardInterrupt:
        return samples, True
    return samples, False


def _enough(runs: Iterator[float], repetitions: int | None) -> Iterator[float]:
    """Makes as many runs as are wanted, or as patience allows."""
    spent = 0.0
    for count, sample in enumerate(itertools.islice(runs, repetitions or MOST_RUNS), 1):
        spent += sample
        yield sample
        if repetitions is None and count >= LEAST_RUNS and spent > PATIENCE:
            return


COMMAND = Command(
    help="measure how fast a model runs",
    usage="[MODEL...] [options]",
    about=ABOUT,
    add_options=add_options,
    run=bench,
)
