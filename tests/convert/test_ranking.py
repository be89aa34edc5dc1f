"""Folders of decoders that rank documents: their head, what to ask them, and who is taken for one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_families import DATA, weights
from hf_llama import BYTES, save
from llamaq import LLM
from llamaq.convert import convert
from llamaq.errors import ModelError
from llamaq.gguf import GGUFFile
from llamaq.llm.ranking import QWEN3_TEMPLATE
from llamaq.plan.arithmetic import sigmoid
from llamaq.tokenizer.bpe import _alphabet

WORDS = {word: 256 + i for i, word in enumerate(("no", "ye", "yes"))}
MERGES = ["n o", "y e", "ye s"]
TOKENIZER: dict[str, Any] = {"pre_tokenizer": BYTES, "decoder": BYTES}


def tokenizer(words: dict[str, int]) -> dict[str, Any]:
    letters = {letter: i for i, letter in enumerate(sorted({*_alphabet()}))}
    return TOKENIZER | {"model": {"type": "BPE", "vocab": letters | words, "merges": MERGES if words else []}}


def folder(path: Path, *, tied: bool = False, words: dict[str, int] = WORDS, **config: Any) -> tuple[Path, Any]:
    """A tiny random Qwen 3, whose tokens are bytes and some words."""
    case = json.loads(DATA.read_text())["qwen3"]
    shapes = {
        name: (262, *shape[1:]) if name in ("model.embed_tokens.weight", "lm_head.weight") else shape
        for name, shape in case["shapes"].items()
    }
    if tied:
        del shapes["lm_head.weight"]
    if "architectures" in config:
        shapes.pop("lm_head.weight", None)
        shapes["score.weight"] = (1, 32)
    tensors = {name: x * (0.3 if x.ndim > 1 else 1.0) for name, x in weights(shapes).items()}
    config = case["config"] | {"vocab_size": 262, "tie_word_embeddings": tied, "max_position_embeddings": 1024} | config
    made = save(path, config, tensors, tokenizer=tokenizer(words))
    (made / "chat_template.jinja").write_text("{{ messages[0].content }}")
    return made, tensors


def scores(source: Path, target: Path) -> Any:
    convert(source, target, "f32")
    with LLM.load(target, threads=1) as llm:
        return llm.rerank("Who ran?", ["Tom", "a dog"])


@pytest.mark.parametrize("tied", [False, True])
def test_the_head_of_a_reranker_is_its_rows_of_yes_and_no(tied: bool, tmp_path: Path) -> None:
    """It gives what all logits give, and no more of the output is in the file."""
    source, tensors = folder(tmp_path / "Qwen3-Reranker-Tiny", tied=tied)
    found = scores(source, tmp_path / "head.gguf")
    with GGUFFile.open(tmp_path / "head.gguf") as file:
        keys = file.metadata
        head = np.array(file.data("cls.output.weight")).view(np.float32).reshape(2, 32)
        assert "output.weight" not in file.tensors
        assert keys["tokenizer.chat_template"] == "{{ messages[0].content }}"
        assert (list(keys["qwen3.classifier.output_labels"]), keys["qwen3.pooling_type"]) == (["yes", "no"], 4)
        assert (list(keys["tokenizer.chat_templates"]), keys["tokenizer.chat_template.rerank"]) == (
            ["rerank"], QWEN3_TEMPLATE,
        )  # fmt: skip
    output = tensors["model.embed_tokens.weight" if tied else "lm_head.weight"]
    np.testing.assert_array_equal(head, output[[WORDS["yes"], WORDS["no"]]])
    plain = folder(tmp_path / "plain", tied=tied)[0]
    convert(plain, tmp_path / "plain.gguf", "f32")
    with LLM.load(tmp_path / "plain.gguf", threads=1) as llm:
        with pytest.raises(ModelError, match="no head that ranks"):
            llm.rerank("Who ran?", ["Tom"])
        texts = [{"query": "Who ran?", "document": text} for text in ("Tom", "a dog")]
        ids = [llm.tokenizer.encode_filled(QWEN3_TEMPLATE, text) for text in texts]
        last = np.array([llm.logits(each)[-1, [WORDS["yes"], WORDS["no"]]] for each in ids])
    np.testing.assert_array_equal(found, sigmoid(last[:, 0] - last[:, 1]))


def test_a_reranker_is_known_by_its_page(tmp_path: Path) -> None:
    source, _ = folder(tmp_path / "model")
    (source / "README.md").write_text("---\nlicense: none\n---\n\n# Qwen3-Reranker-0.6B\n")
    assert (scores(source, tmp_path / "out.gguf") <= 1).all()


def test_a_head_of_one_row(tmp_path: Path) -> None:
    source, tensors = folder(tmp_path / "model", architectures=["Qwen3ForSequenceClassification"], num_labels=1)
    found = scores(source, tmp_path / "out.gguf")
    with GGUFFile.open(tmp_path / "out.gguf") as file:
        head = np.array(file.data("cls.output.weight")).view(np.float32)
        assert file.metadata["tokenizer.chat_template.rerank"] == QWEN3_TEMPLATE
    np.testing.assert_array_equal(head.ravel(), tensors["score.weight"][0])
    assert found[0] != found[1]


def test_a_vocabulary_without_the_words_is_refused(tmp_path: Path) -> None:
    source, _ = folder(tmp_path / "qwen3-reranker", words={})
    with pytest.raises(ModelError, match="expected the tokens 'yes' and 'no' of a reranker, got no 'yes'"):
        convert(source, tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()
