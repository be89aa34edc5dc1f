"""Encoders beside an independent implementation, and what the library makes of them: vectors and scores."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engines import engine_of
from llamaq import LLM, _core
from llamaq.engine import bundled
from llamaq.engine.engine import Engine
from llamaq.engine.kv_cache import KVCache
from llamaq.engine.loading import plan_of
from llamaq.errors import ContextOverflowError, LlamaqError, ModelError
from llamaq.gguf import GGUFFile, TensorData, write_gguf
from llamaq.models import ARCHITECTURES
from llamaq.plan.op import Norm, Op
from llamaq.plan.ops.act_linear import ActLinear
from llamaq.plan.ops.bidirectional_attention import BidirectionalAttention
from llamaq.plan.ops.embed import Embed
from llamaq.plan.ops.glu_linear import GluLinear
from llamaq.plan.ops.linear import Linear
from llamaq.plan.plan import Plan
from llamaq.plan.reference import Reference
from llamaq.plan.rope import make_rope
from llamaq.plan.step import Step
from tiny_encoders import ENCODERS, POSITIONS, encoder_tensors, tiny_encoder, write_encoder

BOUND = 1e-5
"""States are a few units, so their last bit is 2e-7, and they are sums of some hundred products, a few layers deep, in
another order. A fault of a formula moves them ten times as far at least."""
F32 = NDArray[np.float32]


def weights_of(file: GGUFFile) -> dict[str, Any]:
    return {name: (info.format, file.data(name)) for name, info in file.tensors.items()}


def of_interest(name: str, states: F32) -> F32:
    """Of a model that ranks, the score: that of the first token."""
    return states[:1] if name == "bert-rank" else states


@pytest.mark.parametrize("name", ENCODERS)
def test_states_are_those_of_an_independent_implementation(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In NumPy; and the compiled executor has its bits on every level, on any number of threads, in any company."""
    path, ids, want = tiny_encoder(name)
    with GGUFFile.open(path) as file:
        _, plan = plan_of(file)
        weights = weights_of(file)
        assert {*plan.tensors} == {*file.tensors}
    states = Reference(plan, weights).forward(Step.of(ids, wanted="all"))
    assert abs(of_interest(name, states) - want).max() < BOUND
    for isa, threads in [*((isa, 2) for isa in _core.isas()), *((_core.isas()[-1], n) for n in (1, 5))]:
        engine = engine_of(plan, weights, isa, monkeypatch, threads=threads)
        cache = KVCache(plan, POSITIONS)
        np.testing.assert_array_equal(engine.forward(Step.of(ids, wanted="all"), cache), states)
        others = [Step.of(ids[5::-1], sequence=1, wanted="all"), Step.of(ids[::-1], sequence=3, wanted="last")]
        together = engine.forward(Step.join([others[0], Step.of(ids, wanted="all"), others[1]]), cache)
        np.testing.assert_array_equal(together[6:-1], states)


Change = Callable[[Any], Op]


def of(kind: type[Op], **fields: Any) -> Change:
    return lambda op: with_fields(op, **fields) if isinstance(op, kind) else op


def with_fields(op: Any, **fields: Any) -> Op:
    changed: Op = replace(op, **fields)
    return changed


def norms(**fields: Any) -> Change:
    def change(op: Any) -> Op:
        norm = getattr(op, "norm", None)
        return with_fields(op, norm=replace(norm, **fields)) if isinstance(norm, Norm) else op

    return change


def no_biases(op: Any) -> Op:
    return replace(op, biases=(None,) * len(op.biases)) if isinstance(op, Linear | ActLinear) else op


def other_rope(op: Any) -> Op:
    rope = make_rope(16, 1000.0, layout="norm")
    return replace(op, rope=rope) if isinstance(op, BidirectionalAttention) else op


COMMON: dict[str, Change] = {
    "no type": of(Embed, types=None, second_after=None),
    "biases of norms": norms(bias=None),
    "other norm": norms(kind="rms", bias=None),
    "other scale": of(BidirectionalAttention, scale=0.2),
}
BERT = COMMON | {
    "no positions": of(Embed, positions=None),
    "biases": no_biases,
    "a rope": other_rope,
}
FEATURES: dict[str, dict[str, Change]] = {
    "bert": BERT | {"gelu with tanh": of(ActLinear, act="gelu")},
    "bert-rank": BERT | {"no tanh": of(Linear, softcap=0.0), "one type": of(Embed, second_after=None)},
    "nomic-bert": COMMON
    | {"no rope": of(BidirectionalAttention, rope=None), "pairs": other_rope, "gelu": of(GluLinear, act="gelu")},
}


