"""Vectors and scores of texts, by encoders and decoders; what encoders cannot do."""

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

from llamaq import LLM
from llamaq.engine import bundled
from llamaq.errors import ContextOverflowError, LlamaqError, ModelError
from llamaq.gguf import GGUFFile, TensorData, write_gguf
from llamaq.plan.plan import Plan
from llamaq.plan.reference import Reference
from llamaq.plan.step import Step
from tiny_encoders import POSITIONS, encoder_tensors, tiny_encoder, write_encoder

F32 = NDArray[np.float32]


def states_of(plan: Plan, file: Path, ids: list[int]) -> F32:
    """What the plan gives for all tokens."""
    with GGUFFile.open(file) as opened:
        weights = {name: (info.format, opened.data(name)) for name, info in opened.tensors.items()}
        return Reference(plan, weights).forward(Step.of(ids, wanted="all"))


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
        assert abs(llm.embed(TEXTS, pooling=other, normalize=False) - vectors)[0].max() > 1e-4


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
    with LLM.load(tmp_path / "r.gguf") as llm, pytest.raises(ModelError, match="no head that ranks"):
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
