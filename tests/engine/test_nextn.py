"""A block that guesses further tokens, beside the published formula in binary64, at all positions."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engines import Source
from llamaq import LLM
from llamaq.engine.engine import Engine, packed_bytes
from llamaq.engine.kv_cache import KVCache
from llamaq.engine.memory import KEPT_ANSWERS, memory_need
from llamaq.engine.nextn import NextN
from llamaq.errors import InsufficientMemoryError
from llamaq.models import build_plan
from llamaq.plan.reference import Reference
from llamaq.plan.step import Step
from nextn_models import arrays_of, knowing, with_block, written
from tiny_models import IDS as TOKENS
from tiny_models import RECORDED, tiny_model

F64 = NDArray[np.float64]
LAYERS, WIDTH, HEADS, KV_HEADS, DIM, TURNED, EPS = 4, 64, 4, 2, 32, 8, float(np.float32(1e-5))
BLOCK = f"blk.{LAYERS}."
IDS = TOKENS.tolist()
BOUND = 1e-5
"""Of log-probabilities, as in ``tests/models/test_tiny.py``: logits are a few units, so their last bit is 5e-7, and
they are sums of some hundred products, one layer deep."""
WITH_BLOCK = ["qwen35", "deepseek3", "glm4moe-normed", "nemotron-h-latent"]


@contextmanager
def loaded(path: Path) -> Iterator[tuple[LLM, NextN]]:
    with LLM.load(path, n_ctx=64, threads=2, cache_type="f32") as llm:
        assert llm.model.parts.nextn is not None
        yield llm, llm.model.parts.nextn


def states_of(llm: LLM) -> NDArray[np.float32]:
    """The model's last states, before its last norm."""
    return np.asarray(llm.forward(IDS, capture=["hidden"]).hidden[-1], np.float32)


def log_softmax(logits: Any) -> F64:
    wide = np.asarray(logits, np.float64)
    wide = wide - wide.max(-1, keepdims=True)
    return np.asarray(wide - np.log(np.exp(wide).sum(-1, keepdims=True)))


def rms(x: F64, weight: Any = 1.0) -> F64:
    return np.asarray(x / np.sqrt((x * x).mean(-1, keepdims=True) + EPS) * weight)


def joined(t: dict[str, F64], states: F64, *, swapped: bool = False, blind: bool = False, again: bool = True) -> F64:
    """What the block works on, for tokens 1 to the last."""
    b = BLOCK + "nextn."
    known = rms(states[:-1], t["output_norm.weight"]) if again else states[:-1]
    both = [rms(t["token_embd.weight"][IDS[1:]], t[b + "enorm.weight"]), rms(known, t[b + "hnorm.weight"])]
    both[1] *= not blind
    return np.asarray(np.concatenate(both[::-1] if swapped else both, axis=1) @ t[b + "eh_proj.weight"].T)


