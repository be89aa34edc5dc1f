"""Decoders that rank documents by how sure they are of yes: with a head for the two words, or with all logits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llamaq import LLM
from llamaq.engine import bundled
from llamaq.errors import ModelError
from llamaq.gguf import GGUFFile, TensorData, write_gguf
from llamaq.plan.arithmetic import sigmoid

TEMPLATE = "<|im_start|>user\nAsked: {query}\nRead: {document}<|im_end|>\n<|im_start|>assistant\n"
HEAD: dict[str, Any] = {
    "llama.pooling_type": 4,
    "llama.classifier.output_labels": ["yes", "no"],
    "tokenizer.chat_template.rerank": TEMPLATE,
}
DOCUMENTS = ["Lily saw a dog", "", "Tom <|im_end|> ran {query} home", b"the zebra"]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., tuple[Path, list[int]]]:
    """Writes the bundled model with other keys, and if asked with a head of the embeddings of yes and no; gives the
    ids of these."""

    def made(keys: dict[str, Any], *, head: bool = True) -> tuple[Path, list[int]]:
        with GGUFFile.open(bundled.path()) as file:
            tokens = list(file.metadata["tokenizer.ggml.tokens"])
            tokens[tokens.index("Yes")] = "no"  # its vocabulary has none
            ids = [tokens.index(word) for word in ("yes", "no")]
            tensors = [TensorData(n, i.format, i.shape, file.data(n)) for n, i in file.tensors.items()]
            table = file.tensors["token_embd.weight"]
            if head:
                rows = file.data("token_embd.weight").reshape(table.shape[0], -1)[ids]
                tensors.append(TensorData("cls.output.weight", table.format, (2, table.shape[1]), rows))
            path = tmp_path / "ranks.gguf"
            write_gguf(path, {**file.metadata, "tokenizer.ggml.tokens": tokens, **keys}, tensors)
        return path, ids

    return made


def expected(llm: LLM, ids: list[list[int]], words: list[int]) -> NDArray[np.float32]:
    """Of a model without a head, by the logits of the last tokens."""
    logits = np.array([llm.logits(each)[-1, words] for each in ids])
    return sigmoid(logits[:, 0] - logits[:, 1])


def test_a_head_for_yes_and_no(write: Callable[..., tuple[Path, list[int]]]) -> None:
    path, words = write(HEAD)
    with LLM.load(path, threads=2, n_batch=16) as llm, LLM.load(threads=2) as plain:
        scores = llm.rerank("Who saw a dog?", DOCUMENTS)
        tokenizer, ids = llm.tokenizer, []
        start, end = (tokenizer.token_to_id(f"<|im_{name}|>") for name in ("start", "end"))
        for document in DOCUMENTS:
            text = document.decode() if isinstance(document, bytes) else document
            user = tokenizer.encode(f"user\nAsked: Who saw a dog?\nRead: {text}", add_special=False)
            lines = (tokenizer.encode(line, add_special=False) for line in ("\n", "assistant\n"))
            ids.append([start, *user, end, *next(lines), start, *next(lines)])
        assert [each.count(end) for each in ids] == [1] * 4  # what a text spells out is text
        np.testing.assert_array_equal(scores, expected(plain, ids, words))
        assert (scores.dtype, len({*scores.tolist()})) == (np.float32, 4)
        np.testing.assert_array_equal(asyncio.run(llm.arerank("Who saw a dog?", DOCUMENTS)), scores)
        np.testing.assert_array_equal(llm.rerank("Who saw a dog?", DOCUMENTS[::-1])[::-1], scores)
        with pytest.raises(ModelError, match="the model ranks documents"):
            llm.generate("a", max_tokens=1)
        with pytest.raises(ModelError, match="made to rank documents; for vectors"):
            llm.embed("x")


def test_a_reranker_without_a_head_is_known_by_its_name(write: Callable[..., tuple[Path, list[int]]]) -> None:
    path, words = write({"general.name": "Qwen3 Reranker 0.6B"}, head=False)
    with LLM.load(path, threads=2) as llm, LLM.load(threads=2) as plain:
        scores = llm.rerank("Who saw a dog?", DOCUMENTS[:2])
        filled = [
            "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
            'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n<Instruct>: Given '
            "a web search query, retrieve relevant passages that answer the query\n<Query>: Who saw a dog?\n"
            f"<Document>: {document}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
            for document in ("Lily saw a dog", "")
        ]
        ids = [llm.tokenizer.encode(text, add_special=False, parse_special=True) for text in filled]
        np.testing.assert_array_equal(scores, expected(plain, ids, words))
        assert llm.generate("a", max_tokens=1).tokens  # it still writes


def test_heads_that_say_something_else(write: Callable[..., tuple[Path, list[int]]]) -> None:
    for keys, message in (
        (HEAD | {"llama.classifier.output_labels": ["good", "bad"]}, "2 classes; expected one score"),
        ({"llama.pooling_type": 1}, "no head that ranks"),
    ):
        with LLM.load(write(keys)[0]) as llm, pytest.raises(ModelError, match=message):
            llm.rerank("a", ["b"])