@pytest.mark.parametrize("name", ENCODERS)
def test_without_a_feature_states_are_others(name: str) -> None:
    path, ids, want = tiny_encoder(name)
    with GGUFFile.open(path) as file:
        _, plan = plan_of(file)
        for feature, change in FEATURES[name].items():
            nodes = tuple(replace(node, op=change(node.op)) for node in plan.nodes)
            assert nodes != plan.nodes, feature
            other = replace(plan, nodes=nodes)
            states = Engine(other, file, threads=1).forward(Step.of(ids, wanted="all"), KVCache(other, POSITIONS))
            assert abs(of_interest(name, states) - want).max() > 10 * BOUND, feature


def states_of(plan: Plan, file: Path, ids: list[int]) -> F32:
    with GGUFFile.open(file) as opened:
        return Reference(plan, weights_of(opened)).forward(Step.of(ids, wanted="all"))


TEXTS = ["the dog", "a", "", "Tom ran home, the dog ran.", "THE dog!", "zebra " * 6]


@pytest.mark.parametrize("name", ["bert", "nomic-bert"])
@pytest.mark.parametrize(("number", "pooling"), [(1, "mean"), (2, "cls"), (3, "last"), (0, "mean"), (None, "mean")])
def test_vectors_are_pooled_as_the_file_says(name: str, number: int | None, pooling: str, tmp_path: Path) -> None:
    path = write_encoder(tmp_path / "e.gguf", name, pooling_type=number)
    with LLM.load(path, threads=2, n_batch=4) as llm:  # no text is cut, however small the batch
        assert llm.memory.cache == 0
        vectors = llm.embed(TEXTS, normalize=False)
        np.testing.assert_array_equal(llm.embed(TEXTS[::-1], normalize=False)[::-1], vectors)
        np.testing.assert_array_equal(asyncio.run(llm.aembed(TEXTS, normalize=False)), vectors)
        for text, vector in zip(TEXTS, vectors, strict=True):
            ids = llm.tokenizer.encode(text)
            assert (ids[0], ids[-1]) == (2, 3)
            states = states_of(llm.plan, path, ids).astype(np.float64)
            want = {"mean": states.mean(0), "cls": states[0], "last": states[-1]}[pooling]
            np.testing.assert_array_equal(vector, want.astype(np.float32))
            np.testing.assert_array_equal(llm.embed(text, normalize=False)[0], vector)
        lengths = np.linalg.norm(llm.embed(TEXTS), axis=1)
        np.testing.assert_allclose(lengths, 1, atol=1e-6)
        other = "cls" if pooling == "mean" else "mean"
        assert abs(llm.embed(TEXTS, pooling=other, normalize=False) - vectors)[0].max() > 10 * BOUND


def test_many_texts_are_read_whole_in_as_few_steps_as_fit() -> None:
    path, ids, _ = tiny_encoder("bert")
    rng = np.random.default_rng(1)
    texts = [rng.choice(ids, n).tolist() for n in rng.integers(1, POSITIONS + 1, 60)]
    with LLM.load(path, n_ctx=POSITIONS, threads=2) as llm:
        sizes: list[int] = []
        forward = llm.engine.forward

        def watched(step: Step, *args: Any, **more: Any) -> Any:
            sizes.append(len(step))
            return forward(step, *args, **more)

        llm.engine.forward = watched  # type: ignore[method-assign]
        vectors = llm.embed(texts)
        assert max(sizes) <= POSITIONS == llm.n_ctx
        assert len(sizes) < len(texts)
        for text, vector in zip(texts, vectors, strict=True):
            np.testing.assert_array_equal(llm.embed([text])[0], vector)


def test_any_thread_may_ask() -> None:
    with LLM.load(tiny_encoder("nomic-bert")[0], threads=2) as llm:
        alone = [llm.embed(text) for text in TEXTS]
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(llm.embed, TEXTS * 20))
        for i, vector in enumerate(found):
            np.testing.assert_array_equal(vector, alone[i % len(TEXTS)])


