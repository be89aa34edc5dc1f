"""Answers in a folder: many processes keep theirs in one, and what broke off or was changed is asked again."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamaq import LlamaqError
from llamaq.distributed.kept import KeptAnswers

A, B, C = (letter * 64 for letter in "abc")


def test_many_keep_in_one_folder(tmp_path: Path) -> None:
    one, two = KeptAnswers(tmp_path / "new" / "folder"), KeptAnswers(tmp_path / "new" / "folder")
    one.add(A, {"text": "é\n"})
    one.add(B, {"embedding": [0.1, -1e-30]})
    two.add(C, {"text": None})
    assert two.get(A) is None
    two.look()
    assert [two.get(key) for key in (A, B, C)] == [{"text": "é\n"}, {"embedding": [0.1, -1e-30]}, {"text": None}]
    two.add(A, {"text": "again"})
    one.look()
    assert (one.get(A), one.get(C)) == ({"text": "é\n"}, {"text": None})
    one.add("d" * 64, {"text": "later"})
    two.look()
    assert two.get("d" * 64) == {"text": "later"}


@pytest.mark.parametrize(
    "rest", ['{"key": "', "no JSON\n", '{"key": 5, "answer": {}}\n', '{"key": "ab", "answer": 1}\n']
)
def test_what_is_no_answer_is_none(tmp_path: Path, rest: str) -> None:
    KeptAnswers(tmp_path).add(A, {"text": "x"})
    (file,) = tmp_path.iterdir()
    with file.open("a") as out:
        out.write(rest)
    (tmp_path / "other.jsonl").write_text("of somebody else")
    again = KeptAnswers(tmp_path)
    again.look()
    again.add(B, {"text": "y"})
    again.look()
    assert (again.get(A), again.get(B), again.get(C)) == ({"text": "x"}, {"text": "y"}, None)
    assert len([*tmp_path.iterdir()]) == 3
    file.write_text("all else\n")
    assert again.get(A) is None
    file.unlink()
    assert again.get(A) is None


def test_a_line_that_comes_in_pieces(tmp_path: Path) -> None:
    one, two = KeptAnswers(tmp_path), KeptAnswers(tmp_path)
    one.add(A, {"text": "x"})
    (file,) = tmp_path.iterdir()
    line = file.read_bytes()
    file.write_bytes(line[:20])
    two.look()
    assert two.get(A) is None
    file.write_bytes(line)
    two.look()
    assert two.get(A) == {"text": "x"}


def test_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LlamaqError, match=r"file: answers cannot be kept there: .*; give a folder"):
        KeptAnswers(tmp_path / "file")
