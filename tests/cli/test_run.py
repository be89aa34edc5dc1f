"""``llamaq run`` and what all commands share, called in this process."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from command import Command
from llamaq import __version__
from llamaq.cli.output import TextOutput, size
from llamaq.cli.progress import Bar
from llamaq.cli.prompt import unescaped
from llamaq.cli.sampling_options import _NUMBERS, _ORDER
from llamaq.engine import memory
from llamaq.engine.topology import default_threads
from llamaq.llm.llm import LLM
from llamaq.sampling import SamplingParams
from llamaq.sampling.order import parse_order
from llamaq.serving.answer import Event
from llamaq.serving.stream import Stream


@pytest.fixture
def command(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Command:
    for name in ("MODEL", "N_PREDICT", "CTX_SIZE", "THREADS", "UBATCH"):
        monkeypatch.delenv(f"LLAMA_ARG_{name}", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return Command(capsysbinary, monkeypatch)


@pytest.fixture
def greedy(command: Command, model: Path) -> Callable[..., bytes]:
    """``greedy("-p", "Once")``: the text that ``llamaq run`` prints with these options at temperature 0."""

    def run(*argv: object, stdin: bytes = b"") -> bytes:
        done = command("run", model, "--temp", 0, "-t", 1, *argv, stdin=stdin)
        assert (done.code, done.err) == (0, "")
        return done.out

    return run


@pytest.fixture(scope="module")
def model(shared: Callable[[str], Path]) -> Path:
    return shared("models/stories260K-F32.gguf")


@pytest.fixture(scope="module")
def story(model: Path) -> str:
    text: str = json.loads(model.with_suffix(".ref.json").read_text(encoding="utf-8"))["text"]
    return text


def test_version_and_help(command: Command) -> None:
    assert command("--version").out.decode().startswith(f"llamaq {__version__} (")
    for argv in (["--help"], ["run", "--help"], ["info", "-h"], ["tokenize", "-h"]):
        done = command(*argv)
        assert done.code == 0
        assert done.out.isascii()
        assert not done.err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["frobnicate"], "there is no command 'frobnicate'; for a chat with the model: llamaq run frobnicate"),
        (["quantise", "m.gguf"], "there is no command 'quantise'; did you mean quantize?"),
        (["--verison"], "there is no option --verison; did you mean --version?"),
        (["-help"], "there is no option -help; did you mean --help?"),
        (["--verbose", "run", "x"], "there is no option --verbose"),
        (["--debug"], "required: COMMAND"),
        (["info"], "no model is given"),
        (["run", "m.gguf", "-sys", "a", "-sysf", "b"], "not allowed with"),
        (["run", "m.gguf", "a", "-p", "b"], "given twice"),
        (["run", "m.gguf", "a", "-f", "b"], "given twice"),
        (["run", "m.gguf", "a", "b"], "too many arguments: b; quotes make one of a text (see 'llamaq run --help')"),
        (["run", "-m", "m.gguf", "a", "b"], "MODEL is given twice"),
        (["info", "-m", "m.gguf", "a"], "MODEL is given twice"),
        (["run", "m.gguf", "--tmp", "1"], "there is no option --tmp; did you mean --temp?"),
        (["run", "m.gguf", "--top_p=0.9"], "there is no option --top_p; did you mean --top-p?"),
        (["run", "m.gguf", "-temp", "1"], "there is no option -temp; did you mean --temp?"),
        (["run", "m.gguf", "-ngk", "1"], "there is no option -ngk; did you mean -ngl?"),
        (["run", "m.gguf", "-vx"], "there is no option -vx ("),
        (["run", "m.gguf", "-nwhat"], "there is no option -nwhat ("),
        (["quantize", "--dryrun", "m.gguf", "Q8_0"], "there is no option --dryrun; did you mean --dry-run?"),
        (["run", "m.gguf", "-n", "x"], "argument -n: expected an integer of at least -1, got 'x'"),
        (["run", "m.gguf", "-n", "-2"], "at least -1, got '-2'"),
        (["run", "m.gguf", "-b", "0"], "at least 1, got '0'"),
        (["run", "m.gguf", "--temp", "warm"], "argument --temp: expected a number, got 'warm'"),
        (["run", "m.gguf", "--cache-type", "q9"], "invalid choice: 'q9'"),
        (["tokenize", "m.gguf", "two", "words"], "quotes around the text"),
    ],
)
def test_wrong_usage_is_one_line_and_2(command: Command, argv: list[str], message: str) -> None:
    done = command(*argv)
    assert (done.code, done.out) == (2, b"")
    assert message in done.err
    assert done.err.startswith("llamaq: error: ")
    assert done.err.count("\n") == 1


def test_errors_are_one_line_and_1(command: Command, model: Path, tmp_path: Path) -> None:
    for argv, message in [
        (["run", tmp_path / "none.gguf"], "none.gguf: no such file"),
        (["info", tmp_path / "none.gguf"], "none.gguf: no such file"),
        (["tokenize", tmp_path / "none.gguf", "x"], "none.gguf: no such file"),
        (["run", model, "-f", tmp_path / "none.txt"], "none.txt: no such file; check the path"),
        (["run", model, "--top-p", 2], "--top-p must be a number from 0 to 1, got 2.0"),
        (["run", model, "--pre", "llama-bpe"], "--pre chooses among the rules of 'gpt2' tokenizers"),
        (["run", model, "-c", 10**9], "1000000000 tokens"),
        (["run", model, "-t", 5000], "--threads must be a whole number from 0 to 1024, got 5000"),
        (["run", model, "-c", 4, "-p", "one two three"], "tokens, the context 4"),
    ]:
        done = command(*argv)
        assert (done.code, done.out) == (1, b""), argv
        assert message in done.err
        assert done.err.startswith("llamaq: error: ")
        assert done.err.count("\n") == 1


@pytest.mark.parametrize("argv", [["--debug", "info", "none.gguf"], ["info", "none.gguf", "--debug"]])
def test_debug_shows_the_traceback(command: Command, argv: list[str]) -> None:
    done = command(*argv)
    assert done.code == 1
    assert done.err.startswith("Traceback")
    assert "GGUFError" in done.err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (MemoryError(), 1, "out of memory; lower --ctx-size, choose a smaller model, or free memory"),
        (KeyError("x\ny"), 1, "KeyError: 'x\\ny' (a bug in llamaq: --debug shows where)"),
        (OSError(5, "Input/output error"), 1, "llamaq: error: Input/output error"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_whatever_loading_raises(
    command: Command, model: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, message: str
) -> None:
    def load(*args: object, **kwargs: object) -> LLM:
        raise error

    monkeypatch.setattr(LLM, "load", load)
    done = command("run", model)
    assert (done.code, done.out) == (code, b"")
    assert message in done.err
    assert done.err.count("\n") == (1 if message else 0)


def test_the_recorded_text_exactly(greedy: Callable[..., bytes], story: str) -> None:
    assert greedy("-n", 200, "--cache-type", "f32", "").decode() == story + "\n"


def test_the_prompt_comes_from_many_places(greedy: Callable[..., bytes], model: Path, tmp_path: Path) -> None:
    file = tmp_path / "prompt.txt"
    file.write_bytes(b"Lily and\r\nTom\n")
    expected = greedy("--no-escape", "Lily and\r\nTom", "-n", 8, "--echo")
    assert expected.startswith(b"Lily and\r\nTom")
    for argv in (["-p", r"Lily and\r\nTom"], ["-f", file], [r"Lily and\r\nTom", "-e"]):
        assert greedy("-n", 8, "--echo", *argv) == expected
    assert greedy("-n", 8, "--echo", stdin=b"Lily and\r\nTom\n") == expected
    assert greedy("-n", 8, "--echo", "-f", "-", stdin=b"Lily and\r\nTom\n") == expected
    assert greedy("-n", 8, "--echo", "Lily and\r", stdin=b"Tom") == expected


def test_options_may_stand_anywhere(command: Command, model: Path) -> None:
    lines = [
        ["run", model, "Lily", "-n", 5, "--temp", 0],
        ["run", model, "-n", 5, "--temp", 0, "Lily"],
        ["run", "-n", 5, model, "--temp", 0, "Lily", "-no-cnv"],
        ["run", "-n5", "-m", model, "--temp", "0", "Lily"],
        ["run", "-m", model, "--predict", 5, "--temp=0", "-p", "Lily"],
        ["run", "--n-predict=5", "--temp", 0, "--no-conversation", model, "--", "Lily"],
    ]
    outputs = {command(*line).out for line in lines}
    assert len(outputs) == 1
    assert outputs != {b""}


def test_the_environment_gives_defaults(command: Command, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_ARG_MODEL", str(model))
    monkeypatch.setenv("LLAMA_ARG_N_PREDICT", "5")
    monkeypatch.setenv("LLAMA_ARG_CTX_SIZE", "40")
    monkeypatch.setenv("LLAMA_ARG_THREADS", "1")
    monkeypatch.setenv("LLAMA_ARG_UBATCH", "")
    done = command("run", "--temp", 0, "-v")
    assert "generation  5 tokens" in done.err
    assert "of 40 tokens" in done.err
    assert "threads     1," in done.err
    assert "generation  3 tokens" in command("run", "--temp", 0, "-v", "-n", 3).err
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert "threads     1," in command("run", "-v", "-n", 1).err
    monkeypatch.delenv("LLAMA_ARG_THREADS")
    assert "threads     3," in command("run", "-v", "-n", 1).err
    monkeypatch.setenv("OMP_NUM_THREADS", "4,2")
    assert f"threads     {default_threads().threads}," in command("run", "-v", "-n", 1).err
    monkeypatch.setenv("LLAMA_ARG_THREADS", "many")
    assert command("run").code == 2


def test_unpacked_weights_continue_the_same_way(greedy: Callable[..., bytes]) -> None:
    assert greedy("-n", 5, "Once") == greedy("-n", 5, "Once", "--no-pack") == greedy("-n", 5, "Once", "--no-repack")


def test_an_empty_prompt_starts_from_bos(greedy: Callable[..., bytes]) -> None:
    started = greedy("-n", 5)
    assert started == greedy("-n", 5, "") == greedy("-n", 5, "-p", "") == greedy("-n", 5, stdin=b"\n")
    assert started.startswith(b"Once upon")


def test_no_tokens_no_text(greedy: Callable[..., bytes]) -> None:
    assert greedy("-n", 0, "Lily") == b""
    assert greedy("-n", 0, "--echo", "Lily") == b"Lily\n"


def test_stop_texts(greedy: Callable[..., bytes], story: str) -> None:
    assert greedy("--stop", "never", "--stop", "little girl").decode() == story[: story.index("little girl")] + "\n"
    first = story.index("\n")
    assert greedy("-r", r"\n", "--cache-type", "f32").decode() == story[:first] + "\n"


def test_the_end_of_the_context_is_told(command: Command, model: Path) -> None:
    done = command("run", model, "-c", 20, "--temp", 0)
    assert done.code == 0
    assert done.out
    assert done.err == "llamaq: the context of 20 tokens is full, so the text ends here (-c sets a longer one)\n"
    shifted = command("run", model, "-c", 20, "-n", 60, "--temp", 0, "--context-shift", "--keep", 2)
    assert (shifted.code, shifted.err) == (0, "")
    assert shifted.out.startswith(done.out.rstrip(b"\n"))
    assert len(shifted.out) > len(done.out)


def test_a_context_shortened_to_the_memory_is_told(
    command: Command, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LLM.load(model, threads=1) as llm:
        needed = llm.memory.total
    monkeypatch.setattr(memory, "available_memory", lambda: needed - 1)
    before = logging.getLogger("llamaq").handlers[:]
    done = command("run", model, "-n", 3, "-t", 1)
    assert done.code == 0
    assert done.err == "llamaq: warning: the context is 256 tokens instead of the model's 512, to fit the memory\n"
    assert logging.getLogger("llamaq").handlers == before


def test_verbose_tells_times_and_sizes_on_stderr(command: Command, model: Path) -> None:
    done = command("run", model, "-p", "Lily went", "-n", 7, "-s", 11, "--verbose", "-t", 2)
    assert done.code == 0
    lines = dict(line.split(maxsplit=1) for line in done.err.splitlines())
    assert list(lines) == ["load", "prompt", "generation", "guesses", "ended", "context", "memory", "threads", "seed"]
    assert "(0 cached)" in lines["prompt"]
    assert lines["generation"].startswith("7 tokens in ")
    assert "tokens/s" in lines["generation"]
    assert lines["threads"].startswith("2, SIMD level ")
    assert lines["seed"] == "11"
    assert b"tokens" not in done.out


def test_a_seed_is_a_text_and_minus_one_is_random(command: Command, model: Path) -> None:
    def run(*argv: object) -> bytes:
        return command("run", model, "Lily", "-n", 40, *argv).out

    assert run("-s", 5) == run("--seed", 5) == run("-s", 5, "-t", 3, "-b", 2)
    assert run("-s", 5) != run("-s", 6)
    assert len({run("-s", -1) for _ in range(3)}) > 1


def test_ctrl_c_ends_the_text_with_a_newline(
    command: Command, model: Path, monkeypatch: pytest.MonkeyPatch, story: str
) -> None:
    real, numbers = Stream.__next__, iter(range(7))

    def interrupted(stream: Stream) -> Event:
        if next(numbers) == 6:
            raise KeyboardInterrupt
        return real(stream)

    monkeypatch.setattr(Stream, "__next__", interrupted)
    done = command("run", model, "--temp", 0, "-v")
    assert done.code == 130
    assert story.startswith(done.out.decode().removesuffix("\n"))
    assert done.out.endswith(b"\n")
    assert "ended by    Ctrl-C" in done.err


def test_bytes_that_are_not_utf8_pass_through(greedy: Callable[..., bytes], tmp_path: Path) -> None:
    file = tmp_path / "latin1.txt"
    file.write_bytes(b"gr\xfc\xdfe \xf0\x9f\x98")
    assert greedy("-n", 0, "--echo", "-f", file) == b"gr\xfc\xdfe \xf0\x9f\x98\n"
    assert greedy("-n", 0, "--echo", "gr\udcfcn \U0001f600") == b"gr\xfcn \xf0\x9f\x98\x80\n"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_no_text(greedy: Callable[..., bytes], tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "marked.txt"
    file.write_bytes("Grün 😀\r\n".encode(encoding))
    for argv, stdin in ((["-f", file], b""), (["-f", "-"], file.read_bytes()), ([], file.read_bytes())):
        assert greedy("-n", 0, "--echo", *argv, stdin=stdin) == "Grün 😀\n".encode()


def test_a_prompt_may_come_from_a_pipe(greedy: Callable[..., bytes], tmp_path: Path) -> None:
    """A pipe as the shell's <(...) makes it."""
    os.mkfifo(pipe := tmp_path / "pipe")
    writer = threading.Thread(target=pipe.write_text, args=("Lily",))
    writer.start()
    assert greedy("-n", 0, "--echo", "-f", pipe) == b"Lily\n"
    writer.join()


