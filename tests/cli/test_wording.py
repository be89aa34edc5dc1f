"""Errors in the words of whoever reads them: arguments in the library, options on the command line."""

from __future__ import annotations

import argparse
import inspect
import pickle
import re
from pathlib import Path

import pytest

from command import Command
from llamaq import LLM, SamplingParams, quantize
from llamaq.boundary.arguments import whole
from llamaq.cli.command import commands
from llamaq.cli.options import Parser
from llamaq.convert import convert
from llamaq.engine.memory import MemoryNeed, check_memory
from llamaq.errors import ContextOverflowError, InsufficientMemoryError, naming

ABSURD = ("-1", "0", "99999999999999999999", "1e99", "nan", "inf", "-inf", "999999+1", "1+1e99", "no such", "[]", "{}")
WITHOUT_MODEL = {"--model", "-m", "--model-draft", "--hf-repo-draft", "--help", "--version"}
WRITES = {"--receipt"}
"""Options whose value may be the name of any new file."""


@pytest.fixture
def command(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(capsysbinary, monkeypatch)


def parsers() -> dict[str, Parser]:
    found = argparse.ArgumentParser().add_subparsers(parser_class=Parser)
    for name, command in commands():
        command.add_to(found, name)
    return dict(found.choices)


def options_with_values(name: str) -> list[str]:
    actions = [action for action in parsers()[name]._actions if action.option_strings and action.nargs != 0]
    return [
        max(action.option_strings, key=len)
        for action in actions
        if not (WITHOUT_MODEL | WRITES) & {*action.option_strings}
    ]


def library_words() -> set[str]:
    """Arguments of the library that are no English words, and none of which is an option's spelling."""
    functions = (LLM.load, SamplingParams.__init__, quantize, convert)
    names = {name for function in functions for name in inspect.signature(function).parameters}
    return {name for name in names | {"max_tokens", "keep_split", "n_depth", "n_parallel"} if "_" in name}


def spoken(name: str, model: Path, option: str, value: str, tmp_path: Path) -> list[str]:
    source = {"run": [model, "x", "-n", "1"], "perplexity": [model, "-f", __file__, "-c", "64", "--chunks", "1"],
              "bench": [model, "-p", "1", "-n", "1", "-r", "1"], "info": [model], "tokenize": [model, "x"],
              "quantize": ["--dry-run", model, "Q8_0"], "convert": [tmp_path, tmp_path / "o.gguf"]}[name]  # fmt: skip
    return [name, *map(str, source), f"{option}={value}" if option.startswith("--") else f"{option}{value}"]


@pytest.mark.parametrize("name", ["run", "perplexity", "info", "tokenize", "quantize", "convert"])
def test_no_option_with_an_absurd_value_is_told_in_the_librarys_words(
    command: Command, stories: Path, tmp_path: Path, name: str
) -> None:
    words = library_words()
    assert {"n_ctx", "logit_bias", "top_p", "n_batch", "tensor_types"} <= words
    refused = 0
    for option in options_with_values(name):
        for value in ABSURD:
            done = command(*spoken(name, stories, option, value, tmp_path))
            errors = [line for line in done.err.splitlines() if line.startswith("llamaq: error: ")]
            where = f"{option}={value}: {done.err}"
            assert (done.code in (1, 2)) == bool(errors), where
            for error in errors:
                refused += 1
                spelt = parsers()[name]._option_string_actions[option].option_strings
                if error.startswith("llamaq: error: expected IN.gguf"):  # a budget goes without a TYPE
                    continue
                names_file = error.startswith((f"llamaq: error: {value}: ", f"llamaq: error: {tmp_path}: "))
                words_of = option.strip("-").replace("-", " ")
                assert names_file or any(each in error for each in spelt) or words_of in error.lower(), where
                error = error.partition("; there are penalties (e)")[0]  # samplers have these names here, too
                assert not words & {*re.findall(r"(?<![\w-])\w+(?![\w-])", error)}, where
                assert not re.search(r"error: (temperature|threads|mirostat|samplers|seed|keep|stop|pre) ", error), (
                    where
                )
                assert "bug in llamaq" not in error, where
    assert refused or name == "tokenize"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["-c", "99999999999999999999"], "--ctx-size must be a whole number from 0 to 2147483647, got 9999"),
        (["-t", "100000"], "--threads must be a whole number from 0 to 1024, got 100000"),
        (["-b", "9999999999"], "--batch-size must be a whole number from 1 to 2147483647"),
        (["--temp", "1e99"], "--temp must be a number from -1e+30 to 1e+30"),
        (["--typical-p", "2"], "--typical must be a number from 0 to 1"),
        (["--mirostat", "3"], "--mirostat must be"),
        (["--dry-penalty-last-n", "-5"], "--dry-penalty-last-n must be"),
        (["-l", "1+1e9"], "--logit-bias must map token ids to numbers"),
        (["-l", "9999+1"], "--logit-bias has token 9999, but the vocabulary's 512 tokens"),
        (["--samplers", "temperature;x"], "--samplers: there is no sampler 'x'"),
        (["-c", "4", "-p", "a b c d e f g"], "the context 4; shorten it or raise --ctx-size"),
        (["--context-shift", "--keep", "600"], "--keep must be 0 or more, and leave room"),
        (["--cache-type", "q4_0"], "choose 'f16' for --cache-type"),
        (["-b", "2000000000"], "; lower --batch-size, or free memory"),
        (["-c", "2000000000"], "; lower --ctx-size, or free memory"),
    ],
)
def test_run_names_its_options(command: Command, stories: Path, argv: list[str], message: str) -> None:
    done = command("run", stories, *argv, *([] if "-p" in argv else ["x"]))
    assert (done.code, done.out) == (1, b"")
    assert message in done.err
    assert not re.search(r"warning", done.err)


