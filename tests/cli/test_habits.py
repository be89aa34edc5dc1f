"""What users of llama.cpp and others type out of habit, and what they type by mistake."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from command import Command
from llamaq import __version__, _core
from llamaq.cli import llama_cpp
from llamaq.cli.command import OTHER_WORDS, commands
from llamaq.cli.options import Parser

TAKEN = {
    "-ngl 99", "-ngl auto", "-fa", "-fa on", "--flash-attn=auto", "--jinja", "--mlock", "--no-mmap",
    "--no-display-prompt", "-ub 512", "-tb 4", "--numa distribute", "-nkvo", "-cmoe", "-dev none", "-co", "-lm mlock",
    "--prio 2", "-sm none", "-lv 1", "--no-warmup", "-mli", "--swa-full",
}  # fmt: skip
REFUSED = [
    "-dr u/r",
    "--mmproj-url x",
    "--rope-scale 2",
    "--rpc h:1",
    "--no-jinja",
    "--log-file x",
]


@pytest.fixture
def command(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(capsysbinary, monkeypatch)


def parsers() -> dict[str, Parser]:
    found = argparse.ArgumentParser().add_subparsers(parser_class=Parser)
    for name, each in commands():
        each.add_to(found, name)
    return dict(found.choices)


@pytest.mark.parametrize("name", ["run", "serve", "perplexity", "imatrix"])
def test_habits_are_taken_in_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = parsers()[name]
    for line in TAKEN:
        args = parser.parse_args(["m.gguf", *line.split()])
        option = line.replace("=", " ").split()[0]
        model = args.models[0] if name == "serve" else args.model
        assert (model, llama_cpp.ignored(args)) == ("m.gguf", f"{option} changes nothing here"), line
    for line in REFUSED:
        with pytest.raises(SystemExit):
            parser.parse_args(["m.gguf", *line.split()])
        assert f"llamaq: error: {line.split()[0]} cannot be honoured: " in capsys.readouterr().err


def test_options_of_ollama_run(capsys: pytest.CaptureFixture[str]) -> None:
    parser = parsers()["run"]
    args = parser.parse_args(["m", "Why is it?", "--keepalive", "5m", "--nowordwrap", "--insecure"])
    ignored = "--keepalive, --insecure change nothing here"
    assert (args.prompt, llama_cpp.ignored(args), args.nowordwrap) == ("Why is it?", ignored, True)
    for option, remedy in {
        "--format json": "-j '{}'",
        "--think=false": "enable_thinking",
        "--hidethinking": "",
    }.items():
        with pytest.raises(SystemExit):
            parser.parse_args(["m", *option.split()])
        assert re.search(rf"--[a-z]+ cannot be honoured: .*{re.escape(remedy)}", capsys.readouterr().err)


def test_text_after_a_harmless_option_is_a_prompt(command: Command) -> None:
    done = command("run", "none.gguf", "-ngl", 0, "-fa", "on", "--mlock", "-ngl", 1, "-fa", "once upon", "-n", 3)
    first, second = done.err.splitlines()
    assert (done.code, first) == (1, "llamaq: -ngl, -fa, --mlock change nothing here")
    assert "none.gguf: no such file" in second
    args = parsers()["run"].parse_args(["m.gguf", "-fa", "once upon", "-n5"])
    assert (args.prompt, args.predict) == ("once upon", 5)


def test_no_option_of_llama_cpp_is_another_one_of_llamaq() -> None:
    """Each is its own in the table, and a command's own option of the same name is left to it."""
    parser = parsers()["run"]
    for count, names in llama_cpp._HARMLESS.items():
        for name in names:
            action = parser._option_string_actions[name]
            assert action.dest in ("harmless", "pack") or action.help != argparse.SUPPRESS, name
            assert action.nargs in (count, None), name
    for names in llama_cpp._REFUSED:
        for action in map(parser._option_string_actions.__getitem__, names):
            assert action.dest == "refused" or action.help != argparse.SUPPRESS


