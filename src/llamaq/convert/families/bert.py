"""Encoders for embeddings and ranking: BERT, RoBERTa and XLM-RoBERTa (``bert``), Nomic Embed (``nomic-bert``)."""

from __future__ import annotations

from typing import Any

from llamaq.convert.family import Family
from llamaq.convert.keys import expect, left_out_window, standard
from llamaq.convert.rules import last_rows
from llamaq.convert.section import Section
from llamaq.models.keys import POOLING_RANK

_EPS = ("attention.layer_norm_epsilon", "layer_norm_eps")

BLOCK = {
    **{f"attention.self.{old}": f"attn_{new}" for old, new in (("query", "q"), ("key", "k"), ("value", "v"))},
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
OUTER: dict[str, Any] = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": last_rows("position_embd", "context_length"),
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
    # These heads are for words that are missing; embeddings do not need them.
    **dict.fromkeys(f"cls.predictions{part}" for part in ("", ".decoder", ".transform.dense", ".transform.LayerNorm")),
    **dict.fromkeys(("cls.seq_relationship", "lm_head", "lm_head.dense", "lm_head.layer_norm", "lm_head.decoder")),
    "pooler.dense": None,
}
RANKING = OUTER | {"pooler.dense": "cls", "classifier": "cls.output"}
RANKING |= {"classifier.dense": "cls", "classifier.out_proj": "cls.output"}
NOMIC_BLOCK = {
    "attn.Wqkv": "attn_qkv",
    "attn.out_proj": "attn_output",
    "norm1": "attn_output_norm",
    "mlp.fc11": "ffn_up",
    "mlp.fc12": "ffn_gate",
    "mlp.fc2": "ffn_down",
    "norm2": "layer_output_norm",
}
_OLD_NAMES = {  # configurations of Nomic's own code have these
    "hidden_size": "n_embd",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
    "intermediate_size": "n_inner",
    "max_position_embeddings": "n_positions",
    "layer_norm_eps": "layer_norm_epsilon",
    "rope_theta": "rotary_emb_base",
}


def _bert(config: Section) -> dict[str, Any]:
    keys = standard(config, activations=("gelu", "gelu_new"), eps=_EPS)
    kinds = config.texts("architectures")
    if kinds and "oberta" in kinds[0].lower():  # their positions begin behind that of the padding
        keys["context_length"] -= config.integer("pad_token_id", 1, low=0) + 1
    keys = {key: value for key, value in keys.items() if not key.startswith(("rope.", "attention.head_count_kv"))}
    return keys | {"attention.causal": False}


def _ranking(config: Section) -> dict[str, Any]:
    labels = config.section("id2label")
    names = [labels.text(key) for key in sorted(labels.values, key=lambda key: (len(key), key))]
    found = {} if names in ([], ["LABEL_0", "LABEL_1"]) else {"classifier.output_labels": names}
    return _bert(config) | {"pooling_type": POOLING_RANK} | found


def _nomic(config: Section) -> dict[str, Any]:
    old = {new: config.values[name] for new, name in _OLD_NAMES.items() if name in config}
    config = Section({**config.values, **old}, "config.json")
    for key, value in (("prenorm", False), ("causal", False), ("qkv_proj_bias", False), ("moe_every_n_layers", 0)):
        expect(config, key, value, int(value), bool(value))
    expect(config, "rotary_emb_fraction", 1.0, 1)
    expect(config, "activation_function", "swiglu")
    keys = standard(config, eps=_EPS)
    if "max_trained_positions" in config:  # beyond them Nomic's own code stretches positions
        keys["context_length"] = min(keys["context_length"], config.integer("max_trained_positions"))
    left_out_window(config, keys["context_length"])
    return keys | {"attention.causal": False}


FAMILIES = (
    Family(
        "bert",
        ("BertModel", "BertForMaskedLM", "RobertaModel", "XLMRobertaModel"),
        _bert,
        BLOCK,
        OUTER,
        "encoder.layer.*.",
    ),
    Family(
        "bert",
        ("BertForSequenceClassification", "RobertaForSequenceClassification", "XLMRobertaForSequenceClassification"),
        _ranking,
        BLOCK,
        RANKING,
        "encoder.layer.*.",
    ),
    Family(
        "nomic-bert",
        ("NomicBertModel",),
        _nomic,
        NOMIC_BLOCK,
        OUTER | {"emb_ln": "token_embd_norm"},
        "encoder.layers.*.",
    ),
)
