"""``llamaq run`` as a chat: answers without a terminal, conversations, commands."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from command import Command
from gguf_files import copy_with
from llamaq import LLM, ChatEvent, ChatMessage, SamplingParams, Usage
from llamaq.cli.chat.commands import Commands, context_bar
from llamaq.cli.chat.conversation import Conversation
from llamaq.engine import bundled
from llamaq.errors import ChatTemplateError, LlamaqError, ModelError
from waiting import wait_until

GREEDY = SamplingParams(temperature=0)
TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{{ greeting }}assistant:"


@pytest.fixture
def command(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.delenv("LLAMA_ARG_MODEL", raising=False)
    return Command(capsysbinary, monkeypatch)


@pytest.fixture(scope="module")
def plain(shared: Callable[[str], Path]) -> Path:
    return shared("models/stories260K-F32.gguf")


@pytest.fixture(scope="module")
def chatty(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real model with a chat template in its file."""
    path = tmp_path_factory.mktemp("models") / "chatty.gguf"
    copy_with({"tokenizer.chat_template": TEMPLATE}, plain, path)
    return path


@pytest.fixture(scope="module")
def llm(chatty: Path) -> Iterator[LLM]:
    with LLM.load(chatty, threads=1) as llm:
        yield llm


def test_a_model_with_a_template_answers_once_without_a_terminal(command: Command, chatty: Path, llm: LLM) -> None:
    options = ("--temp", 0, "-n", 12, "-t", 1)
    expected = llm.generate("user: Hello\nassistant:", max_tokens=12, sampling=GREEDY).text.encode() + b"\n"
    cases: list[tuple[list[Any], bytes]] = [
        (["Hello"], b""),
        (["-p", "Hello"], b""),
        ([], b"Hello\n"),
        (["-cnv", "Hello"], b""),
        (["-st", "Hello"], b""),
        (["--context-shift", "--keep", 4, "Hello"], b""),
    ]
    for argv, stdin in cases:
        done = command("run", chatty, *argv, *options, stdin=stdin)
        assert (done.code, done.out, done.err) == (0, expected, ""), argv
    system = llm.generate("system: Be\nkind.\nuser: Hello\nassistant:", max_tokens=12, sampling=GREEDY).text.encode()
    assert command("run", chatty, "Hello", "-sys", r"Be\nkind.", *options).out == system + b"\n"
    greeted = llm.generate("user: Hello\nHi. assistant:", max_tokens=12, sampling=GREEDY).text.encode()
    done = command("run", chatty, "Hello", "--chat-template-kwargs", '{"greeting": "Hi. "}', *options)
    assert done.out == greeted + b"\n"


def test_an_answer_that_ends_while_the_model_thinks_is_said(command: Command, plain: Path) -> None:
    thinks = "{% for m in messages %}{{ m.content }}{% endfor %}<think>"
    for options, message in [
        (["-n", 5], "ended by the number of tokens (-n)"),
        (["-n", 5, "-j", "{}"], "ended by the number of tokens (-n)"),
        (["-n", 50, "--stop", "e"], "ended by an end token or a stop text"),
    ]:
        done = command("run", plain, "Hello", "--chat-template", thinks, "--temp", 0, "-t", 1, *options)
        told = f"llamaq: there is no answer: the model was still thinking, and was {message}\n"
        assert (done.code, done.out.strip(), done.err) == (0, b"", told)


def test_no_cnv_continues_a_text(command: Command, chatty: Path, plain: Path, tmp_path: Path) -> None:
    options = ("Lily", "--temp", 0, "-n", 12)
    text = command("run", plain, *options).out
    assert text == command("run", chatty, "-no-cnv", *options).out
    assert text != command("run", chatty, *options).out
    (tmp_path / "own.jinja").write_text(TEMPLATE)
    (tmp_path / "system.txt").write_text("Be kind.\n")
    chats = {
        command("run", chatty, *options, "-sys", "Be kind.").out,
        command("run", plain, *options, "-sysf", tmp_path / "system.txt", "--chat-template", TEMPLATE).out,
        command("run", plain, *options, "-sys", "Be kind.", "--chat-template-file", tmp_path / "own.jinja").out,
    }
    (tmp_path / "own.jinja").write_bytes(TEMPLATE.encode("utf-16"))
    (tmp_path / "system.txt").write_bytes("Be kind.\n".encode("utf-8-sig"))
    files = ["-sysf", tmp_path / "system.txt", "--chat-template-file", tmp_path / "own.jinja"]
    chats.add(command("run", plain, *options, *files).out)
    assert len(chats) == 1


