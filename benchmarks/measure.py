"""Times one runtime with one file, in this process, and prints what it found as JSON.

    python benchmarks/measure.py llamaq model.gguf

``compare_llama_cpp.py speed`` starts it, in turns for each runtime; it needs numpy and that runtime alone. Ids are
given in advance: nothing is sampled. What stands before a test (its depth) is read by the model.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from runtimes import CACHE_TYPES, FLASH_ATTENTION, Runtime, open_runtime

__all__ = ["add_options", "measure"]


def numbers(text: str) -> list[int]:
    """``1,2,4``."""
    return [int(part) for part in text.split(",")]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Settings of the runtimes and of the tests."""
    add = parser.add_argument
    add("--threads", "-t", type=int, default=2)
    add("--batch", type=int, default=512, help="prompt tokens read at once (default 512)")
    add("--cache-type", choices=CACHE_TYPES, default="f16")
    add("--flash-attention", choices=FLASH_ATTENTION, default="auto", help="of llama.cpp")
    add("--prompts", "-p", type=numbers, default=[512, 128], help="tokens of prompts (default 512,128)")
    add("--decode", "-n", type=int, default=64, help="tokens written (default 64)")
    add("--depths", "-d", type=numbers, default=[0, 4096], help="tokens before a test (default 0,4096)")
    add("--parallel", "-npl", type=numbers, default=[1, 2, 4, 8, 16], help="sequences at once (default 1,2,4,8,16)")


class Clock:
    """Tokens per second by test, and what the machine gave just before and just after it (see ``Runtime.limits``)."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.speeds: dict[str, float] = {}
        self.limits: dict[str, list[tuple[float, float]]] = {}

    def take(self, test: str, tokens: int, warm_up: Callable[[], None], work: Callable[[], None]) -> None:
        before = self._runtime.limits()
        warm_up()
        began = time.perf_counter()
        work()
        self.speeds[test] = tokens / (time.perf_counter() - began)
        after = self._runtime.limits()
        if before and after:
            self.limits[test] = [before, after]


def measure(name: str, path: str, args: argparse.Namespace) -> dict[str, Any]:
    """Tokens per second by test, as llama-bench names them, ``tg64 x4`` for four sequences."""
    began = time.perf_counter()
    runtime = open_runtime(name, path, args)
    loaded = time.perf_counter()
    longest = max([*args.prompts, args.decode])
    ids = np.random.default_rng(0).integers(3, 500, max([*args.depths, 0]) + longest).tolist()
    clock = Clock(runtime)
    for depth in args.depths:
        runtime.begin(1, depth + longest)
        read(runtime, ids, 0, depth, args.batch)
        suffix = f" @ d{depth}" if depth else ""
        for count in args.prompts:
            warm_up = partial(read, runtime, ids, depth, 16, args.batch)
            clock.take(f"pp{count}{suffix}", count, warm_up, partial(read, runtime, ids, depth, count, args.batch))
        writing = partial(write, runtime, 1, ids, depth)
        clock.take(f"tg{args.decode}{suffix}", args.decode, partial(writing, 2), partial(writing, args.decode))
    for several in args.parallel:
        if several > 1:
            runtime.begin(several, args.decode)
            writing = partial(write, runtime, several, ids, 0)
            test, tokens = f"tg{args.decode} x{several}", several * args.decode
            clock.take(test, tokens, partial(writing, 2), partial(writing, args.decode))
    result = {
        "speeds": clock.speeds,
        "limits": clock.limits,
        "load_seconds": loaded - began,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "runtime": runtime.describe(),
    }
    runtime.close()
    return result


def read(runtime: Runtime, ids: list[int], start: int, count: int, batch: int) -> None:
    """Reads ``count`` tokens from position ``start`` on."""
    for i in range(start, start + count, batch):
        runtime.forward(ids[i : min(i + batch, start + count)], i)


def write(runtime: Runtime, sequences: int, ids: list[int], start: int, count: int) -> None:
    """One token of every sequence a step: another one of each, as they go to other experts."""
    for position in range(start, start + count):
        runtime.step([ids[(position + 61 * i) % len(ids)] for i in range(sequences)], position)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time one runtime with one file.")
    parser.add_argument("runtime", choices=("llamaq", "llama.cpp"))
    parser.add_argument("file")
    add_options(parser)
    args = parser.parse_args()
    print(json.dumps(measure(args.runtime, args.file, args)))


if __name__ == "__main__":
    main()
