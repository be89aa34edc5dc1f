"""What llama.cpp's own guesses bring, for the tasks that speculation.py recorded: llama-server with and without them.

    python benchmarks/speculation_peer.py model.gguf --recorded OUT.json --guesses ngram-simple --threads 2 \\
        --python "env PYTHONPATH=DIR python" --json PEER.json

Two servers of the package xllamacpp (serve_xllamacpp.py) stand side by side and are asked in turns, greedily.
llama.cpp's bits change with the rows of a step, so their answers may differ; ``alike`` counts the tokens before that.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import statistics
from pathlib import Path
from typing import Any

from report import machine, print_table
from serve_process import Server, free_port, serving


def one(server: Server, prompt: list[int], new: int) -> dict[str, Any]:
    body = {"prompt": prompt, "n_predict": new, "temperature": 0, "cache_prompt": True, "return_tokens": True}
    status, raw = server.ask("POST", "/completion", body)
    if status != 200:
        raise SystemExit(f"llama-server answered {status}: {raw[:300]!r}")
    done = json.loads(raw)
    timings = done["timings"]
    return {
        "tokens": done["tokens"], "speed": timings["predicted_per_second"],
        "drafted": timings.get("draft_n", 0), "accepted": timings.get("draft_n_accepted", 0),
    }  # fmt: skip


def compare(servers: dict[str, Server], task: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """Medians of rounds, each without and with guesses; the prompt has been read before."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in servers}
    for server in servers.values():
        one(server, task["prompt"], 1)
    for i in range(args.rounds):
        for name in sorted(servers, reverse=i % 2 == 1):
            runs[name].append(one(servers[name], task["prompt"], args.new))
    ratios = sorted(a["speed"] / b["speed"] for a, b in zip(runs["with"], runs["without"], strict=True))
    pairs = zip(runs["with"][0]["tokens"], runs["without"][0]["tokens"], strict=False)
    alike = [a == b for a, b in pairs]
    return {
        "task": task["task"], "answer": len(runs["without"][0]["tokens"]),
        "alike": alike.index(False) if False in alike else len(alike),
        **{name: statistics.median(each["speed"] for each in runs[name]) for name in runs},
        "ratio": statistics.median(ratios), "ratio_least": ratios[0], "ratio_most": ratios[-1],
        **{key: statistics.median(each[key] for each in runs["with"]) for key in ("drafted", "accepted")},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--recorded", metavar="JSON", type=Path, required=True, help="what speculation.py wrote")
    parser.add_argument("--guesses", default="ngram-simple", help="ngram-simple, ngram-map-k, draft-simple, …")
    parser.add_argument("--draft", metavar="MODEL")
    parser.add_argument("--new", type=int, default=256, help="most tokens of an answer (default 256)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--python", default="python", help="the command of a Python that has xllamacpp")
    parser.add_argument("--json", metavar="OUT", type=Path)
    args = parser.parse_args()
    script = str(Path(__file__).with_name("serve_xllamacpp.py"))
    command = [*shlex.split(args.python), script, args.model, "--threads", str(args.threads), "--parallel", "1"]
    guessing = ["--guesses", args.guesses, *(["--draft", args.draft] if args.draft else [])]
    with contextlib.ExitStack() as stack:
        servers = {}
        for name, more in (("without", []), ("with", guessing)):
            port = free_port()
            full = [*command, "--ctx", "2048", "--port", str(port), *more]
            servers[name] = stack.enter_context(serving(full, port))
        recorded = json.loads(args.recorded.read_text())["tasks"]
        found = [compare(servers, task, args) for task in recorded if task["task"] != "json"]  # it had a schema
    if args.json:
        settings = {"guesses": args.guesses, "draft": args.draft and Path(args.draft).name, "threads": args.threads}
        args.json.write_text(json.dumps({"machine": machine(), "settings": settings, "tasks": found}, indent=1))
    keys = ("without", "with", "ratio", "ratio_least", "ratio_most")
    counts = ("answer", "alike", "drafted", "accepted")
    print_table(
        [
            ["task", "without", "with", "ratio", "least", "most", "tokens", "alike", "guessed", "right"],
            *([t["task"], *(f"{t[k]:.2f}" for k in keys), *(f"{t[k]:.0f}" for k in counts)] for t in found),
        ],
    )


if __name__ == "__main__":
    main()
