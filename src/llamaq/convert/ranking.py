"""Decoders that rank documents by how sure they are of yes (Qwen3-Reranker): of the output two rows make their head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llamaq.convert.checkpoint import Checkpoint
from llamaq.convert.files import read_text
from llamaq.convert.views import NewTensor, View
from llamaq.errors import ModelError
from llamaq.llm.ranking import QWEN3_TEMPLATE
from llamaq.models.keys import POOLING_RANK

__all__ = ["head_of"]

_NAME = "qwen3-reranker"
_WORDS = ("yes", "no")


def head_of(
    checkpoint: Checkpoint, keys: Mapping[str, Any], new: list[NewTensor]
) -> tuple[dict[str, Any], list[NewTensor]]:
    """Keys to add and the tensors to write: of a reranker what to ask (the template ``rerank``) and the head, of other
    models none and ``new``. Raises ModelError for a reranker's vocabulary without yes and no."""
    kind, architecture = checkpoint.config.texts("architectures"), keys["general.architecture"]
    templates = sorted({*keys.get("tokenizer.chat_templates", ()), "rerank"})
    asked = {"tokenizer.chat_template.rerank": QWEN3_TEMPLATE, "tokenizer.chat_templates": templates}
    if kind == ["Qwen3ForSequenceClassification"]:
        return asked, new
    if kind != ["Qwen3ForCausalLM"] or not _is_reranker(checkpoint):
        return {}, new
    answers = {"pooling_type": POOLING_RANK, "classifier.output_labels": list(_WORDS)}
    answers = {f"{architecture}.{key}": value for key, value in answers.items()}
    return asked | answers, _two_rows(new, keys["tokenizer.ggml.tokens"])


def _is_reranker(checkpoint: Checkpoint) -> bool:
    """The configuration is that of any Qwen 3, so the folder's name or its page tells."""
    name, page = checkpoint.folder.resolve().name, read_text(checkpoint.folder / "README.md") or ""
    return _NAME in name.lower() or f"# {_NAME}" in page.lower()


def _two_rows(new: list[NewTensor], tokens: list[str]) -> list[NewTensor]:
    missing = next((word for word in _WORDS if word not in tokens), None)
    if missing:
        raise ModelError(f"the vocabulary: expected the tokens 'yes' and 'no' of a reranker, got no {missing!r}; "
                         "download the folder again")  # fmt: skip
    by_name = {tensor.name: tensor for tensor in new}
    whole = by_name.get("output.weight", by_name["token_embd.weight"]).views[0]
    rows = tuple(View(whole.name, range(id, id + 1), whole.cols) for id in map(tokens.index, _WORDS))
    kept = [tensor for tensor in new if tensor.name != "output.weight"]
    return [*kept, NewTensor("cls.output.weight", rows, joined=True)]