def test_types_of_keys_and_values_reach_the_model(command: Command, stories: Path) -> None:
    def cache(*options: str) -> tuple[bytes, str]:
        done = command("info", stories, "-c", 64, *options)
        return b"".join(line for line in done.out.splitlines() if line.strip().startswith(b"cache")), done.err

    assert b"f32" in cache("-ctk", "f32", "-ctv", "f32")[0]
    assert cache("-ctk", "f32", "-ctv", "f32") == cache("--cache-type", "f32")
    assert cache("-ctk", "f32") == (
        cache("--cache-type", "f32")[0],
        "llamaq: keys and values are kept alike: both as f32\n",
    )
    assert cache("-ctk", "f32", "--cache-type", "f32", "-ctv", "f32") == cache("--cache-type", "f32")
    assert "-ctk, -ctv and --cache-type must say the same" in cache("-ctk", "f16", "-ctv", "f32")[1]
    assert "invalid choice: 'q5_0'" in cache("-ctk", "q5_0")[1]


def test_the_command_alone_says_what_to_do(command: Command) -> None:
    done = command()
    assert (done.code, done.err) == (0, "")
    assert 5 < len(done.out.splitlines()) < 15
    assert b"llamaq run MODEL" in done.out


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("help", "--help"), ("help run", "run --help"), ("help chat", "run --help"), ("help show", "info --help"),
        ("help help", "--help"), ("version", "--version"), ("show none.gguf", "info none.gguf"),
        ("help ls", "list --help"),
        ("chat none.gguf hello", "run -cnv none.gguf hello"), ("--debug help", "--help"),
    ],
)  # fmt: skip
def test_words_that_mean_a_command(command: Command, said: str, meant: str) -> None:
    found, expected = command(*said.split()), command(*meant.split())
    assert (found.code, found.out, found.err) == (expected.code, expected.out, expected.err)
    assert found.out or "no such file" in found.err
    if said == "version":
        assert found.out.decode() == f"llamaq {__version__} ({_core.chosen_isa()}; {_core.BUILD})\n"
    assert "did you mean tokenize?" in command("help", "tokenise").err
    for word, meant in (("rum", "run"), ("rmm", "rm"), ("sevre", "serve")):
        assert f"did you mean {meant}?" in command(word, "m.gguf").err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["server", "start"], "there is no command 'server': 'llamaq serve MODEL' starts one"),
        (["stop", "m"], "there is no command 'stop': a server unloads a model"),
        (["my model.gguf"], "for a chat with the model: llamaq run 'my model.gguf'"),
        (["-m", "m.gguf", "-p", "a"], "there is no option -m; options come after a command: llamaq run -m ("),
        (["--temp=1", "m.gguf"], "there is no option --temp; options come after a command: llamaq run --temp ("),
    ],
)
def test_what_is_no_command_has_a_remedy(command: Command, argv: list[str], message: str) -> None:
    done = command(*argv)
    assert (done.code, done.out) == (2, b"")
    assert message in done.err


def test_a_word_that_is_a_value_is_left_alone(command: Command, stories: Path) -> None:
    assert command("tokenize", stories, "help").out == command("tokenize", stories, "--", "help").out != b""


def test_the_page_for_who_comes_from_llama_cpp_tells_of_options_that_are_known() -> None:
    page = (Path(__file__).parents[2] / "docs" / "coming-from.md").read_text(encoding="utf-8")
    section = page.partition("## From llama.cpp")[2].partition("## From llama-cpp-python")[0]
    rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| `-")]
    known = parsers()["run"]._option_string_actions
    for left, right in rows:
        for option in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", left):
            action = known[option]
            if right.startswith("taken"):
                assert action.dest == "harmless", option
            elif right.startswith(("refused", "nothing")) or "Session" in right:
                assert action.dest == "refused", option
            else:
                assert action.dest not in ("harmless", "refused"), option
    assert len(rows) > 6


def test_the_page_for_who_comes_from_elsewhere_tells_of_commands_and_options_that_there_are() -> None:
    page = (Path(__file__).parents[2] / "docs" / "coming-from.md").read_text(encoding="utf-8")
    known = parsers()
    called = re.findall(r"`(?:[^`]*\| )?llamaq ([a-z]+)([^`]*)`", page)
    for name, rest in called:
        assert name in known or name in OTHER_WORDS, name
        parser = known[OTHER_WORDS.get(name, [name])[0]]
        for option in re.findall(r"(?<= )--?[a-z][a-z-]*", rest):
            assert option in parser._option_string_actions, f"llamaq {name} {option}"
    assert len(called) > 20
    taken = re.findall(r"^\| (`--keepalive`.*) \| taken", page, re.MULTILINE)
    for option in re.findall(r"--[a-z]+", *taken):
        assert known["run"]._option_string_actions[option].dest == "harmless"
