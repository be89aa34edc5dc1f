"""Downloads from a hub on this machine."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub_server import Hub, hub_server
from llamaq import LLM
from llamaq.errors import DownloadError
from llamaq.hub import resolve
from llamaq.hub.address import Address
from llamaq.hub.download import fetch
from model_places import Places
from terminal import environment

BIG = b"GGUF" + bytes(range(256)) * 12_000


@pytest.fixture
def hub(places: Places, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    with hub_server() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.files = {
            "README.md": b"hello", "mmproj-m-Q8_0.gguf": b"GGUF", "m-Q2_K.gguf": BIG, "m-Q8_0.gguf": BIG + b"8",
            "m-F16-00001-of-00002.gguf": BIG + b"1", "m-F16-00002-of-00002.gguf": BIG + b"2",
        }  # fmt: skip
        yield hub


def fetched(name: str) -> Path:
    return resolve(name, download=True).path


def test_a_quantization_is_fetched_once(hub: Hub, places: Places) -> None:
    seen: list[tuple[int, int]] = []
    found = resolve("hf:u/r:q2_k", download=True, progress=lambda *now: seen.append(now))
    assert (found.path.read_bytes(), found.name, found.source) == (BIG, "u/r:Q2_K", "hub cache")
    assert found.path.is_relative_to(places.hub_folder)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert {total for _, total in seen} == {len(BIG)}
    assert (seen[0], seen[-1]) == ((0, len(BIG)), (len(BIG), len(BIG)))
    asked = len(hub.asked)
    for name in ("hf:u/r:q2_k", "u/r", "u/r:Q2_K", "m-q2_k", f"{hub.url}/u/r/resolve/main/m-Q2_K.gguf"):
        assert resolve(name, download=True).path == found.path
    assert len(hub.asked) == asked


def test_only_what_is_needed_is_asked_for(hub: Hub) -> None:
    fetched("hf:u/r:Q2_K")
    assert {(method, path) for method, path, _ in hub.asked} <= {
        ("GET", "/api/models/u/r"), ("HEAD", "/u/r/resolve/main/m-Q2_K.gguf"), ("GET", "/u/r/resolve/main/m-Q2_K.gguf"),
    }  # fmt: skip


@pytest.mark.subprocess
def test_nothing_is_told_about_this_machine(hub: Hub, places: Places) -> None:
    """Only a process that has not imported the hub's library yet shows what it asks when llamaq does."""
    script = "from llamaq.hub import resolve; print(resolve('hf:u/r:Q2_K', download=True).name)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment())
    assert (done.returncode, done.stdout) == (0, "u/r:Q2_K\n"), done.stderr
    assert {path for _, path, _ in hub.asked} == {"/api/models/u/r", "/u/r/resolve/main/m-Q2_K.gguf"}


def test_the_choice_is_llama_cpps(hub: Hub) -> None:
    assert fetched("hf:u/r").name == "m-Q8_0.gguf"
    assert fetched("hf:u/r/m-Q2_K.gguf").name == "m-Q2_K.gguf"
    with pytest.raises(DownloadError, match=r"no file fits 'Q3'; there are m-Q2_K.gguf, m-Q8_0.gguf, m-F16-00001"):
        fetched("hf:u/r:Q3")
    with pytest.raises(DownloadError, match=r"'m-\*' fits several files: m-Q2_K.gguf, m-Q8_0.gguf, m-F16-00001-of"):
        fetched("hf:u/r/m-*")
    hub.files = {"README.md": b"", "mmproj.gguf": b""}
    with pytest.raises(DownloadError, match="has no GGUF file"):
        fetched("hf:u/r:Q9")


