"""The chat of ``llamaq run`` on a pseudo-terminal: with the extra and without, keys, Ctrl-C, history."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from terminal import Terminal, on_screen
from waiting import wait_until

pytestmark = pytest.mark.subprocess


@pytest.fixture(scope="module")
def model(shared: Callable[[str], Path]) -> Path:
    return shared("models/stories260K-F32.gguf")


class Chat(Terminal):
    """A chat with somebody who types."""

    def __init__(self, *argv: object, history: Path, **extra: str) -> None:
        environment = {"TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1", "XDG_STATE_HOME": str(history)}
        super().__init__("run", *argv, typed=True, **{**environment, **extra})
        self._at = 0
        self.see("tokens. /help")

    def see(self, text: str) -> str:
        """Waits for ``text`` after what was seen before; what came up to it, without control sequences."""
        began, self._at = self._at, self.wait_for(text.encode(), self._at)
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.shown[began : self._at].decode("utf-8", "replace"))

    def press(self, keys: str) -> None:
        """Types keys once the prompt is there and they are read."""
        self.see(">>> ")
        wait_until(self.reads_keys)
        self.type(keys)

    def enter(self, text: str) -> None:
        """Types a line at the prompt."""
        self.press(text + "\r")


@pytest.fixture(params=["rich", "dumb"])
def open_chat(request: pytest.FixtureRequest, model: Path, tmp_path: Path) -> Iterator[Callable[..., Chat]]:
    extra = {"TERM": "dumb"} if request.param == "dumb" else {}
    opened: list[Chat] = []

    def open_chat(*argv: object, **more: str) -> Chat:
        options = ("--chat-template", "chatml", "--temp", 0, "-n", 20, "-t", 1)
        opened.append(Chat(model, *options, *argv, history=tmp_path, **{**extra, **more}))
        return opened[-1]

    yield open_chat
    for chat in opened:
        chat.process.kill()
        chat.finish()


def test_a_chat_from_the_greeting_to_bye(open_chat: Callable[..., Chat], tmp_path: Path) -> None:
    chat = open_chat("-sys", "Be kind.")
    chat.enter("Tell me of Lily")
    answer = chat.see("as many as an answer may have")
    assert "upon" in answer or len(answer) > 40
    chat.enter("/context")
    assert "2 messages" in chat.see("2 messages")
    chat.enter('"""one')
    chat.see("...")
    chat.type('two"""\r')
    chat.see("as many as an answer may have")
    chat.enter(f"/save {tmp_path / 'talk.json'}")
    chat.see("4 messages written to")
    chat.enter("/undo")
    chat.see("taken back: one")
    chat.enter("/bye")
    code, _ = chat.finish()
    assert code == 0
    assert b"Traceback" not in chat.shown
    assert '"one\\ntwo"' in (tmp_path / "talk.json").read_text()


def test_ctrl_c_stops_the_answer_and_ctrl_d_leaves(open_chat: Callable[..., Chat]) -> None:
    chat = open_chat("-n", -1, "-c", 60000)
    chat.enter("Tell me of Lily")
    chat.see("Annabyed")  # the answer has begun
    chat.type("\x03")
    chat.see("(stopped here by Ctrl-C")
    chat.enter("/stats")
    chat.see("so far")
    chat.enter("/help")
    keys = chat.see("Ctrl-D       leaves") + chat.see(">>> ")
    editor = b"\x1b[?2004h" in chat.shown  # it takes pastes whole
    assert ("Alt-Enter begins" in keys, "Ctrl-G" in keys) == (editor, editor)
    wait_until(chat.reads_keys)
    chat.type("\x03")
    chat.see("Ctrl-D or /bye leaves")
    chat.press("\x04")
    code, _ = chat.finish()
    assert code == 0
    assert b"Traceback" not in chat.shown


def test_a_prompt_answers_once_on_a_terminal_too(model: Path) -> None:
    argv = ("run", model, "Hello", "--chat-template", "chatml", "--temp", 0, "-n", 8)
    terminal = Terminal(*argv, typed=True)
    assert terminal.finish()[0] == 0
    assert b">>>" not in terminal.shown
    assert b"\x1b[" not in terminal.shown.replace(b"\x1b[A", b"")


