"""Answers drawn while they come: what is finished is written once, only the last lines anew."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llamaq.cli.chat.live_answer import finished_blocks, last_lines

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
