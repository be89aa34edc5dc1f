"""What clients do wrong over real connections: the server answers others as if nothing were, and keeps nothing."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
import trustme
from starlette.routing import Route

from asgi import Client
from llamaq import LLM
from llamaq.server import Settings, app, running
from raw_http import (
    ENDLESS,
    ROUTE,
    SHORT,
    ask,
    connect,
    descriptors,
    everything,
    head,
    numbers,
    request,
    reset,
    text_of,
)
from served import Served, served
from waiting import wait_until

pytestmark = pytest.mark.subprocess


@pytest.fixture(scope="module")
def server(stories: Path) -> Iterator[Served]:
    limits = ("--body-timeout", "0.5", "--send-timeout", "0.5", "--max-body", "1", "--drain-timeout", "0.1")
    with served(stories, "-t", 1, "-c", 512, "--metrics", *limits) as found:
        yield found


@pytest.fixture(scope="module")
def expected(server: Served) -> str:
    return text_of(server)


@pytest.fixture(autouse=True)
def nothing_is_left(server: Served, expected: str) -> Iterator[None]:
    """After each test the server answers as before, and nothing runs."""
    yield
    wait_until(lambda: not numbers(server)["llamaq_answers_running"])
    assert text_of(server) == expected
    assert server.process.poll() is None


@pytest.mark.parametrize("close", [reset, socket.socket.close])
@pytest.mark.parametrize("part", [b"", b"POST /v1", head(100), head(100) + b'{"prompt"', request(ENDLESS)])
def test_clients_that_go_at_any_point(server: Served, part: bytes, close: Any) -> None:
    for _ in range(5):
        connection = connect(server)
        connection.sendall(part)
        close(connection)


def test_a_client_that_goes_while_its_prompt_is_read(server: Served) -> None:
    long = {"prompt": [5] * 500, "max_tokens": 1}
    for _ in range(5):
        connection = connect(server)
        connection.sendall(request(long))
        reset(connection)


def test_a_client_that_ends_its_side_is_gone(server: Served) -> None:
    """Whoever listens for an answer keeps its side open."""
    connection = connect(server)
    connection.sendall(request(ENDLESS))
    assert connection.recv(100)
    connection.shutdown(socket.SHUT_WR)
    everything(connection)
    connection.close()


@pytest.mark.parametrize("close", [reset, socket.socket.close])
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_while_a_further_request_waits(server: Served, stream: bool, close: Any) -> None:
    """It is gone for the first one, too."""

    def ended() -> dict[str, float]:
        return {name: count for name, count in numbers(server).items() if f'total{{route="{ROUTE}"' in name}

    before = ended()
    connection = connect(server)
    connection.sendall(request({**ENDLESS, "stream": stream}) + request(SHORT))
    wait_until(lambda: numbers(server)["llamaq_answers_running"])
    connection.sendall(request(SHORT))
    close(connection)
    wait_until(lambda: ended() != before)
    gone = f'llamaq_requests_total{{route="{ROUTE}",status="499"}}'
    assert ended() == {**before, gone: before.get(gone, 0) + 1}


def test_machines_that_vanish_are_found_out() -> None:
    """The kernel asks, and tells as it does of a client that hangs up."""
    with (
        running.listen(socket.AF_INET, ("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()),
        listening.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)  # small pieces are sent at once
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60


@pytest.mark.parametrize(
    "part",
    [
        b"",
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n",
        head(100) + b"{",
        head(None, "Transfer-Encoding: chunked") + b"100\r\n",
    ],
)
def test_requests_that_never_come_are_ended(server: Served, part: bytes) -> None:
    """Also those of which a byte comes now and then."""
    with connect(server) as connection:
        connection.sendall(part)
        connection.settimeout(0.05)
        found = b""
        while True:
            try:
                piece = connection.recv(65536)
            except TimeoutError:
                connection.send(b"1" if part else b"")
                continue
            except ConnectionResetError:
                break
            found += piece
            if not piece:
                break
        assert (b" 408 " in found) == (part.startswith(b"POST /v1/completions HTTP/1.1\r\nHost: localhost"))


def test_who_reads_nothing_loses_the_answer(server: Served) -> None:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", server.port))
    connection.sendall(request({**ENDLESS, "logprobs": 20}))
    wait_until(lambda: numbers(server)["llamaq_answers_running"])
    wait_until(lambda: not numbers(server)["llamaq_answers_running"])
    assert not everything(connection).endswith(b"0\r\n\r\n")  # it does not look complete
    connection.close()


@pytest.mark.parametrize("more", [(), ("Connection: close",)])
def test_who_reads_nothing_of_a_whole_answer_does_not_keep_the_connection(server: Served, more: tuple[str]) -> None:
    """More of it is left than the buffers of the system hold."""
    before = descriptors(server)
    raw = json.dumps({"content": "a b c d " * 100_000, "with_pieces": True}).encode()
    unread = []
    for _ in range(3):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(head(len(raw), *more, path="/tokenize") + raw)
        assert connection.recv(9) == b"HTTP/1.1 "
        unread.append(connection)
    wait_until(lambda: descriptors(server) <= before + 1)
    for connection in unread:
        connection.close()


def test_bodies_that_are_too_large_are_refused_unread(server: Served) -> None:
    with connect(server) as connection:
        connection.sendall(head(2**40))
        assert b"HTTP/1.1 413" in connection.recv(65536)
    with connect(server) as connection:
        connection.sendall(head(None, "Transfer-Encoding: chunked"))
        chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
        try:
            for _ in range(20):
                connection.sendall(chunk)
        except (ConnectionResetError, BrokenPipeError):
            pass
        assert b"HTTP/1.1 413" in everything(connection)


def test_expect_100_continue(server: Served) -> None:
    """It is only said where the body is wanted."""
    raw = json.dumps(SHORT).encode()
    with connect(server) as connection:
        connection.sendall(head(len(raw), "Expect: 100-continue", "Connection: close"))
        assert connection.recv(65536).startswith(b"HTTP/1.1 100")
        connection.sendall(raw)
        assert b"HTTP/1.1 200" in everything(connection)
    with connect(server) as connection:
        connection.sendall(head(2**40, "Expect: 100-continue", "Connection: close"))
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")


def test_every_method_of_every_path(server: Served, model: LLM) -> None:
    paths = {route.path for route in app(model).routes if isinstance(route, Route)} | {
        "/",
        "/nothing",
        "/%00",
        "/v1/models/%ff%00",
        "/v1/models/x",
    }
    for path in sorted(paths):
        got = {}
        for method in ("GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH", "TRACE", "NONSENSE"):
            status, body = ask(server, method, path.replace("{id:path}", "x"), b"")
            assert status < 500 or status == 501, (method, path)
            assert not (method == "HEAD" and body)
            got[method] = status
        assert got["PUT"] in (404, 405)
        if path != "/api/blobs/{digest}":  # Ollama's clients ask with HEAD alone whether a file is there
            assert got["HEAD"] == got["GET"]


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b'{"prompt": "a\\u0000b", "max_tokens": 1}', 200),
        (b'{"prompt": "a\x00b"}', 400),
        (b'{"prompt": "\xff"}', 400),
        (b'{"prompt": NaN}', 400),
        (b'{"prompt": "' + b"x" * 2**20 + b'"}', 413),
    ],
)
def test_odd_bodies(server: Served, raw: bytes, status: int) -> None:
    assert ask(server, "POST", ROUTE, raw)[0] == status


@pytest.mark.parametrize("part", [b"X: y\r\n", b"y"], ids=["headers", "header"])
def test_a_head_without_end_takes_no_memory(server: Served, part: bytes) -> None:
    """It is ended long before the time for it is over; the system's buffers take some, too."""
    with connect(server) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nA: b\r\nC: ")
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            connection.sendall(part * (64 * 2**20 // len(part)))


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /health HTTP/1.1\r\nHost: localhost\x00\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET " + b"/" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 200_000 + b"\r\n",
        head(5, "Content-Length: 6") + b"{}{}{}",
        head(5, "Transfer-Encoding: chunked") + b"zz\r\n",
    ],
)
def test_what_is_no_http(server: Served, raw: bytes) -> None:
    with connect(server) as connection:
        try:
            connection.sendall(raw + b"\n" * 8)
        except (ConnectionResetError, BrokenPipeError):
            return
        connection.settimeout(10)
        assert not everything(connection).startswith(b"HTTP/1.1 200")


