"""What a line in a chat is: a command, a slip of one, or a message; and files that go before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llamaq import LLM, SamplingParams
from llamaq.cli.chat.commands import Commands, context_bar
from llamaq.cli.chat.conversation import Conversation


@pytest.fixture
def talk(shared: Callable[[str], Path]) -> Iterator[Conversation]:
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
    with LLM.load(shared("models/stories260K-F32.gguf"), threads=1) as llm:
        yield Conversation(llm, sampling=SamplingParams(temperature=0), template=template, max_tokens=8)


def test_only_known_names_are_commands(talk: Conversation) -> None:
    takes = Commands(talk, print).takes
    for line in ("/help", "/?", "/set", "/set top_k 5", "/file a.txt", "/system one\ntwo", "/exit", "/hlep", "/contxt",
                 "/show info"):  # fmt: skip
        assert takes(line), line
    for line in ("/etc/passwd", "/etc", "/usr/bin/x: not found", "/", "//", "/ help", "/sets a=b", "hello /set", "/tmp",
                 "/help/me", "/var/log/a.log: error\n/help", "/api/chat does not answer"):  # fmt: skip
        assert not takes(line), line


def test_a_file_that_does_not_fit_is_refused_at_once(talk: Conversation, tmp_path: Path) -> None:
    said: list[str] = []
    commands = Commands(talk, said.append)
    (tmp_path / "long.txt").write_text("Hello " * 400)
    (tmp_path / "half.txt").write_text("Hello " * 60)
    size = len(talk.llm.tokenize("Hello " * 60))
    assert 512 / 3 < size < 512 / 2
    commands.run(f"/file {tmp_path / 'long.txt'}")
    assert " tokens, but the context of 512 has room for 512 more: -c sets a longer one" in said.pop()
    commands.run(f"/file {tmp_path / 'half.txt'}")
    commands.run(f"/file {tmp_path / 'half.txt'}")
    assert said == [f"half.txt, {size} tokens, goes before your next message"] * 2
    commands.run(f"/file {tmp_path / 'half.txt'}")
    assert f"half.txt has {size} tokens, but the context of 512 has room for {512 - 2 * size} more" in said.pop()
    assert commands.message("?").count("half.txt") == 2
    talk.ask("Hello " * 60)
    talk.answer(lambda event: None)
    commands.run(f"/file {tmp_path / 'half.txt'}")
    commands.run(f"/file {tmp_path / 'half.txt'}")
    assert f"room for {512 - size - talk.used} more" in said.pop()
    commands.run("/clear")
    commands.run(f"/file {tmp_path / 'half.txt'}")
    assert said[-1].endswith("goes before your next message")


def test_the_context_bar() -> None:
    assert context_bar(0, 100) == "[----------] 0 of 100 tokens"
    assert context_bar(55, 100) == "[######----] 55 of 100 tokens"
    assert context_bar(200, 100) == "[##########] 200 of 100 tokens"