def test_what_cannot_be_a_chat_is_an_error(command: Command, chatty: Path, plain: Path) -> None:
    cases: list[tuple[list[Any], int, str]] = [
        ([plain, "-cnv", "x"], 1, "the file has no chat template; choose the one"),
        ([plain, "--chat-template", "gpt", "x"], 1, "there is no chat template 'gpt'; there are llama2"),
        ([plain, "--chat-template", "{% if %}", "x"], 1, "the given chat template: line 1"),
        ([plain, "--chat-template-file", "none.jinja", "x"], 1, "none.jinja: no such file"),
        ([plain, "x", "-sys", "y"], 2, "--system-prompt is for chats, and the model has no chat template"),
        ([chatty, "x", "-st", "-no-cnv"], 2, "--single-turn is for chats, and -no-cnv is given"),
        ([chatty], 2, "there is no message to answer"),
        ([chatty, "x", "--echo"], 2, "--echo is for texts"),
        ([chatty, "x", "--chat-template-kwargs", "[1]"], 2, "expected a JSON object"),
        ([chatty, "x", "--chat-template-kwargs", "{"], 2, "--chat-template-kwargs: "),
    ]
    for argv, code, message in cases:
        done = command("run", *argv)
        assert (done.code, done.out) == (code, b""), argv
        assert message in done.err
        assert done.err.count("\n") == 1


def test_what_is_no_model_is_a_prompt_for_the_bundled_one(
    command: Command, chatty: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bundled, "_FILE", tmp_path / "none.gguf")
    for argv in (["Tell me a story"], [], ["-p", "x"]):
        done = command("run", *argv)
        assert (done.code, done.err) == (
            1,
            "llamaq: error: this build of llamaq has no bundled model; name a GGUF file\n",
        )
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for argv, message in [
        (["none.gguf"], "none.gguf: no such file"),
        (["none.gguf", "x"], "none.gguf: no such file"),
        (["hf:someone/some"], "HF_HUB_OFFLINE forbids to fetch it"),
        (["no-such-model", "x"], "there is no model 'no-such-model' here"),
        (["no-such-model"], "For the prompt 'no-such-model' give it with -p"),
    ]:
        done = command("run", *argv)
        assert done.code == 1
        assert message in done.err
        assert ("give it with -p" in done.err) == (argv == ["no-such-model"])
    monkeypatch.setattr(bundled, "_FILE", chatty)
    done = command("run", "Tell me", "-n", 3)
    assert (done.code, done.err) == (0, "llamaq: no model is given, so this is the bundled one, chatty\n")
    with LLM.load(threads=1) as llm:
        assert "tokenizer.chat_template" in llm.metadata
    monkeypatch.setenv("LLAMA_ARG_MODEL", str(chatty))
    assert command("run", "Tell me", "-n", 3).err == ""
    monkeypatch.chdir(chatty.parent)
    Path("chatty").write_bytes(chatty.read_bytes())
    assert command("run", "chatty", "Tell me", "-n", 3).err == ""  # the file's name is without .gguf


def shown(conversation: Conversation) -> str:
    parts: list[ChatEvent] = []
    conversation.answer(parts.append)
    return "".join(part.text for part in parts)


@pytest.fixture
def talk(llm: LLM) -> Conversation:
    return Conversation(llm, sampling=GREEDY, max_tokens=8)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def run(talk: Conversation, said: list[str]) -> Callable[[str], str]:
    """``run("/help")``: what the command tells."""
    commands = Commands(talk, said.append)

    def run(line: str) -> str:
        said.clear()
        assert commands.run(line) == "stay", line
        return "\n".join(said)

    return run


def usage(talk: Conversation) -> Usage:
    assert talk.latest is not None
    return talk.latest.usage


def test_a_conversation_goes_on(talk: Conversation) -> None:
    talk.ask("Hello")
    first = shown(talk)
    assert talk.messages == [ChatMessage("user", "Hello"), ChatMessage("assistant", first)]
    assert talk.used == usage(talk).prompt_tokens + 8
    talk.ask("And?")
    second = shown(talk)
    assert usage(talk).cached_tokens > 0
    assert [m.content for m in talk.messages] == ["Hello", first, "And?", second]
    assert talk.totals[1] == 16
    undone = talk.undo()
    assert undone == ChatMessage("user", "And?")
    assert [m.content for m in talk.messages] == ["Hello", first]
    assert talk.again()
    assert [m.content for m in talk.messages] == ["Hello"]
    assert shown(talk) == first
    assert talk.used > 0
    talk.clear()
    assert talk.used == 0
    assert talk.undo() is None
    assert not talk.again()


