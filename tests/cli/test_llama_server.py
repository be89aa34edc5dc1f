"""Options and variables of llama-server: each is honoured by ``llamaq serve``, taken and named, or refused by name."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import pytest

from command import Command
from llamaq.cli import llama_cpp, llama_server, serve
from llamaq.cli.options import CACHE_TYPES, Parser, cache_type, given_model
from llamaq.cli.templates import template_kwargs, template_of

OPTIONS = Path(__file__).with_name("llama_server_options.txt").read_text().split()
"""All that llama-server had in October 2026; "=" follows those that take a value."""
MAY_HAVE_A_VALUE = {"-fa", "--flash-attn"}


def parser() -> Parser:
    found = Parser(prog="llamaq serve")
    found.set_defaults(parser=found)
    serve.COMMAND.add_options(found)
    return found


def test_every_option_is_known() -> None:
    known = parser()._option_string_actions
    treated = {"honoured": 0, "harmless": 0, "refused": 0}
    for option in OPTIONS:
        name, value = option.rstrip("="), option.endswith("=")
        action = known[name]
        treated[action.dest if action.dest in treated else "honoured"] += 1
        if action.dest == "refused":
            assert action.const
        elif name not in MAY_HAVE_A_VALUE:
            takes = action.nargs != 0
            assert takes == value, name
    assert all(number > 40 for number in treated.values()), treated


@pytest.mark.parametrize("name", ["--tools", "--grammar", "--seed", "--api-prefix", "--pooling", "--version", "-j"])
def test_what_cannot_be_honoured_says_why(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["m.gguf", name, "x"])
    assert f"{name} cannot be honoured: " in capsys.readouterr().err


def test_what_changes_nothing_is_named() -> None:
    args = parser().parse_args(
        ["m.gguf", "-v", "--tags", "a", "--threads-draft", "2", "--no-agent", "--spec-draft-poll", "0"]
    )
    assert args.models == ["m.gguf"]
    assert llama_cpp.ignored(args) == "-v, --tags, --threads-draft, --no-agent, --spec-draft-poll change nothing here"


def test_minus_one_is_none_where_it_is_so_there() -> None:
    args = parser().parse_args(["--sse-ping-interval", "-1", "--timeout", "-1", "--sleep-idle-seconds", "-1"])
    assert {args.sse_ping_interval, args.timeout, args.sleep_idle_seconds} == {math.inf}


def test_the_later_of_two_that_say_the_opposite_holds() -> None:
    assert parser().parse_args([]).page
    assert not parser().parse_args(["--ui", "--no-ui"]).page
    assert parser().parse_args(["--no-webui", "--webui"]).page


def test_variables_hold_where_no_option_is_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "t.jinja").write_text("from a file")
    for name, value in {
        "HF_REPO": "a/b", "CACHE_TYPE_K": "q8_0", "CACHE_TYPE_V": "q8_0", "MMPROJ": "p.gguf",
        "CORS_ORIGINS": "localhost", "CHAT_TEMPLATE": "chatml", "CHAT_TEMPLATE_KWARGS": '{"a": 1}',
        "SPEC_DRAFT_MODEL": "d.gguf", "UI": "off", "ENDPOINT_METRICS": "1", "ENDPOINT_SLOTS": "0",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"LLAMA_ARG_{name}", value)
    args = parser().parse_args([])
    assert given_model(argparse.Namespace(model=None, model_option=None)) == "hf:a/b"
    assert (cache_type(args), args.mmproj, args.cors_origins) == ("q8_0", "p.gguf", "localhost")
    assert (template_of(args), template_kwargs(args), args.model_draft) == ("chatml", {"a": 1}, "d.gguf")
    assert (args.page, args.metrics, args.slots) == (False, True, False)
    given = parser().parse_args(["--cache-type", "f32", "--chat-template-kwargs", "{}", "-md", "e.gguf", "--ui"])
    assert (cache_type(given), template_kwargs(given), given.model_draft, given.page) == ("f32", {}, "e.gguf", True)
    file = parser().parse_args(["--chat-template-file", str(tmp_path / "t.jinja")])
    assert template_of(file) == "from a file"
    monkeypatch.setenv("LLAMA_ARG_CHAT_TEMPLATE_FILE", str(tmp_path / "t.jinja"))
    assert template_of(parser().parse_args(["--chat-template", "gemma"])) == "gemma"


def test_a_variable_of_a_cache_type_that_is_none(monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    monkeypatch.setenv("LLAMA_ARG_CACHE_TYPE_K", "q5_0")
    assert f"LLAMA_ARG_CACHE_TYPE_K: expected one of {', '.join(CACHE_TYPES)}, got 'q5_0'" in command("serve").err


def test_variables_that_are_not_read_are_named() -> None:
    environment = {
        "LLAMA_ARG_TEMPERATURE": "1",
        "LLAMA_ARG_N_GPU_LAYERS": "9",
        "LLAMA_ARG_PORT": "1",
        "LLAMA_ARG_FIT": "",
        "HOME": "/",
    }
    assert llama_server.unread_variables(parser(), environment) == ["LLAMA_ARG_N_GPU_LAYERS", "LLAMA_ARG_TEMPERATURE"]


@pytest.fixture
def command(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(capsysbinary, monkeypatch)