def test_what_is_no_text_is_refused_by_name(command: Command, model: Path, tmp_path: Path) -> None:
    (tmp_path / "latin1").write_bytes("Grün".encode("latin-1"))
    (tmp_path / "utf16").write_bytes("Hi".encode("utf-16-le"))
    (tmp_path / "deep").write_text("[" * 100_000)
    for argv, message in [
        (["run", model, "-f", tmp_path / "utf16"], "utf16: expected text, got a zero byte at its beginning"),
        (["run", model, "x", "--chat-template-file", tmp_path / "latin1"], "latin1: byte 2: expected UTF-8"),
        (["run", model, "x", "--grammar-file", tmp_path / "latin1"], "latin1: byte 2: expected UTF-8"),
        (["run", model, "x", "-jf", tmp_path / "utf16"], "utf16: expected text, got a zero byte"),
        (["convert", tmp_path, tmp_path / "o", "--metadata", tmp_path / "latin1"], "latin1: byte 2: expected UTF-8"),
        (["convert", tmp_path, tmp_path / "o", "--metadata", tmp_path / "deep"], "deep: expected JSON"),
        (["perplexity", model, "-f", tmp_path / "utf16"], "utf16: expected text, got a zero byte"),
    ]:
        done = command(*argv)
        assert (done.code, done.out, done.err.count("\n")) == (1, b"", 1)
        assert message in done.err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"a\nb\tc\rd", "a\nb\tc\rd"),
        (r"\\n \' \"", "\\n ' \""),
        (r"\x41\x7a\x0A", "Az\n"),
        (r"\xc3\xbc", "ü"),
        (r"\xff", "\udcff"),
        (r"\d \u00e4 \x \xg", r"\d \u00e4 \x \xg"),
        ("trailing\\", "trailing\\"),
        ("grün 😀", "grün 😀"),
    ],
)
def test_escapes(text: str, expected: str) -> None:
    assert unescaped(text) == expected


