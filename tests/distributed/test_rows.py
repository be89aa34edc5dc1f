"""Rows of a table: answers that depend on the row alone, and errors that stay in theirs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from asgi import TEMPLATE
from llamaq import LLM, SamplingParams
from llamaq.batch.requests import seed_of
from llamaq.distributed.rows import COLUMNS, RowJob, RowWorker
from llamaq.errors import ClosedError

LOAD = {"n_ctx": 128, "n_cache": 1024, "threads": 1}
SAID = [{"role": "user", "content": "Tell of a cat", "tool_calls": None}]
ROWS: list[dict[str, Any]] = [
    {"id": 1, "messages": SAID, "template": TEMPLATE},
    {"id": 2, "prompt": "Once", "max_tokens": 4},
    {"id": 3, "embed": "a dog"},
    {"id": 4, "score": " upon a time", "score_after": "Once"},
    {"id": 5, "prompt": "Tom", "sampling": {"temperature": 0.0, "seed": 5}},
    {"prompt": "without an id"},
]


@pytest.fixture(scope="module")
def worker(stories: Path) -> Iterator[RowWorker]:
    worker = RowWorker(RowJob(stories, LOAD, SamplingParams(seed=3), 6))
    yield worker
    worker.close()


def test_each_row_is_answered_by_the_library(worker: RowWorker, stories: Path) -> None:
    chat, text, vector, score, greedy, nameless = worker.answer(ROWS)
    with LLM.load(stories, **LOAD) as llm:
        own = SamplingParams(seed=seed_of(3, "1"))
        assert chat["text"] == llm.chat([{**SAID[0]}], template=TEMPLATE, max_tokens=6, sampling=own).text
        assert text["text"] == llm.generate("Once", max_tokens=4, sampling=SamplingParams(seed=seed_of(3, "2"))).text
        assert vector["embedding"] == llm.embed(["a dog"])[0].tolist()
        assert score["logprobs"] == llm.score(" upon a time", prompt="Once").logprobs.tolist()
        assert greedy["text"] == llm.generate("Tom", max_tokens=6, sampling=SamplingParams(temperature=0)).text
    assert (text["finish_reason"], text["completion_tokens"], text["embedding"], text["id"]) == ("length", 4, None, 2)
    assert all(row["error"] is None and row.keys() >= COLUMNS.keys() for row in (chat, text, vector, score, nameless))


def test_company_and_order_change_nothing(worker: RowWorker) -> None:
    together = worker.answer(ROWS)
    assert [worker.answer([row])[0] for row in ROWS] == together
    assert worker.answer(ROWS[::-1]) == together[::-1]
    again = {**ROWS[5], "sampling": {"seed": None}}
    assert worker.answer([{**again}])[0]["text"] != together[5]["text"]  # it asks for something else
    assert worker.answer([{**ROWS[5], "id": 9}])[0]["text"] != together[5]["text"]


def test_what_is_wrong_with_a_row_stays_in_it(worker: RowWorker) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"prompt": "x " * 500}, "ContextOverflowError: "),
        ({"prompt": None}, "a row must have one of messages, prompt, embed, score, got none"),
        ({"prompt": "x", "embed": "y"}, "got prompt, embed"),
        ({"prompt": "x", "sampling": {"heat": 1}}, "sampling has 'heat'"),
        ({"prompt": "x", "sampling": {"temperature": "hot"}}, "temperature must be a number"),
        ({"messages": [{"content": "x"}], "template": TEMPLATE}, "role"),
    ]
    found = worker.answer([*(row for row, _ in wrong), ROWS[1]])
    for (row, told), answer in zip(wrong, found[:-1], strict=True):
        assert told in answer["error"], row
        assert (answer["text"], answer["embedding"]) == (None, None)
    assert found[-1] == worker.answer([ROWS[1]])[0]


def test_functions_of_the_user(stories: Path) -> None:
    def before(row: dict[str, Any]) -> dict[str, Any]:
        return {"prompt": f"{row['name']} saw", "max_tokens": 3}

    def after(row: dict[str, Any]) -> dict[str, Any]:
        return {"name": row["name"], "story": row["text"].upper() if row["name"] != "Sue" else 1 // 0}

    worker = RowWorker(RowJob(stories, LOAD, preprocess=before, postprocess=after, id="name"))
    tom, nobody, sue = worker.answer([{"name": "Tom"}, {"title": "none"}, {"name": "Sue"}])
    with LLM.load(stories, **LOAD) as llm:
        told = llm.generate("Tom saw", max_tokens=3, sampling=SamplingParams(seed=seed_of(0, "Tom"))).text
    assert tom == {"name": "Tom", "story": told.upper(), "error": None}
    assert (nobody["error"], sue["error"][:17]) == ("KeyError: 'name'", "ZeroDivisionError")
    worker.close()
    with pytest.raises(ClosedError):
        worker.answer([{"name": "Tom"}])


def test_answers_that_are_kept_are_not_asked_for_again(
    worker: RowWorker, stories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    real = RowWorker._columns

    def noting(self: RowWorker, row: Any, seed: int) -> Any:
        asked.append(row)
        return real(self, row, seed)

    monkeypatch.setattr(RowWorker, "_columns", noting)
    job = RowJob(stories, LOAD, SamplingParams(seed=3), 6, keep=tmp_path)
    wrong = {"id": 7, "prompt": "x " * 500}
    expected = worker.answer([*ROWS, wrong])
    first = RowWorker(job)
    assert first.answer([ROWS[1], wrong, ROWS[3]]) == [expected[1], expected[6], expected[3]]
    asked.clear()
    later = RowWorker(replace(job, load={**LOAD, "threads": 2}))
    assert later.answer([*ROWS, wrong]) == expected
    assert asked == [row for row in [*ROWS, wrong] if row.get("id") not in (2, 4)]
    asked.clear()
    assert first.answer(ROWS[::-1]) == expected[5::-1]  # it learns of the other's
    assert not asked
    for other in (replace(job, sampling=SamplingParams(seed=3, temperature=0.5)), replace(job, max_tokens=5),
                  replace(job, load={**LOAD, "n_ctx": 96})):  # fmt: skip
        asked.clear()
        changed = RowWorker(other)
        changed.answer([ROWS[0]])
        assert len(asked) == 1
        changed.close()
    asked.clear()
    named = RowWorker(replace(job, postprocess=lambda row: {"said": row["text"]}))
    assert named.answer(ROWS[:2]) == [{"said": row["text"], "error": None} for row in expected[:2]]
    named.answer([{**ROWS[1], "id": 77}])
    assert [row["id"] for row in asked] == [77]
    for each in (first, later, named):
        each.close()
