"""Kernels of two builds of llamaq on this machine, in turns A B A B: which became slower or faster?

    python benchmarks/compare_kernels.py BASE NEW --rounds 5

BASE and NEW are folders with the package ``llamaq``, its extension built. Reports changes of more than 10 %; it is a
report and never fails, because a busy machine changes more than that.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
WORTH_TELLING = 0.10


def timed(folder: Path) -> dict[str, float] | None:
    """Seconds by case of one build; None where it has no kernels to time by themselves."""
    env = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, HERE / "kernel_cases.py"], env=env, capture_output=True, text=True)
    if done.returncode:
        print(f"{folder}: {done.stderr.strip().splitlines()[-1]}")
        return None
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare the kernels of two builds.")
    parser.add_argument("base", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--rounds", type=int, default=5, help="turns of both (default 5)")
    args = parser.parse_args()
    best: dict[Path, dict[str, float]] = {args.base: {}, args.new: {}}
    for _ in range(args.rounds):
        for folder, least in best.items():
            found = timed(folder)
            if found is None:
                print("kernels: the two builds cannot be compared")
                return
            least.update({name: min(seconds, least.get(name, seconds)) for name, seconds in found.items()})
    changed = 0
    for name in best[args.base].keys() & best[args.new].keys():
        base, new = best[args.base][name], best[args.new][name]
        if abs(new / base - 1) > WORTH_TELLING:
            changed += 1
            print(f"kernels: {name:24s} {1e3 * base:8.3f} ms -> {1e3 * new:8.3f} ms  {100 * (new / base - 1):+.0f} %")
    print(f"kernels: {changed} of {len(best[args.base])} cases changed by more than {100 * WORTH_TELLING:.0f} %")


if __name__ == "__main__":
    main()
