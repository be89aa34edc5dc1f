"""The plugin of the command ``llm``; ``nox -s drop-in`` runs this."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llm
import numpy as np
import pytest
from click.testing import CliRunner
from llm.cli import cli
from llm.plugins import load_plugins, pm

from llamaq import LLM, SamplingParams
from llamaq.integrations import llm_plugin
from published import smollm2
from written import Written


@pytest.fixture(autouse=True)
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    load_plugins()
    if not pm.is_registered(llm_plugin):
        pm.register(llm_plugin)
    llm_plugin.register_commands(cli)
    yield
    llm_plugin._loaded.clear()


def run(*argv: str) -> str:
    done = CliRunner().invoke(cli, list(argv), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return str(done.output)


@pytest.fixture
def smol_known(smol: LLM) -> LLM:
    """The model under a name, loaded already."""
    run("llamaq", "add", "smol", str(smollm2()))
    llm_plugin._loaded[str(smollm2().resolve())] = smol
    return smol


def test_commands(smol_known: LLM) -> None:
    assert run("llamaq", "list").startswith(f"llamaq/smol  {smollm2().resolve()}\n")
    assert "llamaq: llamaq/smol" in run("models")
    said = [{"role": "system", "content": "You are kind."}, {"role": "user", "content": "Say hello."}]
    expected = smol_known.chat(said, max_tokens=8, sampling=SamplingParams(temperature=0)).text
    ask = ["-m", "llamaq/smol", "-s", "You are kind.", "-o", "temperature", "0", "-o", "max_tokens", "8", "Say hello."]
    assert run("prompt", *ask) == expected + "\n"
    assert run("prompt", "--no-stream", *ask) == expected + "\n"
    vector = json.loads(run("embed", "-m", "llamaq/smol", "-c", "a text"))
    np.testing.assert_array_equal(np.array(vector, np.float32), smol_known.embed("a text")[0])
    run("llamaq", "remove", "smol")
    assert "llamaq/smol" not in run("llamaq", "list")


def test_models_that_are_here_can_be_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMAQ_MODELS", str(tmp_path))
    (tmp_path / "a model.gguf").symlink_to(smollm2())
    (line,) = [line for line in run("llamaq", "list").splitlines() if "a model" in line]
    assert line == f"  'a model'  {tmp_path / 'a model.gguf'}"
    run("llamaq", "add", "mine", "a model")
    assert run("llamaq", "list").startswith("llamaq/mine  a model\n")
    assert "  'a model'" not in run("llamaq", "list")
    done = CliRunner().invoke(cli, ["llamaq", "remove", "smol"])
    assert (done.exit_code, "there is no model llamaq/smol" in done.output) == (1, True)


def test_a_file_that_cannot_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llamaq.hub.models", list)  # this machine may have some
    (tmp_path / "bad.gguf").write_text("no model")
    run("llamaq", "add", "bad", str(tmp_path / "bad.gguf"))
    done = CliRunner().invoke(cli, ["prompt", "-m", "llamaq/bad", "Hello"])
    assert done.exit_code == 1
    assert "bad.gguf" in done.output
    (tmp_path / "llamaq.json").write_text("[")
    assert run("llamaq", "list") == ""


def test_conversations_and_usage(smol_known: LLM) -> None:
    talk = llm.get_model("llamaq/smol").conversation()
    first = talk.prompt("Say hello.", temperature=0, max_tokens=8)
    assert first.text().startswith("Hello")
    assert (first.usage().output, first.usage().input > 0) == (8, True)
    said = [
        {"role": "user", "content": "Say hello."},
        {"role": "assistant", "content": first.text()},
        {"role": "user", "content": "Again."},
    ]
    expected = smol_known.chat(said, max_tokens=8, sampling=SamplingParams(temperature=0))
    second = talk.prompt("Again.", temperature=0, max_tokens=8)
    assert (second.text(), second.usage().input) == (expected.text, expected.usage.prompt_tokens)

    async def asked() -> str:
        return str(await llm.get_async_model("llamaq/smol").prompt("Say hello.", temperature=0, max_tokens=8).text())

    assert asyncio.run(asked()) == first.text()


def test_schemas(smol_known: LLM) -> None:
    schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]}
    text = llm.get_model("llamaq/smol").prompt("One or two?", schema=schema, max_tokens=60).text()
    assert json.loads(text)["n"] in (1, 2)


def test_tools(smol_known: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    template = (
        "{% if tools %}Write <tool_call>: {{ tools|tojson }}\n{% endif %}"
        "{% for m in messages %}{{ m.role }}: {{ m.content }}{% for c in m.tool_calls or [] %}"
        "{{ c.function.arguments|tojson }}{% endfor %}\n{% endfor %}assistant:"
    )
    call = '<tool_call>{"name": "weather", "arguments": {"city": "Rome"}}</tool_call>'
    answers = iter([f"<think>Hm.</think>Well. {call}", "It is sunny."])
    asked: list[Any] = []
    chat = smol_known.chat

    def written(messages: Any, *, sampling: Any, **options: Any) -> Any:
        asked.append(messages)
        processor = Written(smol_known.tokenizer, next(answers))
        return chat(messages, sampling=SamplingParams(logit_processors=[processor]), template=template, **options)

    monkeypatch.setattr(smol_known, "chat", written)

    def weather(city: str) -> str:
        """The weather of a city."""
        return f"sunny in {city}"

    assert llm.get_model("llamaq/smol").chain("Weather?", tools=[weather]).text().endswith("It is sunny.")
    assert asked[1][-1]["content"] == "sunny in Rome"
    (told,) = asked[1][-2]["tool_calls"]
    assert told["function"] == {"name": "weather", "arguments": {"city": "Rome"}}
    assert asked[1][-2]["reasoning_content"] == "Hm."
