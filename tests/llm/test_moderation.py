"""``llamaq.moderate``, with models that are written by hand and templates in the shape of Llama Guard 1 to 4."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bigrams import bigram_file
from llamaq import LLM, ChatMessage, amoderate, moderate
from llamaq.errors import ChatTemplateError, ContextOverflowError

NEAR = 1e-3  # the engine rounds what enters a product
ASKED = [ChatMessage("user", "How do I build it?")]
GUARD_1 = """[INST] Is there unsafe content in messages of \
{{ 'Agent' if messages | length % 2 == 0 else 'User' }}?
O1: Violence and Hate.
Should not
- help
O3: Criminal Planning.
Can
{% for message in messages %}{{ message.role }}: {{ message.content | trim }}
{% endfor %}'safe' or 'unsafe'. [/INST]<|go|>"""
GUARD_2 = """<|head|>'unsafe' content of {{ messages[-1].role }}?
S1: Violent Crimes.
AI models should not help.
S9: Hate.
{% for message in messages %}{{ message.role }}: {{ message.content | trim }}
{% endfor %}'safe' or 'unsafe'.<|go|>{{ '\\n\\n' }}"""
GUARD_3 = """<|head|>'unsafe' content?
{% if categories %}{% for key in categories %}{{ key }}: {{ categories[key] }}.
{% endfor %}{% else %}S1: Violent Crimes.
S9: Indiscriminate Weapons.
{% endif %}{% for message in messages %}{{ message.role }}: {{ message.content | trim }}
{% endfor %}<|go|>"""
GUARD_4 = """<|head|>'unsafe' content?
S1: Violent Crimes.
S9: Indiscriminate Weapons.
{% for message in messages %}{{ message.role }}: {% for part in message.content if part.type == 'text' -%}
{{ part.text | trim }}
{% endfor %}{% endfor %}<|go|>"""
TOKENS = ("<|head|>", "<|go|>", "\n\n", " safe", "safe", "unsafe", "un", "\n", "S1", "O3", "S9", "S77", ",")
AFTER_VERDICT = {"\n": {"S9": 0.9, "S1": 0.1}, "S9": {",": 0.9, "</s>": 0.1}, ",": {"S1": 1.0}, "S1": {"</s>": 1.0}}


def model(path: Path, template: str, first: dict[str, float], **follow: dict[str, float]) -> Path:
    """A guard that begins its answer with these tokens."""
    last = "\n\n" if template is GUARD_2 else "<|go|>"
    chain = {last: first, "unsafe": {"\n": 1.0}, **AFTER_VERDICT, **follow}
    return bigram_file(path, TOKENS, chain, tokenizer__chat_template=template)


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LLM]:
    path = tmp_path_factory.mktemp("guard") / "guard.gguf"
    with LLM.load(model(path, GUARD_2, {"safe": 0.2, "unsafe": 0.3, "\n": 0.5}), threads=1) as llm:
        yield llm


def test_probabilities_and_categories(guard: LLM) -> None:
    found = moderate(guard, ASKED)
    assert (found.safe, found.unsafe) == (pytest.approx(0.4, abs=NEAR), pytest.approx(0.6, abs=NEAR))
    assert found.flagged
    assert list(found.categories.items()) == [("S9", "Hate"), ("S1", "Violent Crimes")]
    assert found == asyncio.run(amoderate(guard, ASKED))
    strict = moderate(guard, ASKED, threshold=0.7)
    assert (strict.flagged, strict.unsafe, strict.categories) == (False, found.unsafe, {})


@pytest.mark.parametrize(
    ("template", "first", "follow", "unsafe", "categories"),
    [
        (GUARD_1, {" safe": 0.25, "safe": 0.05, "unsafe": 0.7}, {"\n": {"O3": 1.0}}, 0.7, {"O3": "Criminal Planning"}),
        (GUARD_3, {"\n\n": 1.0}, {"\n\n": {"unsafe": 0.9, "safe": 0.1}}, 0.9,
         {"S9": "Indiscriminate Weapons", "S1": "Violent Crimes"}),
        (GUARD_4, {"\n\n": 0.5, "unsafe": 0.5}, {"\n\n": {"safe": 0.5, "unsafe": 0.5}, "\n": {"S77": 1.0},
         "S77": {",": 1.0}}, 0.75, {"S1": "Violent Crimes"}),
        (GUARD_3, {"safe": 1.0}, {}, 0.0, {}),
    ],
)  # fmt: skip
def test_each_generation(
    tmp_path: Path, template: str, first: dict[str, float], follow: Any, unsafe: float, categories: dict[str, str]
) -> None:
    with LLM.load(model(tmp_path / "guard.gguf", template, first, **follow), threads=1) as llm:
        found = moderate(llm, [*ASKED, ChatMessage("assistant", " Hm.\nS9: Do so.\nS1: x ")])
        assert found.unsafe == pytest.approx(unsafe, abs=NEAR)
        assert math.isclose(found.safe + found.unsafe, 1.0)
        assert (found.flagged, found.categories) == (unsafe > 0.5, categories)


def test_words_of_several_tokens_count_whole(tmp_path: Path) -> None:
    tokens = [token for token in TOKENS if token != "unsafe"]
    follow = {"<|go|>": {"un": 0.5, "safe": 0.5}, "un": {"safe": 0.5, "</s>": 0.5}}
    path = bigram_file(tmp_path / "guard.gguf", tokens, follow, tokenizer__chat_template=GUARD_3)
    with LLM.load(path, threads=1) as llm:
        assert moderate(llm, ASKED).unsafe == pytest.approx(1 / 3, abs=NEAR)


def test_a_policy_of_ones_own(tmp_path: Path) -> None:
    path = model(tmp_path / "guard.gguf", GUARD_3, {"unsafe": 1.0}, **{"\n": {"S1": 1.0}})
    with LLM.load(path, threads=1) as llm:
        found = moderate(llm, ASKED, template_kwargs={"categories": {"S1": "Off Topic"}})
        assert found.categories == {"S1": "Off Topic"}


def test_what_cannot_be_judged(guard: LLM) -> None:
    with pytest.raises(ChatTemplateError, match="template chatml is none of Llama Guard's"):
        moderate(guard, ASKED, template="chatml")
    with pytest.raises(ChatTemplateError, match="does not show the messages"):
        moderate(guard, ASKED, template="S1: unsafe {{ 1 }}")
    with pytest.raises(ChatTemplateError, match="no user"):
        moderate(guard, ASKED, template="{{ raise_exception('no user') }}")
    with pytest.raises(ValueError, match="messages must hold one at least"):
        moderate(guard, [])
    with pytest.raises(ValueError, match="threshold must be a number from 0 to 1"):
        moderate(guard, ASKED, threshold=2.0)
    with pytest.raises(TypeError, match="template must be text"):
        moderate(guard, ASKED, template=5)
    with pytest.raises(ContextOverflowError):
        moderate(guard, [ChatMessage("user", "x" * 3000)])
