"""Answers of the demo model to wishes and questions of held-out documents: ``python -m demo_model.answers FILE -n 50``.

The prompts are the first questions of the held-out dialogues in the order of their numbers, the seeds their places:
nothing is chosen. ``--markdown`` prints what docs/demo-model.md holds.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

from llamaq import LLM, SamplingParams

from .chat import BEGIN, END
from .corpus import document

QUESTION = re.compile(re.escape(f"{BEGIN}user\n") + "(.*?)" + re.escape(END), re.DOTALL)


def prompts() -> Iterator[str]:
    """First questions of held-out dialogues."""
    for number in count():
        found = QUESTION.search(document(number, held_out=True).text)
        if found:
            yield found[1]


def main() -> None:
    parser = argparse.ArgumentParser(prog="demo_model.answers", description="Lets the demo model answer.")
    parser.add_argument("model", type=Path)
    parser.add_argument("-n", type=int, default=10, help="how many (default 10)")
    parser.add_argument("--temp", type=float, default=SamplingParams().temperature)
    parser.add_argument("--markdown", action="store_true")
    args = parser.parse_args()
    with LLM.load(args.model) as llm:
        for seed, prompt in enumerate(islice(prompts(), args.n), 1):
            sampling = SamplingParams(temperature=args.temp, seed=seed)
            answer = llm.chat([{"role": "user", "content": prompt}], sampling=sampling)
            if args.markdown:
                quoted = "\n".join(f"> {line}".rstrip() for line in answer.text.splitlines())
                print(f"**{prompt}**\n\n{quoted}\n")
            else:
                made = answer.usage.completion_tokens
                print(f"--- {seed} ({answer.finish_reason}, {made} tokens): {prompt}\n{answer.text}\n")


if __name__ == "__main__":
    main()
