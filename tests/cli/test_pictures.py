"""Pictures on the command line: ``--mmproj`` and ``--image``, ``/image`` in a chat, ``llamaq info``."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from command import Command
from gguf_files import copy_with
from hf_pictures import folder_of, tensors_of
from llamaq import LLM, ChatMessage, SamplingParams
from llamaq.cli.chat.commands import Commands
from llamaq.cli.chat.conversation import Conversation
from llamaq.cli.chat.live_answer import LiveAnswer
from llamaq.cli.run import _answer
from llamaq.vision.encoder import STORE_BYTES
from terminal import on_screen
from tiny_converted import converted
from vision_cases import picture

GREEDY = SamplingParams(temperature=0)
TEMPLATE = "{{ bos_token }}{% for m in messages %}{{ m.content }}b{% endfor %}"


@pytest.fixture
def command(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.delenv("LLAMA_ARG_MODEL", raising=False)
    return Command(capsysbinary, monkeypatch)


@pytest.fixture(scope="module")
def model(shared: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "sees.gguf"
    copy_with({"tokenizer.chat_template": TEMPLATE}, shared("tiny-models/gemma3v.gguf"), path)
    return path


@pytest.fixture(scope="module")
def mmproj(shared: Callable[[str], Path]) -> Path:
    return shared("tiny-models/gemma3v-mmproj.gguf")


@pytest.fixture(scope="module")
def cat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "cat.png"
    Image.fromarray(picture(30, 20)).save(path)
    return path


def test_an_answer_about_a_picture(command: Command, model: Path, mmproj: Path, cat: Path) -> None:
    with LLM.load(model, mmproj=mmproj, threads=1) as llm:
        message = ChatMessage("user", "ab", pictures=(cat,))
        want = llm.chat([message], max_tokens=5, sampling=GREEDY)
    done = command("run", model, "--mmproj", mmproj, "--image", cat, "-n", 5, "--temp", 0, "-t", 1, "-v", "-p", "ab")
    assert done.code == 0
    assert done.out.decode() == want.text.rstrip("\n") + "\n" or done.out.decode().strip() == want.text.strip()
    assert f"prompt      {want.usage.prompt_tokens} tokens" in done.err
    assert ", projector " in done.err


def test_a_model_with_its_encoder_inside_needs_no_projector(command: Command, tmp_path: Path) -> None:
    Image.fromarray(picture(56, 28)).save(tmp_path / "cat.png")
    template = (
        "{% for part in messages[0].content %}{{ '<|image|>' if part.type == 'image' else part.text }}{% endfor %}"
    )
    done = command(
        "run", converted("mllama", tmp_path), "--image", tmp_path / "cat.png", "-n", 3, "-t", 1, "-v", "-p", "ab",
        "--chat-template", template,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert ", projector " in done.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--image", "cat.png"], "--image needs the model's projector file: --mmproj FILE"),
        (["--image", "cat.png", "--mmproj", "x", "-no-cnv"], "--image is for chats"),
        (["--image", "nowhere.png", "--mmproj", "x"], "nowhere.png: the picture cannot be read"),
        (["--mmproj", "nowhere.gguf"], "nowhere.gguf"),
    ],
)
def test_what_is_refused(command: Command, model: Path, options: list[str], message: str) -> None:
    done = command("run", model, *options, "-p", "ab")
    assert done.code in (1, 2)
    assert message in done.err
    assert done.err.count("\n") == 1


def test_pictures_in_a_chat(model: Path, mmproj: Path, cat: Path, tmp_path: Path) -> None:
    said: list[str] = []
    with LLM.load(model, mmproj=mmproj, threads=1) as llm:
        conversation = Conversation(llm, sampling=GREEDY, max_tokens=3)
        commands = Commands(conversation, said.append)
        commands.run(f"/image {cat}")
        assert said == ["cat.png, 30 x 20, goes with your next message"]
        commands.run("/image nowhere.png")
        assert "nowhere.png: the picture cannot be read" in said[-1]
        conversation.ask(commands.message("ab"), commands.pictures())
        assert commands.pictures() == []
        before = conversation.tokens()
        assert conversation.answer(lambda event: None) is not None
        conversation.save(tmp_path / "chat.json")
        other = Conversation(llm, sampling=GREEDY, max_tokens=3)
        other.load(tmp_path / "chat.json")
        assert [message.pictures for message in other.messages] == [(cat,), ()]
        assert other.messages == conversation.messages
        other.messages.pop()
        assert other.tokens() == before
        other.messages[0] = ChatMessage("user", "ab")
        assert other.tokens() < before
    with LLM.load(model, threads=1) as blind:
        commands = Commands(Conversation(blind, sampling=GREEDY), said.append)
        commands.run(f"/image {cat}")
        assert "the model sees no pictures: --mmproj FILE" in said[-1]


def test_info_of_a_projector(command: Command, mmproj: Path) -> None:
    text = command("info", mmproj).out.decode()
    assert "projector gemma3: 4 rows of 64 floats for 64 x 64 pixels; llamaq run MODEL --mmproj gemma3v-mmproj" in text
    assert "memory beside that of its model" in text
    found = json.loads(command("info", mmproj, "--json").out)
    assert found["runnable"]
    assert found["memory"]["weights"] > 0


def test_info_counts_what_is_kept_and_an_encoder_inside(command: Command, mmproj: Path, tmp_path: Path) -> None:
    own = json.loads(command("info", mmproj, "--json").out)["memory"]
    assert own["projector"] == STORE_BYTES
    assert own["total"] == own["weights"] + own["cache"] + own["scratch"] + STORE_BYTES
    path = converted("mllama", tmp_path)
    found = json.loads(command("info", path, "--json").out)["memory"]
    with LLM.load(path) as llm:
        assert found["projector"] == llm.memory.projector > STORE_BYTES
    for file, what in ((mmproj, "at most: results"), (path, "at most: the encoder inside of the file, and results")):
        assert re.search(rf"^  pictures +[0-9.]+ MiB +{what}", command("info", file).out.decode(), re.MULTILINE)


class Looking:
    """A conversation whose model takes a while to look at a picture."""

    def ask(self, text: str, pictures: list[Path]) -> None:
        self.asked = text

    def answer(self, show: object, progress: object, looking: Callable[[int, int], None]) -> str:
        looking(1, 3)
        self.shown = terminal_text()
        looking(3, 3)
        return "stop"


def terminal_text() -> str:
    assert isinstance(sys.stderr, io.StringIO)
    return on_screen(sys.stderr.getvalue().encode()).strip()


def test_the_reading_of_a_picture_is_shown(monkeypatch: pytest.MonkeyPatch, cat: Path) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    conversation: Any = Looking()
    assert _answer(conversation, "Hm?", [cat], wraps=False) == "stop"
    assert conversation.shown.startswith("looking at the picture:  33%")
    assert "1/3 layers" in conversation.shown
    assert terminal_text() == ""
    live = LiveAnswer(Console(file=io.StringIO(), width=60))
    live.looking(1, 3)
    console = Console(file=io.StringIO(), width=60)
    console.print(live)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().strip() == "looking at the picture, 1 of 3 layers"


def test_a_folder_becomes_a_model_and_its_projector(command: Command, tmp_path: Path) -> None:
    folder, target = folder_of("gemma3v", tmp_path / "folder"), tmp_path / "out.gguf"
    done = command("convert", folder, target, "--outtype", "f32")
    assert [line.split(":")[0] for line in done.out.decode().splitlines()] == [
        str(target), str(tmp_path / "mmproj-out.gguf"), "tokenizer",
    ]  # fmt: skip
    done = command("convert", folder, tmp_path / "eyes.gguf", "--outtype", "f32", "--mmproj")
    assert done.out.decode().startswith(f"{tmp_path / 'eyes.gguf'}: ")
    assert tensors_of(tmp_path / "eyes.gguf").keys() == tensors_of(tmp_path / "mmproj-out.gguf").keys()
