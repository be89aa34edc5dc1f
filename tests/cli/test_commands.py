"""A command is a file of ``llamaq.cli`` and its name in the registry."""

from __future__ import annotations

from pathlib import Path

import llamaq.cli
from llamaq.cli.command import commands


def test_every_file_with_a_command_is_registered() -> None:
    files = Path(llamaq.cli.__file__).parent.glob("*.py")
    assert {name for name, _ in commands()} == {file.stem for file in files if "\nCOMMAND = " in file.read_text()}