def test_a_single_answer_breaks_between_words_on_a_terminal(model: Path) -> None:
    argv = ("run", model, "Hello", "--chat-template", "chatml", "--temp", 0, "-n", 60)

    def lines(*more: str, both: bool = True) -> list[str]:
        terminal = Terminal(*argv, *more, both=both, COLUMNS="30")
        code, out = terminal.finish()
        assert code == 0
        return (on_screen(terminal.shown) if both else out.decode()).strip().splitlines()

    text = " ".join(lines(both=False))
    broken = lines()
    assert len(text) > 60
    assert max(map(len, broken)) <= 30
    assert " ".join(broken) == text == " ".join(lines("--nowordwrap"))


def test_a_model_without_a_template_says_at_a_terminal_why_there_is_no_chat(model: Path) -> None:
    bare = Terminal("run", model, typed=True)
    assert bare.finish()[0] == 2
    assert b"has no chat template (--chat-template NAME chooses one), so it continues texts: give" in bare.shown
    for more, told in (((), True), (("-no-cnv",), False)):
        terminal = Terminal("run", model, "Once upon", "--temp", 0, "-n", 8, *more, typed=True)
        assert terminal.finish()[0] == 0
        assert (b"has no chat template" in terminal.shown) == told
    assert Terminal("run", model, "-no-cnv", "--temp", 0, "-n", 8, typed=True).finish()[0] == 0


def test_reasoning_is_a_word_on_the_terminal(model: Path) -> None:
    template = "{% for m in messages %}{{ m.content }}{% endfor %}<think>"
    terminal = Terminal("run", model, "Hello", "--chat-template", template, "--temp", 0, "-n", 8, both=True)
    assert terminal.finish()[0] == 0
    shown = on_screen(terminal.shown).strip()
    assert shown.startswith("llamaq: there is no answer: the model was still thinking")
    assert shown.count("thinking") == 1
    assert terminal.shown.count(b"thinking") > 1
    assert b"\x1b[K" not in terminal.shown  # older consoles of Windows would print it


@pytest.mark.parametrize("term", ["dumb", "xterm-256color"])
def test_what_a_model_writes_cannot_command_the_terminal(model: Path, tmp_path: Path, term: str) -> None:
    script = tmp_path / "evil.py"
    script.write_text(
        "from llamaq.chat import ChatEvent\n"
        "from llamaq.cli.chat.loop import _screen\n"
        "with _screen().answering() as view:\n"
        "    for text in ('a\\x1b]52;c;eA==\\x07', 'b\\x9b2J\\r\\n', '\\x00ü😀'):\n"
        "        view.event(ChatEvent(text=text))\n"
        "        view.event(ChatEvent(reasoning=text))\n"
    )
    terminal = Terminal(program=[sys.executable, script], typed=True, TERM=term)
    assert terminal.finish()[0] == 0
    for evil in (b"\x1b]", b"\x07", b"\xc2\x9b", b"\x00"):
        assert evil not in terminal.shown
    assert "ü😀".encode() in terminal.shown


def test_cnv_goes_on_after_a_prompt_and_single_turn_does_not(open_chat: Callable[..., Chat]) -> None:
    chat = open_chat("-cnv", "Hello")
    chat.see("as many as an answer may have")
    chat.enter("/bye")
    assert chat.finish()[0] == 0
    chat = open_chat("-st")
    chat.enter("Hello")
    chat.see("as many as an answer may have")
    assert chat.finish()[0] == 0


def test_alt_enter_and_history_of_earlier_chats(model: Path, tmp_path: Path) -> None:
    for keys in ("first\x1b\rline\r", "\x1b[A\x1b[A\x1b[A\r"):
        chat = Chat(model, "--chat-template", "chatml", "-n", 4, history=tmp_path)
        chat.press(keys)
        chat.see("as many as an answer may have")
        chat.enter(f"/save {tmp_path / 'talk.json'}")
        chat.see("2 messages")
        chat.enter("/bye")
        assert chat.finish()[0] == 0
        assert '"first\\nline"' in (tmp_path / "talk.json").read_text()
        (tmp_path / "talk.json").unlink()
    assert (tmp_path / "llamaq" / "history").stat().st_mode & 0o077 == 0


def test_without_the_extra_a_line_says_what_it_adds(model: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.modules['rich'] = None\nsys.modules['prompt_toolkit'] = None\n"
    )
    from terminal import environment

    path = f"{tmp_path}:{environment()['PYTHONPATH']}"
    chat = Chat(model, "--chat-template", "chatml", "-n", 4, history=tmp_path, PYTHONPATH=path)
    assert b"pip install 'llamaq[chat]'" in chat.shown
    chat.enter("Hello")
    chat.see("as many as an answer may have")
    chat.enter("/bye")
    assert chat.finish()[0] == 0
