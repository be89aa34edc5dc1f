"""Many clients at once that behave badly, in short; ``benchmarks/serve_load.py`` does it for as long as one likes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

pytestmark = pytest.mark.subprocess


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts import one another by name, and start llamaq as this process would."""
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])


def test_every_answer_is_right_and_nothing_leaks(
    stories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import serve_load

    out = tmp_path / "out.json"
    options = ["--clients", "8", "--requests", "160", "--threads", "1", "--json", str(out)]
    monkeypatch.setattr(sys, "argv", ["serve_load.py", str(stories), *options])
    serve_load.main()
    found = json.loads(out.read_text())
    assert found["wrong"] == []
    assert set(found["counts"]) >= {"right", "left", "reset", "refused", "killed"}
    assert sum(found["counts"].values()) == 160


def test_the_cost_of_serving_is_measured(stories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import serve_speed

    out = tmp_path / "out.json"
    options = ["--clients", "1", "2", "--new", "8", "--prompt", "8", "--rounds", "1", "--requests", "4"]
    monkeypatch.setattr(sys, "argv", ["serve_speed.py", str(stories), *options, "--threads", "1", "--json", str(out)])
    serve_speed.main()
    found = json.loads(out.read_text())
    assert set(found["llamaq"]) == {"1", "2"}
    assert all(each["tokens_per_second"] > 0 for each in found["llamaq"].values())
    assert found["llamaq"]["2"]["of_batch"] > 0
    assert found["cpu"]["request_us"] > 0
