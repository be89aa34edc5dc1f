"""Damaged texts of users: templates, schemas, grammars, and the files of a folder to convert. Each works or is refused
with a LlamaqError, soon and in bounded memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzzing import bounded, damaged, runs, search
from hf_damage import CONFIG, FILES, TENSORS
from hf_llama import save
from llamaq.chat.templates import ChatTemplate
from llamaq.convert import convert
from llamaq.gguf import GGUFFile
from llamaq.structure import Matcher, gbnf, json_schema
from llamaq.tokenizer import Tokenizer, load_tokenizer

MEMORY = 256 << 20
"""Bytes that a text of a megabyte at most may cost; llguidance's own memory is not seen."""

GRAMMAR = [
    "::= ", "root ", "a ", "b ", '"x" ', '"é" ', "[a-z] ", "[^\\n] ", "| ", "( ", ") ", "* ", "+ ", "? ", "{3} ",
    "{0,9} ", "{1000000000} ", "\n", "# c\n", '"\\u00e9" ', '"', "[", "\\", "<[5]> ", ". ",
]  # fmt: skip
TEMPLATE = [
    "{{", "}}", "{%", "%}", "{#", "#}", " messages ", " for m in ", " endfor ", " if ", " endif ", " set x = ", "|",
    "tojson", "join", "length", "round(", "range(", "~", "*", "**", "'a'", "9999999999", "[", "]", "(", ")", ".",
    "content", "__class__", " namespace(a=1) ", " macro f() ", " endmacro ", "raise_exception(", "loop", "-",
]  # fmt: skip
MESSAGES = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": None}]


@pytest.fixture(scope="module")
def tokenizer(shared: Callable[[str], Path]) -> Tokenizer:
    with GGUFFile.open(shared("vocab/ggml-vocab-llama-spm.gguf")) as file:
        return load_tokenizer(file.metadata)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("damage") / "model", CONFIG, TENSORS)


@st.composite
def pieces(draw: st.DrawFn, seeds: list[str], words: list[str]) -> str:
    """A seed with pieces put in, taken out and doubled, or pieces alone."""
    text = draw(st.sampled_from(["", *seeds]))
    for _ in range(draw(st.integers(1, 4))):
        at = int(draw(st.floats(0, 1)) * len(text))
        kind = draw(st.sampled_from(["put", "cut", "double"]))
        if kind == "put" or not text:
            text = text[:at] + "".join(draw(st.lists(st.sampled_from(words), min_size=1, max_size=12))) + text[at:]
        elif kind == "cut":
            text = text[:at] + text[at + draw(st.integers(1, 40)) :]
        else:
            text = text[:at] + text[max(0, at - draw(st.integers(1, 200))) :]
    return text


def use(matcher: Matcher) -> None:
    """Takes some tokens, the first that are allowed each time."""
    for _ in range(3):
        allowed = next((token for token in range(260) if matcher.allows(token)), None)
        if allowed is None:
            return
        matcher.accept(allowed)


@pytest.mark.slow
def test_damaged_grammars(shared: Callable[[str], Path], tokenizer: Tokenizer) -> None:
    cases = json.loads(shared("grammar/cases.json").read_text(encoding="utf-8"))
    seeds = [path.read_text(encoding="utf-8") for path in sorted(shared("grammar").glob("*.gbnf"))]
    seeds += [case["grammar_or_schema"] for case in cases if case["kind"] != "schema"]

    @given(pieces(seeds, GRAMMAR))
    def ends_well(text: str) -> None:
        with bounded(MEMORY):
            runs(lambda: use(Matcher(gbnf(text), tokenizer)))

    search(ends_well)


@pytest.mark.slow
def test_damaged_schemas(shared: Callable[[str], Path], tokenizer: Tokenizer) -> None:
    cases = json.loads(shared("grammar/cases.json").read_text(encoding="utf-8"))
    texts = [case["grammar_or_schema"] for case in cases if case["kind"] == "schema"]
    seeds: list[Any] = [json.loads(text or "{}") for text in texts]

    @given(st.sampled_from(seeds).flatmap(damaged))
    def ends_well(schema: Any) -> None:
        with bounded(MEMORY):
            runs(lambda: use(Matcher(json_schema(json.dumps(schema)), tokenizer)))

    search(ends_well)


@pytest.mark.slow
def test_damaged_templates(shared: Callable[[str], Path]) -> None:
    seeds = [path.read_text(encoding="utf-8") for path in sorted(shared("templates").glob("*.jinja"))]

    @given(pieces(seeds, TEMPLATE))
    def ends_well(text: str) -> None:
        with bounded(MEMORY):
            runs(lambda: ChatTemplate(text).render(MESSAGES))

    search(ends_well)


@pytest.mark.slow
def test_damaged_folders(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    weights = (folder / "model.safetensors").read_bytes()

    @given(st.sampled_from(sorted(FILES)), st.data())
    def ends_well(name: str, data: st.DataObject) -> None:
        for other, content in FILES.items():
            value = data.draw(damaged(content)) if other == name else content
            (folder / f"{other}.json").write_text(json.dumps(value), encoding="utf-8")
        with bounded(MEMORY):
            converted = runs(lambda: convert(folder, out), folder, out.name, "config", "token", "tensor")
        assert out.exists() == converted
        assert list(tmp_path.iterdir()) == ([out] if converted else [])
        out.unlink(missing_ok=True)

    search(ends_well)
    assert (folder / "model.safetensors").read_bytes() == weights
