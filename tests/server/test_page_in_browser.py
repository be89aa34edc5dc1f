"""The page in chromium, with a real model behind it."""

from __future__ import annotations

import json
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from asgi import TEMPLATE
from browser import Page
from served import Served, served
from waiting import wait_until

pytestmark = [pytest.mark.subprocess, pytest.mark.browser]

SHORT = {"temperature": "0", "max_tokens": "12"}
TEXT = "article.assistant > .prose"


def forced(text: str) -> dict[str, str]:
    """Settings with which the model writes this text."""
    return {"extra": json.dumps({"grammar": f"root ::= {json.dumps(text)}"})}


def asked(server: Served, fields: dict[str, Any]) -> Any:
    """The answer to the same message without the page."""
    body = {**fields, "messages": [{"role": "user", "content": "Tell me of Tom"}]}
    connection = HTTPConnection("127.0.0.1", server.port)
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
    found = json.load(connection.getresponse())
    connection.close()
    return found


def metrics(server: Served) -> dict[str, float]:
    connection = HTTPConnection("127.0.0.1", server.port)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def test_an_answer_streams_is_told_about_and_outlives_a_reload(page: Page, page_server: Served) -> None:
    page.load(temperature="0", max_tokens="600", extra='{"ignore_eos": true}')
    page.run(
        "window.lengths = new Set(); new MutationObserver(() => {"
        f"  lengths.add(document.querySelector('{TEXT}')?.textContent.length);"
        "}).observe(document.querySelector('#messages'), {childList: true, characterData: true, subtree: true})"
    )
    answer = page.say("Tell me of Tom")
    body = {
        "messages": [{"role": "user", "content": "Tell me of Tom"}],
        "temperature": 0,
        "max_tokens": 600,
        "ignore_eos": True,
    }
    expected = asked(page_server, body)
    assert " ".join(answer.split()) == " ".join(expected["choices"][0]["message"]["content"].split())
    assert page.run("return lengths.size") > 3
    used = expected["usage"]["total_tokens"]
    figures = page.text("article.assistant footer")
    assert "600 tokens · " in figures
    assert " tokens/s · " in figures
    assert f" of {expected['usage']['prompt_tokens']} prompt tokens cached · cut off" in figures
    assert "Why cached" in figures
    assert page.one("#context").get_attribute("aria-valuenow") == str(used)
    assert page.text("#meter span") == f"{used} of 8,192 tokens"

    page.say("And of his dog")
    shown = page.text("#messages")
    page.open()
    page.wait("document.querySelectorAll('article').length === 4")
    assert page.text("#messages") == shown
    assert [each.text for each in page.all("#list li")] == ["Tell me of Tom"]


def test_stop_ends_the_answer_on_the_server(page: Page, page_server: Served) -> None:
    page.load(extra='{"ignore_eos": true}')
    cut = 'llamaq_requests_total{route="/v1/chat/completions",status="499"}'
    stops = (lambda: page.click("#send"), lambda: page.press(Keys.ESCAPE))
    for i, stop in enumerate(stops):
        page.one("#question").send_keys("Tell me all\n")
        page.wait("document.querySelector('.running > .prose')?.textContent")
        assert page.one("#send").get_attribute("aria-label") == "Stop"
        stop()
        assert page.answered(i + 1)
        assert "stopped" in page.text(f"article:nth-of-type({2 * i + 2}) footer")
        wait_until(lambda: metrics(page_server).get(cut, 0) > i)  # noqa: B023, called at once
        assert metrics(page_server)["llamaq_answers_running"] == 0
    page.open()
    page.wait("document.querySelectorAll('article').length === 4")


def click_on(page: Page, offset: int) -> None:
    """A click on a character of the answer, which opens the alternatives of its word."""
    x, y = page.run("place.js", offset)
    ActionChains(page.driver).move_by_offset(x, y).click().move_by_offset(-x, -y).perform()
    page.wait("document.querySelector('#words:popover-open')")


