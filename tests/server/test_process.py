"""The command as a process, through a real port: OpenAI's client, raw HTTP, signals."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Literal

import openai
import pydantic
import pytest

from asgi import TEMPLATE
from command import Command
from llamaq import LLM, SamplingParams
from llamaq.errors import LlamaqError
from llamaq.server import Settings, app
from served import Served, served
from terminal import environment
from waiting import wait_until

pytestmark = pytest.mark.subprocess

HELLO: list[Any] = [{"role": "user", "content": "Tell me of Tom"}]


@pytest.fixture(scope="module")
def server(stories: Path) -> Iterator[Served]:
    options = ("-t", 1, "--alias", "stories", "--chat-template", TEMPLATE, "--api-key", "k-1", "--metrics", "-ngl", 99)
    with served(stories, *options) as found:
        yield found


@pytest.fixture(scope="module")
def client(server: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="k-1", max_retries=0) as found:
        yield found


@pytest.fixture(scope="module")
def expected(stories: Path) -> str:
    with LLM.load(stories, threads=1) as llm:
        return llm.chat(HELLO, template=TEMPLATE, max_tokens=12, sampling=SamplingParams(seed=1)).text


@pytest.fixture
def command(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(capsysbinary, monkeypatch)


def test_openais_client_chats(client: openai.OpenAI, expected: str) -> None:
    done = client.chat.completions.create(model="stories", messages=HELLO, max_tokens=12, seed=1)
    assert (done.choices[0].message.content, done.choices[0].finish_reason) == (expected, "length")
    assert done.usage is not None
    assert done.usage.completion_tokens == 12
    chunks = list(
        client.chat.completions.create(
            model="stories", messages=HELLO, max_tokens=12, seed=1, stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == expected
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 12


def test_openais_client_goes_on_with_texts(client: openai.OpenAI) -> None:
    done = client.completions.create(model="stories", prompt="Once upon", max_tokens=5, logprobs=2, temperature=0)
    logprobs = done.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert "".join(logprobs.tokens) == done.choices[0].text == " a time, there was"[: len(done.choices[0].text)]
    assert [model.id for model in client.models.list()] == ["stories"]
    assert client.models.retrieve("stories").id == "stories"


def test_openais_client_gets_responses(client: openai.OpenAI, expected: str) -> None:
    asked: Any = {"model": "stories", "input": "Tell me of Tom", "max_output_tokens": 12, "extra_body": {"seed": 1}}
    assert client.responses.create(**asked).output_text == expected
    with client.responses.stream(**asked) as stream:
        events = list(stream)
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == expected
    last: Any = events[-1]
    assert (last.type, last.response.output_text) == ("response.incomplete", expected)


def test_openais_client_parses_structures_and_calls(client: openai.OpenAI) -> None:
    class Pick(pydantic.BaseModel):
        n: Literal[1, 2]

    answer = client.responses.parse(model="stories", input="Pick", text_format=Pick)
    assert answer.output_parsed is not None
    assert answer.output_parsed.n in (1, 2)
    tool: Any = openai.pydantic_function_tool(Pick)
    asked: Any = {"model": "stories", "messages": [{"role": "user", "content": "Go"}], "tools": [tool]}
    done = client.chat.completions.parse(**asked, tool_choice="required", parallel_tool_calls=False, max_tokens=100)
    calls: Any = done.choices[0].message.tool_calls
    (call,) = calls
    assert isinstance(call.function.parsed_arguments, Pick)


def test_openais_client_embeds(client: openai.OpenAI, stories: Path) -> None:
    """It asks for base64 unasked."""
    vector = client.embeddings.create(model="stories", input="Tom saw a dog").data[0].embedding
    with LLM.load(stories, threads=1) as llm:
        assert vector == llm.embed("Tom saw a dog")[0].tolist()


def test_openais_client_gets_structures(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"yes": {"type": "boolean"}}, "required": ["yes"]}
    format: Any = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}
    done = client.chat.completions.create(model="stories", messages=HELLO, max_tokens=60, response_format=format)
    assert set(json.loads(done.choices[0].message.content or "")) == {"yes"}


def test_openais_client_knows_the_errors(client: openai.OpenAI, server: Served) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="stories", messages=HELLO, top_p=7)
    assert caught.value.param == "top_p"
    assert client.chat.completions.create(model="gpt-4", messages=HELLO, max_tokens=1).model == "stories"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4")
    long: Any = [{"role": "user", "content": "word " * 2000}]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="stories", messages=long, stream=True)
    assert caught.value.code == "context_length_exceeded"
    with (
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong", max_retries=0) as other,
        pytest.raises(openai.AuthenticationError),
    ):
        other.models.list()


def test_harmless_options_are_told(server: Served) -> None:
    assert "llamaq: -ngl changes nothing here" in server.lines


def ask(server: Served, body: dict[str, Any]) -> socket.socket:
    """A connection that has asked for a text and read nothing."""
    raw = json.dumps(body).encode()
    headers = ("Host: localhost", "Authorization: Bearer k-1", "Content-Type: application/json")
    head = "\r\n".join(["POST /v1/completions HTTP/1.1", *headers, f"Content-Length: {len(raw)}", "", ""])
    found = socket.create_connection(("127.0.0.1", server.port))
    found.sendall(head.encode() + raw)
    return found


def numbers(server: Served) -> dict[str, float]:
    connection = HTTPConnection("127.0.0.1", server.port)
    connection.request("GET", "/metrics", headers={"Authorization": "Bearer k-1"})
    page = connection.getresponse().read().decode()
    connection.close()
    pairs = (line.rpartition(" ") for line in page.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


@pytest.mark.parametrize("stream", [False, True])
def test_clients_that_break_off_leave_nothing_running(server: Served, stream: bool) -> None:
    for _ in range(5):
        connection = ask(server, {"prompt": "Once", "n": 16, "ignore_eos": True, "stream": stream})
        wait_until(lambda: numbers(server)["llamaq_answers_running"])
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()  # this sends a reset
        wait_until(lambda: not numbers(server)["llamaq_answers_running"])
    assert numbers(server)['llamaq_requests_total{route="/v1/completions",status="499"}'] >= 5


def test_clients_that_break_off_are_no_news(stories: Path) -> None:
    with served(stories, "-t", 1, "--no-api-key", "--log-format", "none") as server:
        for _ in range(10):
            connection = ask(server, {"prompt": "Once", "n": 8, "ignore_eos": True, "stream": True})
            connection.recv(100)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        assert server.end() == (0, "")


def test_pipelined_requests_and_odd_ones(server: Served) -> None:
    connection = socket.create_connection(("127.0.0.1", server.port))
    connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
    text = b""
    while text.count(b'{"status":"ok"}') < 3:
        text += connection.recv(65536)
    connection.sendall(b"NONSENSE\r\n\r\n")
    while piece := connection.recv(65536):
        text += piece
    connection.close()
    assert text.count(b'{"status":"ok"}') == 3
    assert b"HTTP/1.1 400" in text


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_lets_what_runs_end(stories: Path, number: int, code: int) -> None:
    with served(stories, "-t", 1, "--log-format", "json") as server:
        with ask(server, {"prompt": "Once", "max_tokens": 300, "ignore_eos": True, "stream": True}) as connection:
            text = connection.recv(65536)
            assert b"200 OK" in text
            ended, rest = server.end(number)
            while piece := connection.recv(65536):
                text += piece
        assert b"data: [DONE]" in text
        assert (ended, json.loads(rest.splitlines()[0])["status"]) == (code, 200)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--host", "0.0.0.0"], "--api-key"),
        (["--host", "no such host"], "no address"),
        (["--port", "70000"], "0 to 65535"),
        (["--slot-save-path", "x"], "--slot-save-path cannot be honoured"),
        (["--models-dir", "/nonexistent"], "--models-dir"),
        (["/nonexistent.gguf", "--alias", "x"], "--alias"),
        (["--timeout", "-2"], "seconds"),
        (["--sse-ping-interval", "inf"], "seconds"),
        (["--sse-ping-interval", "0"], "0.001 or more"),
        (["--send-timeout", "0"], "0.001 or more"),
        (["--lora", "x.gguf", "a.gguf", "b.gguf"], "--lora goes with one model"),
        (["--lora-scaled", "x.gguf"], "expected FILE:SCALE"),
        (["--temp", "1"], "--temp"),
        (["--ssl-cert-file", "x"], "--ssl-key-file"),
        (["--chat-template", "nosuch"], "nosuch"),
        (["--api-key-file", "/nonexistent"], "/nonexistent"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_listens(
    stories: Path,
    capsysbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
    argv: list[str],
    said: str,
) -> None:
    done = Command(capsysbinary, monkeypatch)("serve", stories, "--port", 0, *argv)
    assert done.code in (1, 2)
    assert said in done.err


SLOW = """
import sys
from llamaq import LLM
from llamaq.cli import main
load = LLM.load
LLM.load = lambda *given, **more: (sys.stdin.readline(), load(*given, **more))[1]
sys.exit(main(sys.argv[1:]))
"""
"""The command, which loads its model once a line is written to it."""


@pytest.mark.parametrize("good", [True, False])
def test_the_port_answers_while_the_model_is_being_loaded(stories: Path, tmp_path: Path, good: bool) -> None:
    """A model that cannot be loaded ends the server with its error."""
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF nonsense")
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, "serve", stories if good else path, "--port", "0", "-t", "1"],
        stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip

    assert process.stdin is not None
    assert process.stderr is not None
    found = re.search(r"until then http://127.0.0.1:(\d+) answers 503", process.stderr.readline())
    assert found is not None
    port = int(found[1])

    def health() -> int:
        connection = HTTPConnection("127.0.0.1", port)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status
        finally:
            connection.close()

    try:
        assert not good or health() == 503
        process.stdin.write("go\n")
        process.stdin.flush()
        if good:
            wait_until(lambda: health() == 200)
            process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
        assert process.returncode == (0 if good else 1)
        assert ("is served at" in err) is good
        assert err.count("expected GGUF version") == (0 if good else 1)
        assert ("broken.gguf" in err) is not good
    finally:
        process.kill()
        process.communicate()


def test_several_models(stories: Path, tmp_path: Path) -> None:
    (tmp_path / "one.gguf").symlink_to(stories)
    with served("--models-dir", tmp_path, stories, "-t", 1, "-c", 128, "--sleep-idle-seconds", 1000) as server:
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="-", max_retries=0) as client:
            assert {model.id for model in client.models.list()} == {"one", stories.stem}
            for name in ("one", stories.stem):
                assert client.completions.create(model=name, prompt="Tom", max_tokens=1).model == name
            with pytest.raises(openai.NotFoundError):
                client.completions.create(model="two", prompt="Tom")
        assert server.end()[0] == 0


def test_a_port_that_is_taken(stories: Path, command: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = command("serve", stories, "--port", port)
    said = f"{os.strerror(errno.EADDRINUSE)}; choose another port (0: any that is free)"
    assert (done.code, done.err) == (1, f"llamaq: error: cannot listen on 127.0.0.1 port {port}: {said}\n")


@pytest.mark.parametrize(
    ("missing", "said"), [("starlette", "the server needs starlette"), ("uvicorn", "needs uvicorn")]
)
def test_without_the_extra_the_error_names_it(stories: Path, missing: str, said: str) -> None:
    script = f"import sys; sys.modules[{missing!r}] = None; from llamaq.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", script, "serve", stories], capture_output=True, text=True, env=environment()
    )
    assert (done.returncode, said in done.stderr, "pip install 'llamaq[server]'" in done.stderr) == (1, True, True)


def test_without_prometheus_client_metrics_are_refused(model: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(LlamaqError, match="prometheus_client"):
        app(model, Settings(metrics=True))
    app(model)
