"""The examples of docs/integrations.md, on SmolLM2; ``nox -s drop-in`` runs this."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from published import smollm2
from served import Served, served

PAGE = Path(__file__).parents[2] / "docs" / "integrations.md"
CHAPTERS = re.findall(r"^### (\S+)\n((?:(?!#{2,3} ).*\n)*)", PAGE.read_text("utf-8"), re.MULTILINE)
EXAMPLES = {name: found[1] for name, text in CHAPTERS if (found := re.search(r"```python\n(.*?)```", text, re.DOTALL))}
FRAMEWORKS = {
    "LangChain": "langchain_core",
    "LiteLLM": "litellm",
    "LlamaIndex": "llama_index",
    "Haystack": "haystack",
    "DSPy": "dspy",
    "instructor": "instructor",
    "pydantic-ai": "pydantic_ai",
    "smolagents": "smolagents",
}
"""Those of the page with an example in Python, and the modules that they are."""

pytestmark = pytest.mark.subprocess


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served("--model", smollm2(), "--ctx-size", 2048, "--alias", "model", "--threads", 2) as server:
        yield server


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs(name: str, server: Served, tmp_path: Path) -> None:
    """In a process of its own, for frameworks leave loops and connections behind."""
    if find_spec(FRAMEWORKS[name]) is None:
        pytest.skip(f"the package {FRAMEWORKS[name]} is missing")
    (tmp_path / "model.gguf").symlink_to(smollm2())
    code = EXAMPLES[name].replace("http://localhost:8080", server.url)
    variables = {**os.environ, "DSPY_CACHEDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=variables)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_every_framework_has_its_example() -> None:
    assert EXAMPLES.keys() == FRAMEWORKS.keys()
