"""The same calls of llama-cpp-python, whose results record_llama_cpp.py has recorded, and of llamaq."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llama_cpp_calls import PUBLIC, observed
from llamaq.compat import llama_cpp

RECORDED: dict[str, Any] = json.loads(Path(__file__).with_name("llama_cpp.json").read_text(encoding="utf-8"))
BETTER = {
    "chat with log-probabilities": "tokens have their bytes",
    "a tool's call as it comes": "the first piece alone has id and name, for frameworks join them",
}
"""Results that are not the same on purpose."""


@pytest.fixture(scope="module")
def found(story: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads(json.dumps(observed(llama_cpp, story)))
    return results


@pytest.mark.parametrize("name", [name for name in RECORDED["results"] if name not in BETTER])
def test_a_result_has_the_same_shape(found: dict[str, Any], name: str) -> None:
    assert found["results"][name] == RECORDED["results"][name]


@pytest.mark.parametrize("name", BETTER)
def test_a_better_one_has_the_same_keys(found: dict[str, Any], name: str) -> None:
    ours, theirs = found["results"][name], RECORDED["results"][name]
    assert ours != theirs
    assert paths(ours) == paths(theirs)


def paths(shape: Any, prefix: str = "") -> set[str]:
    """Every way through dicts; lists make no difference."""
    if isinstance(shape, dict):
        return {path for key, value in shape.items() for path in paths(value, f"{prefix}.{key}".lstrip("."))}
    if isinstance(shape, list):
        return {path for value in shape for path in paths(value, prefix)}
    return {prefix}


@pytest.mark.parametrize("name", [name for name in RECORDED if name not in ("results", "version", "types")])
def test_what_can_be_no_other_is_the_same(found: dict[str, Any], name: str) -> None:
    """Arguments and defaults, metadata, tokens, and the text that is likeliest."""
    assert found[name] == RECORDED[name]


def test_names(found: dict[str, Any]) -> None:
    assert set(found["types"]) >= set(RECORDED["types"])
    assert all(hasattr(llama_cpp, name) for name in [*PUBLIC, *RECORDED["types"]])
    assert llama_cpp.__version__ == RECORDED["version"]
