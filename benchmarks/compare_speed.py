"""Speed of llamaq and of llama.cpp in turns, A B A B: a table, JSON and a picture."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from chart import Bar, Panel, svg
from llamaq.engine.loading import plan_of
from llamaq.gguf import GGUFFile
from llamaq.measure.limits import MachineLimits, probe
from llamaq.measure.speed import Workload, work_of
from report import Result, machine, print_table, spread

__all__ = ["run_speed"]

RUNTIMES = ("llamaq", "llama.cpp")


def run_speed(args: argparse.Namespace) -> Result:
    """All the files given."""
    found = [compare(path, args) for path in args.files]
    rows = [["file", "test", *RUNTIMES, "ratio", "ratio min–max", *(f"{name}, % of limit" for name in RUNTIMES)]]
    for result in found:
        for test, ratio in result["ratio"].items():
            speeds, percents = result["speeds"][test], result["percent_of_limit"][test]
            row = [result["file"], test, *(f"{speeds[name]['median']:.2f}" for name in RUNTIMES)]
            row += [f"{ratio['median']:.2f}", f"{ratio['min']:.2f}–{ratio['max']:.2f}"]
            rows.append(row + [f"{percents[name]:.0f} {percents['of']}" for name in RUNTIMES])
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
    """One file: each round measures llamaq, then llama.cpp; before each, and at the end, the machine is probed."""
    rounds: dict[str, list[Result]] = {name: [] for name in RUNTIMES}
    probes = [probe(args.threads)]
    for number in range(args.rounds):
        for name, results in rounds.items():
            print(f"{path.name}: round {number + 1} of {args.rounds}, {name}", file=sys.stderr)
            results.append(measure_apart(name, path, args))
            probes.append(probe(args.threads))
    speeds = {
        test: {name: spread(r["speeds"][test] for r in results) for name, results in rounds.items()}
        for test in rounds["llamaq"][0]["speeds"]
    }
    pairs = list(zip(*rounds.values(), strict=True))
    result: Result = {"file": path.name, "megabytes": round(path.stat().st_size / 1e6)}
    result["runtimes"] = {name: results[0]["runtime"] for name, results in rounds.items()}
    result["speeds"] = speeds
    result["ratio"] = {test: spread(a["speeds"][test] / b["speeds"][test] for a, b in pairs) for test in speeds}
    result["limits"] = {
        "level": probes[0].level,
        "GB/s": spread(each.read_bandwidth / 1e9 for each in probes),
        "GOP/s": spread(each.int8_peak / 1e9 for each in probes),
    }
    result["percent_of_limit"] = shares(path, speeds, args, probes)
    for what in ("load_seconds", "peak_rss_mb", "load_average_before"):
        result[what] = {name: spread(r[what] for r in results) for name, results in rounds.items()}
    return result


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


def shares(
    path: Path, speeds: Mapping[str, Result], args: argparse.Namespace, probes: Sequence[MachineLimits]
) -> Result:
    """Percent of the limit that binds first, the read bandwidth or the int8 peak of llamaq's level: of the highest that
    was probed."""
    found: Result = {}
    bandwidth, peak = max(each.read_bandwidth for each in probes), max(each.int8_peak for each in probes)
    with GGUFFile.open(path) as file:
        _, plan = plan_of(file)
        for test, by_runtime in speeds.items():
            match = re.fullmatch(r"(pp|tg)(\d+)(?: x(\d+))?(?: @ d(\d+))?", test)
            assert match
            prompt = int(match[2]) if match[1] == "pp" else 0
            workload = Workload(prompt, int(match[2]) - prompt, int(match[4] or 0), int(match[3] or 1))
            work = work_of(workload, plan, file.tensors, args.batch, args.cache_type)
            least, limit = max((work.nbytes / bandwidth, "bandwidth"), (work.int8_ops / peak, "int8 peak"))
            percents = {name: round(100 * least * x["median"] / workload.tokens, 1) for name, x in by_runtime.items()}
            found[test] = percents | {"of": limit}
    return found


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