def test_a_word_shows_its_alternatives_and_the_answer_goes_on_with_one(page: Page, page_server: Served) -> None:
    page.load(**SHORT)
    page.say("Tell me of Tom")
    asked_for = {"temperature": 0, "max_tokens": 12, "logprobs": True, "top_logprobs": 5}
    choice = asked(page_server, asked_for)["choices"][0]
    entries, text = choice["logprobs"]["content"], choice["message"]["content"]
    word = next(i for i, entry in enumerate(entries) if i > 1 and entry["token"].strip().isalpha())
    before = "".join(entry["token"] for entry in entries[:word])
    click_on(page, len(before + entries[word]["token"]) - 1)
    assert page.run("return CSS.highlights.get('word').size") == 1
    assert page.text("#words [aria-current] .mono").strip("␣") == entries[word]["token"].strip()
    shown = [row.text.split() for row in page.all("#words li:not(.hint)")]
    assert [float(row[-2]) for row in shown] == pytest.approx(
        [100 * 2.718281828 ** top["logprob"] for top in entries[word]["top_logprobs"]], abs=0.51
    )
    assert page.run("return document.activeElement.closest('#words') !== null")
    other = entries[word]["top_logprobs"][1]["token"]
    page.press(Keys.ARROW_RIGHT)
    assert page.text("#words [aria-current] .mono").strip("␣") == entries[word + 1]["token"].strip()
    page.press(Keys.ARROW_LEFT)
    page.click("#words li:nth-child(2) button")
    page.wait_text("article.assistant footer .hint", "2/2")
    answer = page.answered(1)
    assert text.startswith(before)
    assert answer.startswith(before + other)
    assert answer != text
    click_on(page, len(before))
    assert page.text("#words [aria-current] .mono").strip("␣") == other.strip()
    page.press(Keys.ESCAPE)
    page.click("article.assistant footer [aria-label='The branch before']")
    page.wait_text("article.assistant footer .hint", "1/2")
    assert page.answered(1).split() == text.split()


def test_an_answer_that_was_cut_off_goes_on(page: Page, page_server: Served) -> None:
    page.load(**SHORT)
    begun = page.say("Tell me of Tom")
    resume = "article.assistant [aria-label='Go on with this answer']"
    page.click(resume)
    page.wait_text("article.assistant footer .hint", "2/2")
    answer = page.answered(1)
    assert answer.startswith(begun)
    assert len(answer) > len(begun)
    assert page.run("return document.querySelectorAll(arguments[0]).length", resume) == 1  # it was cut off again
    page.click("[aria-label='Alternatives of the words']")  # those of the beginning are still there
    assert begun.startswith(page.text("#words header .mono").replace("␣", " "))
    page.press(Keys.ESCAPE)
    page.load(**forced("Well."))
    page.say("How are you?")
    assert page.all(resume) == []  # it is whole


def test_the_page_waits_for_the_only_model(page: Page) -> None:
    """The script stands before the page's own: the server is still loading, for the first time that it is asked."""
    script = (
        "const real = fetch; let left = 1; window.fetch = async (path, ...more) => path === 'v1/models' && left-- > 0 ?"
        " Response.json({error: {message: 'Loading model'}}, {status: 503}) : real(path, ...more);"
    )
    found = page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    try:
        page.driver.get(f"{page.url}/")
        page.wait_text("#model", "Loading model")
        page.wait("document.querySelector('#model').value && !document.querySelector('#meter').hidden")
        assert page.text("#notice") == ""
    finally:
        page.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", found)