def test_ctrl_c_keeps_what_came(talk: Conversation) -> None:
    def stop(event: ChatEvent) -> None:
        came.append(event.text)
        if len(came) == 3:
            raise KeyboardInterrupt

    came: list[str] = []
    talk.max_tokens = None
    talk.ask("Hello")
    assert talk.answer(stop) is None
    assert talk.messages[-1].role == "assistant"
    assert talk.messages[-1].content.startswith("".join(came))
    talk.max_tokens = 4
    talk.ask("And?")
    assert shown(talk)
    before = list(talk.messages)
    with patch.object(talk.llm, "chat", side_effect=KeyboardInterrupt):
        talk.ask("Hm?")
        assert talk.answer(stop) is None
    assert talk.messages == before


def test_the_bar_and_the_command_agree_about_an_answer_that_was_stopped(
    talk: Conversation, run: Callable[[str], str]
) -> None:
    def stop(event: ChatEvent) -> None:
        came.append(event.text)
        wait_until(lambda: usage(talk).completion_tokens >= 6)  # the model runs ahead of who reads
        if len(came) == 3:
            raise KeyboardInterrupt

    came: list[str] = []
    talk.max_tokens = None
    talk.ask("Hello")
    assert talk.answer(stop) is None
    assert talk.used == talk.tokens()
    bar = context_bar(talk.used, talk.llm.n_ctx)
    assert run("/context") == f"{bar}, 2 messages"
    talk.max_tokens = 8
    talk.ask("And?")
    shown(talk)
    assert run("/context").startswith(f"{context_bar(talk.used, talk.llm.n_ctx)}, 4")


def test_an_error_in_the_middle_takes_the_message_back(talk: Conversation) -> None:
    def fail(event: ChatEvent) -> None:
        raise ModelError("damaged")

    talk.ask("Hello")
    with pytest.raises(ModelError):
        talk.answer(fail)
    assert talk.messages == []


def test_a_message_that_does_not_fit_is_taken_back(talk: Conversation) -> None:
    talk.ask("Hello " * 1000)
    with pytest.raises(Exception, match="the context 512"):
        shown(talk)
    assert talk.messages == []
    talk.template = "{{ raise_exception('no') }}"
    talk.ask("Hello")
    with pytest.raises(ChatTemplateError, match="no"):
        shown(talk)
    assert talk.messages == []


def test_another_answer_has_another_seed(llm: LLM) -> None:
    talk = Conversation(llm, sampling=SamplingParams(seed=5), max_tokens=20)
    talk.ask("Hello")
    first = shown(talk)
    talk.again()
    assert (shown(talk) != first, talk.sampling.seed) == (True, 6)