def test_pipelined_requests_are_answered_in_their_order(server: Served, expected: str) -> None:
    bodies = [{**SHORT, "max_tokens": n} for n in (4, 1, 3)]
    with connect(server) as connection:
        connection.sendall(b"".join(map(request, bodies[:-1])) + request(bodies[-1], "Connection: close"))
        answers = everything(connection).split(b"HTTP/1.1 200 OK")[1:]
    found = [json.loads(answer.partition(b"\r\n\r\n")[2])["usage"]["completion_tokens"] for answer in answers]
    assert found == [4, 1, 3]


def test_clients_that_are_killed(server: Served) -> None:
    before = descriptors(server)
    raw = request(ENDLESS).decode().replace("%", "%%").replace("\r\n", r"\r\n").replace("'", r"'\''")
    script = f"exec 3<>/dev/tcp/127.0.0.1/{server.port}; printf '{raw}' >&3; read -r -N 100 <&3; kill -9 $$"
    for _ in range(5):
        clients = [subprocess.Popen(["bash", "-c", script]) for _ in range(20)]
        assert [client.wait() for client in clients] == [-signal.SIGKILL] * 20
    wait_until(lambda: descriptors(server) <= before + 1)


def test_idle_connections_keep_nobody_out(server: Served, expected: str) -> None:
    before = descriptors(server)
    idle = [connect(server) for _ in range(200)]
    wait_until(lambda: descriptors(server) >= before + 200)
    assert text_of(server) == expected
    assert [everything(connection) for connection in idle] == [b""] * 200  # they are closed in the end
    for connection in idle:
        connection.close()
    wait_until(lambda: descriptors(server) <= before + 1)


