"""MODEL on the command line is a name, too."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from command import Command
from llamaq import LLM
from llamaq.engine import bundled
from model_places import Places
from served import served


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stories: Path) -> Places:
    monkeypatch.chdir(tmp_path)
    return Places(tmp_path / "home", monkeypatch, stories.read_bytes())


@pytest.fixture
def command(places: Places, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(capsysbinary, monkeypatch)


RUN = ("-n", 8, "-t", 1, "-s", 1)


def test_every_command_takes_names(command: Command, places: Places, stories: Path, tmp_path: Path) -> None:
    places.ollama()
    text = tmp_path / "text.txt"
    text.write_text("Once upon a time there was a little girl. " * 20)
    commands: list[list[object]] = [
        ["run", "llama3.2", "Once upon", *RUN],
        ["tokenize", "llama3.2", "Once"],
        ["perplexity", "llama3.2", "-f", text, "-c", 32, "-t", 1, "--json"],
        ["quantize", "--dry-run", "--allow-requantize", "llama3.2", "out.gguf", "Q8_0"],
        ["compare", "llama3.2", "llama3.2", "-f", text, "-c", 32, "-t", 1, "--json"],
        ["split", "llama3.2", "part", "--dry-run"],
    ]
    for argv in commands:
        named, by_path = (
            command(*[path if arg == "llama3.2" else arg for arg in argv]) for path in ("llama3.2", stories)
        )
        assert (named.code, named.err) == (0, ""), argv
        if argv[0] not in ("perplexity", "compare"):  # they tell seconds
            assert named.out == by_path.out
    info = json.loads(command("info", "-m", "llama3.2", "--json").out)
    assert info["files"] == [str(places.ollama())]
    assert command("merge", "llama3.2", "whole.gguf").code == 0
    done = command("quantize", "llama3.2", "Q8_0", "--allow-requantize")
    assert done.code == 2
    assert "name the file to write, OUT.gguf" in done.err


def test_a_first_argument_without_a_space_is_a_model(
    command: Command, places: Places, stories: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places.own("tiny.gguf")
    monkeypatch.setattr(bundled, "_FILE", stories)
    of_bundled = command("run", "-p", "tiny", *RUN)
    assert of_bundled.out == command("run", "tiny", "tiny", *RUN).out
    assert of_bundled.out == command("run", "tiny", "-p", "tiny", *RUN).out
    assert of_bundled.out == command("run", "-m", "tiny", "tiny", *RUN).out
    assert command("run", "two words", *RUN).out == command("run", "tiny", "two words", *RUN).out
    assert command("run", "", *RUN).code == 0
    done = command("run", "hello", *RUN)
    assert (done.code, done.out) == (1, b"")
    assert "there is no model 'hello' here" in done.err
    assert "For the prompt 'hello' give it with -p" in done.err
    monkeypatch.setenv("LLAMA_ARG_MODEL", "tiny")
    assert command("run", "hello", *RUN).code == 1
    assert command("run", "hello there", *RUN).err == ""
    spaced = places.own("with a space")
    assert command("run", spaced, "x", *RUN).code == 0
    assert command("info", spaced).code == 0


def test_a_word_tells_what_it_was_taken_for(command: Command, places: Places) -> None:
    places.package("llm-tiny", "Tiny-1M.Q8_0.gguf")
    done = command("run", "tiny1m", "Once upon", *RUN)
    assert (done.code, done.err) == (0, "llamaq: tiny1m is llm-tiny/Tiny-1M.Q8_0 (Python package)\n")
    assert command("run", "llm-tiny", "Once upon", *RUN).err == ""


@pytest.mark.parametrize("argv", [["run"], ["info"], ["tokenize"], ["bench"], ["serve"], ["perplexity"]])
def test_several_are_listed_and_2(command: Command, places: Places, argv: list[str]) -> None:
    for quant in ("Q4_K_M", "Q8_0"):
        places.hub("user/Tiny-GGUF", f"tiny-{quant}.gguf", content=quant.encode())
    done = command(*argv, "user/Tiny-GGUF")
    assert (done.code, done.out) == (2, b"")
    assert done.err == (
        "llamaq: error: 'user/Tiny-GGUF' may be 2 models; say which:\n"
        "  user/Tiny-GGUF:Q4_K_M  (hub cache)\n  user/Tiny-GGUF:Q8_0  (hub cache)\n"
    )


def test_names_do_not_command_a_terminal(command: Command, places: Places) -> None:
    for name in ("a-\x1b[2Jm.gguf", "b-\x1b[2Jm.gguf"):
        places.own(name).write_bytes(name.encode())
    done = command("info", "2jm")
    assert done.code == 2
    assert "\x1b" not in done.err


def test_a_folder_of_safetensors_says_convert(command: Command, places: Places, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "model-00001-of-00002.safetensors").touch()
    for name in (folder, "checkpoint"):
        done = command("run", name)
        assert done.code == 1
        assert f"llamaq convert {name} model.gguf" in done.err


def test_what_an_owner_wants_holds_where_nobody_says_otherwise(command: Command, places: Places) -> None:
    places.own("plain.gguf")
    places.content += b"\0"  # another blob, of the same weights
    places.ollama(params={"temperature": 0, "num_ctx": 64, "stop": ["girl"], "num_predict": 30, "top_k": "many"})
    argv = ["llama3.2", "-p", "Once upon a time, there was a", "-t", 1]
    plain = ["plain", *argv[1:], "-c", 64]
    done = command("run", *argv)
    assert (done.code, done.err.count("\n")) == (0, 1)
    assert "llama3.2:latest: its parameter is left out: top_k must be a whole number" in done.err
    assert done.out == command("run", *plain, "--temp", 0, "-n", 30, "-r", "girl").out
    own = [*RUN, "--temp", 1.5]
    assert command("run", *argv, *own).out == command("run", *plain, *own, "-r", "girl").out
    verbose = command("run", *argv, "-v").err
    assert "of 64 tokens used" in verbose
    assert "of 128 tokens used" in command("run", *argv, "-v", "-c", 128).err


@pytest.mark.subprocess
@pytest.mark.parametrize("argv", [(), ("demo",)])
def test_the_bundled_model_is_served_by_its_name(places: Places, argv: tuple[str, ...]) -> None:
    with served(*argv, "-t", 1, "-c", 64) as server:
        with urllib.request.urlopen(f"{server.url}/v1/models") as reply:
            assert [each["id"] for each in json.load(reply)["data"]] == ["demo"]
        with urllib.request.urlopen(f"{server.url}/api/tags") as reply:
            assert [each["name"] for each in json.load(reply)["models"]] == ["demo"]


@pytest.mark.subprocess
def test_a_server_calls_its_model_by_its_name(places: Places) -> None:
    places.ollama()
    with served("llama3.2", "-t", 1, "-c", 64) as server:
        with urllib.request.urlopen(f"{server.url}/v1/models") as reply:
            assert [each["id"] for each in json.load(reply)["data"]] == ["llama3.2:latest", "llama3.2"]
        for name in ("llama3.2", "llama3.2:latest"):
            body = json.dumps({"model": name, "prompt": "Once", "max_tokens": 2}).encode()
            request = urllib.request.Request(f"{server.url}/v1/completions", body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request) as reply:
                assert json.load(reply)["model"] == "llama3.2:latest"


def test_the_library_takes_the_same_names(places: Places, stories: Path) -> None:
    system = "Speak of cats."
    places.content += b"\0"
    places.ollama(params={"temperature": 0, "seed": 7, "stop": "x", "num_ctx": 100}, system=system)
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
    with LLM.load("llama3.2", threads=1) as llm, LLM.load(stories, threads=1, n_ctx=100) as plain:
        assert (llm.n_ctx, llm.model.defaults.sampling.temperature, llm.model.defaults.stop) == (100, 0, ("x",))
        user = {"role": "user", "content": "Hello"}
        said = [{"role": "system", "content": system}, user]
        for messages in ([user], said, (user,)):
            answer = llm.chat(messages, template=template, max_tokens=8)
            assert answer.usage.prompt_tokens == plain.chat(said, template=template, max_tokens=1).usage.prompt_tokens
        assert llm.generate("Once", max_tokens=9).text == llm.generate("Once", max_tokens=9).text
        assert llm.generate("Once", max_tokens=9).seed == 7
        (batched,) = llm.batch(["Once"], max_tokens=9)
        assert batched.text == llm.generate("Once", max_tokens=9).text


def test_unknown_parameters_do_no_harm(places: Places, shared: Callable[[str], Path]) -> None:
    places.ollama(params={"num_gpu": 99, "seed": -1, "num_predict": -2, "penalize_newline": False, "stop": [1]})
    with LLM.load("llama3.2", threads=1, n_ctx=64) as llm:
        assert llm.model.defaults.sampling.seed is None
        assert llm.model.defaults.max_tokens is None
        assert llm.model.defaults.stop == ()
