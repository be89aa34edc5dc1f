"""``llamaq list``: the models that are on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llamaq.cli.command import Command
from llamaq.cli.options import Parser
from llamaq.cli.output import harmless, size, write

if TYPE_CHECKING:
    from llamaq.hub.summary import Summary

__all__ = ["COMMAND"]

_ABOUT = """\
Lists the models that are found on this machine, by the names that every command takes for MODEL: those of llamaq's
folder (LLAMAQ_MODELS), of Ollama, LM Studio, the cache of the Hugging Face hub, llama.cpp's, and of installed Python
packages (docs/models-by-name.md); and the bundled one, demo. Only headers are read."""
_NO_OTHER = "llamaq: there is no other model here yet; llamaq pull hf:user/repo:Q4_K_M fetches one"
_SHOWN = 60  # characters of a reason


def _add_options(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="print all that is known as JSON")


def list_models(args: argparse.Namespace) -> int:
    """Runs the command."""
    from llamaq.hub import models
    from llamaq.hub.bundled import Bundled
    from llamaq.hub.summary import summary

    found = [summary(model) for model in models()]
    if args.json:
        write(json.dumps([_as_json(each) for each in found], indent=2) + "\n")
    elif found:  # a build may be without the bundled one
        write(_table(found))
    if not args.json and all(model.found.source == Bundled.title for model in found):
        print(_NO_OTHER, file=sys.stderr)
    return 0


def _as_json(model: Summary) -> dict[str, Any]:
    return {
        "name": model.found.name,
        "source": model.found.source,
        "files": [str(path) for path in model.found.paths],
        "bytes": model.nbytes,
        "format": model.format or None,
        "architecture": model.architecture or None,
        "family": model.family or None,
        "runs": not model.problem,
        "problem": model.problem or None,
    }


def _table(found: Sequence[Summary]) -> str:
    rows = [("NAME", "SIZE", "FORMAT", "FAMILY", "SOURCE", "RUNS")]
    for each in found:
        problem = " ".join(each.problem.split())
        runs = f"no: {problem[:_SHOWN]}{'...' if len(problem) > _SHOWN else ''}" if problem else "yes"
        rows.append((each.found.name, size(each.nbytes), each.format, each.family, each.found.source, runs))
    cleaned = [[harmless(cell).replace("\n", " ") for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cleaned) for i in range(len(rows[0]))]
    aligned = "<><<<<"
    lines = ("  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, aligned, widths, strict=True))
             for row in cleaned)  # fmt: skip
    return "".join(f"{line.rstrip()}\n" for line in lines)


COMMAND = Command(
    help="list the models on this machine",
    usage="[options]",
    about=_ABOUT,
    add_options=_add_options,
    run=list_models,
)
