"""A small folder as Hugging Face's are, whose files tests damage."""

from __future__ import annotations

from typing import Any

from hf_llama import LLAMA_3, tiny

__all__ = ["BYTES", "CONFIG", "FILES", "SETTINGS", "SPLIT", "TENSORS", "TOKENIZER", "VALUES", "places"]

SPLIT = {"type": "Split", "pattern": {"Regex": r"\p{N}{1,3}| ?\p{L}+|\s+|."}, "behavior": "Isolated", "invert": False}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True, "trim_offsets": True}
TOKENIZER: dict[str, Any] = {
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"], "ignore_merges": False},
    "normalizer": None,
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [BYTES]},
    "decoder": {"type": "ByteLevel"},
    "added_tokens": [{"id": 3, "content": "<s>", "special": True}, {"id": 4, "content": "</s>", "special": True}],
    "post_processor": {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    },
}
SETTINGS: dict[str, Any] = {
    "bos_token": "<s>",
    "eos_token": {"content": "</s>"},
    "add_bos_token": True,
    "added_tokens_decoder": {"3": {"content": "<s>", "special": True}},
    "chat_template": [{"name": "default", "template": "{{ messages }}"}],
}
CONFIG, TENSORS = tiny(num_hidden_layers=1, rope_scaling=LLAMA_3, bos_token_id=3, eos_token_id=[4])
FILES: dict[str, Any] = {
    "config": CONFIG,
    "tokenizer": TOKENIZER,
    "tokenizer_config": SETTINGS,
    "generation_config": {"eos_token_id": 4},
    "added_tokens": {"<x>": 5},
}
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 3, 65, 300_000_000, 2**31, 2**40, 10**400, 1e308, -0.5, 0.5, float("nan")),
    *("", "a", "\ud800", "yarn", "longrope", "llama3", "Split", [], [1], ["a"], [[]], [None], {}, {"a": 1}, [1, 2, 3]),
]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of a value and of all that is in it."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(deeper for key, child in inner for deeper in places(child, (*path, key)))]
