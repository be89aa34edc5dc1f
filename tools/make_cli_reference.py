"""Writes docs/cli.md from the commands' own help: ``python tools/make_cli_reference.py``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
_HEAD = """\
# The command line

Made from the commands' own `--help` by `tools/make_cli_reference.py`; a test compares them.
"""


def reference() -> str:
    """The page, from the parsers as they are without LLAMA_ARG_ variables in the environment."""
    from llamaq.cli import _parser

    with mock.patch.dict(os.environ):
        for name in [name for name in os.environ if name.startswith("LLAMA_ARG_") or name == "OMP_NUM_THREADS"]:
            del os.environ[name]
        parser = _parser()
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    helps = {choice.dest: choice.help or "" for choice in commands._choices_actions}
    parts = [_HEAD, "\n".join(f"* [`llamaq {name}`](#llamaq-{name}): {helps[name]}" for name in commands.choices)]
    parts += [_section(name, command) for name, command in commands.choices.items()]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _section(name: str, command: argparse.ArgumentParser) -> str:
    command.format_help()  # this makes the description
    parts = [f"## llamaq {name}", f"```\n{command.usage}\n```", _plain(command.description)]
    for group in command._action_groups:
        rows = [row for action in group._group_actions for row in _row(action)]
        if rows:
            title = {"positional arguments": "arguments"}.get(group.title or "", group.title or "")
            parts.append("\n".join([f"| {title} | |", "|---|---|", *rows]))
    return "\n\n".join(part for part in [*parts, _plain(command.epilog)] if part)


def _plain(text: str | None) -> str:
    """Text in Markdown that shows it as it is."""
    return (text or "").strip().replace("\\", "\\\\").replace("<", "\\<").replace("%%", "%")


def _row(action: argparse.Action) -> Iterator[str]:
    if action.help is argparse.SUPPRESS or "--help" in action.option_strings:
        return
    value = action.metavar or ("" if action.nargs == 0 else "{" + ",".join(map(str, action.choices or ())) + "}")
    value = " ".join(value) if isinstance(value, tuple) else value
    names = ", ".join(action.option_strings) or value
    shown = f"{names} {value}".strip() if action.option_strings and value != "{}" else names
    help = " ".join(_plain(action.help).split()).replace("|", "\\|")
    yield f"| `{shown}` | {help} |"


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
