"""The commands about models on this machine: list, pull, rm, where, ps."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from command import Command
from hub_server import hub_server
from llamaq.engine import bundled
from model_places import COMMIT, Places


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stories: Path) -> Places:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return Places(tmp_path / "home", monkeypatch, stories.read_bytes())


@pytest.fixture
def command(places: Places, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(capsysbinary, monkeypatch)


def listed(command: Command) -> dict[str, dict[str, Any]]:
    done = command("list", "--json")
    assert (done.code, done.err) == (0, "")
    return {each["name"]: each for each in json.loads(done.out)}


def test_list(command: Command, places: Places, shared: Any) -> None:
    done = command("list")
    assert [row.split()[0] for row in done.out.decode().splitlines()] == ["NAME", "demo"]
    assert "there is no other model here yet; llamaq pull hf:user/repo:Q4_K_M" in done.err
    path = places.own("stories-Q8_0.gguf")
    places.own("broken.gguf").write_bytes(b"GGUF" + bytes(30))
    places.own("page.gguf").write_bytes(b"<!doctype html>\x1b[2J")
    places.content += b"\0"
    places.ollama(system="Be brief.")
    places.ollama("registry.ollama.ai/library/sees/latest", projector=b"clip")
    found = listed(command)
    assert list(found) == ["broken", "page", "stories-Q8_0", "llama3.2:latest", "sees:latest", "demo"]
    assert found["stories-Q8_0"] == {
        "name": "stories-Q8_0", "source": "llamaq's folder", "files": [str(path)], "bytes": path.stat().st_size,
        "format": "Q8_0", "architecture": "llama", "family": "Llama, Mistral and Mixtral", "runs": True,
        "problem": None,
    }  # fmt: skip
    assert (found["llama3.2:latest"]["format"], found["llama3.2:latest"]["runs"]) == ("Q8_0", True)
    assert "a web page" in found["page"]["problem"]
    assert found["broken"]["runs"] is False
    assert found["sees:latest"]["runs"] is True
    table = command("list").out.decode()
    head, *rows = table.splitlines()
    assert head.split() == ["NAME", "SIZE", "FORMAT", "FAMILY", "SOURCE", "RUNS"]
    assert [row.split()[0] for row in rows] == list(found)
    assert rows[2].endswith("yes")
    assert rows[4].endswith("yes")
    assert "\x1b" not in table


def test_an_unknown_architecture_and_format_say_why(command: Command, places: Places, shared: Any) -> None:
    vocabulary = next(shared("models").glob("ggml-vocab-*.gguf"), None) or shared("models/stories260K-Q8_0.gguf")
    places.own("v.gguf").write_bytes(vocabulary.read_bytes())
    raw = places.content.replace(b"llama", b"nosuc")
    places.own("strange.gguf").write_bytes(raw)
    found = listed(command)
    assert "nosuc" in found["strange"]["problem"]
    assert found["strange"]["architecture"] == "nosuc"
    assert found["strange"]["family"] is None


def test_the_bundled_model_has_a_name(command: Command, places: Places) -> None:
    path = str(bundled.path())
    found = listed(command)["demo"]
    assert (found["source"], found["files"], found["runs"], found["problem"]) == ("bundled", [path], True, None)
    assert command("where", "demo").out.decode() == f"{path}\n"
    assert json.loads(command("show", "demo", "--json").out)["files"] == [path]
    argv = ["-p", "Tell me a story.", "-n", 4, "-t", 1, "-s", 1]
    named, unnamed = command("run", "demo", *argv), command("run", *argv)
    assert (named.code, named.err, named.out) == (0, "", unnamed.out)
    assert unnamed.err == "llamaq: no model is given, so this is the bundled one, demo\n"
    done = command("rm", "demo", "-y")
    assert (done.code, "demo is not llamaq's to remove (bundled)" in done.err) == (1, True)
    assert bundled.path().exists()
    own = places.own("demo.gguf")  # whoever has a model of that name means it
    assert command("where", "demo").out.decode() == f"{own}\n"


def test_where(command: Command, places: Places) -> None:
    path = places.own("a.gguf")
    assert command("where", "a").out.decode() == f"{path}\n"
    parts = [places.hub("u/big", f"big-0000{i}-of-00002.gguf", content=b"%d" % i) for i in (1, 2)]
    assert command("where", "u/big").out.decode() == "".join(f"{part}\n" for part in parts)
    done = command("where", "nothing")
    assert (done.code, done.out) == (1, b"")


def test_pull(command: Command, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub_server() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.files = {"s-Q8_0.gguf": places.content, "page-Q2_K.gguf": b"<html>"}
        for name in ("u/r", "hf:u/r", "u/r:q8_0", f"{hub.url}/u/r"):
            done = command("pull", name)
            path = places.hub_folder / "models--u--r" / "snapshots" / COMMIT / "s-Q8_0.gguf"
            assert (done.code, done.out.decode()) == (0, f"{path}\n")
            assert done.err.endswith("llamaq: to run it: llamaq run u/r:Q8_0\n")
        assert hub.downloads() == ["s-Q8_0.gguf"]
        assert command("run", "u/r:Q8_0", "Once upon", "-n", 4, "-t", 1).err == ""
        elsewhere = hub.url.replace("127.0.0.1", "localhost")  # the hub's own address is the hub's
        done = command("pull", f"{elsewhere}/files/s-Q8_0.gguf")
        (path,) = places.own_folder.rglob("*.gguf")
        assert (done.code, done.out.decode()) == (0, f"{path}\n")
        name = done.err.rpartition("llamaq run ")[2].strip()
        assert command("run", name, "Once upon", "-n", 4, "-t", 1).err == ""
        done = command("pull", "u/r:Q2_K")
        assert done.code == 1
        assert "what was fetched is no model: " in done.err
        assert "a web page" in done.err
    done = command("pull", "llama3.2")
    assert done.code == 1
    assert "is no address on the Hugging Face hub, such as hf:user/repo:Q4_K_M" in done.err
    done = command("pull", "http://example.com/u/r/m.gguf")
    assert (done.code, "over https:// alone" in done.err) == (1, True)


def test_run_and_serve_fetch_what_others_do_not(
    command: Command, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub_server() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.files = {"s-Q8_0.gguf": places.content}
        for argv in (["info", "hf:u/r"], ["tokenize", "hf:u/r", "x"], ["bench", "hf:u/r"], ["info", "-hf", "u/r"]):
            done = command(*argv)
            assert done.code == 1
            assert "hf:u/r is not on this machine yet; fetch it: llamaq pull hf:u/r" in done.err
        assert hub.asked == []
        done = command("run", "hf:u/r", "Once upon", "-n", 4, "-t", 1)
        assert done.code == 0
        assert done.err.startswith("llamaq: hf:u/r is fetched, ")
        assert command("run", "-hf", "u/r:Q8_0", "Once upon", "-n", 4, "-t", 1).err == ""
        assert hub.downloads() == ["s-Q8_0.gguf"]


def test_rm(command: Command, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    path = places.own("a.gguf")
    done = command("rm", "a")
    assert done.code == 2
    assert "nobody is there to ask: -y removes a (llamaq's folder" in done.err
    assert path.exists()
    assert command("rm", "a", "-y").code == 0
    assert not path.exists()
    path, beside = places.own("sub/deep/stories-Q8_0.gguf"), places.own("sub/b.gguf")
    done = command("rm", "stories", "-y")
    assert done.code == 2
    assert "a word of a name is not enough here: llamaq rm sub/deep/stories-Q8_0" in done.err
    assert path.exists()
    assert command("rm", "stories-Q8_0", "-y").code == 0
    assert [each.name for each in beside.parent.iterdir()] == ["b.gguf"]  # the empty folder went, too
    for name, how in [
        (places.ollama(), "remove it as any other"),
        ("llama3.2", "ollama rm llama3.2:latest"),
        (places.lm_studio("p/m/m2.gguf") and "p/m", "LM Studio"),
    ]:
        done = command("rm", name, "-y")
        assert done.code == 1
        assert how in done.err
    assert len([each for each in listed(command) if each in ("llama3.2:latest", "p/m/m2.gguf")]) == 2


@pytest.mark.parametrize(
    ("answer", "gone"), [("y\n", True), ("yes\n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_rm_asks(command: Command, places: Places, monkeypatch: pytest.MonkeyPatch, answer: str, gone: bool) -> None:
    path = places.own("a.gguf")
    monkeypatch.setattr("llamaq.cli.rm.is_terminal", lambda file: True)
    done = command("rm", "a", stdin=answer.encode())
    assert f"  {path}\nRemove it? [y/N] " in done.err
    assert (done.code, path.exists()) == (0 if gone else 1, not gone)


def test_rm_takes_from_the_hubs_cache_what_nothing_needs(command: Command, places: Places) -> None:
    old = "b" * 40
    first = places.hub("u/r", "m-Q4_0.gguf", content=b"4")
    places.hub("u/r", "m-Q4_0.gguf", content=b"4", commit=old, ref="v1")
    eight = places.hub("u/r", "m-Q8_0.gguf", content=b"8")
    blobs = places.hub_folder / "models--u--r" / "blobs"
    assert command("rm", "u/r:Q8_0", "-y").code == 0
    assert not eight.is_symlink()
    assert len(list(blobs.iterdir())) == 1
    assert command("rm", "u/r:Q4_0", "-y").code == 0
    assert not first.is_symlink()
    assert len(list(blobs.iterdir())) == 1  # the other revision has it, too
    assert command("rm", "u/r@v1", "-y").code == 0
    assert list(places.hub_folder.iterdir()) == []


def test_rm_stays_in_its_folder(command: Command, places: Places, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine.gguf").write_bytes(b"GGUF")
    places.own("x.gguf")
    (places.own_folder / "linked").symlink_to(outside)
    done = command("rm", "mine", "-y")
    assert done.code == 1
    assert "remove it there" in done.err
    (places.own_folder / "link.gguf").symlink_to(outside / "mine.gguf")
    assert command("rm", "link", "-y").code == 0
    assert (outside / "mine.gguf").exists()
    elsewhere = places.hub("u/r", "m.gguf")
    elsewhere.unlink()
    elsewhere.symlink_to(outside / "mine.gguf")
    assert command("rm", "u/r", "-y").code == 0
    assert (outside / "mine.gguf").exists()


@contextmanager
def answering(routes: dict[str, tuple[int, bytes]]) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """A server with these answers; its URL, and the routes and keys that were asked."""
    asked: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers.get("Authorization")))
            code, body = routes.get(self.path, (404, b"{}"))
            self.send_response(code)
            self.send_header("Location", "http://127.0.0.1:1/stolen")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_ps(command: Command) -> None:
    model = {"name": "llama3.2:latest", "size": 3 * 2**30, "context_length": 4096, "expires_at": "2026-11-29T10:00:00Z"}
    with answering({"/api/ps": (200, json.dumps({"models": [model, "x", {}]}).encode())}) as (url, asked):
        done = command("ps", "--url", url, "--api-key", "k")
        assert (done.code, done.err) == (0, "")
        assert [row.split() for row in done.out.decode().splitlines()] == [
            ["NAME", "SIZE", "CONTEXT", "UNTIL"],
            ["llama3.2:latest", "3.00", "GiB", "4096", "2026-11-29T10:00:00Z"],
            ["?"],
        ]
        assert asked == [("/api/ps", "Bearer k")]
        port = url.rpartition(":")[2]
        assert command("ps", "--port", port).out == command("ps", "--url", url).out == done.out
        assert json.loads(command("ps", "--url", f"{url}/v1", "--json").out)["models"][0] == model
    model["expires_at"] = "9999-12-31T23:59:59Z"  # what llamaq and Ollama say of a model that stays
    with answering({"/api/ps": (200, json.dumps({"models": [model]}).encode())}) as (url, _):
        assert command("ps", "--url", url).out.endswith(b"forever\n")
    with answering({"/v1/models": (200, b'{"data": [{"id": "m\\u001b[2J"}]}')}) as (url, asked):
        done = command("ps", "--url", url)
        assert done.out.split()[4:] == ["m�[2J".encode()]
        assert [route for route, _ in asked] == ["/api/ps", "/v1/models"]
    with answering({"/api/ps": (200, b'{"models": []}')}) as (url, _):
        assert b"has no model in memory" in command("ps", "--url", url).out


@pytest.mark.parametrize(
    ("routes", "said"),
    [
        ({}, "has neither /api/ps nor /v1/models"),
        ({"/api/ps": (401, b"{}")}, "wants a key: --api-key"),
        ({"/api/ps": (500, b"{}")}, "answers with status 500"),
        ({"/api/ps": (302, b"")}, "answers with status 302"),
        ({"/api/ps": (200, b"<html>")}, "expected a JSON object"),
        ({"/api/ps": (200, b"[" * 100_000)}, "expected a JSON object"),
        ({"/api/ps": (200, b" " * (1 << 22) + b"{}")}, "expected a JSON object"),
    ],
    ids=["none", "key", "error", "redirect", "page", "deep", "long"],
)
def test_ps_of_something_else(command: Command, routes: dict[str, tuple[int, bytes]], said: str) -> None:
    with answering(routes) as (url, asked):
        done = command("ps", "--url", url, "--api-key", "secret")
    assert (done.code, done.out) == (1, b"")
    assert said in done.err
    assert len(asked) <= 2


def test_ps_without_a_server(command: Command) -> None:
    done = command("ps", "--url", "http://127.0.0.1:1")
    assert (done.code, "no server answers" in done.err, "llamaq serve" in done.err) == (1, True, True)
    for url in ("file:///etc/passwd", "localhost:8080", "http://", "http://localhost:port"):
        assert command("ps", "--url", url).code == 2
