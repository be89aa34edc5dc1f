"""llamaq beside llama.cpp (llama-cpp-python, the extra "peers"): the same files, tokens and threads.

    python benchmarks/compare_llama_cpp.py speed FILE... --json OUT.json --picture OUT.svg
    python benchmarks/compare_llama_cpp.py logits FOLDER --text FILE --exact --json OUT.json
    python benchmarks/compare_llama_cpp.py perplexity FILE... --text FILE --batch 512 --json OUT.json

See README.md beside this file for what the results mean.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from compare_logits import run_logits
from compare_perplexity import run_perplexity
from compare_speed import run_speed
from measure import add_options

MODES = {"logits": run_logits, "perplexity": run_perplexity, "speed": run_speed}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="llamaq beside llama.cpp.")
    modes = parser.add_subparsers(dest="mode", required=True)
    speed = modes.add_parser("speed", help="tokens per second, in turns")
    speed.add_argument("files", type=Path, nargs="+")
    speed.add_argument("--rounds", type=int, default=5, help="turns of both (default 5)")
    speed.add_argument("--peer", default=sys.executable, help="a Python that has llama-cpp-python (default: this one)")
    speed.add_argument("--picture", type=Path, help="write an SVG there")
    logits = modes.add_parser("logits", help="the same text through both, logits compared")
    logits.add_argument("folder", type=Path)
    logits.add_argument("--text", type=Path, required=True)
    logits.add_argument("--tokens", type=int, default=256)
    logits.add_argument("--exact", action="store_true", help="also compare both with F32 weights and activations")
    perplexity = modes.add_parser("perplexity", help="the same text through both, perplexities compared")
    perplexity.add_argument("files", type=Path, nargs="+")
    perplexity.add_argument("--text", type=Path, required=True)
    perplexity.add_argument("--chunks", type=int, help="of --batch tokens each (default: the whole text)")
    for mode in (speed, logits, perplexity):
        add_options(mode)
        mode.add_argument("--json", type=Path, help="write the result there too")
    return parser


def main() -> None:
    args = make_parser().parse_args()
    result = {"mode": args.mode} | MODES[args.mode](args)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
