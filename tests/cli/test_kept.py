"""What is kept of chats between starts."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest

from command import Command
from llamaq import LLM, SamplingParams
from llamaq.chat import ChatMessage
from llamaq.cli.chat.commands import Commands
from llamaq.cli.chat.conversation import Conversation
from llamaq.cli.chat.kept import Kept
from llamaq.cli.chat.loop import chat
from llamaq.cli.chat.plain import PlainScreen, _PlainAnswer
from llamaq.serving.defaults import Defaults


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("LLAMAQ_NOHISTORY", raising=False)
    return tmp_path / "llamaq" / "chats"


def conversation(llm: LLM, *said: str) -> Conversation:
    found = Conversation(llm, sampling=SamplingParams(temperature=0), max_tokens=4, template="chatml")
    for i, text in enumerate(said):
        found.messages.append(ChatMessage("assistant" if i % 2 else "user", text))
    return found


def test_a_chat_is_kept_for_its_owner_alone(llm: LLM, state: Path) -> None:
    kept, talk = Kept("llama3.2:latest"), conversation(llm, "Hello", "Hi")
    kept.save(talk)
    (path,) = kept.chats()
    assert path.parent == state / "llama3.2-latest"
    for each in (path, path.parent, state):
        assert each.stat().st_mode & 0o077 == 0
    talk.ask("And?")
    kept.save(talk)
    assert kept.chats() == [path]
    talk.clear()
    kept.save(talk)
    talk.ask("Something else")
    kept.save(talk)
    assert len(kept.chats()) == 2
    again = conversation(llm)
    Kept("llama3.2:latest").resume(again)
    assert [message.content for message in again.messages] == ["Something else"]
    Kept("llama3.2:latest").resume(again, 2)
    assert [message.content for message in again.messages] == ["Hello", "Hi", "And?"]
    assert Kept("other").chats() == []


def test_what_is_gone_on_with_stays_in_its_file(llm: LLM) -> None:
    Kept("m").save(conversation(llm, "Hello", "Hi"))
    kept, talk = Kept("m"), conversation(llm)
    kept.resume(talk)
    talk.ask("And?")
    kept.save(talk)
    (path,) = kept.chats()
    assert len(json.loads(path.read_text())["messages"]) == 3


def test_few_are_kept(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llamaq.cli.chat.kept._MOST_CHATS", 3)
    for number in range(5):
        Kept("m").save(conversation(llm, f"chat {number}"))
        os.utime(Kept("m").chats()[0], (number, number))
    assert len(Kept("m").chats()) == 3
    assert "chat 4" in Kept("m").table()
    assert "chat 1" not in Kept("m").table()


def test_names_stay_in_their_folder(llm: LLM, state: Path) -> None:
    for name in ("../../x", "a/b", "", "..", "x" * 500, "\x00\n"):
        kept = Kept(name)
        kept.save(conversation(llm, "Hello"))
        assert {path.parent.parent for path in kept.chats()} == {state}
    assert sorted(path.name for path in state.iterdir()) == ["a-b", "model", "x", "x" * 100]


def test_nothing_is_written_where_nobody_wants_it(llm: LLM, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMAQ_NOHISTORY", "1")
    kept, talk = Kept("m"), conversation(llm, "Hello")
    kept.watch(talk)
    talk.max_tokens = 9
    kept.notice(talk)
    kept.save(talk)
    kept.forget()
    assert not state.exists()


def test_settings_hold_in_the_next_chat(llm: LLM) -> None:
    kept, talk = Kept("m"), conversation(llm)
    kept.watch(talk)
    said: list[str] = []
    commands = Commands(talk, said.append, kept=kept)
    for line in ("/set temperature 0.25", "/set seed 7", "/set max_tokens 12", "/set format json"):
        commands.run(line)
        kept.notice(talk)
    assert Kept("m").settings == {"temperature": 0.25, "max_tokens": 12}
    defaults = Kept("m").over(Defaults(sampling=SamplingParams(top_k=7)))
    assert defaults == Defaults(sampling=SamplingParams(top_k=7, temperature=0.25), max_tokens=12)
    commands.run("/set forget")
    assert "own settings" in said[-1]
    assert Kept("m").settings == {}


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "[" * 100_000, '{"temperature": "hot", "nosuch": 1, "max_tokens": [], "top_k": 3}']
)
def test_damaged_files_do_no_harm(llm: LLM, state: Path, text: str) -> None:
    kept = Kept("m")
    kept.save(conversation(llm, "Hello"))
    (state / "m" / "settings.json").write_text(text)
    (state / "m" / "broken.json").write_text(text)
    sampling = Kept("m").over(Defaults()).sampling
    assert sampling == SamplingParams(top_k=3 if "top_k" in text else 40)
    assert "(damaged)" in kept.table()
    assert "Hello" in kept.table()
    with pytest.raises(ValueError, match="not a conversation that /save wrote"):
        kept.resume(conversation(llm), 1)


def test_history(llm: LLM) -> None:
    Kept("m").save(conversation(llm, "Tell me\nof cats", "Meow"))
    kept, talk, said = Kept("m"), conversation(llm), [""]
    commands = Commands(talk, said.append, kept=kept)
    commands.run("/history")
    assert said[-1].splitlines()[0].endswith("2 messages  Tell me of cats")
    commands.run("/history 1")
    assert said[-1].startswith("2 messages, ")
    assert talk.messages[0].content == "Tell me\nof cats"
    commands.run("/history")
    assert "(this one)" in said[-1]
    for wrong in ("/history 9", "/history x", "/history 0"):
        commands.run(wrong)
        assert said[-1].startswith("earlier chats with this model have the numbers 1 to 1, got ")
    Commands(talk, said.append, kept=Kept("other")).run("/history")
    assert said[-1] == "there is no earlier chat with this model"


def test_a_row_of_the_history_fits_the_terminal(llm: LLM) -> None:
    kept, talk = Kept("m"), conversation(llm, "words " * 90, "Meow")
    kept.save(talk)
    for width in (80, 120):
        (row, _) = kept.table(width).splitlines()
        assert (len(row), row.endswith("(this one)")) == (width - 1, True)
    assert len(kept.table(10).splitlines()[0]) < 80  # some words are shown all the same


def test_a_chat_keeps_itself(
    llm: LLM, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("TERM", "dumb")

    def typed(*lines: str) -> None:
        left = list(lines)
        monkeypatch.setattr(PlainScreen, "read", lambda self: left.pop(0))

    typed("Hello", "/set temperature 0.5", "/set max_tokens -1", "/bye")
    assert chat(conversation(llm), kept=Kept("m")) == 0
    talk = conversation(llm)
    kept = Kept("m")
    kept.resume(talk)
    assert [message.role for message in talk.messages] == ["user", "assistant"]
    talk.sampling, talk.max_tokens = kept.over(Defaults()).sampling, None
    typed("/bye")
    chat(talk, kept=kept)
    typed("/bye")
    chat(conversation(llm), kept=kept)
    out = capsys.readouterr().out
    assert "Going on after 2 messages: " in out
    told = "As set in an earlier chat: temperature 0.5, max_tokens as many as fit. /set forget"
    assert " ".join(out.split()).count(told) == 1  # the other has --temp 0 and a number of tokens
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    (tmp_path / "file").touch()
    typed("Hello", "And?", "/bye")
    chat(conversation(llm), kept=Kept("m"))
    assert " ".join(capsys.readouterr().out.split()).count("the chat is not kept: ") == 1


def test_an_answer_that_was_interrupted_is_told(
    llm: LLM, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], state: Path
) -> None:
    monkeypatch.setenv("TERM", "dumb")

    def chats(*lines: str) -> Conversation:
        left, talk, kept = list(lines), conversation(llm), Kept("m")
        monkeypatch.setattr(PlainScreen, "read", lambda self: left.pop(0))
        if kept.chats():
            kept.resume(talk)
        assert chat(talk, kept=kept) == 0
        return talk

    with monkeypatch.context() as patch:
        patch.setattr(_PlainAnswer, "event", Mock(side_effect=KeyboardInterrupt))
        assert chats("Hello", "/bye").interrupted
    assert "stopped here by Ctrl-C" in capsys.readouterr().out
    (path,) = (state / "m").glob("2*.json")
    assert json.loads(path.read_text())["interrupted"] is True
    talk = chats("/history 1", "/regen", "/bye")
    out = " ".join(capsys.readouterr().out.split())
    assert "Going on after 2 messages: " in out
    assert "(Ctrl-C ended it; /regen answers anew)" in out
    assert "Ctrl-C ended the last answer, /regen answers anew" in out
    assert not talk.interrupted
    assert "interrupted" not in json.loads(path.read_text())
    chats("/bye")
    assert "Ctrl-C" not in capsys.readouterr().out


def test_continue(
    capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch, stories: Path, llm: LLM,
    shared: Callable[[str], Path],
) -> None:  # fmt: skip
    command = Command(capsysbinary, monkeypatch)
    argv = ["run", stories, "And?", "--continue", "--chat-template", "chatml", "-n", 6, "-t", 1, "--temp", 0]
    done = command(*argv)
    assert (done.code, "--continue: there is no earlier chat with" in done.err) == (2, True)
    Kept(stories.name).save(conversation(llm, "Hello", "Hi"))
    done = command(*argv)
    assert done.code == 0
    (path,) = Kept(stories.name).chats()
    said = [message["content"] for message in json.loads(path.read_text())["messages"]]
    assert said[:3] == ["Hello", "Hi", "And?"]
    assert done.out.decode().rstrip("\n") == said[3]
    done = command("run", stories, "x", "--continue", "-no-cnv")
    assert (done.code, "--continue is for chats" in done.err) == (2, True)