def test_a_model_that_is_loaded_for_an_answer_tells_its_context(browser: Page, stories: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.gguf").symlink_to(stories)
    options = ("-t", 1, "-c", 256, "--chat-template", TEMPLATE, "--log-format", "none")
    with served("--models-dir", tmp_path, *options) as server:
        page = Page(browser.driver, server.url)
        page.load(**SHORT, model="two")
        assert [option.text for option in page.all("#model option")] == ["one", "two"]
        assert page.run("return document.querySelector('#meter').hidden")
        page.say("Tell me of Tom")
        page.wait("!document.querySelector('#meter').hidden")
        assert page.text("#meter span").endswith(" of 256 tokens")
        assert page.one("#model").get_attribute("value") == "two"
    browser.complaints()
    browser.requested()


def test_reasoning_is_folded_and_its_words_have_alternatives(page: Page) -> None:
    page.load(**SHORT, extra='{"chat_template_kwargs": {"enable_thinking": true}}')
    assert page.say("Tell me of Tom") == ""
    thought = "article.assistant details .prose"
    assert page.text(thought)
    assert " · no answer after the reasoning · cut off" in page.text("article.assistant footer")
    assert not page.one(thought).is_displayed()
    page.click("article.assistant summary")
    assert page.one(thought).is_displayed()
    page.click("[aria-label='Alternatives of the words']")
    assert page.run("return CSS.highlights.get('word').size") == 1
    assert page.all("#words li")
    assert page.all("#words li button") == []  # the answer goes on from its text alone
    page.press(Keys.ESCAPE)
    page.wait("CSS.highlights.get('word').size === 0")


def test_editing_and_answering_again_make_branches(page: Page) -> None:
    page.load(max_tokens="8")
    page.say("One")
    page.say("Two")
    page.click("article:nth-of-type(3) [aria-label=Edit]")
    field = page.one(".editor textarea")
    field.clear()
    field.send_keys("Three")
    page.click(".editor .main")
    page.wait_text("article:nth-of-type(3) .plain", "Three")
    page.answered(2)
    page.click("article:nth-of-type(4) [aria-label='Answer again']")
    page.wait_text("article:nth-of-type(4) footer .hint", "2/2")
    assert [each.text for each in page.all("article footer .hint")] == ["2/2", "2/2"]
    page.click("article:nth-of-type(3) [aria-label='The branch before']")
    page.wait_text("article:nth-of-type(3) .plain", "Two")
    assert page.run("return document.activeElement.matches('article')")
    page.click("article:nth-of-type(2) [aria-label^=Branch]")
    page.wait("document.querySelectorAll('#list li').length === 2")
    assert len(page.all("article")) == 2
    page.say("Four")
    page.run("window.confirm = () => true")
    page.click("#list [aria-label=Delete]")
    page.wait("document.querySelectorAll('#list li').length === 1 && !document.querySelector('article')")


def test_answers_of_a_schema(page: Page) -> None:
    page.load()
    page.click("#settings-open")
    page.one("[name=max_tokens]").send_keys("200")
    page.one("[name=schema]").send_keys('{"type": "object", "properties": {"yes": {"type": "boolean"}}')
    page.one("[name=use_schema]").click()
    page.one("#system").send_keys("Be brief.")
    page.click("#settings header button")
    page.one("#question").send_keys("Is it?\n")
    page.wait("document.querySelector('#notice').textContent.includes('cannot be read as JSON')")
    page.run("document.querySelector('#question').value = ''")
    page.one("[name=schema]").get_attribute("value")
    page.click("#settings-open")
    page.one("[name=schema]").send_keys(', "required": ["yes"], "additionalProperties": false}')
    page.press(Keys.ESCAPE)
    page.wait("!document.querySelector('dialog[open]')")
    page.say("Is it?")
    assert json.loads(page.text("article.assistant pre")).keys() == {"yes"}
    page.open()
    assert page.one("#system").get_attribute("value") == "Be brief."


def test_a_call_of_a_tool_is_shown(page: Page) -> None:
    parameters = {"type": "object", "properties": {"yes": {"type": "boolean"}}, "required": ["yes"]}
    tool = {"type": "function", "function": {"name": "weather", "parameters": parameters}}
    page.load(extra=json.dumps({"tools": [tool], "tool_choice": "required", "parallel_tool_calls": False}))
    page.say("Weather?")
    assert page.text("article.assistant figcaption") == "Calls weather"
    assert json.loads(page.text("article.assistant pre")).keys() == {"yes"}


def sse(*deltas: dict[str, Any], end: str) -> str:
    frames = [json.dumps({"choices": [{"index": 0, "delta": delta}]}, ensure_ascii=False) for delta in deltas]
    return ": ping\n\n" + "".join(f"data: {frame}\n\n" for frame in [*frames, *([end] if end else [])])


def test_calls_of_tools_and_answers_that_break_off(page: Page) -> None:
    """What a small model does not do when asked. The bytes come as the net may cut them."""
    tools = [{"type": "function", "function": {"name": "weather"}}]
    page.load(extra=json.dumps({"tools": tools}))
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"at": '}}
    more = {"index": 0, "function": {"arguments": '"Köln"}'}}
    deltas: list[dict[str, Any]] = [{"content": "Grüße 🦙"}, {"tool_calls": [call]}, {"tool_calls": [more]}]
    page.run("stub.js", sse(*deltas, end="[DONE]"), 5)
    assert page.say("Weather?") == "Grüße 🦙"
    assert page.text("article.assistant figure") == 'Calls weather{"at": "Köln"}'
    assert "Ignored fieldscolour" in page.text("article.assistant footer")
    error = json.dumps({"error": {"message": "no room is left", "type": "server_error"}})
    for end, said in ((error, "no room is left"), ("", "The connection broke off before the answer was whole.")):
        page.run("stub.js", sse({"content": "So"}, end=end), 1000)
        assert page.say("And then?") == "So"
        assert page.text("article:last-of-type .error") == said
    sent = page.run("return window.asked")
    assert sent["tools"] == tools
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant"] * 2 + ["user"]
    assert sent["messages"][1]["tool_calls"] == [
        {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"at": "Köln"}'}}
    ]


def test_conversations_go_to_a_file_and_come_back(page: Page, tmp_path: Path) -> None:
    page.load(**SHORT)
    page.say("Tell me of Tom")
    shown = page.text("#messages")
    page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    page.click("#export")
    file = tmp_path / "llamaq-conversations.json"
    wait_until(file.exists)
    kept = json.loads(file.read_text(encoding="utf-8"))
    assert [each["title"] for each in kept["conversations"]] == ["Tell me of Tom"]

    page.load(**SHORT)
    page.run("document.querySelector('#file').hidden = false")
    page.one("#file").send_keys(str(file))
    page.wait_text("#notice", "Conversations imported: 1")
    page.click("#list button")
    page.wait("document.querySelectorAll('article').length === 2")
    assert page.text("#messages") == shown
    page.click("[aria-label='Alternatives of the words']")
    page.wait("document.querySelector('#words li')")
    page.press(Keys.ESCAPE)

    messages = [
        {"id": "a", "parent": "b", "role": "assistant", "content": ["x"], "words": [{"start": "0"}], "figures": 7},
        {"id": "b", "parent": "a", "role": "user", "content": "<img src=x onerror=1>", "__proto__": {"calls": 1}},
        {"id": "c", "parent": "b", "role": "assistant", "calls": [{"name": "look", "arguments": "{}"}, None]},
    ]
    hostile = {"format": kept["format"], "conversations": [{"head": "c", "title": 3, "messages": messages}, None]}
    for text, said in ((json.dumps(hostile), "imported: 2"), ("[]", "no file of"), ("{", "no file of")):
        file.write_text(text, encoding="utf-8")
        page.one("#file").send_keys(str(file))
        page.wait(f"document.querySelector('#notice').textContent.includes('{said}')")
    page.click("#list li:nth-child(2) button")
    page.wait("document.querySelectorAll('article').length === 3")
    assert "Calls look" in page.text("#messages")
    page.say("And?")


def test_two_tabs(page: Page) -> None:
    page.load(**SHORT)
    first = page.driver.current_window_handle
    page.say("One")
    page.driver.switch_to.new_window("tab")
    page.open()
    assert page.all("article") == []
    page.say("Two")
    page.driver.close()
    page.driver.switch_to.window(first)
    page.wait("document.querySelectorAll('#list li').length === 2")
    assert page.text("article.user .plain") == "One"
    page.say("Three")
    page.click("#list li:first-child button")
    page.wait_text("article.user .plain", "Two")
    page.click("#list li:last-child button")
    page.wait("document.querySelectorAll('article').length === 4")


def test_the_prompt_is_shown_as_the_model_reads_it(page: Page) -> None:
    page.load()
    page.one("#question").send_keys("Tell me of Tom")
    page.click("#prompt-open")
    page.wait("document.querySelector('#prompt pre').textContent")
    assert page.text("#prompt pre") == "user: Tell me of Tom\nassistant:"


def test_a_key_is_asked_for_and_kept_until_the_tab_is_closed(browser: Page, stories: Path) -> None:
    with served(stories, "-t", 1, "--api-key", "k-1", "--chat-template", TEMPLATE, "--log-format", "none") as server:
        page = Page(browser.driver, server.url)
        page.load(**SHORT)
        page.wait("document.activeElement.id === 'key'")
        page.one("#key").send_keys("k-1")
        page.press(Keys.ESCAPE)
        page.wait("document.querySelector('#model').value")
        page.say("Tell me of Tom")
        assert page.run("return JSON.stringify(localStorage)").find("k-1") < 0
        page.open()
        page.wait("document.querySelectorAll('article').length === 2")
    page.one("#question").send_keys("Still there?\n")
    page.wait("document.querySelector('.error:not(:empty)')")
    assert page.text("article:last-of-type .error") == "The server cannot be reached."
    assert all("401" in line or "ERR_CONNECTION" in line for line in page.complaints())
    page.requested()
