"""Requests one after the other and all at once, through ``LLM``: tokens a second, sampling included; and how soon a
cancelled one ends.

    python benchmarks/at_once.py model.gguf --requests 8 --prompt 32 --new 32 --rounds 3 --json OUT.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from llamaq import LLM, SamplingParams
from report import machine, print_table

SAMPLING = SamplingParams(seed=1, ignore_eos=True)


def speeds(llm: LLM, requests: int, prompt: int, new: int, rounds: int) -> dict[str, Any]:
    """Medians over rounds, each with prompts of its own that are read beforehand; the answers must be the same."""
    rng = np.random.default_rng(0)
    alone, together = [], []
    for _ in range(rounds):
        prompts = rng.integers(3, llm.hparams.vocab_size, (requests, prompt)).tolist()
        llm.batch(prompts, max_tokens=0)
        began = time.perf_counter()
        one = [llm.generate(ids, max_tokens=new, sampling=SAMPLING).tokens for ids in prompts]
        between = time.perf_counter()
        all_ = [done.tokens for done in llm.batch(prompts, max_tokens=new, sampling=SAMPLING)]
        together.append(time.perf_counter() - between)
        alone.append(between - began)
        if one != all_:
            raise SystemExit("the answers differ: that is a bug")
    tokens = requests * new
    return {
        "alone": tokens / statistics.median(alone),
        "at once": tokens / statistics.median(together),
        "ratios": [a / b for a, b in zip(alone, together, strict=True)],
    }


def cancelling(llm: LLM, rounds: int) -> dict[str, float]:
    """Milliseconds from ``cancel`` in the middle of a long prompt to the last event and to an idle engine, at worst."""
    rng = np.random.default_rng(1)
    event, idle = [], []
    for i in range(rounds):
        ids = rng.integers(3, llm.hparams.vocab_size, llm.n_ctx - 1).tolist()
        stream = llm.stream(ids)
        time.sleep(0.2 + 0.37 * i)
        began = time.perf_counter()
        stream.cancel()
        list(stream)
        event.append(time.perf_counter() - began)
        while not llm.model.scheduler.idle:
            time.sleep(0.0005)
        idle.append(time.perf_counter() - began)
    return {"event_ms": 1e3 * max(event), "idle_ms": 1e3 * max(idle)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--requests", type=int, default=8)
    parser.add_argument("--prompt", type=int, default=32)
    parser.add_argument("--new", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    room = args.requests * (args.prompt + args.new + 64)
    with LLM.load(args.model, n_ctx=2048, n_cache=max(2048, room), threads=args.threads) as llm:
        llm.generate([1, 5, 7], max_tokens=2)
        found = speeds(llm, args.requests, args.prompt, args.new, args.rounds) | cancelling(llm, args.rounds)
        threads = llm.engine.threads
    ratios = " ".join(f"{ratio:.2f}" for ratio in found["ratios"])
    cells = [f"{found['alone']:.1f} t/s", f"{found['at once']:.1f} t/s", ratios]
    cells += [f"{found['event_ms']:.0f} ms", f"{found['idle_ms']:.0f} ms"]
    print_table([["one after the other", "at once", "ratios", "cancelled after", "idle after"], cells])
    if args.json:
        settings = {"model": Path(args.model).name, "threads": threads, "requests": args.requests}
        settings |= {"prompt": args.prompt, "new": args.new}
        args.json.write_text(json.dumps({"machine": machine(), **settings, **found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
