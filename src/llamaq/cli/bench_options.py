"""The options of ``llamaq bench``: llama-bench's, with its lists and ranges; those that llamaq lacks are refused."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from llamaq.cli.llama_cpp import refuse
from llamaq.cli.options import Parser, add_no_pack, add_numerics, at_least

if TYPE_CHECKING:
    from llamaq.measure.speed import Workload

__all__ = ["ABOUT", "LEAST_RUNS", "MOST_RUNS", "PATIENCE", "add_options", "model_paths", "workloads"]

PATIENCE = 10.0  # seconds for the runs of a test where -r does not set their number
MOST_RUNS, LEAST_RUNS = 5, 2  # runs of such a test

ABOUT = """\
Measures how fast a model reads prompts (pp) and writes tokens (tg), and what share of this machine's limits that is:
its read bandwidth and the int8 peak of its SIMD level, probed with the same threads before and after each run. On a
machine that others use these change by the second: GB/s is their range, and percentages are of the highest.

Without -p, -n, -pg, -d and -npl: pp512, pp128 and tg64, each with nothing and with 4096 tokens before it, and tg64 of
2, 4, 8 and 16 sequences at once. With any of these, the others have the defaults below. Numbers may be lists (1,2,4)
and ranges (first-last, first-last+step, first-last*factor), and options may be repeated; every combination is
measured. Tokens are random; nothing is tokenized or sampled. Ctrl-C ends it with what was measured so far.

Without a model the bundled one is measured, with pp512 and tg64 alone: too small to tell much, but it shows that all
works."""

_CPU_ONLY = "llamaq runs on CPUs alone"
_PLACES = "llamaq places its threads itself; taskset and numactl restrict it"
_REFUSED: dict[tuple[str, ...], str] = {
    ("-ngl", "--n-gpu-layers"): _CPU_ONLY,
    ("-ncmoe", "--n-cpu-moe"): _CPU_ONLY,
    ("-sm", "--split-mode"): _CPU_ONLY,
    ("-mg", "--main-gpu"): _CPU_ONLY,
    ("-ts", "--tensor-split"): _CPU_ONLY,
    ("-ot", "--override-tensor"): _CPU_ONLY,
    ("-dev", "--device"): _CPU_ONLY,
    ("-nkvo", "--no-kv-offload"): _CPU_ONLY,
    ("-nopo", "--no-op-offload"): _CPU_ONLY,
    ("--list-devices",): _CPU_ONLY,
    ("-rpc", "--rpc"): "llamaq runs on this machine alone",
    ("-fa", "--flash-attn"): "llamaq has one kind of attention, which never stores all scores",
    ("-mmp", "--mmap"): "--no-pack leaves the weights in the file's mapping",
    ("-dio", "--direct-io"): "llamaq reads files through their mapping",
    ("-embd", "--embeddings"): "bench measures what writes text; LLM.embed makes embeddings",
    ("-C", "--cpu-mask"): _PLACES,
    ("--cpu-strict",): _PLACES,
    ("--numa",): _PLACES,
    ("--prio",): "nice and chrt set priorities",
    ("--poll",): "llamaq's threads wait as they find best",
    ("--delay",): "llamaq measures without pauses",
    ("-oe", "--output-err"): "2> redirects what goes to stderr",
    ("-v", "--verbose"): "llamaq bench has nothing more to tell",
    ("--progress",): "a terminal always shows the progress",
}
"""Options of llama-bench without which figures would mislead."""


class _Extend(argparse.Action):
    """Lists given several times are one list."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: str | None = None) -> None:
        setattr(namespace, self.dest, [*(getattr(namespace, self.dest) or []), *values])