def test_all_parts_come(hub: Hub) -> None:
    seen: list[tuple[int, int]] = []
    found = resolve("hf:u/r:F16", download=True, progress=lambda *now: seen.append(now))
    assert [path.read_bytes()[-1:] for path in found.paths] == [b"1", b"2"]
    assert found.complete
    assert seen[-1] == (2 * len(BIG) + 2,) * 2
    seen.clear()
    fetch(Address("u/r", "F16"), progress=lambda *now: seen.append(now))  # llamaq pull asks again so
    assert seen == [(2 * len(BIG) + 2,) * 2]
    found.paths[1].unlink()
    assert resolve("hf:u/r:F16", download=True).complete


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library takes 10 MB at a time, and of a cut connection what it has taken."""
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100_000)


@pytest.mark.usefixtures("small_pieces")
def test_a_cut_connection_is_gone_on_with(hub: Hub) -> None:
    hub.cut["m-Q2_K.gguf"] = [1_000_000, 500_000]
    seen: list[int] = []
    found = resolve("hf:u/r:Q2_K", download=True, progress=lambda done, total: seen.append(done))
    assert found.path.read_bytes() == BIG
    ranges = [asked for method, path, asked in hub.asked if method == "GET" and "resolve" in path]
    assert ranges == [None, "bytes=1000000-", "bytes=1500000-"]
    assert seen[-1] == len(BIG)


@pytest.mark.usefixtures("small_pieces")
def test_after_ctrl_c_a_download_is_gone_on_with(hub: Hub, places: Places) -> None:
    def interrupt(done: int, total: int) -> None:
        if done > len(BIG) + 1_000_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resolve("hf:u/r:F16", download=True, progress=interrupt)
    assert [path.name for path in places.hub_folder.rglob("*-of-*")] == ["m-F16-00001-of-00002.gguf"]
    (part,) = places.hub_folder.rglob("*.incomplete")
    begun = part.stat().st_size
    assert 900_000 <= begun < len(BIG)
    seen: list[int] = []
    found = resolve("hf:u/r:F16", download=True, progress=lambda done, total: seen.append(done))
    assert found.complete
    assert hub.downloads() == [f"m-F16-0000{i}-of-00002.gguf" for i in (1, 2, 2)]
    assert f"bytes={begun}-" in [asked for _, _, asked in hub.asked]
    assert next(iter(found.path.parent.glob("*-00002-of-*"))).read_bytes() == BIG + b"2"
    assert not part.exists()
    assert seen == sorted(seen)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("ranges", [True, False])
def test_a_beginning_that_is_another_files_is_found_out(hub: Hub, places: Places, ranges: bool) -> None:
    """And where the server begins anew in any case, that is taken."""
    tag = hashlib.sha256(BIG).hexdigest()
    part = places.hub_folder / "models--u--r" / "blobs" / f"{tag}.incomplete"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(1_000_000))
    hub.ranges = ranges
    if ranges:
        with pytest.raises(DownloadError, match="SHA-256"):
            fetched("hf:u/r:Q2_K")
    assert fetched("hf:u/r:Q2_K").read_bytes() == BIG
    assert not part.exists()


def test_more_than_the_whole_is_no_beginning(hub: Hub, places: Places) -> None:
    part = places.hub_folder / "models--u--r" / "blobs" / f"{hashlib.sha256(BIG).hexdigest()}.incomplete"
    part.parent.mkdir(parents=True)
    part.write_bytes(BIG + b"more")
    assert fetched("hf:u/r:Q2_K").read_bytes() == BIG


@pytest.mark.usefixtures("small_pieces")
def test_who_was_killed_left_what_another_process_goes_on_with(hub: Hub, places: Places) -> None:
    code = (
        "import huggingface_hub.constants as c, os; c.DOWNLOAD_CHUNK_SIZE = 100_000; from llamaq.hub import resolve\n"
        "resolve('hf:u/r:Q2_K', download=True, progress=lambda done, total: done > 2_000_000 and os._exit(9))"
    )
    assert subprocess.run([sys.executable, "-c", code], env=environment()).returncode == 9
    assert fetched("hf:u/r:Q2_K").read_bytes() == BIG
    ranges = [asked for method, path, asked in hub.asked if method == "GET" and "resolve" in path]
    assert ranges[0] is None
    assert int(str(ranges[1]).removeprefix("bytes=").rstrip("-")) > 1_000_000


@pytest.mark.parametrize("size", [10, len(BIG) - 1])
def test_a_file_of_wrong_size_is_not_taken(hub: Hub, places: Places, size: int) -> None:
    hub.wrong["m-Q2_K.gguf"] = size
    with pytest.raises(DownloadError, match=r"hf:u/r:Q2_K: the download failed: .*size"):
        fetched("hf:u/r:Q2_K")
    assert not list(places.hub_folder.rglob("*.gguf"))
    del hub.wrong["m-Q2_K.gguf"]
    assert fetched("hf:u/r:Q2_K").read_bytes() == BIG


def test_offline(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fetched("hf:u/r:Q2_K")
    asked = len(hub.asked)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetched("hf:u/r:Q2_K") == path
    with pytest.raises(DownloadError, match="hf:u/r:Q8_0 is not in the hub's cache, and HF_HUB_OFFLINE"):
        fetched("hf:u/r:Q8_0")
    assert len(hub.asked) == asked


@pytest.mark.parametrize(
    ("code", "error", "said"),
    [
        (403, "GatedRepo", r"u/r is gated: accept its terms at http.*/u/r, then log in \(hf auth login, or HF_TOKEN\)"),
        (401, "GatedRepo", "is gated"),
        (404, "RepoNotFound", "there is no repository u/r at http.*, or it is private"),
        (401, "", "there is no repository u/r"),
        (404, "RevisionNotFound", "u/r has no revision 'v9'"),
        (500, "", "the download failed: .*500"),
    ],
)
def test_errors_say_what_to_do(hub: Hub, code: int, error: str, said: str) -> None:
    hub.status["/api/models/u/r"] = (code, error)
    with pytest.raises(DownloadError, match=said):
        fetched("hf:u/r@v9")


def test_gated_files_of_an_open_repository(hub: Hub) -> None:
    hub.status["/u/r/resolve"] = (403, "GatedRepo")
    with pytest.raises(DownloadError, match="u/r is gated"):
        fetched("hf:u/r:Q2_K")


def test_no_network(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match=r"the download failed: .*refused; check the network"):
        fetched("hf:u/r:Q2_K")


def test_without_the_library(monkeypatch: pytest.MonkeyPatch, places: Places) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(DownloadError, match=r"pip install 'llamaq\[hub\]'"):
        fetched("hf:u/r:Q2_K")


def test_a_full_disk(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: os.terminal_size((0, 0)) and type("", (), {"free": 5})())
    with pytest.raises(DownloadError, match=f"has {len(BIG)} bytes, and 5 are free"):
        fetched("hf:u/r:Q2_K")
    assert hub.downloads() == []


def test_from_pretrained(hub: Hub, stories: Path) -> None:
    hub.files = {"s-Q8_0.gguf": stories.read_bytes(), "s-Q2_K.gguf": b"GGUF"}
    told: list[int] = []
    for repo, filename in [("u/r", None), ("u/r:q8_0", None), ("hf:u/r", "s-Q8_0.gguf"), ("u/r", "*q8_0.gguf")]:
        with LLM.from_pretrained(
            repo, filename, threads=1, n_ctx=32, progress=lambda done, _: told.append(done)
        ) as llm:
            assert llm.n_ctx == 32
    assert hub.downloads() == ["s-Q8_0.gguf"]
    assert told
    with pytest.raises(DownloadError, match="no file fits 'none'"):
        LLM.from_pretrained("u/r", "none")
    with pytest.raises(ValueError, match=r"must be user/repo of the Hugging Face hub, got 'model\.gguf'"):
        LLM.from_pretrained("model.gguf")
    with pytest.raises(TypeError, match="repo must be"):
        LLM.from_pretrained(5)
