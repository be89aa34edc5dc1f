"""The command as a process: pipes, signals, terminals, locales, and law 2 from the outside."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llamaq import _core
from terminal import Terminal, command, environment, on_screen

pytestmark = pytest.mark.subprocess

Completed = subprocess.CompletedProcess[bytes]


@pytest.fixture(scope="module")
def model(shared: Callable[[str], Path]) -> Path:
    return shared("models/stories260K-F32.gguf")


@pytest.fixture(autouse=True)
def sigint_is_not_ignored() -> Iterator[None]:
    """A shell starts background jobs, such as a run of CI, with Ctrl-C ignored, and children inherit that."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def llamaq(*argv: object, stdin: bytes = b"", **extra: str) -> Completed:
    return subprocess.run(command(*argv), input=stdin, capture_output=True, env=environment(**extra), timeout=120)


@pytest.mark.slow
def test_one_seed_is_one_text_on_every_level_and_thread_count(model: Path) -> None:
    quantized = model.with_name("stories260K-Q4_0.gguf")
    for path in (model, quantized):
        runs = {
            (level, threads): llamaq("run", path, "Lily", "-n", 60, "-s", 9, "-t", threads, LLAMAQ_ISA=level)
            for level in _core.isas()
            for threads in (1, 2, 5)
        }
        assert {done.stderr for done in runs.values()} == {b""}
        assert len({done.stdout for done in runs.values()}) == 1, runs


def test_the_forced_level_is_the_one_that_runs(model: Path) -> None:
    for level in _core.isas():
        done = llamaq("run", model, "-n", 2, "-v", LLAMAQ_ISA=level)
        assert f"SIMD level {level}, numerics exact\n".encode() in done.stderr
    done = llamaq("run", model, "-n", 2, LLAMAQ_ISA="sse9")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"llamaq: error: the SIMD level 'sse9'")


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from llamaq.cli import main; main(['--help']); print([*sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment(), check=True)
    loaded = done.stderr.decode()
    assert "'argparse'" in loaded
    for heavy in ("numpy", "tqdm", "regex", "jinja2", "llamaq._core"):
        assert f"'{heavy}'" not in loaded


def test_nothing_on_stderr_without_a_terminal(model: Path) -> None:
    done = llamaq("run", model, "--temp", 0, "-n", 200, "--cache-type", "f32", "-b", 1)
    reference = json.loads(model.with_suffix(".ref.json").read_text(encoding="utf-8"))["text"]
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, reference + "\n", b"")


def test_utf8_in_any_locale(model: Path) -> None:
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = llamaq("run", model, "-n", 0, "--echo", "grün “😀”", **locale)
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, "grün “😀”\n", b"")
    done = llamaq("run", model, "-n", 0, "--echo", stdin="grün “😀”".encode(), **locale)
    assert done.stdout.decode() == "grün “😀”\n"


def test_a_reader_that_leaves_early(model: Path) -> None:
    process = subprocess.Popen(
        command("run", model, "-c", 50000, "--temp", 0, "-s", 1),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(),
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.read(10) == b"Once upon "
    process.stdout.close()
    assert process.wait(60) == 141
    assert process.stderr.read().startswith(b"llamaq: warning: the context of 50000 tokens exceeds the 512")
    process.stderr.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_an_error(model: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            command("run", model, "-n", 5), stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE,
            env=environment(),
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == b"llamaq: error: No space left on device\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("words", ["--help", "--version", "quantize --help", "info MODEL", "tokenize MODEL x"])
def test_whatever_is_written_to_a_full_disk_is_an_error(model: Path, words: str) -> None:
    argv = [str(model) if word == "MODEL" else word for word in words.split()]
    for out, message in ((">/dev/full", "No space left on device"), (">&-", "standard output is closed")):
        done = subprocess.run(
            ["bash", "-c", f'"$@" {out}', "-", *command(*argv)], capture_output=True, env=environment(), timeout=120
        )
        assert (done.returncode, done.stderr.decode()) == (1, f"llamaq: error: {message}\n")


@pytest.mark.parametrize("closed", ["<&-", "</dev/null"])
def test_a_stdin_without_data_is_no_prompt(model: Path, closed: str) -> None:
    line = f'exec "$0" -m llamaq run "$1" -n 5 --temp 0 {closed}'
    done = subprocess.run(
        ["sh", "-c", line, sys.executable, str(model)], capture_output=True, env=environment(), timeout=120
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"Once")


def test_a_silent_pipe_is_not_waited_for(model: Path) -> None:
    process = subprocess.Popen(
        command("run", model, "-p", "Lily", "-n", 5, "--temp", 0),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(),
    )  # fmt: skip
    assert process.wait(120) == 0  # stdin is still open
    out, err = process.communicate()
    assert out == llamaq("run", model, "-p", "Lily", "-n", 5, "--temp", 0).stdout
    assert err.startswith(b"llamaq: nothing came from stdin")


def test_bars_are_shown_on_a_terminal_and_vanish(model: Path, shared: Callable[[str], Path], tmp_path: Path) -> None:
    prompt = tmp_path / "prompt.txt"
    prompt.write_bytes(shared("text/war-and-peace.txt").read_bytes()[5000:6000])
    terminal = Terminal("run", model, "-f", prompt, "-n", 3, "-c", 2048, "-b", 32)
    code, out = terminal.finish()
    assert code == 0
    assert out
    assert b"loading:" in terminal.shown
    assert b"reading the prompt:" in terminal.shown
    lines = on_screen(terminal.shown).strip().splitlines()
    assert all(line.startswith("llamaq: warning: the context of 2048") for line in lines)  # the bars are gone


def test_a_short_prompt_shows_no_bar(model: Path) -> None:
    terminal = Terminal("run", model, "Once", "-n", 3)
    assert terminal.finish()[0] == 0
    assert b"reading" not in terminal.shown


def test_text_follows_the_bars_on_one_terminal(model: Path) -> None:
    terminal = Terminal("run", model, "-n", 5, "--temp", 0, both=True)
    assert terminal.finish()[0] == 0
    assert on_screen(terminal.shown).strip().startswith("Once upon")
    assert terminal.shown.endswith(b"\r\n")


def test_ctrl_c_ends_a_generation(model: Path) -> None:
    terminal = Terminal("run", model, "-c", 50000, "-s", 1, "-v", "--temp", 0, both=True)
    terminal.wait_for(b"Lily")
    terminal.process.send_signal(signal.SIGINT)
    code, _ = terminal.finish()
    assert code == 130
    screen = on_screen(terminal.shown)
    assert "Once upon a time" in screen
    assert "\nload        " in screen  # it stands on a line of its own
    assert "ended by    Ctrl-C" in screen
    assert "Traceback" not in screen


def test_ctrl_c_while_reading_a_prompt(model: Path, shared: Callable[[str], Path], tmp_path: Path) -> None:
    prompt = tmp_path / "prompt.txt"
    prompt.write_bytes(shared("text/war-and-peace.txt").read_bytes()[:200000])
    terminal = Terminal("run", model, "-c", 200000, "-f", prompt)
    terminal.wait_for(b"reading the prompt:")
    terminal.process.send_signal(signal.SIGINT)
    code, out = terminal.finish()
    assert (code, out) == (130, b"")
    screen = on_screen(terminal.shown)
    assert screen.strip().startswith("llamaq: warning: the context of 200000")
    assert "reading the prompt" not in screen  # the bar is gone
