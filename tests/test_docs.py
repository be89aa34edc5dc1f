"""The examples of the guides run, one after the other, on a real model."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters import random_factors, write_adapter, write_vector
from gguf_files import copy_with

DOCS = Path(__file__).parents[1] / "docs"
LOADING = "library.md"
"""The page that shows how a model is loaded; the first example of it comes before those of the others."""
GUIDES = [LOADING, "chat.md", "sampling.md", "sessions.md", "receipts.md", "structured-output.md", "measure.md",
          "server.md", "llama-cpp-python.md", "adapters.md"]  # fmt: skip
TEMPLATE = """\
S1: What is unsafe.
{% if tools %}Write <tool_call> for: {{ tools|tojson }}
{% endif %}{% for message in messages %}{{ message.role }}: {{ message.content }}
{% endfor %}assistant:"""


def examples(name: str) -> list[tuple[int, str]]:
    """Line numbers and texts of a page's Python blocks."""
    text = (DOCS / name).read_text(encoding="utf-8")
    found = re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text[: match.start(1)].count("\n"), match[1]) for match in found]


@pytest.mark.parametrize("name", GUIDES)
def test_examples_run(
    name: str, shared: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    marks = {f"tokenizer.ggml.fim_{role}_token_id": 500 + i for i, role in enumerate(("pre", "suf", "mid"))}
    entries = {"tokenizer.chat_template": TEMPLATE, **marks}
    copy_with(entries, shared("models/stories260K-Q8_0.gguf"), tmp_path / "model.gguf")
    monkeypatch.chdir(tmp_path)
    for name_of_adapter in ("pirate", "formal"):
        factors = {"blk.0.attn_q.weight": random_factors(name_of_adapter, 64, 64, 4)}
        write_adapter(tmp_path / f"{name_of_adapter}.gguf", factors)
    write_vector(tmp_path / "happy.gguf", {f"direction.{i}": np.ones(64, np.float32) for i in range(1, 5)})
    variables: dict[str, Any] = {}
    (tmp_path / "wiki.test.raw").write_text("Once upon a time there was a little girl. " * 100)
    blocks = [(LOADING, *example) for example in examples(LOADING)[:1] if name != LOADING]
    blocks += [(name, *example) for example in examples(name)]
    for page, line, code in blocks:
        exec(compile("\n" * line + code, page, "exec"), variables)
    variables["llm"].close()
    assert capsys.readouterr().err == ""


def test_the_readmes_example_runs_with_a_model_that_chats_and_no_more(
    shared: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy_with({"tokenizer.chat_template": TEMPLATE}, shared("models/stories260K-Q8_0.gguf"), tmp_path / "model.gguf")
    monkeypatch.chdir(tmp_path)
    (example,) = examples("../README.md")
    exec(compile(example[1], "README.md", "exec"), {})
    printed = capsys.readouterr()
    assert (printed.err, "= embed " in printed.out) == ("", True)


def test_one_page_shows_how_a_model_is_loaded() -> None:
    """Guides and reference are searched, without calls that are to fail."""
    loading = re.compile(r"(= |with )LLM\.load\(")
    assert [p.name for p in DOCS.glob("*.md") if any(loading.search(code) for _, code in examples(p.name))] == [LOADING]
