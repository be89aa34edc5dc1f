"""Where the time of writing tokens goes, by Linux's perf: matmuls, attention, the other kernels, the rest.

    python benchmarks/profile_decode.py model.gguf --seconds 10 --threads 2 --json OUT.json

perf samples this process while it writes with the default sampling; symbols of the compiled part are put into groups.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import llamaq
from report import machine, print_table

GROUPS = (
    ("matmul", r"direct_|panel|group|matmul|project|pack_blocks"),
    ("attention", r"attention|merge_spans|scores_of|cache_"),
    ("waiting for threads", r"Worker::|sync|ThreadTeam|next_chunk"),
    ("norms, RoPE, activations, quantizing rows", r"::(scalar|avx2|avxvnni|avx512|amx|neon\w*)::|rope|Executor::"),
    ("sampling", r"greatest|candidates|top_k|sampl|softmax|repeats"),
)
"""The first whose pattern is in the name of a symbol of llamaq's compiled part."""


def group_of(library: str, symbol: str) -> str:
    if "_core" not in library:
        return "Python, NumPy, system"
    return next((name for name, pattern in GROUPS if re.search(pattern, symbol)), "other parts of the engine")


def shares(data: Path) -> dict[str, float]:
    """Share of the samples by group; clearing pages of memory that is new is not counted."""
    command = [
        "perf",
        "report",
        "-i",
        str(data),
        "--stdio",
        "--no-children",
        "--sort",
        "dso,symbol",
        "-F",
        "overhead,dso,sym",
    ]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: dict[str, float] = defaultdict(float)
    for line in text.splitlines():
        cells = re.match(r"\s+([\d.]+)%\s+(\S+)\s+\[.\]\s+(.*)", line)
        if cells:
            found[group_of(cells[2], cells[3])] += float(cells[1])
    total = sum(found.values())
    return {name: value / total for name, value in sorted(found.items(), key=lambda item: -item[1])}


def write_for(llm: llamaq.LLM, seconds: float) -> int:
    """Tokens written in that time."""
    sampling = llamaq.SamplingParams(seed=1, ignore_eos=True)
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for _ in llm.stream("Once upon a time", sampling=sampling, max_tokens=128):
            count += 1
            if time.monotonic() > end:
                break
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description="Where the time of writing tokens goes.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with llamaq.LLM.load(args.model, n_ctx=512, threads=args.threads) as llm, tempfile.TemporaryDirectory() as folder:
        write_for(llm, 2)  # then everything is in memory
        data = Path(folder) / "perf.data"
        perf = subprocess.Popen(
            ["perf", "record", "-q", "-o", str(data), "-p", str(os.getpid())], stderr=subprocess.DEVNULL
        )
        time.sleep(0.5)
        count = write_for(llm, args.seconds)
        perf.send_signal(2)
        perf.wait()
        found = shares(data)
        about = {"isa": llm.engine.isa, "threads": llm.engine.threads}
    print_table([["part", "share"], *([name, f"{value:.1%}"] for name, value in found.items())])
    if args.json:
        result = {"machine": machine(), "model": args.model.name, **about, "tokens": count, "shares": found}
        args.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
