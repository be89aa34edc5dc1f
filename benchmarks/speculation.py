"""Answers with and without guesses, in turns: tokens a second, how many steps, how many guesses were right.

    python benchmarks/speculation.py model.gguf --rounds 5 --json OUT.json
    python benchmarks/speculation.py llama-3.2-1b.gguf --replay OUT.json --rounds 5 --json REPLAYED.json

The first line lets a chat model do what guesses help with (edit, rewrite, extract, JSON) and what they do not (free
text), and records prompts and answers. The second replays them on a model of another shape, whose weights may be
random: a logit processor makes it write what was recorded. Both answers of a pair must be equal.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamaq import LLM, SamplingParams
from llamaq.serving.request import ASKER
from llamaq.structure import json_schema
from report import machine, print_table

_ASKERS = count()

CODE = """def mean(values):
    total = 0
    for value in values:
        total += value
    return total / len(values)


def variance(values):
    centre = mean(values)
    total = 0
    for value in values:
        total += (value - centre) ** 2
    return total / len(values)


def table(rows):
    for name, values in rows:
        print(name, mean(values), variance(values))
"""

LETTER = """The harbour of Lindau was quiet on the morning of 3 March. Captain Anna Weiss had counted the boats \
twice: fourteen ferries, six fishing boats and the old steamer Hohentwiel, which was built in 1913. Repairs on the \
steamer cost 48,000 euros and were paid for by the town of Bregenz. The mayor, Peter Huber, asked for a report by \
Friday."""

PERSON = {
    "type": "object",
    "properties": {name: {"type": "string", "maxLength": 40} for name in ("captain", "mayor", "steamer", "town")},
    "required": ["captain", "mayor", "steamer", "town"],
}

TASKS = {
    "edit": f"Rename the function mean to average in this code. Answer with the whole code only.\n\n{CODE}",
    "rewrite": f"Repeat this text and correct mistakes where there are any.\n\n{LETTER}",
    "extract": f"Which sentences of this text have a number in them? Quote them word for word.\n\n{LETTER}",
    "json": f"Say in JSON who and what this text is about.\n\n{LETTER}",
    "story": "Tell a story about a lighthouse and a lost dog.",
    "essay": "Why do leaves change their colour in autumn? Explain it to a curious adult.",
    "advice": "How should somebody begin who wants to learn to play the piano at forty?",
}


@dataclass(frozen=True)
class Task:
    """What is asked, and how; ``answer`` are tokens that must come, where they are known."""

    name: str
    prompt: list[int]
    structure: bool = False
    answer: tuple[int, ...] = ()


class Forcing:
    """A logit processor that goes on with a recorded answer."""

    def __init__(self, prompt: int, answer: tuple[int, ...]) -> None:
        self._prompt, self._answer = prompt, answer

    def __call__(self, ids: NDArray[np.int32], logits: NDArray[np.float32]) -> None:
        logits[self._answer[len(ids) - self._prompt]] = 1e9


def sampling(task: Task, temperature: float) -> SamplingParams:
    """Of a task: what was recorded comes, or what the model draws."""
    if task.answer:
        return SamplingParams(temperature=0, logit_processors=[Forcing(len(task.prompt), task.answer)])
    structure = json_schema(PERSON) if task.structure else None
    return SamplingParams(temperature=temperature, seed=1, structure=structure)


def one(llm: LLM, task: Task, how: argparse.Namespace, guesses: bool) -> dict[str, Any]:
    """An answer's tokens, and what it took; its prompt has been read."""
    clock = time.process_time if how.cpu_time else time.perf_counter
    llm.model.speculation = guesses
    ASKER.set(f"{next(_ASKERS)}")  # nobody's earlier answer, that of the last round least of all, gives guesses
    began = clock()
    done = llm.generate(task.prompt, max_tokens=len(task.answer) or how.new, sampling=sampling(task, how.temperature))
    seconds = clock() - began
    usage = done.usage
    return {
        "tokens": list(done.tokens), "speed": len(done.tokens) / seconds, "drafted": usage.drafted_tokens,
        "accepted": usage.accepted_tokens,
    }  # fmt: skip


def compare(llm: LLM, task: Task, how: argparse.Namespace) -> dict[str, Any]:
    """Medians of rounds, each with and without guesses, the first of them in turns."""
    llm.generate(task.prompt, max_tokens=1, sampling=sampling(task, 0.0))  # the prompt is read, the schema compiled
    without: list[dict[str, Any]] = []
    with_: list[dict[str, Any]] = []
    for i in range(how.rounds):
        for guesses in (False, True) if i % 2 else (True, False):
            (with_ if guesses else without).append(one(llm, task, how, guesses))
    if any(each["tokens"] != without[0]["tokens"] for each in [*without, *with_]):
        raise SystemExit(f"{task.name}: the answers differ: that is a bug")
    ratios = sorted(a["speed"] / b["speed"] for a, b in zip(with_, without, strict=True))
    return {
        "task": task.name, "temperature": how.temperature, "prompt": task.prompt, "answer": without[0]["tokens"],
        "without": statistics.median(each["speed"] for each in without),
        "with": statistics.median(each["speed"] for each in with_),
        "ratio": statistics.median(ratios), "ratio_least": ratios[0], "ratio_most": ratios[-1],
        "drafted": statistics.median(each["drafted"] for each in with_),
        "accepted": statistics.median(each["accepted"] for each in with_),
    }  # fmt: skip


def asked(llm: LLM) -> Iterator[Task]:
    for name, text in TASKS.items():
        ids = llm.render_chat([{"role": "user", "content": text}]).ids
        yield Task(name, list(ids), structure=name == "json")


def recorded(path: Path, vocabulary: int) -> Iterator[Task]:
    """The answers of another run; ids must be known to the model."""
    for task in json.loads(path.read_text())["tasks"]:
        if max([*task["prompt"], *task["answer"]]) >= vocabulary:
            raise SystemExit("the recording's vocabulary is larger than the model's")
        yield Task(task["task"], task["prompt"], answer=tuple(task["answer"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--replay", metavar="JSON", type=Path, help="write what another run recorded")
    parser.add_argument("--draft", metavar="MODEL", help="a smaller model with the same tokens guesses, too")
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--new", type=int, default=256, help="most tokens of an answer (default 256)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", nargs="+", metavar="NAME", choices=TASKS, help="these alone")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--cpu-time", action="store_true", help="by the CPU's time, for a machine that others use")
    parser.add_argument("--json", metavar="OUT", type=Path)
    args = parser.parse_args()
    with LLM.load(args.model, n_ctx=2048, threads=args.threads, draft=args.draft) as llm:
        tasks = recorded(args.replay, llm.hparams.vocab_size) if args.replay else asked(llm)
        found = [compare(llm, task, args) for task in tasks if not args.tasks or task.name in args.tasks]
        if args.json:
            told = {"machine": machine(), "isa": llm.engine.isa, "draft": args.draft and Path(args.draft).name}
            args.json.write_text(json.dumps({**told, "tasks": found}, indent=1))
    print_table(
        [
            ["task", "tokens", "without", "with", "ratio", "least", "most", "guessed", "right"],
            *([t["task"], str(len(t["answer"])), *(f"{t[k]:.1f}" for k in ("without", "with")),
             *(f"{t[k]:.2f}" for k in ("ratio", "ratio_least", "ratio_most")), f"{t['drafted']:.0f}",
             f"{t['accepted']:.0f}"]
            for t in found),
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()
