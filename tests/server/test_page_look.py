"""What the page makes of texts, and whether everybody can read and reach it."""

from __future__ import annotations

import json

import pytest
from selenium.webdriver.common.keys import Keys

from browser import Page

pytestmark = [pytest.mark.subprocess, pytest.mark.browser]

SHORT = {"temperature": "0", "max_tokens": "12"}
TEXT = "article.assistant > .prose"


def forced(text: str) -> dict[str, str]:
    """Settings with which the model writes this text."""
    return {"extra": json.dumps({"grammar": f"root ::= {json.dumps(text)}"})}


HOSTILE = """\
<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>
<a href="javascript:document.title='owned'">a</a> [b](javascript:document.title='owned') [c](data:text/html,x)
![d](http://foreign.example/d.png) [e](https://example.com/e) `</script>`

```html"><script>
</script><img src=x onerror=alert(1)>
```
"""


def test_what_the_model_writes_stays_text(page: Page) -> None:
    page.load(**forced(HOSTILE))
    page.say("<b>bold</b> of me")
    text = page.text(TEXT)
    assert "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>" in text
    assert "</script><img src=x onerror=alert(1)>" in text
    assert page.text("article.user .plain") == "<b>bold</b> of me"
    assert page.all("#messages :is(img, script, iframe, [onerror], b)") == []
    links = [(link.text, link.get_attribute("href")) for link in page.all("#messages a")]
    assert links == [("d", "http://foreign.example/d.png"), ("e", "https://example.com/e")]
    assert page.all("#messages a:not([rel~=noopener][target=_blank])") == []
    assert "owned" not in page.driver.title
    assert page.run("try { document.body.innerHTML = '<i></i>'; return 0 } catch { return 1 }") == 1
    assert ["TrustedHTML" in line for line in page.complaints()] == [True]  # the policy holds for scripts, too


MARKDOWN = [
    ("a **b** *c* ~~d~~ `e*f*` \\*g\\*", "<p>a <strong>b</strong> <em>c</em> <del>d</del> <code>e*f*</code> *g*</p>"),
    ("# One\ntwo\nthree\n\nfour", "<h2>One</h2><p>two\nthree</p><p>four</p>"),
    ("- a\n  - b\n- c\n\n1. d", "<ul><li><p>a</p><ul><li><p>b</p></li></ul></li><li><p>c</p></li></ul>"
     '<ol start="1"><li><p>d</p></li></ol>'),
    ("3. a\n\n   b\n4. c", '<ol start="3"><li><p>a</p><p>b</p></li><li><p>c</p></li></ol>'),
    ("> a\n> > b\n\n---\nc", "<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote><hr><p>c</p>"),
    ("| a | b |\n|---|:-:|\n| c | **d** |\n", "<table><tr><th>a</th><th>b</th></tr>"
     "<tr><td>c</td><td><strong>d</strong></td></tr></table>"),
    ("2 * 3 * 4, snake_case_name, a_b", "<p>2 * 3 * 4, snake_case_name, a_b</p>"),
    ("***a*** and *b", "<p><strong><em>a</em></strong> and *b</p>"),
    ("```py\nx = 1\n", "<pre><code>x = 1\n</code></pre>"),
    ("``` py x\ny\n```", "<pre><code>y</code></pre>"),
    ("a ``b` c", "<p>a ``b` c</p>"),
    ("a \\`` `b`", "<p>a `<code> </code>b`</p>"),
    ("|a|b|c|\n|-|-|-|\n|1\n|||2|3|", "<table><tr><th>a</th><th>b</th><th>c</th></tr><tr><td>1</td></tr>"
     "<tr><td></td><td></td><td>2</td></tr></table>"),
    (" | a |b\n |-|:-:\n1|2", "<table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table>"),
    ("<http://a> & &lt;", "<p>&lt;<a>http://a</a>&gt; &amp; &amp;lt;</p>"),
]  # fmt: skip


def test_markdown(page: Page) -> None:
    """And each character that is shown knows where it stands in the source, whatever that is."""
    page.load()
    assert page.run_async("markdown.js", [text for text, _ in MARKDOWN]) == [expected for _, expected in MARKDOWN]
    assert page.run_async("offsets.js") == []


RICH = """\
# Head

Text `code` [link](https://example.com)

> quote

| a | b |
|---|---|
| c | d |

```py
x = 1
```
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 360])
def test_everything_has_a_name_and_can_be_read(page: Page, theme: str, width: int) -> None:
    features = [{"name": "prefers-color-scheme", "value": theme}]
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    size = {"width": width, "height": 740, "deviceScaleFactor": 1, "mobile": False}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        page.load(**forced(RICH))
        page.say("A question that is long enough to need more than one line where the screen is narrow, as it is here")
        page.click("article.assistant footer details summary")
        assert page.run("flaws.js") == []
        page.click("[aria-label='Alternatives of the words']")
        assert page.run("flaws.js") == []
        page.press(Keys.ESCAPE)
        page.click("#settings-open")
        assert page.run("flaws.js") == []
        page.press(Keys.ESCAPE)
        if width < 400:
            assert page.one("#side").is_displayed() is False
            page.one("#side-open").click()
            page.one("#new").click()
            assert page.one("#side").is_displayed() is False
            assert page.all("article") == []
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_on_a_phone_the_alternatives_do_not_cover_their_word(page: Page) -> None:
    """Neither of the first word, nor of the last, which stands at the bottom."""
    size = {"width": 390, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        page.load(temperature="0", max_tokens="200", extra='{"ignore_eos": true}')
        page.say("Tell me of Tom")
        page.click("[aria-label='Alternatives of the words']")
        for key, count in (("", 0), (Keys.ARROW_RIGHT, 199), (Keys.ARROW_LEFT, 100)):
            for _ in range(count):
                page.press(key)
            word, box, screen = page.run("place_of_box.js")
            assert box["bottom"] == pytest.approx(740)
            assert screen["top"] <= word["top"]
            assert word["bottom"] <= box["top"]
        page.press(Keys.ESCAPE)
        page.wait("!document.querySelector('#words:popover-open')")
        assert page.run("return document.querySelector('#scroll').style.paddingBottom") == ""
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_screen_readers_are_told_the_whole_answer_and_keys_reach_everything(page: Page) -> None:
    page.load(**SHORT)
    assert page.run("return document.activeElement.id") == "question"
    answer = page.say("Tell me of Tom")
    assert page.run("return document.querySelector('#live').ariaLive") == "polite"
    assert page.text("#live").split() == answer.split()
    reached = set()
    for _ in range(60):
        page.press(Keys.TAB)
        reached.add(page.run("return document.activeElement.ariaLabel || document.activeElement.textContent"))
    wanted = {"Your message", "Model", "Settings", "Copy", "Edit", "Answer again", "Alternatives of the words",
              "Branch into a new conversation", "Delete", "New conversation", "Export", "Import"}  # fmt: skip
    assert wanted - {label.strip() for label in reached} == set()
