"""From the MODEL of a command line to its file."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from llamaq.cli.options import given_model
from llamaq.cli.output import harmless, size
from llamaq.cli.progress import Bar
from llamaq.errors import AmbiguousModelError

if TYPE_CHECKING:
    from llamaq.hub import Found

__all__ = ["Announced", "draft_options", "located", "model_of", "without_name"]


def model_of(args: argparse.Namespace, *, download: bool = False) -> Found:
    """The model that the arguments name; without one the command ends."""
    name = given_model(args) or ""
    if not name:
        args.parser.error("no model is given: name a GGUF file, or a model of llamaq list")
    return located(name, args, download=download)


def located(name: str, args: argparse.Namespace, *, download: bool = False) -> Found:
    """The model of that name, fetched from the hub where ``download`` allows it and it is not there.

    Where it may be several, they are listed and the command ends with 2. Raises what ``llamaq.hub.resolve`` does.
    """
    from llamaq.hub import resolve

    try:
        with Bar("downloading", "B", binary=True, rate=True) as bar:
            found = resolve(name, download=download, progress=Announced(name, bar))
    except AmbiguousModelError as error:
        lines = "".join(f"  {harmless(each)}\n" for each in error.names)
        args.parser.exit(2, f"llamaq: error: {harmless(name)!r} may be {len(error.names)} models; say which:\n{lines}")
    called = (found.name, *found.aliases)
    if not found.is_path and found.aliases and name.casefold() not in map(str.casefold, called):
        print(f"llamaq: {harmless(name)} is {harmless(found.name)} ({found.source})", file=sys.stderr)
    return found


def without_name() -> Found:
    """The model where none is named, with a line that says so. Raises ``ModelError`` where this build has none."""
    from llamaq.hub import bundled_model

    found = bundled_model()
    print(f"llamaq: no model is given, so this is the bundled one, {found.name}", file=sys.stderr)
    return found


def draft_options(args: argparse.Namespace) -> dict[str, Any]:
    """The argument of ``LLM.load`` that ``--model-draft`` says."""
    if args.model_draft is None:
        return {}
    if not args.speculation:
        args.parser.error("--model-draft makes guesses, and --no-speculation wants none")
    return {"draft": located(args.model_draft, args, download=True)}


class Announced:
    """A bar of a download, which says beforehand how much it is, for those who see no bar."""

    def __init__(self, name: str, bar: Bar) -> None:
        self._name, self._bar, self._said = name, bar, False

    def __call__(self, done: int, total: int) -> None:
        if not self._said and done < total:
            self._said = True
            rest = f", {size(done)} of it are here" if done else ""
            print(f"llamaq: {harmless(self._name)} is fetched, {size(total)}{rest}", file=sys.stderr)
        self._bar(done, total)