def add_options(parser: Parser) -> None:
    """All of them."""
    add = parser.add_argument
    add("models", metavar="MODEL", nargs="*", default=[], help="GGUF files, or names of models")
    add("-m", "--model", metavar="MODEL", dest="more_models", action="append", default=[], help="the same as an option")

    def add_list(*names: str, low: int, help: str) -> None:
        add(*names, metavar="N", type=_numbers(low), action=_Extend, help=help)

    add_list("-p", "--n-prompt", low=0, help="tokens of a prompt; 0: none (default 512)")
    add_list("-n", "--n-gen", low=0, help="tokens to write; 0: none (default 64)")
    add("-pg", metavar="PP,TG", type=_pair, action="append", default=[], help="a prompt and the tokens after it")
    add_list("-d", "--n-depth", low=0, help="tokens in the cache before the test (default 0)")
    add_list("-npl", "--n-parallel", low=1, help="sequences that tg writes at once, a token of each a step (default 1)")
    add_list("-b", "--batch-size", low=1, help="most tokens of a prompt read at once (default 2048), and of these")
    add_list("-ub", "--ubatch-size", low=1, help="... at most so many in one step (default 512)")
    add_list("-t", "--threads", low=-1, help="-1: one for each performance core (default as llamaq run)")
    for names, what in ((("-ctk", "--cache-type-k"), "keys"), (("-ctv", "--cache-type-v"), "values")):
        help = f"numbers of the cache's {what}; both options must say the same (default f16)"
        add(*names, metavar="TYPE", type=lambda text: text.split(","), action=_Extend, help=help)
    help = f"runs of each test (default {MOST_RUNS}; once {PATIENCE:.0f} seconds are over, fewer, but {LEAST_RUNS})"
    add("-r", "--repetitions", metavar="N", type=at_least(1), help=help)
    add("-o", "--output", choices=("md", "json", "jsonl", "csv"), default="md", help="form of the result (default md)")
    add("--no-warmup", action="store_true", help="do not run a little of each test before it")
    add_no_pack(parser)
    add_numerics(parser)
    refuse(parser, _REFUSED)


def _numbers(low: int) -> Callable[[str], list[int]]:
    """An argparse type: integers from ``low`` on as llama-bench lists them, ``1,2,4`` or ``1-9+2`` or ``1-16*2``."""

    def parse(text: str) -> list[int]:
        found: list[int] = []
        for part in text.split(","):
            match = re.fullmatch(r"(-?\d+)(?:-(\d+)(?:([+*])(\d+))?)?", part)
            values = list(_range(match)) if match else []
            if not values or min(values) < low:
                kind = f"integers of at least {low}, such as 1,2 or 1-9+2 or 1-16*2"
                raise argparse.ArgumentTypeError(f"expected {kind}, got {text!r}")
            found += values
        return found

    return parse


def _range(match: re.Match[str]) -> Iterator[int]:
    value = int(match[1])
    last, by = int(match[2] or value), int(match[4] or 1)
    grows = by > 0 if match[3] != "*" else by > 1 and value > 0
    while value <= last and (grows or not match[2]):
        yield value
        value = value * by if match[3] == "*" else value + by


def _pair(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+),(\d+)", text)
    if not match or "0" in match.groups():
        raise argparse.ArgumentTypeError(f"expected two counts such as 512,128, got {text!r}")
    return int(match[1]), int(match[2])


def model_paths(args: argparse.Namespace) -> list[str]:
    """The files that the arguments name; none where the bundled model is to be measured."""
    return [*args.models, *args.more_models] or [path for path in [os.environ.get("LLAMA_ARG_MODEL")] if path]


def workloads(args: argparse.Namespace, *, smoke: bool) -> list[Workload]:
    """The tests that the options ask for; without such options all, or for a ``smoke`` run two."""
    from llamaq.measure.speed import Workload

    if not (args.pg or any(x is not None for x in (args.n_prompt, args.n_gen, args.n_depth, args.n_parallel))):
        if smoke:
            return [Workload(512, 0, 0), Workload(0, 64, 0)]
        shapes = ((512, 0), (128, 0), (0, 64))
        found = [Workload(prompt, gen, depth) for depth in (0, 4096) for prompt, gen in shapes]
        return found + [Workload(0, 64, 0, n) for n in (2, 4, 8, 16)]
    prompts = [512] if args.n_prompt is None else args.n_prompt
    lengths = [64] if args.n_gen is None else args.n_gen
    found = []
    for depth in args.n_depth or [0]:
        found += [Workload(n, 0, depth) for n in prompts if n]
        found += [Workload(0, n, depth, several) for n in lengths if n for several in args.n_parallel or [1]]
        found += [Workload(prompt, gen, depth) for prompt, gen in args.pg]
    if not found:
        args.parser.error("-p 0 and -n 0 leave nothing to measure")
    return found
