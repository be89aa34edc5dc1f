"""chromium, driven by selenium, and llamaq's page in it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.remote.webelement import WebElement

from waiting import wait_until

SCRIPTS = Path(__file__).with_name("page_scripts")
OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-proxy-server",
    "--disable-background-networking", "--disable-component-update", "--no-first-run", "--lang=en",
    "--window-size=1200,800",
)  # fmt: skip


@contextmanager
def chromium(folder: Path) -> Iterator[webdriver.Chrome]:
    """A browser with a new profile in the folder. Skips where there is none, but not in CI."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (program and driver):
        assert not os.environ.get("CI"), ".ci/run should have installed chromium and chromium-driver"
        pytest.skip("needs chromium: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for option in (*OPTIONS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    no_proxy = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    found = webdriver.Chrome(options=options, service=Service(driver, env=no_proxy))
    try:
        found.set_script_timeout(120)
        yield found
    finally:
        found.quit()


class Page:
    """llamaq's page. What is waited for comes, or pytest's timeout ends the test."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver = driver
        self.url = url

    def load(self, **settings: Any) -> None:
        """The page as in a new browser, but for these settings."""
        self.open()
        self.run_async(
            "localStorage.clear(); sessionStorage.clear();"
            "localStorage.setItem('llamaq.settings', JSON.stringify(arguments[0]));"
            "const request = indexedDB.deleteDatabase('llamaq'); request.onsuccess = request.onblocked = () => done();",
            settings,
        )
        self.open()

    def open(self) -> None:
        self.driver.get(f"{self.url}/")
        self.wait("document.querySelector('#model')?.value || document.querySelector('dialog[open]')")

    def run(self, script: str, *given: Any) -> Any:
        return self.driver.execute_script(_text(script), *given)

    def run_async(self, script: str, *given: Any) -> Any:
        """Runs a script that calls ``done`` with its result; a name is that of a file in ``page_scripts``."""
        return self.driver.execute_async_script(f"const done = arguments[arguments.length - 1];{_text(script)}", *given)

    def wait(self, expression: str) -> None:
        wait_until(lambda: self.run(f"return {expression}"))

    def wait_text(self, selector: str, text: str) -> None:
        """Until this is the text of what the selector finds first."""
        wait_until(lambda: self.run("return document.querySelector(arguments[0])?.textContent", selector) == text)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements("css selector", selector)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element("css selector", selector)

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0]).textContent", selector))

    def click(self, selector: str) -> None:
        """A click, also on what only shows itself below the mouse."""
        self.run("document.querySelector(arguments[0]).click()", selector)

    def press(self, key: str) -> None:
        """A key, for what has the focus."""
        ActionChains(self.driver).send_keys(key).perform()

    def say(self, text: str) -> str:
        """The answer to a message, once it is whole."""
        count = len(self.all("article.assistant"))
        self.one("#question").send_keys(text + "\n")
        return self.answered(count + 1)

    def answered(self, count: int) -> str:
        """The last of so many answers that are shown, once it is whole."""
        answers = "document.querySelectorAll('article.assistant')"
        self.wait(f"{answers}.length === {count} && !document.querySelector('.running, .assistant footer:empty')")
        return str(self.run(f"return [...{answers}].at(-1).querySelector('article > .prose').textContent"))

    def requested(self) -> list[str]:
        """The addresses of the net that pages have asked for since the last call."""
        messages = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        return [url for url in urls if not url.startswith(("data:", "blob:", "chrome:"))]

    def complaints(self) -> list[str]:
        """What the console has got since the last call: errors of scripts, what the policy refused."""
        return [entry["message"] for entry in self._log("browser")]

    def _log(self, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.driver.get_log(name)  # type: ignore[no-untyped-call]
        return found


def _text(script: str) -> str:
    return (SCRIPTS / script).read_text(encoding="utf-8") if script.endswith(".js") else script
