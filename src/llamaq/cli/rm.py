"""``llamaq rm``: removes a model of llamaq's folder or of the hub's cache."""

from __future__ import annotations

import argparse
import sys

from llamaq.cli.command import Command
from llamaq.cli.model_names import located
from llamaq.cli.options import Parser
from llamaq.cli.output import harmless, size, write
from llamaq.cli.prompt import is_terminal

__all__ = ["COMMAND"]

_ABOUT = """\
Removes a model's files from llamaq's folder or from the cache of the Hugging Face hub, after a question. Models of
other programs are theirs to remove: the error says how."""


def _add_options(parser: Parser) -> None:
    parser.add_argument("model", metavar="NAME", help="a name that llamaq list shows")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")


def rm(args: argparse.Namespace) -> int:
    """Runs the command; 1 where the answer is no."""
    from llamaq.hub.removal import check_removal, remove

    found = located(args.model, args)
    if found.aliases and args.model.casefold() not in map(str.casefold, (found.name, *found.aliases)):
        args.parser.error(f"a word of a name is not enough here: llamaq rm {harmless(found.name)}")
    check_removal(found)
    nbytes = sum(path.stat().st_size for path in found.paths)
    files = "".join(f"  {harmless(str(path))}\n" for path in found.paths)
    what = f"{harmless(found.name)} ({found.source}, {size(nbytes)})"
    if not args.yes:
        if not is_terminal(sys.stdin):
            args.parser.error(f"nobody is there to ask: -y removes {what}")
        print(f"{what}:\n{files}Remove it? [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            return 1
    remove(found)
    write(f"removed {what}\n")
    return 0


COMMAND = Command(
    help="remove a model that llamaq or the hub's cache has",
    usage="NAME [-y]",
    about=_ABOUT,
    add_options=_add_options,
    run=rm,
)