def test_defaults_are_the_librarys() -> None:
    defaults = SamplingParams()
    for option in _NUMBERS:
        assert option.default == getattr(defaults, option.field)
    assert parse_order(_ORDER) == defaults.samplers


def test_no_bar_where_stderr_is_no_terminal(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    with Bar("loading", "B", binary=True) as bar:
        bar(1, 10)
        bar(5, 10)
    assert capsysbinary.readouterr() == (b"", b"")


def test_a_bar_may_tell_the_rate(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda self: True)
    with Bar("downloading", "B", binary=True, rate=True) as bar:
        bar(3 << 20, 10 << 20)
        assert re.search(r"30% .* 3.00M/10.0MB, .*B/s, .* left", capsys.readouterr().err)


def test_a_bar_appears_only_where_something_is_left_and_vanishes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda self: True)
    with Bar("reading", " tokens") as bar:
        bar(10, 10)
        assert capsys.readouterr().err == ""
        bar(3, 10)
        assert "reading:  30%" in capsys.readouterr().err
        bar(10, 10)
        assert capsys.readouterr().err.replace("\r", "").strip() == ""


def test_text_output_ends_a_line_once(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    for pieces, expected in [([], b""), (["a", ""], b"a\n"), (["a\n", ""], b"a\n"), (["\n\n"], b"\n\n")]:
        out = TextOutput()
        for piece in pieces:
            out.write(piece)
        out.end()
        assert capsysbinary.readouterr().out == expected


def test_sizes() -> None:
    assert [size(n) for n in (0, 1023, 1024, 1536 * 1024, 5 * 2**30)] == [
        "0 B", "1023 B", "1.00 KiB", "1.50 MiB", "5.00 GiB",
    ]  # fmt: skip
