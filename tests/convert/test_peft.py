"""Adapters that PEFT made and saved, beside PEFT itself: logits of tiny random models.

Needs the extra ``transformers``; CI leaves it out, as torch comes with gigabytes of libraries. ``nox -s
transformers`` runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

reason = "the extra 'transformers' is not installed (CI leaves it out: gigabytes of libraries for GPUs)"
torch = pytest.importorskip("torch", reason=reason)
transformers = pytest.importorskip("transformers", reason=reason)
peft = pytest.importorskip("peft", reason=reason)

import json  # noqa: E402

from hf_llama import LETTERS  # noqa: E402
from llamaq import LLM  # noqa: E402
from llamaq.convert import convert, convert_adapter  # noqa: E402
from llamaq.errors import ModelError  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

SHAPE: dict[str, Any] = {
    "vocab_size": 50, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
EVERY = [*ATTENTION, "gate_proj", "up_proj", "down_proj"]
TIED = {"tie_word_embeddings": True}
GEMMA = TIED | {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 8}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "llama": ("Llama", {}, {"target_modules": EVERY, "r": 4}),
    "llama-head": ("Llama", {}, {"target_modules": [*EVERY, "lm_head"], "r": 4}),
    "llama-tied-head": ("Llama", TIED, {"target_modules": ["lm_head"], "r": 4}),
    "llama-all-linear": ("Llama", {}, {"target_modules": "all-linear", "r": 4, "use_rslora": True}),
    "llama-patterns": ("Llama", {}, {
        "target_modules": EVERY, "r": 4, "rank_pattern": {"q_proj": 2, "layers.1.mlp.up_proj": 8},
        "alpha_pattern": {"v_proj": 3, r".*0\.self_attn\.o_proj": 30},
    }),
    "llama-patterns-rslora": ("Llama", {}, {
        "target_modules": ATTENTION, "r": 4, "use_rslora": True, "rank_pattern": {"q_proj": 2, "o_proj": 9},
        "alpha_pattern": {"v_proj": 3},
    }),
    "qwen2": ("Qwen2", TIED, {"target_modules": EVERY, "r": 4}),
    "qwen3": ("Qwen3", {"head_dim": 32}, {"target_modules": EVERY, "r": 4, "layers_to_transform": [1]}),
    "gemma2": ("Gemma2", GEMMA, {"target_modules": EVERY, "r": 4}),
    "gemma3": ("Gemma3", GEMMA, {"target_modules": EVERY, "r": 4, "init_lora_weights": "gaussian"}),
    "phi3": ("Phi3", {"sliding_window": None, "original_max_position_embeddings": 128},
             {"target_modules": ["qkv_proj", "gate_up_proj", "down_proj"], "r": 4}),
}  # fmt: skip


def trained(folder: Path, kind: str, config: dict[str, Any], settings: dict[str, Any]) -> Any:
    """Saves a model and an adapter of it whose factors are all random, and gives the model with the adapter."""
    torch.manual_seed(0)
    cls = getattr(transformers, f"{kind}ForCausalLM")
    model = cls(cls.config_class(**SHAPE | config, attn_implementation="eager")).eval()
    for name, weights in model.named_parameters():
        if weights.ndim > 1:
            weights.data = torch.randn_like(weights) * 0.8 / weights.shape[-1] ** 0.5
        elif "bias" in name:
            weights.data = torch.randn_like(weights) * 0.2
    model.save_pretrained(folder / "model")
    (folder / "model" / "tokenizer.json").write_text(json.dumps(LETTERS))
    adapted = peft.get_peft_model(model, peft.LoraConfig(lora_alpha=6, task_type="CAUSAL_LM", **settings)).eval()
    for name, weights in adapted.named_parameters():
        if "lora_" in name:
            weights.data = torch.randn_like(weights) * 0.5 / weights.shape[-1] ** 0.5
    adapted.save_pretrained(folder / "adapter", save_embedding_layers=False)
    return adapted


@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_peft(name: str, tmp_path: Path) -> None:
    model = trained(tmp_path, *CASES[name])
    ids = torch.randint(3, 50, (1, 24))
    with torch.no_grad():
        expected = torch.log_softmax(model(ids).logits[0].double(), -1).numpy()
    convert(tmp_path / "model", tmp_path / "model.gguf", "f32")
    convert_adapter(tmp_path / "adapter", tmp_path / "adapter.gguf", "f32", base=tmp_path / "model")
    with LLM.load(tmp_path / "model.gguf", n_ctx=64, threads=1, cache_type="f32") as llm:
        alone = torch.log_softmax(torch.tensor(llm.logits(ids[0].tolist())).double(), -1).numpy()
        llm.load_adapter(tmp_path / "adapter.gguf")
        llm.adapter = "adapter"
        found = torch.log_softmax(torch.tensor(llm.logits(ids[0].tolist())).double(), -1).numpy()
    assert np.abs(alone - expected).max() > 0.1
    assert np.abs(found - expected).max() < 1e-5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"lora_bias": True}, "lora_bias"),
        ({"bias": "all"}, "biases"),
        ({"init_lora_weights": "olora"}, "olora"),
    ],
)
def test_what_is_more_than_factors_is_refused(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    trained(tmp_path, "Qwen2", {}, {"target_modules": ATTENTION, "r": 4, **settings})
    with pytest.raises(ModelError, match=message):
        convert_adapter(tmp_path / "adapter", tmp_path / "adapter.gguf", base=tmp_path / "model")
