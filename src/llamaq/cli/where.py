"""``llamaq where``: the files of a model."""

from __future__ import annotations

import argparse

from llamaq.cli.command import Command
from llamaq.cli.model_names import located
from llamaq.cli.options import MODEL, Parser
from llamaq.cli.output import write

__all__ = ["COMMAND"]


def _add_options(parser: Parser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL)


def where(args: argparse.Namespace) -> int:
    """Runs the command."""
    for path in located(args.model, args).paths:
        write(f"{path}\n".encode("utf-8", "surrogateescape"))
    return 0


COMMAND = Command(
    help="tell the files of a model",
    usage="MODEL",
    about="Prints the paths of the files that MODEL names, a line for each part.",
    add_options=_add_options,
    run=where,
)
