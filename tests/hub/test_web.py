"""Downloads from a URL that is none of the hub's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub_server import Hub, hub_server
from llamaq.errors import DownloadError, ModelNotFoundError
from llamaq.hub import resolve, web
from model_places import Places

BIG = b"GGUF" + bytes(range(256)) * 12_000


@pytest.fixture
def site(places: Places, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(web, "_PIECE", 100_000)
    monkeypatch.setattr(web, "_PAUSE", 0.0)
    with hub_server() as site:
        site.files = {"m.gguf": BIG}
        yield site


def fetched(url: str) -> Path:
    return resolve(url, download=True).path


def test_a_file_is_fetched_once_into_llamaqs_folder(site: Hub, places: Places) -> None:
    url = f"{site.url}/files/m.gguf"
    with pytest.raises(ModelNotFoundError, match=f"fetch it: llamaq pull {url}"):
        resolve(url)
    assert site.asked == []
    seen: list[tuple[int, int]] = []
    found = resolve(url, download=True, progress=lambda *now: seen.append(now))
    assert found.path.read_bytes() == BIG
    assert found.path.is_relative_to(places.own_folder)
    assert (seen[0], seen[-1]) == ((0, len(BIG)), (len(BIG), len(BIG)))
    assert resolve(url).path == resolve("m").path == fetched(url) == found.path
    assert len(site.asked) == 1
    assert [path.name for path in found.path.parent.iterdir()] == ["m.gguf"]


def test_two_urls_are_two_files(site: Hub) -> None:
    site.files["v2/m.gguf"] = BIG + b"2"
    first, second = fetched(f"{site.url}/files/m.gguf"), fetched(f"{site.url}/files/v2/m.gguf")
    assert (first.read_bytes(), second.read_bytes()) == (BIG, BIG + b"2")


def test_all_parts_come(site: Hub) -> None:
    site.files = {f"m-0000{i}-of-00003.gguf": b"%d" % i for i in (1, 2, 3)}
    found = resolve(f"{site.url}/files/m-00002-of-00003.gguf", download=True)
    assert [path.read_bytes() for path in found.paths] == [b"1", b"2", b"3"]


def test_a_cut_connection_is_gone_on_with(site: Hub) -> None:
    site.cut["m.gguf"] = [1_000_000, 500_000]
    assert fetched(f"{site.url}/files/m.gguf").read_bytes() == BIG
    first, *rest = [asked for _, _, asked in site.asked]
    assert first is None
    starts = [int(asked.removeprefix("bytes=").rstrip("-")) for asked in rest if asked]
    assert len(starts) == 2
    assert 500_000 < starts[0] <= 1_000_000 < starts[1] <= 1_500_000


def test_a_connection_that_brings_nothing_is_an_error(site: Hub) -> None:
    site.cut["m.gguf"] = [0] * 20
    with pytest.raises(DownloadError, match="the download broke off"):
        fetched(f"{site.url}/files/m.gguf")
    assert len(site.asked) < 10


def interrupted(site: Hub) -> None:
    def interrupt(done: int, total: int) -> None:
        if done >= 1_000_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resolve(f"{site.url}/files/m.gguf", download=True, progress=interrupt)


def test_what_was_begun_is_gone_on_with(site: Hub) -> None:
    interrupted(site)
    assert fetched(f"{site.url}/files/m.gguf").read_bytes() == BIG
    assert site.asked[-1][2] == "bytes=1000000-"


def test_what_has_changed_begins_anew(site: Hub) -> None:
    interrupted(site)
    site.files["m.gguf"] = b"other" + BIG
    assert fetched(f"{site.url}/files/m.gguf").read_bytes() == b"other" + BIG


def test_what_was_complete_but_for_its_name(site: Hub, places: Places) -> None:
    interrupted(site)
    (partial,) = places.own_folder.rglob("*.partial")
    partial.write_bytes(BIG)
    assert fetched(f"{site.url}/files/m.gguf").read_bytes() == BIG


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://example.com/m.gguf", "over https:// alone"),
        ("ftp://example.com/m.gguf", "over https:// alone"),
        ("file:///etc/passwd", "over https:// alone"),
        ("https://example.com/", "ending in .gguf"),
        ("https://example.com/m.bin", "ending in .gguf"),
        ("https://example.com/..%2F.gguf", "ending in .gguf"),
        ("https://example.com/a%00b.gguf", "ending in .gguf"),
        ("https://example.com/-%1b.gguf", "ending in .gguf"),
        ("https://u:secret@example.com/m.gguf", "no password"),
        ("https:///m.gguf", "needs a host"),
    ],
)
def test_urls_that_are_refused(places: Places, url: str, said: str) -> None:
    with pytest.raises(DownloadError, match=said) as error:
        fetched(url)
    assert "secret" not in str(error.value)
    assert not places.own_folder.exists()


def test_redirects_stay_safe(site: Hub) -> None:
    elsewhere = site.url.replace("127.0.0.1", "localhost")
    site.moved = {"/x/m.gguf": "/files/m.gguf", "/y/m.gguf": f"{elsewhere}/files/m.gguf"}
    assert fetched(f"{site.url}/x/m.gguf").read_bytes() == BIG
    with pytest.raises(DownloadError, match="which is no https"):
        fetched(f"{site.url}/y/m.gguf")
    site.moved["/z/m.gguf"] = "file:///etc/passwd"
    with pytest.raises(DownloadError):
        fetched(f"{site.url}/z/m.gguf")


def test_errors(site: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DownloadError, match="the server answers 404"):
        fetched(f"{site.url}/files/none.gguf")
    with pytest.raises(DownloadError, match=r"broke off: .*refused"):
        fetched("http://127.0.0.1:9/m.gguf")
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("", (), {"free": 5})())
    with pytest.raises(DownloadError, match=f"{len(BIG)} bytes are to come, and 5 are free"):
        fetched(f"{site.url}/files/m.gguf")


def test_two_processes_do_not_write_one_file(site: Hub) -> None:
    def meanwhile(done: int, total: int) -> None:
        with pytest.raises(DownloadError, match="another process fetches it"):
            fetched(f"{site.url}/files/m.gguf")

    found = resolve(f"{site.url}/files/m.gguf", download=True, progress=meanwhile)
    assert found.path.read_bytes() == BIG
    assert [path.name for path in found.path.parent.iterdir()] == ["m.gguf"]
