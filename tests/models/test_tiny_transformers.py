"""The recorded logits of the tiny models that ``tiny_models`` makes are those of transformers.

Needs the extra ``transformers``, which CI leaves out; ``nox -s transformers`` runs this.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

reason = "the extra 'transformers' is not installed (CI leaves it out: gigabytes of libraries for GPUs)"
torch = pytest.importorskip("torch", reason=reason)
transformers = pytest.importorskip("transformers", reason=reason)

import tiny_encoders as encoders  # noqa: E402
import tiny_models as tiny  # noqa: E402
from tiny_converted import CONVERTED, checkpoint  # noqa: E402

COMMON: dict[str, Any] = {
    "vocab_size": tiny.VOCABULARY,
    "hidden_size": tiny.WIDTH,
    "intermediate_size": tiny.FEED_FORWARD,
    "num_hidden_layers": tiny.LAYERS,
    "num_attention_heads": tiny.HEADS,
    "num_key_value_heads": tiny.KV_HEADS,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "attn_implementation": "eager",
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}
WINDOWS = {"sliding_window": tiny.WINDOW, "layer_types": ["sliding_attention"] * 3 + ["full_attention"]}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "cohere2": ("Cohere2", WINDOWS | {"logit_scale": 0.25, "layer_norm_eps": 1e-5, "tie_word_embeddings": True}),
    "granitemoe": (
        "GraniteMoe",
        {
            "num_local_experts": tiny.EXPERTS,
            "num_experts_per_tok": 2,
            "embedding_multiplier": 1.5,
            "residual_multiplier": 0.7,
            "attention_multiplier": 0.3,
            "logits_scaling": 1.3,
        },
    ),
    "olmo3": (
        "Olmo3",
        WINDOWS | {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}},
    ),
    "phi3-long": (
        "Phi3",
        {
            "original_max_position_embeddings": 16,
            "partial_rotary_factor": 0.75,
            "rope_scaling": {f"{kind}_factor": factors for kind, factors in tiny.LONGROPE.items()}
            | {"type": "longrope"},
        },
    ),
}
NAMES = {
    "token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_qkv": "self_attn.qkv_proj", "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm", "attn_norm": "input_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    "ffn_gate_inp": "block_sparse_moe.router",
    "ffn_norm": "post_attention_layernorm", "post_attention_norm": "post_attention_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}  # fmt: skip


def name_there(name: str, fused: bool) -> str:
    parts = name.removesuffix(".weight").split(".")
    last = "mlp.gate_up_proj" if fused and parts[-1] == "ffn_up" else NAMES[parts[-1]]
    return f"model.layers.{parts[1]}.{last}.weight" if parts[0] == "blk" else f"{last}.weight"


def experts_there(tensors: dict[str, Any]) -> dict[str, Any]:
    """Granite's names of experts, gate and up in one; rows of heads as its rope pairs them."""
    found = {}
    for name, x in tensors.items():
        b = name.rpartition(".ffn_")[0]
        there = f"model.layers.{b.removeprefix('blk.')}.block_sparse_moe.experts."
        if name.endswith("ffn_gate_exps.weight"):
            found[there + "gate_up_proj"] = np.concatenate([x, tensors[f"{b}.ffn_up_exps.weight"]], axis=1)
        elif name.endswith("ffn_down_exps.weight"):
            found[there + "down_proj"] = x
        elif name.endswith(("attn_q.weight", "attn_k.weight")):
            halves = x.reshape(-1, tiny.HEAD_DIM // 2, 2, tiny.WIDTH).swapaxes(1, 2)
            found[name_there(name, False)] = halves.reshape(x.shape)
        elif not name.endswith("ffn_up_exps.weight"):
            found[name_there(name, False)] = x
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", tiny.MADE)
def test_recorded_logits_are_those_of_transformers(name: str) -> None:
    kind, config = CONFIGS[name]
    config = COMMON | config
    tied = config["tie_word_embeddings"]
    model = getattr(transformers, f"{kind}ForCausalLM")(getattr(transformers, f"{kind}Config")(**config)).eval()
    tensors: dict[str, Any] = {k: x for k, x in tiny.made_tensors(name).items() if not k.startswith("rope")}
    fused = name.startswith("phi3")
    there = experts_there(tensors) if name == "granitemoe" else {name_there(k, fused): x for k, x in tensors.items()}
    weights = {key: torch.from_numpy(x.copy()) for key, x in there.items()}
    missing = model.load_state_dict(weights, strict=False)
    assert (missing.unexpected_keys, missing.missing_keys) == ([], ["lm_head.weight"] if tied else [])
    with torch.no_grad():
        logits = model(torch.tensor(tiny.IDS[None].astype(np.int64))).logits[0].numpy()
    np.testing.assert_allclose(np.load(tiny.RECORDED / f"{name}.npy"), logits, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CONVERTED)
def test_recorded_logits_of_checkpoints_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    """Eager attention, F32. What a delta net rounds stays in its state: transformers' own ways through one, by chunks
    and token by token, lie 3e-5 apart here."""
    folder = checkpoint(name, tmp_path / name)
    kind = getattr(transformers, CONVERTED[name]["config"]["architectures"][0])
    model = kind.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    with torch.no_grad():
        logits = model(torch.tensor(tiny.IDS[None].astype(np.int64))).logits[0].numpy()
    atol = 1e-4 if name == "qwen35moe" else 1e-5
    np.testing.assert_allclose(np.load(tiny.RECORDED / f"{name}.npy"), logits, atol=atol)


@pytest.mark.filterwarnings("ignore")
def test_recorded_logits_of_a_block_that_guesses_are_those_of_transformers(tmp_path: Path) -> None:
    """Of GLM 4.5's, behind each token but the first."""
    from transformers.modeling_layers import MtpModel

    folder, ids = checkpoint("glm4moe", tmp_path / "glm4moe"), torch.tensor(tiny.IDS[None].astype(np.int64))
    model = transformers.Glm4MoeForCausalLM.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32
    ).eval()
    model._keys_to_ignore_on_load_unexpected = [r"model\.layers\.3.*"]  # where it looks for the block
    block = MtpModel.from_pretrained(model).eval()
    with torch.no_grad():
        known = model(ids, output_hidden_states=True).hidden_states[-1][:, :-1]
        places = torch.arange(len(tiny.IDS) - 1)[None]
        logits = model.lm_head(block.forward_layer(0, known, places, None, input_ids=ids[:, 1:]))[0].numpy()
    np.testing.assert_allclose(np.load(tiny.RECORDED / "glm4moe-nextn.npy"), logits, atol=1e-5)


