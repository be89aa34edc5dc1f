"""Looking inside: tensors without copies, hidden states and attention beside the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engines import attention_alone, engine_of, tokens_of
from llamaq import LLM
from llamaq.engine.kv_cache import KVCache
from llamaq.errors import ClosedError, ContextOverflowError
from llamaq.formats import decode, format_by_name
from llamaq.gguf import GGUFFile
from llamaq.llm.capture import CapturePlan
from llamaq.plan.graph import HeadNorm, Temperature
from llamaq.plan.reference import Reference
from llamaq.plan.step import Step

TEXT = "Once upon a time there was a little girl named Lily. She had a red ball."


@pytest.fixture(scope="module")
def path(shared: Callable[[str], Path]) -> Path:
    return shared("models/stories260K-Q8_0.gguf")


@pytest.fixture(scope="module")
def llm(path: Path) -> Iterator[LLM]:
    with LLM.load(path, threads=2, n_ctx=128, n_batch=7) as llm:
        yield llm


def test_tensors_are_views_of_the_file(llm: LLM, path: Path) -> None:
    assert list(llm.tensors) == list(GGUFFile.open(path).tensors)
    tensor = llm.tensors["blk.0.attn_q.weight"]
    assert (tensor.format, tensor.shape, repr(tensor)) == ("Q8_0", (64, 64), "Tensor(Q8_0, (64, 64))")
    assert np.shares_memory(tensor.raw, llm.tensors["blk.0.attn_q.weight"].raw)
    assert not tensor.raw.flags.writeable
    np.testing.assert_array_equal(tensor.numbers(), decode(format_by_name("Q8_0"), tensor.raw))
    assert np.asarray(tensor, np.float64).dtype == np.float64
    norm = llm.tensors["output_norm.weight"]
    assert np.shares_memory(norm.numbers(), norm.raw)
    assert np.shares_memory(np.asarray(norm), norm.raw)
    with pytest.raises(KeyError):
        llm.tensors["none"]


def test_tensors_outlive_the_model(path: Path) -> None:
    with LLM.load(path, threads=1) as llm:
        norm = llm.tensors["output_norm.weight"].numbers()
        want = norm.copy()
    np.testing.assert_array_equal(norm, want)
    with pytest.raises(ClosedError):
        _ = llm.tensors


def test_hidden_states_are_those_of_the_reference(llm: LLM, path: Path) -> None:
    ids = llm.prompt_ids(TEXT)
    found = llm.forward(TEXT, capture=["hidden"])
    assert found.tokens == tuple(ids)
    assert found.hidden.shape == (llm.hparams.layers + 1, len(ids), llm.hparams.width)
    assert found.attention == {}
    np.testing.assert_array_equal(found.logits, llm.logits(ids))
    want: list[Any] = []

    def trace(i: int, node: Any, outs: tuple[Any, ...]) -> None:
        if node.op.kind == "embed" or any("ffn_down" in weight.name for weight in node.op.reads()):
            want.append(outs[0])

    with GGUFFile.open(path) as file:
        weights = {name: (info.format, file.data(name)) for name, info in file.tensors.items()}
        logits = Reference(llm.plan, weights).forward(Step.of(ids, wanted="all"), trace)
    np.testing.assert_array_equal(found.hidden, np.stack(want))
    np.testing.assert_array_equal(found.logits, logits)


def test_attention_is_what_the_model_weights_values_with(llm: LLM) -> None:
    """Probabilities times the values give what the attention op gave."""
    ids = llm.prompt_ids(TEXT)
    found = llm.forward(ids, capture=["attention"], layers=[0, 2])
    assert list(found.attention) == [0, 2]
    assert found.hidden.size == 0
    for layer, p in found.attention.items():
        i, node = next((i, n) for i, n in enumerate(llm.plan.nodes) if n.op.keeps and n.op.keeps.layer == layer)
        heads, kv_heads, dim = (getattr(node.op, name) for name in ("heads", "kv_heads", "head_dim"))
        assert p.shape == (heads, len(ids), len(ids))
        np.testing.assert_allclose(p.sum(axis=2), 1, atol=1e-6)
        assert (np.triu(p, 1) == 0).all()
        assert not np.allclose(p[0], p[1], atol=1e-3)
        from llamaq.serving.reading import CaptureRequest, wait

        request = CaptureRequest(ids, [(i, node.ins[2], kv_heads * dim), (i, node.outs[0], heads * dim)])
        _, v, out = wait(llm.model.scheduler, [request])[0]
        values = v.astype(np.float16).astype(np.float64).reshape(len(ids), kv_heads, dim)
        values = np.repeat(values, heads // kv_heads, axis=1)
        want = np.einsum("hqk,khd->qhd", p, values).reshape(len(ids), -1)
        np.testing.assert_allclose(out, want, rtol=0, atol=2e-6 * np.abs(want).max())


def test_attention_with_softcap_sinks_and_temperature(monkeypatch: pytest.MonkeyPatch) -> None:
    features: Any = {
        "softcap": 1.5,
        "sinks": "sinks",
        "temperature": Temperature(0.5, 4),
        "q_norm": HeadNorm(1e-5, "norm"),
    }
    plan, weights = attention_alone(3, heads=4, kv_heads=2, head_dim=8, **features)
    tensors: Any = {name: SimpleNamespace(numbers=lambda w=w: w) for name, w in weights.items()}
    inside = CapturePlan(plan, tensors, "f32", ["attention"], None)
    index, node = next((i, n) for i, n in enumerate(plan.nodes) if n.op.keeps)
    places = [*inside.request([1]).captures, (index, node.ins[2], 16), (index, node.outs[0], 32)]
    seen = {(i, slot): np.empty((20, cols), np.float32) for i, slot, cols in places}
    engine = engine_of(plan, weights, "scalar", monkeypatch)
    engine.forward(Step.of(tokens_of(3, 20)), KVCache(plan, 32, "f32"), captures=seen)
    q, k, v, out = seen.values()
    p = inside.forward(range(20), [np.empty(0, np.float32), q, k]).attention[0]
    assert (p.sum(axis=2) < 0.999).all()  # the sinks have something
    want = np.einsum("hqk,khd->qhd", p, np.repeat(v.reshape(20, 2, 8), 2, axis=1)).reshape(20, -1)
    np.testing.assert_allclose(out, want, rtol=0, atol=2e-6 * np.abs(want).max())


def test_capturing_in_company_changes_nothing(llm: LLM) -> None:
    want = llm.forward(TEXT, capture=["hidden"]).hidden
    streams = [llm.stream(text, max_tokens=60) for text in ("Tom", "Lily saw", "One day")]
    for stream in streams:
        stream.gather()
    for _ in range(3):
        np.testing.assert_array_equal(llm.forward(TEXT, capture={"hidden", "attention"}).hidden, want)
    for stream in streams:
        stream.result()


def test_what_cannot_be_captured(llm: LLM) -> None:
    for arguments in ({"capture": ["values"]}, {"capture": "hidden"}, {"capture": ["attention"], "layers": [99]}):
        with pytest.raises(ValueError, match="capture takes a list of 'hidden' and 'attention', layers 0 to 4"):
            llm.forward("x", **arguments)
    with pytest.raises(ContextOverflowError):
        llm.forward([5] * 129)
