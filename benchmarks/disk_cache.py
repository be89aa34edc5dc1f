"""What the cache on disk saves: seconds to the first token of a long prompt in new processes, without it, with an empty
one and with one that has the prompt.

    python benchmarks/disk_cache.py model.gguf --prompt 4000 --rounds 3 --json OUT.json
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from llamaq import LLM, SamplingParams
from report import machine, print_table

KINDS = ("without", "empty", "filled")


def first_token(model: str, prompt: int, folder: str | None, threads: int | None) -> dict[str, Any]:
    """In this process: seconds to load, seconds to the first token, tokens from the cache, and what was answered."""
    began = time.perf_counter()
    with LLM.load(model, n_ctx=prompt + 16, threads=threads, cache_dir=folder) as llm:
        ids = np.random.default_rng(0).integers(3, llm.hparams.vocab_size, prompt).tolist()
        loaded = time.perf_counter()
        stream = llm.stream(ids, max_tokens=8, sampling=SamplingParams(temperature=0, ignore_eos=True))
        tokens = [next(stream).token]
        first = time.perf_counter()
        tokens += [event.token for event in stream if event.token is not None]
        return {
            "load": loaded - began, "first": first - loaded, "cached": stream.usage.cached_tokens, "tokens": tokens,
        }  # fmt: skip


def in_new_process(args: argparse.Namespace, folder: str | None) -> dict[str, Any]:
    command = [sys.executable, __file__, args.model, "--prompt", str(args.prompt), "--once", folder or "-"]
    if args.threads:
        command += ["--threads", str(args.threads)]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """All rounds; the answers must be the same."""
    runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for _ in range(args.rounds):
        folder = tempfile.mkdtemp()
        try:
            for kind in KINDS:
                runs[kind].append(in_new_process(args, None if kind == "without" else folder))
            size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        finally:
            shutil.rmtree(folder)
    answers = {tuple(run["tokens"]) for kind in KINDS for run in runs[kind]}
    if len(answers) != 1:
        raise SystemExit("the answers differ: that is a bug")
    seconds = {kind: {key: [run[key] for run in runs[kind]] for key in ("load", "first", "cached")} for kind in KINDS}
    return {"prompt": args.prompt, "bytes": size, **seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--prompt", type=int, default=4000, help="tokens")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--once", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.once:
        print(json.dumps(first_token(args.model, args.prompt, None if args.once == "-" else args.once, args.threads)))
        return
    found = compare(args)
    rows = [
        [
            kind,
            *(f"{statistics.median(found[kind][key]):.2f}" for key in ("load", "first")),
            str(found[kind]["cached"][-1]),
        ]
        for kind in KINDS
    ]
    print_table([["cache", "load s", "first token s", "tokens from it"], *rows])
    if args.json:
        told = {"machine": machine(), "model": Path(args.model).name, **found}
        args.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