def turned(x: F64) -> F64:
    """Each half of the first numbers of a head turns with the other; (tokens, heads, DIM)."""
    angles = np.arange(len(x))[:, None] * 10000.0 ** (-np.arange(0, TURNED, 2) / TURNED)
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    a, b = x[..., : TURNED // 2], x[..., TURNED // 2 : TURNED]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin, x[..., TURNED:]], axis=-1)


def formula(
    t: dict[str, F64], states: F64, *, head: str = "nextn.shared_head_norm.weight", shift: int = 0, **changes: bool
) -> F64:
    """Qwen 3.5: logits behind each token but the first."""
    w = {name.removeprefix(BLOCK).removesuffix(".weight"): x for name, x in t.items() if name.startswith(BLOCK)}
    x = joined(t, np.roll(states, shift, axis=0), **changes)
    n, tokens = rms(x, w["attn_norm"]), len(x)
    both = (n @ w["attn_q"].T).reshape(tokens, HEADS, 2, DIM)
    k, v = ((n @ w[f"attn_{part}"].T).reshape(tokens, KV_HEADS, DIM) for part in "kv")
    q, k = turned(rms(both[:, :, 0], w["attn_q_norm"])), turned(rms(k, w["attn_k_norm"]))
    k, v = (np.repeat(part, HEADS // KV_HEADS, axis=1) for part in (k, v))
    scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(DIM)
    scores[:, np.triu(np.ones((tokens, tokens), bool), 1)] = -np.inf
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    seen = np.einsum("hij,jhd->ihd", weights / weights.sum(-1, keepdims=True), v)
    x = x + (seen / (1 + np.exp(-both[:, :, 1]))).reshape(tokens, -1) @ w["attn_output"].T
    n = rms(x, w["post_attention_norm"])
    gate = n @ w["ffn_gate"].T
    x = x + (gate / (1 + np.exp(-gate)) * (n @ w["ffn_up"].T)) @ w["ffn_down"].T
    norm = w["nextn.shared_head_norm"] if head.startswith("nextn") else t[head]
    return np.asarray(rms(x, norm) @ t["output.weight"].T)


def read_at_once(nextn: NextN, states: NDArray[np.float32]) -> NDArray[np.float32]:
    rows = nextn.rows(IDS[1:], nextn.normed(states[:-1]))
    step = Step.of(-1 - np.arange(len(rows)), given=rows, wanted="all")
    logits = nextn.engine.forward(step, nextn.cache)
    nextn.cache.drop(0)
    return logits


def wide(llm: LLM) -> dict[str, F64]:
    return {name: x.astype(np.float64) for name, x in arrays_of(llm.model.parts.file).items()}


def test_logits_are_those_of_the_formula() -> None:
    """And no other formula has them: each fault moves them at least ten times as far."""
    with loaded(written(*with_block("qwen35"))) as (llm, nextn):
        states, tensors = states_of(llm), wide(llm)
        got = log_softmax(read_at_once(nextn, states))
        known = states.astype(np.float64)

        def off(**changes: Any) -> float:
            return float(np.abs(got - log_softmax(formula(tensors, known, **changes))).max())

        assert off() < BOUND
        faults: list[dict[str, Any]] = [
            {"swapped": True}, {"blind": True}, {"again": False}, {"shift": 1}, {"head": "output_norm.weight"},
        ]  # fmt: skip
        for fault in faults:
            assert off(**fault) > 10 * BOUND, fault


LAYERS_OF_BLOCK: dict[str, tuple[dict[str, Any], list[str]]] = {
    "deepseek3": ({"block_count": 1, "leading_dense_block_count": 0}, [""]),
    "nemotron-h-latent": (
        {"block_count": 2, "attention.head_count_kv": [2, 0], "feed_forward_length": [0, 32]},
        ["attn_", "post_attention_norm|ffn_|exp_probs_b"],
    ),
}
"""Keys of a model that is nothing but the block, and what the tensors of each of its layers begin with."""


@pytest.mark.parametrize("name", LAYERS_OF_BLOCK)
def test_a_block_has_layers_as_its_model(name: str) -> None:
    """Its logits are those of a model of these layers alone, which reads what the formula joins in place of tokens."""
    with loaded(written(*with_block(name))) as (llm, nextn):
        parts, states, (keys, layers) = llm.model.parts, states_of(llm), LAYERS_OF_BLOCK[name]
        x = joined(wide(llm), states.astype(np.float64)).astype(np.float32)
        got = log_softmax(read_at_once(nextn, states))
        metadata, tensors = dict(parts.file.metadata), arrays_of(parts.file)
        inner = {key.removeprefix(BLOCK): x for key, x in tensors.items() if key.startswith(BLOCK)}
        one = {key: tensors[key] for key in ("token_embd.weight", "output.weight")}
        for i, begins in enumerate(layers):
            own = {key: x for key, x in inner.items() if re.match(begins, key) and not key.startswith("nextn.")}
            one |= {f"blk.{i}.{key.replace('post_attention_norm', 'attn_norm')}": x for key, x in own.items()}
        one["output_norm.weight"] = tensors[f"{BLOCK}nextn.shared_head_norm.weight"]
        for key, value in {**keys, "nextn_predict_layers": 0}.items():
            metadata[f"{metadata['general.architecture']}.{key}"] = value
        _, plan = build_plan(metadata, {key: value.shape for key, value in one.items()})
        alone = Engine(plan, Source(one), threads=2)
        want = alone.forward(Step.of(-1 - np.arange(len(x)), given=x, wanted="all"), KVCache(plan, 64, "f32"))
        assert np.abs(got - log_softmax(want)).max() < BOUND


def test_logits_are_those_of_transformers() -> None:
    """Of GLM 4.5's block, converted here; states of another place move them at least ten times as far."""
    with loaded(tiny_model("glm4moe")[0]) as (llm, nextn):
        states, want = states_of(llm), np.load(RECORDED / "glm4moe-nextn.npy")

        def off(states: NDArray[np.float32]) -> float:
            return float(np.abs(log_softmax(read_at_once(nextn, states)) - log_softmax(want)).max())

        assert off(states) < BOUND
        assert off(np.roll(states, 1, axis=0)) > 10 * BOUND


@pytest.mark.parametrize("name", WITH_BLOCK)
def test_both_executors_have_the_same_bits_however_it_is_read(name: str) -> None:
    with loaded(written(*with_block(name))) as (llm, nextn):
        states = states_of(llm)
        whole = read_at_once(nextn, states)
        rows = nextn.rows(IDS[1:], nextn.normed(states[:-1]))
        slow = Reference(nextn.engine.plan, arrays_of(llm.model.parts.file), cache_type="f32")
        np.testing.assert_array_equal(slow.forward(Step.of(-1 - np.arange(len(rows)), given=rows, wanted="all")), whole)
        at = 0
        own = []
        for size in (1, 5, 1, 16):  # in company of a text that begins anew each time
            parts = [(1, at, rows[at : at + size]), (2, 0, rows[: at + size])]
            logits, last = nextn.read(parts)
            at += size
            np.testing.assert_array_equal(logits, whole[[at - 1, at - 1]])
            np.testing.assert_array_equal(last[0], last[1])
            own.append(last[0])
        assert at == len(rows)
        # The block's own state is what the last matrix reads, so it goes on from there.
        output = arrays_of(llm.model.parts.file)["output.weight"]
        np.testing.assert_allclose(output @ own[-1], whole[-1], rtol=0, atol=1e-4)


def test_memory_is_told_and_weights_are_shared() -> None:
    with (
        loaded(written(*with_block("qwen35"))) as (llm, nextn),
        LLM.load(written(*with_block("qwen35")), n_ctx=64, speculation=False) as plain,
    ):
        assert plain.model.parts.nextn is None
        assert plain.memory.nextn == 0
        tensors, plan, own = llm.model.parts.file.tensors, llm.engine.plan, nextn.engine.plan
        shared = sum(tensors[name].nbytes for name in {*plan.tensors} & {*own.tensors} if name == "output.weight")
        assert 0 < shared == packed_bytes(own, tensors) - packed_bytes(own, tensors, plan)
        cache = sum(pool.data.nbytes for pool in nextn.cache.pools)
        told = packed_bytes(own, tensors, plan) + cache + nextn.engine.scratch_bytes
        assert told <= llm.memory.nextn <= told + 4 * 2**20
        alone = memory_need(own, tensors, 64, cache_type="f32", max_rows=64, threads=2, speculation=False, beside=plan)
        assert llm.memory.nextn - alone.total == KEPT_ANSWERS * 64 * WIDTH * 4  # states that wait for it
        assert llm.memory.total - llm.memory.nextn - llm.memory.texts == llm.memory.weights + (
            llm.memory.cache + llm.memory.scratch
        )


def test_a_machine_without_room_for_it_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(*with_block("qwen35"))
    with LLM.load(path, n_ctx=64, threads=1) as llm:
        need = llm.memory
    monkeypatch.setattr("llamaq.engine.memory.available_memory", lambda: need.total - 1)
    with pytest.raises(InsufficientMemoryError, match=r"block that guesses .*load it without speculation"):
        LLM.load(path, n_ctx=64, threads=1)
    LLM.load(path, n_ctx=64, threads=1, speculation=False).close()


@pytest.mark.parametrize("count", [LAYERS, LAYERS + 1])
def test_flags_of_layers_may_count_the_block(count: int) -> None:
    metadata, tensors = with_block("qwen35")
    flags = [True, True, True, False, False]
    path = written({**metadata, "qwen35.attention.recurrent_layers": flags[:count]}, tensors)
    with LLM.load(path, n_ctx=64, threads=1) as llm:
        assert llm.model.parts.nextn is not None
        assert llm.hparams.layers == LAYERS


def test_tables_norms_and_matrices_of_its_own() -> None:
    """Where a file has them they are read, where it has none those of the model."""
    metadata, tensors = knowing("qwen35", 0.0)
    b = BLOCK + "nextn."
    results = []
    for change in ("none", "embed_tokens", "shared_head_head", "no norm"):
        own = dict(tensors)
        if change == "no norm":
            del own[b + "shared_head_norm.weight"]
        elif change != "none":
            source = "token_embd.weight" if change == "embed_tokens" else "output.weight"
            own[f"{b}{change}.weight"] = own[source][::-1].copy()
        with LLM.load(written(metadata, own), n_ctx=64, threads=1) as llm:
            assert llm.model.parts.nextn is not None
            results.append(read_at_once(llm.model.parts.nextn, states_of(llm)))
    plain, embedded, headed, normless = results
    np.testing.assert_array_equal(plain, normless)  # the block's norm is a copy of the model's here
    np.testing.assert_array_equal(plain, headed[:, ::-1])
    assert np.abs(plain - embedded).max() > 0.1


def test_of_several_blocks_the_first_is_read(caplog: pytest.LogCaptureFixture) -> None:
    metadata, tensors = with_block("qwen35")
    more = {"qwen35.block_count": LAYERS + 2, "qwen35.nextn_predict_layers": 2}
    second = {name.replace(BLOCK, f"blk.{LAYERS + 1}."): -x for name, x in tensors.items() if name.startswith(BLOCK)}
    found = []
    with caplog.at_level(logging.WARNING, "llamaq"):
        for path in (written(metadata, tensors), written({**metadata, **more}, {**tensors, **second})):
            with loaded(path) as (llm, nextn):
                found.append(read_at_once(nextn, states_of(llm)))
    np.testing.assert_array_equal(*found)
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("part", "source", "change", "told"),
    [
        ("eh_proj", BLOCK + "nextn.eh_proj", lambda x: x[:, :WIDTH], "tensor 'blk.4.nextn.eh_proj.weight': expected"),
        ("embed_tokens", "token_embd", lambda x: x[1:], "tensor 'blk.4.nextn.embed_tokens.weight': expected"),
        ("embed_tokens", "token_embd", lambda x: x[:, 1:], "tensor 'blk.4.nextn.embed_tokens.weight': expected"),
        ("shared_head_head", "output", lambda x: np.concatenate([x, x[:16]]), "its logits are of"),
    ],
)
def test_a_block_that_does_not_fit_is_left_out(
    caplog: pytest.LogCaptureFixture, part: str, source: str, change: Any, told: str
) -> None:
    metadata, tensors = with_block("qwen35")
    tensors[f"{BLOCK}nextn.{part}.weight"] = np.ascontiguousarray(change(tensors[f"{source}.weight"]))
    with caplog.at_level(logging.WARNING, "llamaq"), LLM.load(written(metadata, tensors), n_ctx=64, threads=1) as llm:
        assert llm.model.parts.nextn is None
        assert len(llm.generate(IDS[:4], max_tokens=3).tokens) == 3
    assert len(caplog.messages) == 1
    assert f"its block that guesses further tokens is not used: {told}" in caplog.messages[0]


def test_nemotrons_block_needs_attention_in_its_model(caplog: pytest.LogCaptureFixture) -> None:
    metadata, tensors = with_block("nemotron-h-latent")
    heads = {"nemotron_h_moe.attention.head_count_kv": [0, 0, 0, 0]}  # layer 2 is Mamba-2 like layer 1 then
    same = {key.replace("blk.1.", "blk.2."): x for key, x in tensors.items() if key.startswith("blk.1.")}
    with (
        caplog.at_level(logging.WARNING, "llamaq"),
        LLM.load(written(metadata | heads, tensors | same), n_ctx=64) as llm,
    ):
        assert llm.model.parts.nextn is None
    assert "is not used: no layer has attention" in caplog.text
