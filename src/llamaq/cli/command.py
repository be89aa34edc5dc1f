"""What a command of the command line is, and which there are."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module

from llamaq.cli.options import Parser

__all__ = ["OTHER_WORDS", "WORDS", "Command", "commands", "spelt_out"]

_NAMES = (
    "run", "serve", "batch", "list", "pull", "rm", "where", "cache", "ps", "info", "tokenize", "bench",
    "perplexity", "compare", "imatrix", "verify", "quantize", "convert", "split", "merge", "doctor", "completion",
)  # fmt: skip
"""The files of this folder that have a ``COMMAND``, in the order of ``llamaq --help``."""

OTHER_WORDS = {
    "chat": ["run", "-cnv"], "show": ["info"], "ls": ["list"], "help": ["--help"], "version": ["--version"],
}  # fmt: skip
"""What people say in the place of a command, and what it is called here."""
WORDS = "'llamaq chat' is 'run -cnv', 'show' is 'info', 'ls' is 'list', 'help COMMAND' is 'COMMAND --help'."


@dataclass(frozen=True)
class Command:
    """A command of the command line.

    ``help`` is its line in ``llamaq --help``. ``usage`` is what follows ``llamaq NAME``, a line for each form.
    ``about`` is shown as it is; a function is called when somebody asks for the help. ``run`` gets the parsed options,
    with ``args.parser.error`` for what is wrong with them, and returns the exit code.
    """

    help: str
    usage: str
    about: str | Callable[[], str]
    add_options: Callable[[Parser], None]
    run: Callable[[argparse.Namespace], int]

    def add_to(self, subparsers: argparse._SubParsersAction[Parser], name: str) -> None:
        """Gives the command line this command."""
        forms = [f"llamaq {name} {line}" for line in self.usage.splitlines()]
        usage = "\n       ".join(forms)  # forms stand below each other, for argparse begins with "usage: "
        parser = subparsers.add_parser(name, help=self.help, usage=usage, about=self.about)
        parser.set_defaults(command=self.run, parser=parser)
        self.add_options(parser)


def commands() -> Iterator[tuple[str, Command]]:
    """All of them by name, in the order of ``llamaq --help``."""
    for name in _NAMES:
        yield name, import_module(f"llamaq.cli.{name}").COMMAND


def spelt_out(argv: Sequence[str]) -> list[str]:
    """A command line without `OTHER_WORDS`."""
    at = next((i for i, word in enumerate(argv) if not word.startswith("-")), len(argv))
    before, words = list(argv[:at]), list(argv[at:])
    if not words or words[0] not in OTHER_WORDS:
        return [*before, *words]
    if words[0] == "help" and len(words) > 1:  # the command comes before its --help
        return [*before, OTHER_WORDS.get(words[1], words[1:])[0], "--help"]
    return [*before, *OTHER_WORDS[words[0]], *words[1:]]
