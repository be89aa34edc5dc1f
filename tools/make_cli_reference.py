"""Writes docs/cli.md and docs/llamaq.1, for man, from the commands' help: ``python tools/make_cli_reference.py``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
MAN_PAGE = PAGE.with_name("llamaq.1")
_HEAD = """\
# The command line

Made from the commands' own `--help` by `tools/make_cli_reference.py`; a test compares them.
"""


def reference() -> str:
    """The page, from the parsers as they are without LLAMA_ARG_ variables in the environment."""
    commands, helps = _commands()
    parts = [_HEAD, "\n".join(f"* [`llamaq {name}`](#llamaq-{name}): {helps[name]}" for name in commands), _words()]
    parts += [_section(name, command) for name, command in commands.items()]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def man_page() -> str:
    """The same for man."""
    from llamaq import __version__

    commands, helps = _commands()
    lines = [f'.TH LLAMAQ 1 "" "llamaq {__version__}" "User Commands"', ".SH NAME"]
    lines += ["llamaq \\- runs GGUF language models on ordinary CPUs", ".SH SYNOPSIS", ".B llamaq", "COMMAND [options]"]
    lines.append(".SH COMMANDS")
    for name, help in helps.items():
        lines += [".TP", f".B {name}", _roff(help)]
    lines += [".PP", _roff(_words().replace("`", "'"))]
    for name, command in commands.items():
        lines += [f'.SH "LLAMAQ {name.upper()}"', ".nf", *map(_roff, command.format_usage().splitlines()), ".fi", ".PP"]
        lines += [".nf", *map(_roff, (command.description or "").strip().splitlines()), ".fi"]
        for group in command._action_groups:
            rows = [row for action in group._group_actions for row in _row(action)]
            if rows:
                lines.append(f'.SS "{_roff(group.title or "")}"')
            for shown, help in rows:
                lines += [".TP", f"\\fB{_roff(shown)}\\fR", _roff(help)]
        lines += [".PP", *map(_roff, (command.epilog or "").splitlines())]
    lines += [".SH ENVIRONMENT", ".TP", ".B LLAMAQ_ISA", "the SIMD level to use, such as scalar or avx2"]
    lines += [".SH EXIT STATUS", _roff("0: done; 1: an error; 2: wrong usage; 130: Ctrl-C.")]
    return "\n".join(lines) + "\n"


def _commands() -> tuple[dict[str, argparse.ArgumentParser], dict[str, str]]:
    """The parsers of the commands, and a line about each."""
    from llamaq.cli import _parser

    with mock.patch.dict(os.environ):
        for name in [name for name in os.environ if name.startswith("LLAMA_ARG_") or name == "OMP_NUM_THREADS"]:
            del os.environ[name]
        parser = _parser()
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    for command in commands.choices.values():
        command.format_help()  # this makes the description
    return dict(commands.choices), {choice.dest: choice.help or "" for choice in commands._choices_actions}


def _words() -> str:
    from llamaq.cli.command import WORDS

    return WORDS.replace("'", "`")


def _roff(text: str) -> str:
    """Text that roff shows as it is."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("%%", "%")
    return "\\&" + text if text[:1] in (".", "'") else text


def _section(name: str, command: argparse.ArgumentParser) -> str:
    parts = [f"## llamaq {name}", f"```\n{command.usage}\n```", _plain(command.description)]
    for group in command._action_groups:
        actions = (row for action in group._group_actions for row in _row(action))
        rows = [f"| `{shown}` | {_cell(help)} |" for shown, help in actions]
        if rows:
            title = {"positional arguments": "arguments"}.get(group.title or "", group.title or "")
            parts.append("\n".join([f"| {title} | |", "|---|---|", *rows]))
    return "\n\n".join(part for part in [*parts, _plain(command.epilog)] if part)


def _plain(text: str | None) -> str:
    """Text in Markdown that shows it as it is."""
    return (text or "").strip().replace("\\", "\\\\").replace("<", "\\<").replace("%%", "%")


def _cell(text: str) -> str:
    return " ".join(_plain(text).split()).replace("|", "\\|")


def _row(action: argparse.Action) -> Iterator[tuple[str, str]]:
    if action.help is argparse.SUPPRESS or "--help" in action.option_strings:
        return
    value = action.metavar or ("" if action.nargs == 0 else "{" + ",".join(map(str, action.choices or ())) + "}")
    value = " ".join(value) if isinstance(value, tuple) else value
    names = ", ".join(action.option_strings) or value
    shown = f"{names} {value}".strip() if action.option_strings and value != "{}" else names
    yield shown, " ".join((action.help or "").split())


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
    MAN_PAGE.write_text(man_page(), encoding="utf-8")
