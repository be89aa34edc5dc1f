"""``llamaq completion``: the scripts are sound, and bash completes with the one that is made for it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from command import Command
from llamaq.cli.command import OTHER_WORDS, commands
from llamaq.cli.completion import scripts


@pytest.fixture
def command(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(capsysbinary, monkeypatch)


def test_each_script_has_every_command_and_option(command: Command) -> None:
    for shell, script in scripts().items():
        assert command("completion", shell).out.decode() == script
        for name in [name for name, _ in commands()] + [*OTHER_WORDS]:
            assert name in script
        for option in ("chat-template-kwargs", "dry-run", "api-key", "ctx-size"):
            assert option in script
        assert "-ngl" not in script  # it is taken, but nobody needs it
        assert script.count("'") % 2 == 0
    done = command("completion", "tcsh")
    assert done.code == 2
    assert "invalid choice: 'tcsh'" in done.err


@pytest.mark.subprocess
def test_shells_take_the_scripts(tmp_path: Path) -> None:
    installed = [shell for shell in scripts() if shutil.which(shell)]
    assert "bash" in installed
    for shell in installed:
        (tmp_path / shell).write_text(scripts()[shell])
        subprocess.run([shell, "-n", tmp_path / shell], check=True)


@pytest.mark.subprocess
@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("llamaq ru", "run"),
        ("llamaq help sh", "show"),
        ("llamaq run --cache-type q", "q8_0 q4_0"),
        ("llamaq run -n ", ""),
        ("llamaq chat --single", "--single-turn"),
        ("llamaq --debug run --mod", "--model --model-draft"),
        ("llamaq run mod", "model.gguf"),
        ("llamaq run -f mod", "model.gguf"),
        ("llamaq completion z", "zsh"),
    ],
)
def test_bash_completes(tmp_path: Path, line: str, found: str) -> None:
    (tmp_path / "model.gguf").write_text("")
    words = " ".join(f"'{word}'" for word in line.split(" "))
    code = f"{scripts()['bash']}\nCOMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _llamaq\n"
    done = subprocess.run(
        ["bash", "-c", code + 'echo "${COMPREPLY[*]}"'], check=True, cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.stdout.strip(), done.stderr) == (found, "")