def test_scores_are_those_of_the_head() -> None:
    path, _, _ = tiny_encoder("bert-rank")
    documents = ["a dog", "", "the zebra ran home", b"Tom [SEP] dog"]
    with LLM.load(path, threads=2, n_batch=4) as llm:
        scores = llm.rerank("the dog?", documents)
        assert (scores.dtype, scores.shape) == (np.float32, (4,))
        np.testing.assert_array_equal(asyncio.run(llm.arerank("the dog?", documents)), scores)
        np.testing.assert_array_equal(llm.rerank("the dog?", documents[::-1])[::-1], scores)
        for document, score in zip(documents, scores, strict=True):
            own, other = (llm.tokenizer.encode(text, add_special=False) for text in ("the dog?", document))
            ids = [2, *own, 3, *other, 3]
            assert ids.count(3) == 2  # what a text spells out is text
            np.testing.assert_array_equal(states_of(llm.plan, path, ids)[0, 0], score)
        assert llm.rerank("x", []).shape == (0,)
        with pytest.raises(ContextOverflowError, match=f"the context {POSITIONS}"):
            llm.rerank("zebra " * 9, ["zebra"])
        with pytest.raises(ModelError, match="made to rank documents; for vectors"):
            llm.embed("x")
        assert llm.embed("x", pooling="cls").shape == (1, 64)
        for wrong in (lambda: llm.rerank(3, ["a"]), lambda: llm.rerank("a", [3]), lambda: llm.rerank("a", "b")):
            with pytest.raises(TypeError, match=r"query|documents"):
                wrong()


def test_heads_of_one_matrix_and_heads_that_do_not_rank(tmp_path: Path) -> None:
    tensors = encoder_tensors("bert-rank")
    cls = {"cls.weight", "cls.bias"}
    last = {"cls.output.weight", "cls.output.bias"}
    one = {name: x for name, x in tensors.items() if name not in cls}
    path = write_encoder(tmp_path / "one.gguf", "bert-rank", one)
    with LLM.load(path) as llm:
        ids = llm.tokenizer.encode_pair("a", "b")
        states = states_of(replace_out(llm.plan), path, ids)
        want = states[0] @ one["cls.output.weight"][0] + one["cls.output.bias"]
        np.testing.assert_allclose(llm.rerank("a", ["b"]), want, atol=1e-5)
    direct = {name: x for name, x in tensors.items() if name not in last}
    direct |= {name: direct[name][:1] for name in cls}
    with LLM.load(write_encoder(tmp_path / "direct.gguf", "bert-rank", direct)) as llm:
        want = states[0] @ direct["cls.weight"][0] + direct["cls.bias"]
        np.testing.assert_allclose(llm.rerank("a", ["b"]), want, atol=1e-5)
    two = {name: np.concatenate([x, x]) if name in last else x for name, x in tensors.items()}
    path = write_encoder(tmp_path / "two.gguf", "bert-rank", two)
    with LLM.load(path) as llm, pytest.raises(ModelError, match="2 classes"):
        llm.rerank("a", ["b"])
    none = {name: x for name, x in tensors.items() if name not in cls | last}
    with pytest.raises(ModelError, match=r"pooling_type is 4 \(rank\), and the file has no tensor"):
        LLM.load(write_encoder(tmp_path / "none.gguf", "bert-rank", none))
    with LLM.load(tiny_encoder("bert")[0]) as llm, pytest.raises(ModelError, match="no head that ranks"):
        llm.rerank("a", ["b"])
    with LLM.load() as llm, pytest.raises(ModelError, match="no head that ranks"):
        llm.rerank("a", ["b"])


@pytest.mark.parametrize(("number", "pooling"), [(1, "mean"), (2, "cls"), (3, "last")])
def test_decoders_pool_as_the_file_says(number: int, pooling: Any, tmp_path: Path) -> None:
    """As Qwen3-Embedding does: the last token, which is EOS."""
    with GGUFFile.open(bundled.path()) as file:
        keys = {"llama.pooling_type": number, "tokenizer.ggml.add_eos_token": True}
        tensors = [TensorData(n, i.format, i.shape, file.data(n)) for n, i in file.tensors.items()]
        write_gguf(tmp_path / "d.gguf", {**file.metadata, **keys}, tensors)
    with LLM.load(tmp_path / "d.gguf") as llm, LLM.load() as plain:
        ids = llm.prompt_ids("the dog")
        assert ids == [*plain.prompt_ids("the dog"), llm.tokenizer.eos_id]
        np.testing.assert_array_equal(llm.embed("the dog"), plain.embed([ids], pooling=pooling))
    with GGUFFile.open(tmp_path / "d.gguf") as file:
        write_gguf(tmp_path / "r.gguf", {**file.metadata, "llama.pooling_type": 4}, [
            TensorData(n, i.format, i.shape, file.data(n)) for n, i in file.tensors.items()])  # fmt: skip
    with LLM.load(tmp_path / "r.gguf") as llm, pytest.raises(ModelError, match="a decoder that ranks, which is not"):
        llm.rerank("a", ["b"])


def replace_out(plan: Plan) -> Plan:
    """The states before the head."""
    index, node = next((i, node) for i, node in enumerate(plan.nodes) if node.op.selects)
    return replace(plan, nodes=plan.nodes[: index + 1], out=node.outs[0], out_cols=node.cols[0])