def test_other_commands_name_theirs(command: Command, stories: Path, tmp_path: Path) -> None:
    for argv, message in (
        (["bench", stories, "-p", 1, "-n", 0, "-t", 5000], "--threads must be a whole number from -1 to 1024"),
        (["bench", stories, "-p", 1, "-n", 0, "-d", 10**9], "lower --n-depth or --n-parallel"),
        (["quantize", stories, tmp_path / "o.gguf", "Q8_0", 5000], "number of threads from 1 to 1024, got '5000'"),
        (["quantize", stories, tmp_path / "o.gguf", "Q8_0", "--max-kl", 0.1], "--text is missing: --max-kl is"),
        (["tokenize", stories, "x", "--pre", "nosuch"], "--pre chooses among"),
    ):
        done = command(*argv)
        assert message in done.err, argv
    assert not (tmp_path / "o.gguf").exists()


def test_the_library_speaks_of_arguments(stories: Path) -> None:
    with (
        LLM.load(stories, n_ctx=4, threads=1) as llm,
        pytest.raises(ContextOverflowError, match=r"shorten it or raise n_ctx$") as caught,
    ):
        llm.generate("one two three four five", max_tokens=1)
    again = pickle.loads(pickle.dumps(caught.value))
    assert Parser().told(again) == str(caught.value)  # a command without the option has no better word


def test_memory_is_blamed_on_what_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llamaq.engine.memory.available_memory", lambda: 2**20)
    size = 2**30
    for need, advice in (
        (MemoryNeed(size, 0, 0, 8, 0, ()), "; choose a smaller model, or free memory"),
        (MemoryNeed(0, size, 0, 8, 0, ()), "; lower n_ctx, or free memory"),
        (MemoryNeed(0, 0, size, 8, 0, ()), "; lower n_batch, or free memory"),
        (MemoryNeed(0, 0, size, 8, 0, (), threads=size), "; lower threads, or free memory"),
        (MemoryNeed(size, 2 * size, size // 100, 8, 0, ()), "; lower n_ctx, choose a smaller model, or free memory"),
    ):
        with pytest.raises(InsufficientMemoryError) as caught:
            check_memory(need)
        assert str(caught.value).endswith(advice)


def test_only_the_argument_is_replaced_and_once() -> None:
    parser = parsers()["run"]
    error = naming(ValueError("/n_ctx/x.n_ctx: 'n_ctx' and n_ctx, n_ctx and n_ctx_max"), "n_ctx")
    assert parser.told(error) == "/n_ctx/x.n_ctx: 'n_ctx' and --ctx-size, n_ctx and n_ctx_max"
    with pytest.raises(TypeError) as caught:
        whole("each id of logit_bias", "temperature")
    assert parser.told(caught.value) == "each id of --logit-bias must be a whole number, got 'temperature'"
    assert parser.told(pickle.loads(pickle.dumps(caught.value))) == parser.told(caught.value)
