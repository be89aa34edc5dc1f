"""How well documents answer a query, by models made for it: encoders with a head that scores a pair of texts, and
decoders that are asked for yes or no, whether their file has a head for the two or all logits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llamaq.errors import ModelError
from llamaq.gguf import GGUFArray, GGUFFile
from llamaq.models.keys import POOLING_RANK
from llamaq.plan.arithmetic import sigmoid
from llamaq.plan.plan import Plan
from llamaq.serving.reading import PromptRequest
from llamaq.tokenizer import Tokenizer

__all__ = ["QWEN3_TEMPLATE", "Ranker"]

QWEN3_TEMPLATE = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n<Instruct>: Given a web '
    "search query, retrieve relevant passages that answer the query\n<Query>: {query}\n<Document>: {document}"
    "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
)
"""What Qwen3-Reranker was trained with; files with a head have it as their template ``rerank``."""


class Ranker:
    """Makes requests for pairs of a query and a document, and scores of what they saw.

    Raises ``ModelError`` where the model's result is no score of a pair of texts.
    """

    def __init__(self, file: GGUFFile, plan: Plan, tokenizer: Tokenizer) -> None:
        self._tokenizer, self._encodes = tokenizer, plan.encodes
        template = file.metadata.get("tokenizer.chat_template.rerank")
        self._template = template if isinstance(template, str) else None
        self._columns: tuple[int, ...] = ()
        if plan.encodes or "cls.output.weight" in plan.tensors:
            _check_head(file, plan)
            self._columns = (0, 1) if plan.out_cols == 2 else (0,)
        elif "reranker" in str(file.metadata.get("general.name")).lower():
            found = tuple(tokenizer.token_to_id(word) for word in ("yes", "no"))
            self._columns = tuple(id for id in found if id is not None)
            self._template = self._template or QWEN3_TEMPLATE
        if not self._columns:
            raise _has_none()

    def ids(self, query: str | bytes, document: str | bytes) -> list[int]:
        """The tokens of a pair. Special tokens spelled out in the texts are text."""
        if self._template is None:
            return self._tokenizer.encode_pair(query, document)
        return self._tokenizer.encode_filled(self._template, {"query": query, "document": document})

    def request(self, ids: list[int]) -> PromptRequest:
        return PromptRequest(ids, 0) if self._encodes else PromptRequest(ids, len(ids) - 1, share=True)

    def scores(self, results: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Float32 (texts,): the head's number for the first token of a text, or, of a decoder, for the last; where it
        says yes or no, the probability of yes."""
        columns = self._columns
        found = np.array([rows[0, columns] for rows in results], np.float32).reshape(len(results), len(columns))
        if len(columns) == 1:
            return found[:, 0]
        with np.errstate(all="ignore"):
            return sigmoid(found[:, 0] - found[:, 1])


def _check_head(file: GGUFFile, plan: Plan) -> None:
    architecture = file.metadata.get("general.architecture")
    if file.metadata.get(f"{architecture}.pooling_type") != POOLING_RANK:
        raise _has_none()
    labels = file.metadata.get(f"{architecture}.classifier.output_labels")
    says_yes = not plan.encodes and isinstance(labels, GGUFArray) and list(labels) == ["yes", "no"]
    if plan.out_cols != 1 and not says_yes:
        raise ModelError(
            f"the model's head sorts texts into {plan.out_cols} classes; expected one score, as rerankers have, or yes "
            "and no"
        )


def _has_none() -> ModelError:
    return ModelError(
        "the model has no head that ranks documents; use a reranker (bge-reranker, Qwen3-Reranker and the like), or "
        "compare vectors (LLM.embed)"
    )