WRITES: dict[str, Callable[[LLM], object]] = {
    "generate": lambda llm: llm.generate("a", max_tokens=1),
    "agenerate": lambda llm: asyncio.run(llm.agenerate("a")),
    "stream": lambda llm: llm.stream("a"),
    "batch": lambda llm: llm.batch(["a"]),
    "chat": lambda llm: llm.chat([{"role": "user", "content": "a"}]),
    "achat": lambda llm: asyncio.run(llm.achat([{"role": "user", "content": "a"}])),
    "session": lambda llm: llm.session(),
    "logits": lambda llm: llm.logits("a"),
    "score": lambda llm: llm.score("a"),
    "forward": lambda llm: llm.forward("a"),
}


@pytest.mark.parametrize("method", WRITES)
def test_what_needs_logits_is_refused_by_name(method: str) -> None:
    with LLM.load(tiny_encoder("bert")[0]) as llm:
        with pytest.raises(LlamaqError, match=r"the model is an encoder: .*LLM.embed.*choose another model"):
            WRITES[method](llm)
        assert llm.embed("a").shape == (1, 64)


def test_texts_and_contexts_that_are_too_long() -> None:
    path = tiny_encoder("bert")[0]
    with LLM.load(path, n_ctx=8) as llm:
        assert llm.embed([[5] * 8]).shape == (1, 64)
        with pytest.raises(ContextOverflowError, match="has 9 tokens, the context 8"):
            llm.embed([[5] * 9])
    with pytest.raises(ValueError, match=f"n_ctx must be at most {POSITIONS}, the positions that .*; got 49"):
        LLM.load(path, n_ctx=POSITIONS + 1)
    with LLM.load(tiny_encoder("nomic-bert")[0], n_ctx=POSITIONS + 8) as llm:  # a rope turns further
        assert llm.embed([[5] * (POSITIONS + 8)]).shape == (1, 64)


def test_a_position_without_a_row_and_half_a_text_are_refused_by_both_executors() -> None:
    path, ids, _ = tiny_encoder("bert")
    with GGUFFile.open(path) as file:
        _, plan = plan_of(file)
        reference, engine = Reference(plan, weights_of(file)), Engine(plan, file, threads=1)
    cache = KVCache(plan, 64)
    long = Step.of(np.resize(ids, POSITIONS + 1))
    with pytest.raises(ValueError, match=f"number {POSITIONS} lies outside the {POSITIONS} rows of 'position_embd"):
        reference.forward(long)
    with pytest.raises(LlamaqError, match=f"position {POSITIONS} lies outside the table of {POSITIONS} positions"):
        engine.forward(long, cache)
    for run in (Reference(plan, reference_weights(path)).forward, lambda step: engine.forward(step, cache)):
        run(Step.of(ids[:5]))
        with pytest.raises((ValueError, LlamaqError), match="an encoder reads whole texts"):
            run(Step.of(ids[5:9], start=5))


def reference_weights(path: Path) -> dict[str, Any]:
    with GGUFFile.open(path) as file:
        return {name: (info.format, file.data(name).copy()) for name, info in file.tensors.items()}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"attention__causal": True}, r"bert.attention.causal is True; expected false"),
        ({"context_length": POSITIONS + 1}, rf"bert.context_length is 49; expected at most {POSITIONS}, the rows of"),
        ({"pooling_type": "mean"}, r"bert.pooling_type is 'mean'; expected an integer"),
        ({"attention__layer_norm_epsilon": None}, "lacks the key bert.attention.layer_norm_epsilon"),
    ],
    ids=str,
)
def test_keys_that_are_refused(keys: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        LLM.load(write_encoder(tmp_path / "e.gguf", "bert", **keys))


def test_tables_of_another_width_are_refused(tmp_path: Path) -> None:
    tensors = encoder_tensors("bert")
    for name in ("token_types.weight", "position_embd.weight"):
        wrong = tensors | {name: tensors[name][:, :32]}
        with pytest.raises(ModelError, match=f"tensor '{name}': expected 64 columns as 'token_embd.weight', got 32"):
            LLM.load(write_encoder(tmp_path / "e.gguf", "bert", wrong))
    without = {name: x for name, x in tensors.items() if name != "token_types.weight"}
    with LLM.load(write_encoder(tmp_path / "without.gguf", "bert", without)) as llm:  # as in DistilBERT's files
        assert llm.embed("a").shape == (1, 64)


def test_every_encoder_has_its_tests() -> None:
    tested = {architecture for architecture, _ in ENCODERS.values()}
    assert tested == {name for name, entry in ARCHITECTURES.items() if {*entry.tiny} & {*ENCODERS}}
    assert {*FEATURES} == {*ENCODERS} == {tiny for name in tested for tiny in ARCHITECTURES[name].tiny}
