"""A structure and a template that begins with reasoning: the model may think, and what follows holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llamaq import LLM, SamplingParams
from llamaq.gguf import GGUFFile
from llamaq.sampling import Sampler
from llamaq.structure import Matcher, json_schema, regex
from llamaq.tokenizer import Tokenizer, load_tokenizer

TURNS = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: "
THINKS = TURNS + "<think>\n"
HELLO = [{"role": "user", "content": "Give a number."}]
NUMBER = json_schema(
    {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 9}}, "required": ["n"]}
)


@pytest.fixture(scope="module")
def llm(shared: Callable[[str], Path]) -> Iterator[LLM]:
    with LLM.load(shared("models/stories260K-F32.gguf"), threads=1) as llm:
        yield llm


@pytest.fixture(scope="module")
def llama(shared: Callable[[str], Path]) -> Tokenizer:
    with GGUFFile.open(shared("vocab/ggml-vocab-llama-bpe.gguf")) as file:
        return load_tokenizer(file.metadata)


class Wishes:
    """A processor that makes the model want certain tokens first; what it wants then is its own."""

    def __init__(self, ids: Sequence[int]) -> None:
        self._ids = list(ids)
        self._begin: int | None = None

    def __call__(self, history: NDArray[np.int32], logits: NDArray[np.float32]) -> None:
        self._begin = len(history) if self._begin is None else self._begin
        made = len(history) - self._begin
        if made < len(self._ids):
            logits[self._ids[made]] = 1000


def written(llm: LLM, text: str) -> list[int]:
    return llm.tokenizer.encode(text, add_special=False, continuation=True)


def ask(llm: LLM, text: str = "", ids: Sequence[int] = (), *, template: str = THINKS, **options: Any) -> Any:
    sampling = {key: options.pop(key) for key in ("logprobs", "min_tokens", "ignore_eos") if key in options}
    wishes = Wishes([*written(llm, text), *ids])
    params = SamplingParams(seed=1, structure=NUMBER, logit_processors=(wishes,), **sampling)
    return llm.chat(HELLO, sampling=params, **{"template": template, "max_tokens": 200, **options})


@pytest.mark.parametrize("sampling", [{}, {"logprobs": 2}, {"min_tokens": 40}, {"ignore_eos": True}])
def test_the_model_thinks_and_what_follows_holds(llm: LLM, sampling: dict[str, Any]) -> None:
    done = ask(llm, 'Hm, {"n": 77}?\n</think>\n', **sampling)
    assert done.message.reasoning == 'Hm, {"n": 77}?'
    assert json.loads(done.text)["n"] in range(10)
    assert done.finish_reason == "stop"


def test_the_first_mark_ends_the_reasoning(llm: LLM) -> None:
    done = ask(llm, "<think></think></think> not JSON")
    assert done.message.reasoning == "<think>"
    assert json.loads(done.text)["n"] in range(10)


def test_an_answer_that_is_cut_while_it_thinks_has_no_text(llm: LLM) -> None:
    done = ask(llm, max_tokens=9)
    assert (done.text, done.finish_reason, done.usage.completion_tokens) == ("", "length", 9)
    assert done.message.reasoning
    done = ask(llm, "One two three</think>", stop=["two"])
    assert (done.text, done.message.reasoning, done.finish_reason) == ("", "One", "stop")


def test_no_end_token_comes_before_the_structure(llm: LLM) -> None:
    eos = llm.tokenizer.eos_id
    assert eos is not None
    done = ask(llm, ids=[*written(llm, "a"), eos, eos, eos, *written(llm, "</think>")])
    assert done.finish_reason == "stop"
    assert json.loads(done.text)["n"] in range(10)


def test_where_no_reasoning_is_open_the_structure_holds_from_the_first_token(llm: LLM) -> None:
    for template in (TURNS, TURNS + "<think>\n\n</think>\n\n"):
        done = ask(llm, "<think>Hm.</think>", template=template)
        assert done.message.reasoning == ""
        assert json.loads(done.text)["n"] in range(10)


def test_a_turn_that_is_gone_on_with_in_the_midst_of_reasoning(llm: LLM) -> None:
    begun = {"role": "assistant", "content": "<think>\nLet me"}
    params = SamplingParams(seed=1, structure=NUMBER, logit_processors=(Wishes(written(llm, " see.</think>")),))
    done = llm.chat([*HELLO, begun], sampling=params, template=TURNS, max_tokens=200)
    assert done.message.reasoning == " see."
    assert json.loads(done.text)["n"] in range(10)


def test_a_token_that_goes_on_after_the_mark_is_refused(llama: Tokenizer) -> None:
    matcher = Matcher(regex("[{]1[}]").following("</think>"), llama)
    for id in llama.encode("Hm. a < b > {", add_special=False):
        assert matcher.allows(id)
        assert matcher.forced() == []
        matcher.accept(id)
    for id in llama.encode("</think", add_special=False, continuation=True):
        matcher.accept(id)
    ids = {text: llama.token_to_id(text) for text in (">", ">{", ">Ċ", ">ĊĊ", "{", "x")}
    assert None not in ids.values()
    allowed = {text for text, id in ids.items() if matcher.allows(id or 0)}
    assert allowed == {">", ">Ċ", ">ĊĊ", "{", "x"}
    bits = np.unpackbits(np.frombuffer(matcher.mask(), np.uint8), bitorder="little")[: llama.n_vocab]
    for id in [*range(0, llama.n_vocab, 97), *(id or 0 for id in ids.values()), *llama.eog_ids]:
        assert bool(bits[id]) == matcher.allows(id), id
    assert not any(map(matcher.allows, llama.eog_ids))
    matcher.accept(ids[">Ċ"] or 0)
    assert llama.decode(matcher.forced(), continuation=True) == "{1}"
    assert not matcher.allows(ids["x"] or 0)


def test_a_sampler_masks_nothing_before_the_mark_but_ends(llm: LLM) -> None:
    tokenizer = llm.tokenizer
    free = Sampler(SamplingParams(seed=5), tokenizer)
    held = Sampler(SamplingParams(seed=5, structure=NUMBER.following("</think>")), tokenizer)
    rng = np.random.default_rng(0)
    for _ in range(50):
        logits = rng.standard_normal(tokenizer.n_vocab).astype(np.float32)
        logits[sorted(tokenizer.eog_ids)] = -np.inf
        token = free.sample(logits)
        assert held.sample(logits) == token
        free.accept(token)
        held.accept(token)
