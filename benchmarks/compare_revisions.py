"""Speed of two source trees in turns, A B A B, with one model: what a change of the code cost or gained.

    python benchmarks/compare_revisions.py OLD NEW model.gguf --json OUT.json

A tree is a checkout with its compiled module in ``src/llamaq``. Nothing else may run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from report import Result, machine, print_table, spread

__all__ = ["compare"]

_OVERHEAD = """
import sys, time
from llamaq import LLM, SamplingParams
with LLM.load(sys.argv[1], n_ctx=512, threads=int(sys.argv[2])) as llm:
    inside, forward = [], llm.engine.forward
    def timed(*args, **how):
        began = time.perf_counter()
        try:
            return forward(*args, **how)
        finally:
            inside.append(time.perf_counter() - began)
    llm.engine.forward = timed
    greedy = SamplingParams(temperature=0)
    llm.generate([5, 6, 7], max_tokens=16, sampling=greedy)
    inside.clear()
    began = time.perf_counter()
    tokens = llm.generate([5, 6, 8], max_tokens=200, sampling=greedy).tokens  # a step with guesses gives several
    print((time.perf_counter() - began - sum(inside)) / len(tokens) * 1e6)
"""
"""Prints the microseconds of a token outside the forward pass."""


def compare(trees: list[Path], model: Path, rounds: int, threads: int) -> Result:
    """By test, each tree's figures and the second's over the first's."""
    figures: dict[str, list[list[float]]] = {}
    for number in range(rounds):
        for i, tree in enumerate(trees):
            print(f"round {number + 1} of {rounds}, {tree}", file=sys.stderr)
            for test, value in measured(tree, model, threads).items():
                figures.setdefault(test, [[], []])[i].append(value)
    return {
        test: {
            "old": spread(old),
            "new": spread(new),
            "ratio": spread(b / a for a, b in zip(old, new, strict=True)),
        }
        for test, (old, new) in figures.items()
    }


def measured(tree: Path, model: Path, threads: int) -> dict[str, float]:
    """Tokens per second of prompts and of writing, and microseconds of a token outside the forward pass."""
    env = {**os.environ, "PYTHONPATH": str(tree / "src")}
    tests = ["-p", "512", "-n", "64", "-r", "1", "-t", str(threads), "-o", "json"]
    found = json.loads(run([sys.executable, "-m", "llamaq", "bench", str(model), *tests], env))
    speeds = {f"pp{t['n_prompt']}" if t["n_prompt"] else f"tg{t['n_gen']}": t["avg_ts"] for t in found}
    outside = float(run([sys.executable, "-c", _OVERHEAD, str(model), str(threads)], env))
    return {**speeds, "outside the forward pass, us": outside}


def run(command: list[str], env: dict[str, str]) -> str:
    return subprocess.run(command, env=env, stdout=subprocess.PIPE, check=True, text=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of two source trees in turns.")
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", "-t", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    tests = compare([args.old, args.new], args.model, args.rounds, args.threads)
    rows = [["test", "old", "new", "ratio", "ratio min-max"]]
    for test, figures in tests.items():
        ratio = figures["ratio"]
        rows.append([test, *(f"{figures[name]['median']:.1f}" for name in ("old", "new")), f"{ratio['median']:.3f}",
                     f"{ratio['min']:.3f}-{ratio['max']:.3f}"])  # fmt: skip
    print_table(rows)
    if args.json:
        result = {"machine": machine(), "model": args.model.name, "threads": args.threads, "tests": tests}
        args.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
