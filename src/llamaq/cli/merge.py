"""``llamaq merge``: a model of several files in one again."""

from __future__ import annotations

import argparse
from pathlib import Path

from llamaq.cli.command import Command
from llamaq.cli.model_names import located
from llamaq.cli.options import Parser
from llamaq.cli.output import size, write
from llamaq.cli.progress import Bar

__all__ = ["COMMAND"]


def _add_options(parser: Parser) -> None:
    parser.add_argument("source", metavar="PART.gguf", help="any part; the others lie beside it")
    parser.add_argument("target", metavar="OUT.gguf", help="the file to write")


def merge(args: argparse.Namespace) -> int:
    """Runs the command."""
    from llamaq.gguf.split import merge_gguf

    source = located(args.source, args)
    with Bar("merging", "B", binary=True) as progress:
        merge_gguf(source, args.target, progress=progress)
    write(f"{args.target}: {size(Path(args.target).stat().st_size)}\n")
    return 0


COMMAND = Command(
    help="write a split model as one file",
    usage="PART.gguf OUT.gguf",
    about="Writes the parts of a split GGUF model as one file. The parts stay.",
    add_options=_add_options,
    run=merge,
)