ENCODER_NAMES = {
    "token_embd": "embeddings.word_embeddings", "position_embd": "embeddings.position_embeddings",
    "token_types": "embeddings.token_type_embeddings", "token_embd_norm": "embeddings.LayerNorm",
    "attn_q": "attention.self.query", "attn_k": "attention.self.key", "attn_v": "attention.self.value",
    "attn_output": "attention.output.dense", "attn_output_norm": "attention.output.LayerNorm",
    "ffn_up": "intermediate.dense", "ffn_down": "output.dense", "layer_output_norm": "output.LayerNorm",
    "cls": "pooler.dense", "cls.output": "classifier",
}  # fmt: skip
NOMIC_NAMES = ENCODER_NAMES | {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "attn_output_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    "layer_output_norm": "post_mlp_layernorm",
}  # fmt: skip
ENCODER_KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertModel", {"hidden_act": "gelu"}),
    "bert-rank": ("BertForSequenceClassification", {"hidden_act": "gelu", "num_labels": 1}),
    "nomic-bert": ("NomicBertModel", {"rope_parameters": {"rope_type": "default", "rope_theta": 1000.0}}),
}


def name_in_encoder(tensor: str, name: str) -> str:
    tensor, kind = tensor.rsplit(".", 1)
    names, blocks = (NOMIC_NAMES, "layers") if name == "nomic-bert" else (ENCODER_NAMES, "encoder.layer")
    _, number, part = tensor.split(".") if tensor.startswith("blk.") else ("", "", tensor)
    there = f"{blocks}.{number}.{names[part]}" if number else names[part]
    return f"{'bert.' if name == 'bert-rank' and part != 'cls.output' else ''}{there}.{kind}"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", encoders.ENCODERS)
def test_recorded_states_of_encoders_are_those_of_transformers(name: str) -> None:
    kind, config = ENCODER_KINDS[name]
    config = COMMON | {"layer_norm_eps": 1e-12, "max_position_embeddings": encoders.POSITIONS} | config
    made = getattr(transformers, kind)
    model = made(made.config_class(**config)).eval()
    weights = {name_in_encoder(key, name): torch.from_numpy(x) for key, x in encoders.encoder_tensors(name).items()}
    missing = model.load_state_dict(weights, strict=False)
    assert missing.unexpected_keys == []
    assert all("pooler" in key and name != "bert-rank" for key in missing.missing_keys)
    with torch.no_grad():
        ids = encoders.ids_of(name)[None].astype(np.int64)
        types = np.cumsum(ids == 3, 1) - (ids == 3) if name == "bert-rank" else np.zeros_like(ids)
        found = model(torch.tensor(ids), token_type_ids=torch.tensor(types))
    states = (found.logits if name == "bert-rank" else found.last_hidden_state[0]).numpy()
    np.testing.assert_allclose(np.load(tiny.RECORDED / f"{name}.npy"), states, atol=1e-5)
