"""Speed of llamaq and of llama.cpp in turns, A B A B: a table, JSON and a picture."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, median_low

from chart import Bar, Panel, svg
from llamaq.engine.loading import plan_of
from llamaq.gguf import GGUFFile
from llamaq.measure.limits import MachineLimits, probe
from llamaq.measure.speed import Workload, work_of
from report import Result, machine, print_table, spread

__all__ = ["run_speed"]

RUNTIMES = ("llamaq", "llama.cpp")
# A round counts where the bandwidth changed by less, and so many are tried for each that is wanted.
CHANGED, TRIES = 0.15, 2


def run_speed(args: argparse.Namespace) -> Result:
    """All the files given."""
    found = [compare(path, args) for path in args.files]
    rows = [["file", "test", *RUNTIMES, "ratio", "ratio min–max", "llamaq, % of limit"]]
    for result in found:
        for test, ratio in result["ratio"].items():
            speeds, share = result["speeds"][test], result["percent_of_limit"][test]
            row = [result["file"], test, *(f"{speeds[name]['median']:.2f}" for name in RUNTIMES)]
            row += [f"{ratio['median']:.2f}", f"{ratio['min']:.2f}–{ratio['max']:.2f}"]
            rows.append([*row, f"{share['llamaq']:.0f} {share['of']}"])
    print(f"tokens/s, median of {args.rounds} rounds; {args.threads} threads")
    for result in found:
        limits = result["limits"]
        reads, peak = ("-".join(f"{limits[name][end]:.0f}" for end in ("min", "max")) for name in ("GB/s", "GOP/s"))
        print(f"{result['file']}: {limits['level']}, {reads} GB/s, {peak} GOP/s")
    print_table(rows)
    names = ("threads", "batch", "cache_type", "flash_attention", "rounds")
    settings = {name: getattr(args, name) for name in names}
    about = machine()
    if args.picture:
        args.picture.write_text(picture(about, found, args.threads), encoding="utf-8")
    return {"machine": about, "settings": settings, "files": found}


def compare(path: Path, args: argparse.Namespace) -> Result:
    """One file: each round measures llamaq, then llama.cpp, and probes the machine before, between and after. Rounds in
    which it changed, as it does where others share its memory, are repeated: the steadiest count."""
    tried: list[Round] = []
    while sum(each.change < CHANGED for each in tried) < args.rounds and len(tried) < TRIES * args.rounds:
        print(f"{path.name}: round {len(tried) + 1}", file=sys.stderr)
        tried.append(one_round(path, args))
    rounds = sorted(tried, key=lambda each: each.change >= CHANGED and each.change)[: args.rounds]
    tests = list(rounds[0].results["llamaq"]["speeds"])
    result: Result = {"file": path.name, "megabytes": round(path.stat().st_size / 1e6), "rounds_tried": len(tried)}
    result["runtimes"] = {name: rounds[0].results[name]["runtime"] for name in RUNTIMES}
    result["speeds"] = {t: {name: spread(each.speed(name, t) for each in rounds) for name in RUNTIMES} for t in tests}
    result["ratio"] = {
        t: spread(each.speed("llamaq", t) / each.speed("llama.cpp", t) for each in rounds) for t in tests
    }
    probes = [probed for each in rounds for probed in each.probes]
    result["limits"] = {
        "level": probes[0].level,
        "GB/s": spread(each.read_bandwidth / 1e9 for each in probes),
        "GOP/s": spread(each.int8_peak / 1e9 for each in probes),
    }
    result["percent_of_limit"] = {t: share(path, t, rounds, args) for t in tests}
    for what in ("load_seconds", "peak_rss_mb", "load_average_before"):
        result[what] = {name: spread(each.results[name][what] for each in rounds) for name in RUNTIMES}
    return result


@dataclass(frozen=True)
class Round:
    """What each runtime gave, and the machine's limits before, between and after."""

    results: Mapping[str, Result]
    probes: Sequence[MachineLimits]

    @property
    def change(self) -> float:
        """How much the read bandwidth changed: 0.1 is a tenth."""
        found = [each.read_bandwidth for each in self.probes]
        return max(found) / min(found) - 1

    def speed(self, name: str, test: str) -> float:
        return float(self.results[name]["speeds"][test])


def one_round(path: Path, args: argparse.Namespace) -> Round:
    results, probes = {}, [probe(args.threads)]
    for name in RUNTIMES:
        results[name] = measure_apart(name, path, args)
        probes.append(probe(args.threads))
    return Round(results, probes)


def measure_apart(name: str, path: Path, args: argparse.Namespace) -> Result:
    """``measure.py`` in a process of its own, so that neither runtime's threads or memory touch the other's."""
    python = args.peer if name == "llama.cpp" else sys.executable
    command = [python, str(Path(__file__).with_name("measure.py")), name, str(path)]
    for option in ("threads", "batch", "cache_type", "flash_attention", "decode"):
        command += [f"--{option.replace('_', '-')}", str(getattr(args, option))]
    for option in ("prompts", "depths", "parallel"):
        command += [f"--{option}", ",".join(map(str, getattr(args, option)))]
    load = os.getloadavg()[0]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: Result = json.loads(done.stdout)
    return result | {"load_average_before": load}


def share(path: Path, test: str, rounds: Sequence[Round], args: argparse.Namespace) -> Result:
    """Percent that llamaq gets of the limit that binds first, the read bandwidth or its level's int8 peak, each the
    higher of the probes just before and just after the test; median of the rounds."""
    match = re.fullmatch(r"(pp|tg)(\d+)(?: x(\d+))?(?: @ d(\d+))?", test)
    assert match
    prompt = int(match[2]) if match[1] == "pp" else 0
    workload = Workload(prompt, int(match[2]) - prompt, int(match[4] or 0), int(match[3] or 1))
    with GGUFFile.open(path) as file:
        _, plan = plan_of(file)
        work = work_of(workload, plan, file.tensors, args.batch, args.cache_type)
    found, binding = [], []
    for each in rounds:
        bandwidth, peak = map(max, zip(*each.results["llamaq"]["limits"][test], strict=True))
        least, limit = max((work.nbytes / bandwidth, "bandwidth"), (work.int8_ops / peak, "int8 peak"))
        binding.append(limit)
        found.append(100 * least * each.speed("llamaq", test) / workload.tokens)
    return {"llamaq": round(median(found), 1), "of": median_low(binding)}


def picture(about: Result, found: list[Result], threads: int) -> str:
    """The ratios as SVG."""
    panels = []
    for result in found:
        bars = []
        for test, ratio in result["ratio"].items():
            ours, theirs = (result["speeds"][test][name]["median"] for name in RUNTIMES)
            figures = f"{ours:.1f} / {theirs:.1f} tokens/s"
            bars.append(Bar(test, ratio["median"], ratio["min"], ratio["max"], figures))
        panels.append(Panel(result["file"], bars))
    level = found[0]["limits"]["level"]
    caption = f"{about['cpu']}, level {level}, {threads} threads; median of the rounds, least to greatest"
    return svg("llamaq : llama.cpp, tokens per second", caption, panels)