def test_commands_that_change_the_conversation(talk: Conversation, run: Callable[[str], str], tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    assert run("/system Be kind.") == "the system message is set; it holds from the next answer on"
    assert (talk.system, run("/system")) == ("Be kind.", "Be kind.")
    talk.ask("Hello")
    shown(talk)
    before = talk.said
    assert run(f"/save {file}") == f"2 messages written to {file}"
    assert json.loads(file.read_bytes())["messages"][0] == {"role": "system", "content": "Be kind."}
    assert run("/clear") == "the conversation is forgotten"
    assert (talk.messages, talk.system) == ([], "Be kind.")
    run("/system Be rude.")
    assert (run(f"/load {file}").startswith(f"{file}: 2 messages, "), talk.said) == (True, before)
    file.write_bytes(file.read_bytes().decode().encode("utf-16"))
    assert (run(f"/load {file}").startswith(f"{file}: 2 messages, "), talk.said) == (True, before)
    assert run("/undo") == "taken back: Hello"
    assert run("/undo") == "there is nothing to take back"
    assert run("/regen") == "there is nothing to answer yet"
    assert run("/context").startswith("[")
    assert "8 written" in run("/stats")


def test_settings(talk: Conversation, run: Callable[[str], str]) -> None:
    for line, name, value, told in [
        ("/set temperature 0.5", "temperature", 0.5, "temperature is 0.5"),
        ("/set parameter temp 0.7", "temperature", 0.7, "temperature is 0.7"),
        ("/set top_k 5", "top_k", 5, "top_k is 5"),
        ("/set seed 7", "seed", 7, "seed is 7"),
        ("/set seed -1", "seed", None, "seed is another one for each answer"),
        ("/set ignore_eos on", "ignore_eos", True, "ignore_eos is on"),
        ("/set samplers kt", "samplers", ("top_k", "temperature"), "samplers is top_k;temperature"),
    ]:
        assert run(line) == told
        assert getattr(talk.sampling, name) == value
    assert (run("/set max_tokens 3"), talk.max_tokens) == ("max_tokens is 3", 3)
    assert (run("/set num_predict -1"), talk.max_tokens) == ("max_tokens is as many as fit", None)
    assert run("/set max_tokens") == "max_tokens is as many as fit; /set max_tokens VALUE changes it"
    assert (run("/set nothink")[-38:], talk.template_kwargs) == ("switch for reasoning (enable_thinking)", {})
    talk.template = "{{ messages[0].content if enable_thinking }}"
    assert run("/set nothink") == "the template is asked for none before answers"
    assert talk.template_kwargs == {"enable_thinking": False}
    assert run("/set verbose") == "answers have tokens and speeds below them"
    assert (run("/set system Be kind.")[:22], talk.system) == ("the system message is ", "Be kind.")
    assert (run("/set format json"), talk.sampling.structure is not None) == ("answers are JSON", True)
    assert "structure               one that answers must match" in run("/set")
    assert "got 'xml'" in run("/set format xml")
    assert (run("/set noformat"), talk.sampling.structure) == ("answers are free text", None)
    assert all(word not in run("/set") for word in ("None", "()", "{}", "False"))
    assert "top_k                   5" in run("/set")
    assert "top_p must be a number from 0 to 1" in run("/set top_p 5")
    assert run("/set top_p much") == "top_p must be a number, got 'much'"
    assert run("/set max_tokens x") == "max_tokens must be a whole number, got 'x'"
    assert run("/set ignore_eos maybe") == "ignore_eos must be on or off, got 'maybe'"
    assert "there is no setting 'x'" in run("/set x 5") == run("/set x")
    assert "there is no setting 'temprature'; did you mean temperature?" in run("/set temprature 1")
    assert "cannot be set here" in run("/set logit_bias 5")
    assert run("/set parameter num_ctx 8192") == "num_ctx is chosen when the chat starts: llamaq run MODEL -c N"


def test_commands_that_tell(run: Callable[[str], str], tmp_path: Path) -> None:
    text = run("/help")
    for name in ("help", "set", "system", "save", "load", "clear", "regen", "undo", "stats", "context", "file", "bye"):
        assert f"/{name} " in text
    assert run("/?") == text
    assert run("/hlep").startswith("there is no command /hlep; did you mean /help? (")
    assert run("/show info") == "there is no command /show; outside of the chat, llamaq show MODEL does it"
    assert run("/save") == "the name of a file is missing"
    assert "no such file" in run(f"/load {tmp_path / 'none'}")
    (tmp_path / "bad").write_text("[]")
    assert "not a conversation that /save wrote" in run(f"/load {tmp_path / 'bad'}")
    assert "cannot be written" in run(f"/save {tmp_path}") or "folder" in run(f"/save {tmp_path}")


def test_a_file_goes_before_the_next_message(talk: Conversation, tmp_path: Path) -> None:
    said: list[str] = []
    commands = Commands(talk, said.append)
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    commands.run(f"/file {tmp_path / 'a.txt'}")
    assert said[0].startswith("a.txt, ")
    assert commands.message("What is it?") == "a.txt:\n```\none\ntwo\n```\n\nWhat is it?"
    assert commands.message("And?") == "And?"
    assert [commands.run(line) for line in ("/bye", "/exit", "/quit")] == ["leave"] * 3


def test_files_that_would_be_waited_for(talk: Conversation, run: Callable[[str], str], tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    for line in (f"/load {pipe}", f"/file {pipe}"):
        assert run(line) == f"{pipe}: expected a file, got a pipe or device; save it to a file first"
    assert "nobody reads the pipe" in run(f"/save {pipe}")
    (tmp_path / "deep").write_text("[" * 100_000)
    assert "not a conversation that /save wrote" in run(f"/load {tmp_path / 'deep'}")
    (tmp_path / "latin1").write_bytes("Grün".encode("latin-1"))
    assert "latin1: byte 2: expected UTF-8" in run(f"/file {tmp_path / 'latin1'}")
    (tmp_path / "link").symlink_to("talk.json")
    run(f"/save {tmp_path / 'link'}")
    assert (tmp_path / "link").is_symlink()
    assert json.loads((tmp_path / "talk.json").read_bytes())["messages"] == []


def test_saving_leaves_no_half_a_file(talk: Conversation, tmp_path: Path) -> None:
    with pytest.raises(LlamaqError, match="create the folder first"):
        talk.save(tmp_path / "none" / "x.json")
    assert list(tmp_path.iterdir()) == []


def test_bytes_that_are_no_text_are_saved_too(talk: Conversation, tmp_path: Path) -> None:
    talk.ask("a\udcffb é")
    talk.save(tmp_path / "talk.json")
    assert "é" in (tmp_path / "talk.json").read_text(encoding="utf-8")
    talk.clear()
    talk.load(tmp_path / "talk.json")
    assert talk.messages == [ChatMessage("user", "a\udcffb é")]
