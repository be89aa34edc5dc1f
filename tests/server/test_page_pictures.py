"""Pictures in the page: how they come, what is sent, and what is kept of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from browser import Page
from served import Served, served
from vision_cases import picture
from waiting import wait_until

pytestmark = [pytest.mark.subprocess, pytest.mark.browser]

TEMPLATE = "{{ bos_token }}{% for m in messages %}{{ m.content }}b{% endfor %}"
SHORT = {"temperature": "0", "max_tokens": "5"}
BROUGHT = """
  const bytes = Uint8Array.from(atob(arguments[1]), (c) => c.charCodeAt());
  const data = new DataTransfer();
  data.items.add(new File([bytes], 'brought', {type: arguments[2]}));
  if (arguments[3]) data.setData('text/plain', arguments[3]);
  const given = {bubbles: true, cancelable: true, clipboardData: data, dataTransfer: data};
  const made = arguments[0] === 'drop' ? new DragEvent('drop', given) : new ClipboardEvent('paste', given);
  document.querySelector('#question').dispatchEvent(made);
  return made.defaultPrevented;
"""


@pytest.fixture(scope="module")
def server(shared: Callable[[str], Path]) -> Iterator[Served]:
    model, mmproj = shared("tiny-models/gemma3v.gguf"), shared("tiny-models/gemma3v-mmproj.gguf")
    options = ("--mmproj", mmproj, "-t", 1, "--alias", "sees", "--chat-template", TEMPLATE, "--log-format", "none")
    with served(model, *options) as found:
        yield found


@pytest.fixture
def seeing(page: Page, server: Served) -> Iterator[Page]:
    """The page of a model that sees; after each test, nothing was asked of another host."""
    found = Page(page.driver, server.url)
    found.load(**SHORT)
    yield found
    assert [url for url in found.requested() if not url.startswith((f"{server.url}/", f"{page.url}/"))] == []


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / f"{i}.png" for i in range(3)]
    for i, path in enumerate(paths):
        Image.fromarray(picture(40, 30 + i)).save(path)
    return paths


def asked(server: Served, body: Any) -> Any:
    """The answer to a request without the page."""
    connection = HTTPConnection("127.0.0.1", server.port)
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
    found = json.load(connection.getresponse())
    connection.close()
    return found


def bring(page: Page, how: str, path: Path, kind: str = "image/png", text: str = "") -> bool:
    """A paste or a drop of a file; whether the page keeps the browser from it."""
    return bool(page.run(BROUGHT, how, base64.b64encode(path.read_bytes()).decode(), kind, text))


def choose(page: Page, *paths: Path) -> None:
    page.run("document.querySelector('#pictures').hidden = false")
    page.one("#pictures").send_keys("\n".join(map(str, paths)))


def waiting(page: Page, count: int) -> None:
    page.wait(f"document.querySelectorAll('#waiting img').length === {count}")


def shown(page: Page, selector: str) -> list[str]:
    """The addresses of the pictures there, which the browser could read."""
    page.wait(f"[...document.querySelectorAll('{selector} img')].every((each) => each.naturalWidth)")
    return [str(each.get_attribute("src")) for each in page.all(f"{selector} img")]


def url_of(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def test_they_come_in_three_ways_are_removed_sent_and_kept(seeing: Page, server: Served, files: list[Path]) -> None:
    page = seeing
    bring(page, "paste", files[0])
    waiting(page, 1)
    assert bring(page, "drop", files[1])
    waiting(page, 2)
    choose(page, files[2])
    waiting(page, 3)
    assert shown(page, "#waiting") == [url_of(path) for path in files]
    assert [flaw for flaw in page.run("flaws.js") if flaw[0] != "few texts"] == []
    page.click("#waiting [aria-label='Remove picture 2']")
    waiting(page, 2)
    answer = page.say("ab")
    sent = [url_of(files[0]), url_of(files[2])]
    assert shown(page, "article.user") == sent
    assert page.all("#waiting img") == []
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in sent]
    messages = [{"role": "user", "content": [*parts, {"type": "text", "text": "ab"}]}]
    body = {"messages": messages, "temperature": 0, "max_tokens": 5}
    expected = asked(server, body)
    assert answer.split() == expected["choices"][0]["message"]["content"].split()
    assert f" of {expected['usage']['prompt_tokens']} prompt tokens" in page.text("article.assistant footer")

    page.open()
    page.wait("document.querySelectorAll('article').length === 2")
    assert shown(page, "article.user") == sent
    page.say("And?")  # the pictures are asked about again
    assert page.all("article .error:not(:empty)") == []
    page.one("#question").send_keys("draft")
    page.click("#prompt-open")
    page.wait("document.querySelector('#prompt pre').textContent.endsWith('draftb')")
    assert page.text("#prompt pre").count("<start_of_image>") == 2


def test_an_edit_removes_one_and_a_message_may_be_a_picture_alone(seeing: Page, files: list[Path]) -> None:
    page = seeing
    choose(page, *files[:2])
    waiting(page, 2)
    page.say("")
    assert [each.text for each in page.all("#list li")] == ["Picture"]
    assert not page.one("article.user .plain").is_displayed()
    page.click("article.user [aria-label=Edit]")
    page.click("article.user [aria-label='Remove picture 1']")
    page.click(".editor button")  # this leaves it as it was
    assert len(shown(page, "article.user")) == 2
    page.click("article.user [aria-label=Edit]")
    page.click("article.user [aria-label='Remove picture 1']")
    page.click(".editor .main")
    page.wait_text("article.user footer .hint", "2/2")
    page.answered(1)
    assert shown(page, "article.user") == [url_of(files[1])]
    page.click("article.user [aria-label='The branch before']")
    page.wait_text("article.user footer .hint", "1/2")
    assert len(shown(page, "article.user")) == 2


def test_large_ones_are_made_smaller_and_others_refused(seeing: Page, tmp_path: Path, files: list[Path]) -> None:
    page = seeing
    large = tmp_path / "large.bmp"
    Image.effect_noise((3000, 1500), 50).save(large)
    choose(page, large)
    waiting(page, 1)
    [url] = shown(page, "#waiting")
    assert url.startswith("data:image/jpeg;base64,")
    size = "const {naturalWidth: w, naturalHeight: h} = document.querySelector('#waiting img'); return [w, h]"
    assert page.run(size) == [2048, 1024]
    text = tmp_path / "text.png"
    text.write_text("no picture", encoding="utf-8")
    choose(page, text)
    page.wait(
        "document.querySelector('#notice').textContent === '“text.png” is no picture that this browser can read.'"
    )
    assert not bring(page, "paste", files[0], text="a table of a spreadsheet")
    bring(page, "paste", files[0], "image/avif")  # the browser reads it, the server would not
    waiting(page, 2)
    assert [url.partition(";")[0] for url in shown(page, "#waiting")] == ["data:image/jpeg"] * 2


def test_they_go_to_a_file_and_only_data_come_back(seeing: Page, tmp_path: Path, files: list[Path]) -> None:
    page = seeing
    choose(page, files[0])
    waiting(page, 1)
    page.say("ab")
    page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    page.click("#export")
    file = tmp_path / "llamaq-conversations.json"
    wait_until(file.exists)
    kept = json.loads(file.read_text(encoding="utf-8"))
    user = kept["conversations"][0]["messages"][0]
    assert user["pictures"] == [url_of(files[0])]
    user["pictures"] += ["https://example.org/cat.png", "page/page.js", 5]
    file.write_text(json.dumps(kept), encoding="utf-8")
    page.load(**SHORT)
    page.run("document.querySelector('#file').hidden = false")
    page.one("#file").send_keys(str(file))
    page.wait_text("#notice", "Conversations imported: 1")
    page.click("#list button")
    page.wait("document.querySelectorAll('article').length === 2")
    assert shown(page, "article.user") == [url_of(files[0])]
    assert page.complaints() == []


def test_a_model_that_cannot_see_is_told_of(page: Page, files: list[Path]) -> None:
    page.load(**SHORT)
    bring(page, "paste", files[0])
    page.wait_text("#notice", "stories cannot see pictures: it has no projector (--mmproj).")
    assert page.all("#waiting img") == []