@pytest.mark.parametrize(
    "more",
    [
        {"stop": ["a" * 1023 + "b"] * 64},
        {"stop": ["a" * 1024 for _ in range(64)], "prompt": "a" * 400},
        {"grammar": 'root ::= ' + "(" * 60 + '"a"' + "{1,99}) " * 1 + ")" * 59},
        {"grammar": 'root ::= ((("a"{1,1000}){1,1000}){1,1000}){1,1000}'},
        {"grammar": "root ::= root root | root"},
        {"grammar": "\n".join(f"r{i} ::= r{i + 1} r{i + 1}" for i in range(500)) + '\nr500 ::= "a"\nroot ::= r0'},
        {"json_schema": {"type": "string", "pattern": "(a+)+$"}},
        {"json_schema": {"type": "string", "pattern": "(((a{1,999}){1,999}){1,999}){1,999}"}},
        {"json_schema": {"type": "array", "minItems": 10**9, "items": {"type": "null"}}},
        {"json_schema": {"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}] * 20}}}},
        {"json_schema": {"enum": [f"word {i}" for i in range(20_000)]}},
        {"dry_sequence_breakers": ["a" * 256] * 64, "dry_multiplier": 1.0},
    ],
)  # fmt: skip
def test_bombs(server: Served, more: dict[str, Any]) -> None:
    """They are refused, or bounded by the tokens that they may make."""
    status, body = ask(server, "POST", ROUTE, json.dumps({**SHORT, "max_tokens": 8, **more}).encode())
    assert status in (200, 400), body


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(10**9) %}x{% endfor %}",
        "{{ 'x' * 10**12 }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ [1] * 10**10 }}",
        "{{ messages.__class__.__mro__ }}",
    ],
)
def test_bombs_in_templates(model: LLM, template: str) -> None:
    client = Client(app(model, Settings(template=template)))
    reply = client.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1})
    assert (reply.status, reply.error["type"]) == (400, "invalid_request_error")


def test_https(stories: Path, tmp_path: Path) -> None:
    authority = trustme.CA()
    own = authority.issue_cert("localhost")
    own.private_key_pem.write_to_path(tmp_path / "key.pem")
    for part in own.cert_chain_pems:
        part.write_to_path(tmp_path / "cert.pem", append=True)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    files = ("--ssl-cert-file", tmp_path / "cert.pem", "--ssl-key-file", tmp_path / "key.pem")
    with served(stories, "-t", 1, *files) as server:
        assert server.url.startswith("https://")
        connection = HTTPSConnection("localhost", server.port, context=context)
        connection.request("POST", ROUTE, json.dumps({**SHORT, "stream": True}), {"Content-Type": "application/json"})
        answer = connection.getresponse().read()
        assert answer.endswith(b"data: [DONE]\n\n")
        connection.close()
        with connect(server) as plain:
            plain.sendall(request(SHORT))
            assert b"HTTP/1.1 200" not in everything(plain)
        assert server.end()[0] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_of_a_stream_is_an_error_in_it(stories: Path, number: int) -> None:
    with served(stories, "-t", 1, "-c", 2048, "--drain-timeout", 0) as server:
        with connect(server) as connection:
            connection.sendall(request(ENDLESS))
            text = connection.recv(65536)
            code, _ = server.end(number)
            text += everything(connection)
        assert code == (0 if number == signal.SIGTERM else 130)
        assert b'"type":"unavailable_error"' in text
        assert b"[DONE]" not in text


def test_a_certificate_that_is_none(stories: Path, tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_text("nonsense")
    with pytest.raises(AssertionError, match=r"x\.pem.*PEM"), served(
        stories, "--ssl-cert-file", tmp_path / "x.pem", "--ssl-key-file", tmp_path / "x.pem"
    ):  # fmt: skip
        pass
