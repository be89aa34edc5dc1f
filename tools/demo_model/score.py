"""How often the demo model does what it was asked: ``python -m demo_model.score FILE -n 300 --json OUT.json``.

Prompts and seeds are those of answers.py. An answer ends by itself or is cut off; a story holds the word that was
wished for or does not; a sum is right or wrong.
"""

from __future__ import annotations

import argparse
import json
import operator
import re
from itertools import islice
from pathlib import Path

from llamaq import LLM, SamplingParams

from .answers import prompts

WISH = re.compile(r"story (?:about|with) (?:an?|the) (?:\w+ )??(\w+)(?: in it)?[.?!]?$")
SUM = re.compile(r"(\d+) (plus|\+|minus|-|times|\*|x) (\d+)")
OPERATORS = {"plus": "+", "minus": "-", "times": "*", "x": "*"}
COMPUTED = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def judged(prompt: str, answer: str) -> tuple[str, bool] | None:
    """What kind of question it was, and whether the answer fits; None where no rule tells."""
    if wish := WISH.search(prompt):
        return "stories that hold the word wished for", wish[1] in answer
    if asked := SUM.search(prompt):
        result = COMPUTED[OPERATORS.get(asked[2], asked[2])](int(asked[1]), int(asked[3]))
        return "right sums", answer.endswith(f" {result}.")
    return None


def score(model: Path, count: int) -> dict[str, tuple[int, int]]:
    """For each kind, how many answers fit, and of how many."""
    found: dict[str, tuple[int, int]] = {}
    with LLM.load(model) as llm:
        for seed, prompt in enumerate(islice(prompts(), count), 1):
            answer = llm.chat([{"role": "user", "content": prompt}], sampling=SamplingParams(seed=seed))
            fits = [("answers that end by themselves", answer.finish_reason == "stop"), judged(prompt, answer.text)]
            for kind, good in filter(None, fits):
                right, all_ = found.get(kind, (0, 0))
                found[kind] = right + good, all_ + 1
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="demo_model.score", description="Counts what the demo model gets right.")
    parser.add_argument("model", type=Path)
    parser.add_argument("-n", type=int, default=300, help="how many prompts (default 300)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts")
    args = parser.parse_args()
    found = score(args.model, args.n)
    for kind, (right, of) in found.items():
        print(f"{kind}: {right} of {of}")
    if args.json:
        args.json.write_text(json.dumps({"prompts": args.n, "counts": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
