"""Answers drawn while they come: what is finished is written once, only the last lines anew; words stay whole."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from llamaq.cli.chat.live_answer import finished_blocks, last_lines
from llamaq.cli.chat.wrapping import WordWrap

PIECES = st.sampled_from(["a", "- b", "  c", "", "```", "```py", "~~~", "    d", "# e", "1. f", "| g |"])


@given(st.lists(PIECES, max_size=12))
def test_what_is_finished_stays_finished(lines: list[str]) -> None:
    text = "\n".join(lines)
    done = ""
    for end in range(len(text) + 1):
        block, rest = finished_blocks(text[:end])
        assert block + rest == text[:end]
        assert text.startswith(done)
        assert block.startswith(done) or done.startswith(block)
        done = max(done, block, key=len)
        fences = [line for line in block.split("\n") if line.startswith(("```", "~~~"))]
        assert not fences or len(fences) >= 2
    assert finished_blocks("a\n\nb") == ("a\n\n", "b")
    assert finished_blocks("```\na\n\nb") == ("", "```\na\n\nb")
    assert finished_blocks("1. a\n\n   more") == ("", "1. a\n\n   more")


def test_only_the_last_lines_are_drawn_anew() -> None:
    code = "Here:\n```py\n" + "x = 1\n" * 50
    assert last_lines(code, 3) == "```py\n" + "x = 1\n" * 3
    assert last_lines(code + "```\n", 3) == "```py\n" + "x = 1\n" * 2 + "```\n"
    assert last_lines(code + "```\na\nb\nc", 3) == "a\nb\nc"
    assert last_lines("a\nb", 3) == "a\nb"


def wrapped(pieces: list[str], width: int) -> str:
    found: list[str] = []
    lines = WordWrap(found.append, width)
    for piece in pieces:
        lines.write(piece)
    lines.flush()
    return "".join(found)


def test_lines_break_between_words() -> None:
    for text, expected in (
        ("The quick brown fox", "The quick\nbrown fox"),
        ("The quick  brown", "The quick\nbrown"),
        ("    code", "    code"),
        ("a\n    code b\n\nc ", "a\n    code b\n\nc "),
        ("ab incomprehensibly so", "ab\nincomprehensibly so"),
        ("\u6c49\u5b57\u6c49\u5b57\u6c49\u5b57", "\u6c49\u5b57\u6c49\u5b57\u6c49\n\u5b57"),
        ("e\u0301" * 10 + " x", "e\u0301" * 10 + "\nx"),
    ):
        assert wrapped([text], 10) == wrapped(list(text), 10) == expected


@given(st.lists(st.sampled_from(["a", "bcd", " ", "  ", "\n", "efghijkl"])), st.integers(4, 20))
def test_nothing_but_spaces_becomes_a_line_break(pieces: list[str], width: int) -> None:
    text = wrapped(pieces, width)
    assert text == wrapped(["".join(pieces)], width)
    assert "".join(text.split()) == "".join("".join(pieces).split())
    for line in text.split("\n"):
        for word in re.finditer(r"\S+", "" if line.startswith(" ") else line):
            assert len(word[0]) > width or word.start() % width + len(word[0]) <= width  # no terminal breaks it
