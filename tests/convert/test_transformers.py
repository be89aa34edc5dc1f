"""Converted models beside transformers itself: logits of tiny random models of every family, ids of tokenizers.

Needs the extra ``transformers``. CI leaves it out, as torch comes with gigabytes of libraries for GPUs; there
test_llama.py and test_families.py hold the same conversions against a forward pass of its own and recorded files.
``nox -s transformers`` runs this.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

reason = "the extra 'transformers' is not installed (CI leaves it out: gigabytes of libraries for GPUs)"
torch = pytest.importorskip("torch", reason=reason)
transformers = pytest.importorskip("transformers", reason=reason)

from hf_llama import (  # noqa: E402
    LETTERS,
    LLAMA_3,
    LLAMA_3_PATTERN,
    nmse,
)
from llamaq.convert import convert  # noqa: E402
from llamaq.convert.families import family_of  # noqa: E402
from llamaq.convert.section import Section  # noqa: E402
from llamaq.llm.llm import LLM  # noqa: E402
from llamaq.llm.ranking import QWEN3_TEMPLATE  # noqa: E402
from llamaq.models import ARCHITECTURES  # noqa: E402
from shared_files import shared_path  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

SHAPE: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.15,
}
YARN = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 16}


def random_llama(folder: Path, kind: str = "LlamaForCausalLM", dtype: str = "float32", **config: Any) -> Any:
    """Saves a model, and gives it as transformers loads it again."""
    torch.manual_seed(0)
    made = getattr(transformers, kind.replace("ForCausalLM", "Config"))(**SHAPE | config)
    model = getattr(transformers, kind)(made).to(getattr(torch, dtype))
    for name, weights in model.named_parameters():
        if "bias" in name or "norm" in name:
            weights.data += torch.randn_like(weights) * 0.1
    model.save_pretrained(folder, max_shard_size="50KB")
    (folder / "tokenizer.json").write_text(json.dumps(LETTERS))
    return getattr(transformers, kind).from_pretrained(folder, dtype=torch.float32)


@pytest.mark.parametrize(
    "variant",
    [
        {},
        {"dtype": "bfloat16"},
        {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True, "head_dim": 24},
        {"rope_scaling": LLAMA_3},
        {"rope_scaling": YARN},
        {"rope_scaling": YARN | {"attention_factor": 1.5, "beta_fast": 8.0}},
        {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
        {"kind": "MistralForCausalLM", "sliding_window": None},
    ],
    ids=str,
)
def test_logits(variant: dict[str, Any], tmp_path: Path) -> None:
    model = random_llama(tmp_path / "model", **variant)
    ids = torch.randint(0, 50, (1, 100))
    with torch.no_grad():
        expected = model(ids).logits[0].numpy()
    convert(tmp_path / "model", tmp_path / "out.gguf", "bf16" if "dtype" in variant else "f32")
    with LLM.load(tmp_path / "out.gguf", n_ctx=128, threads=1, cache_type="f32") as llm:
        found = llm.logits(ids[0].tolist())
    assert nmse(found, expected) < (1e-4 if "dtype" in variant else 1e-10)


TIED = {"tie_word_embeddings": True}
EXPERTS = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2}
WINDOW = {"sliding_window": 8}
GRANITE = {"embedding_multiplier": 3.0, "residual_multiplier": 0.7, "attention_multiplier": 0.2, "logits_scaling": 2.0}
GEMMA = {"head_dim": 32, "query_pre_attn_scalar": 32} | WINDOW | TIED
YARN_1 = YARN | {"mscale": 1.0, "mscale_all_dim": 1.0}
LONG = {"rope_type": "longrope", "rope_theta": 1e4, "partial_rotary_factor": 0.75}
LONG |= {"short_factor": [1.0, 1.1, 1.2, 1.3, 1.5, 1.7], "long_factor": [1.0, 1.5, 2.0, 3.0, 4.0, 5.0]}
LATENT = {"moe_intermediate_size": 32, "first_k_dense_replace": 1, "q_lora_rank": 24, "kv_lora_rank": 32}
LATENT |= {"qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16, "num_key_value_heads": 4}
LATENT |= {"n_shared_experts": 1, "num_experts_per_tok": 2}
LFM2: dict[str, Any] = {"layer_types": ["conv", "full_attention", "conv", "conv"], "conv_L_cache": 3}
ROUNDED = {"Gemma4": 4e-5, "Qwen3_5": 1e-4, "Qwen3_5Moe": 1e-4, "Qwen3Next": 1e-4}
DELTA: dict[str, Any] = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16}
DELTA |= {"linear_value_head_dim": 16, "linear_conv_kernel_dim": 4, "shared_expert_intermediate_size": 40}
SEES: dict[str, Any] = {
    "vision_config": {
        "depth": 2,
        "hidden_size": 32,
        "embed_dim": 32,
        "num_heads": 2,
        "intermediate_size": 48,
        "out_hidden_size": 64,
        "patch_size": 4,
        "num_position_embeddings": 16,
        "deepstack_visual_indexes": [0],
    },
}
TURNS = {"rope_type": "default", "rope_theta": 1e4}
NEMOTRON: dict[str, Any] = {
    "mamba_num_heads": 8, "mamba_head_dim": 16, "ssm_state_size": 16, "n_groups": 2, "chunk_size": 8, "head_dim": 24,
    "use_mamba_kernels": False,
}  # fmt: skip
LATENT_EXPERTS: dict[str, Any] = {
    "n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "moe_latent_size": 48,
    "moe_shared_expert_intermediate_size": 40, "n_group": 2, "topk_group": 1, "routed_scaling_factor": 1.5,
}  # fmt: skip
GEMMA_4: dict[str, Any] = {
    **WINDOW, **TIED, "num_hidden_layers": 8, "global_head_dim": 32, "head_dim": 16, "vocab_size_per_layer_input": 50,
    "layer_types": [*(["sliding_attention"] * 2 + ["full_attention"]) * 2, "sliding_attention", "full_attention"],
    "hidden_size_per_layer_input": 0, "num_kv_shared_layers": 0, "top_k_experts": 2, "moe_intermediate_size": 32,
    "final_logit_softcapping": 30.0,
}  # fmt: skip
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "mixtral": ("Mixtral", EXPERTS),
    "ministral3": ("Ministral3", {"head_dim": 32, "rope_parameters": YARN_1 | {"llama_4_scaling_beta": 0.1}}),
    "smollm3": ("SmolLM3", {}),
    "qwen2": ("Qwen2", TIED),
    "qwen2moe": ("Qwen2Moe", EXPERTS | {"moe_intermediate_size": 64, "shared_expert_intermediate_size": 32}),
    "qwen3": ("Qwen3", {"head_dim": 32}),
    "qwen3-yarn": ("Qwen3", {"head_dim": 32, "rope_parameters": YARN | {"rope_theta": 1e5}}),
    "qwen3moe": ("Qwen3Moe", EXPERTS | {"moe_intermediate_size": 64, "norm_topk_prob": True, "head_dim": 32}),
    "gemma": ("Gemma", {"head_dim": 32} | TIED),
    "gemma2": ("Gemma2", GEMMA),
    "gemma3": ("Gemma3", GEMMA | {"num_hidden_layers": 7}),
    "phi3": ("Phi3", {"sliding_window": None, "original_max_position_embeddings": 128}),
    "phi3-long": (
        "Phi3",
        {"sliding_window": None, "original_max_position_embeddings": 128, "rope_parameters": LONG},
    ),
    "granite": ("Granite", GRANITE),
    "granitemoe": ("GraniteMoe", GRANITE | EXPERTS),
    "granitemoe-shared": ("GraniteMoeShared", {**GRANITE, **EXPERTS, "shared_intermediate_size": 96}),
    "olmo2": ("Olmo2", {}),
    "olmo3": ("Olmo3", WINDOW | {"rope_parameters": YARN | {"rope_theta": 1e5}}),
    "mamba2": ("Mamba2", {"num_heads": 8, "head_dim": 16, "state_size": 16, "n_groups": 1, "chunk_size": 8}),
    "nemotron-h": ("NemotronH", NEMOTRON | {"hybrid_override_pattern": "M-*M"}),
    "nemotron-h-moe": ("NemotronH", NEMOTRON | LATENT_EXPERTS | {"hybrid_override_pattern": "ME*E"}),
    "gpt-oss": (
        "GptOss",
        {**EXPERTS, **WINDOW, "head_dim": 32, "rope_parameters": YARN | {"rope_theta": 1.5e5, "truncate": True}},
    ),
    "llama4": (
        "Llama4",
        {"num_local_experts": 16, "intermediate_size_mlp": 96, "head_dim": 16, "interleave_moe_layer_step": 2,
         "intermediate_size": 80, "use_qk_norm": True},
    ),
    "deepseek2": ("DeepseekV2", LATENT | {"n_routed_experts": 4}),
    "deepseek3": ("DeepseekV3", LATENT | {"n_routed_experts": 8, "n_group": 2, "topk_group": 1}),
    "starcoder2": ("Starcoder2", TIED),
    "command-r": ("Cohere", {"use_qk_norm": True} | TIED),
    "cohere2": ("Cohere2", WINDOW | TIED),
    "lfm2": ("Lfm2", LFM2 | TIED),
    "lfm2moe": ("Lfm2Moe", LFM2 | EXPERTS | TIED | {"moe_intermediate_size": 32, "num_dense_layers": 1}),
    "qwen35": ("Qwen3_5", DELTA | {"head_dim": 32}),
    "qwen35moe": ("Qwen3_5Moe", DELTA | EXPERTS | {"moe_intermediate_size": 32, "head_dim": 32}),
    "qwen3next": ("Qwen3Next", DELTA | EXPERTS | {"moe_intermediate_size": 32, "head_dim": 32, "norm_topk_prob": True}),
    "gemma4": ("Gemma4", GEMMA_4 | {"hidden_size_per_layer_input": 16, "num_kv_shared_layers": 2}),
    "gemma4-moe": ("Gemma4", GEMMA_4 | EXPERTS | {"enable_moe_block": True, "attention_k_eq_v": True}),
    "qwen2vl": ("Qwen2_5_VL", SEES | {"rope_parameters": TURNS | {"mrope_section": [3, 3, 2]}}),
    "qwen3vl": ("Qwen3VL", SEES | {"head_dim": 32, "rope_parameters": TURNS | {"mrope_section": [8, 4, 4]}}),
    "qwen3vlmoe": (
        "Qwen3VLMoe",
        {**SEES, **EXPERTS, "moe_intermediate_size": 24, "head_dim": 32,
         "rope_parameters": TURNS | {"mrope_section": [8, 4, 4]}},
    ),
    "glm4": ("Glm4", {"head_dim": 16, "attention_bias": True}),
    "glm4moe": (
        "Glm4Moe",
        {"head_dim": 24, "attention_bias": True, "use_qk_norm": True, "n_routed_experts": 8, "num_experts_per_tok": 2,
         "moe_intermediate_size": 32, "n_shared_experts": 2, "first_k_dense_replace": 2, "routed_scaling_factor": 2.5},
    ),
}  # fmt: skip


def class_of(kind: str, config: dict[str, Any]) -> str:
    return kind + ("ForConditionalGeneration" if "vision_config" in config else "ForCausalLM")


RUN = [
    name
    for name, (kind, config) in FAMILIES.items()
    if family_of(Section({"architectures": [class_of(kind, config)]}, "config.json")).architecture in ARCHITECTURES
]
"""Those that the engine runs; the others' files are held against llama.cpp's by test_families.py."""


RANKS = "ForSequenceClassification"


def sharp_model(folder: Path, kind: str, config: dict[str, Any], head: str = "") -> Any:
    """Saves a model whose weights are so large that an error of any part shows, and gives it."""
    torch.manual_seed(0)
    values = SHAPE | {"num_hidden_layers": 4, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2} | config
    if "vision_config" in values:
        values = {"vision_config": values.pop("vision_config"), "text_config": values, "tie_word_embeddings": False}
    model = getattr(transformers, kind + head if head else class_of(kind, config))
    made = model(model.config_class(**values, attn_implementation="eager")).eval()
    shifted = kind.startswith("Gemma") and kind != "Gemma4"
    for name, weights in [*made.named_parameters(), *made.named_buffers()]:
        if name.endswith(("bias", "sinks")):
            weights.data = torch.randn_like(weights) * 0.2
        elif name.endswith(("router.scale", "per_expert_scale", "layer_scalar")):
            weights.data = torch.randn_like(weights) * 0.1 + 1.0
        elif "norm" in name.lower():
            weights.data = torch.randn_like(weights) * 0.1 + float(not shifted)
        elif "inv_freq" not in name and weights.ndim > 1 and weights.is_floating_point():
            rows = -2 if weights.ndim == 3 and kind in ("GptOss", "Llama4") else -1
            weights.data = torch.randn_like(weights) * 0.8 / weights.shape[rows] ** 0.5
    made.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps(LETTERS))
    return made


@pytest.mark.parametrize("name", RUN)
def test_logits_of_families(name: str, tmp_path: Path) -> None:
    """All positions, some of them beyond the windows. Both passes are in F32, which shows with these weights. Those of
    transformers in F64 and in F32 are 1.6e-5 apart for Gemma 4, and 2.4e-5 for Qwen 3.5, whose states keep what was
    rounded."""
    model = sharp_model(tmp_path / "model", *FAMILIES[name])
    ids = torch.randint(3, 50, (1, 24))
    with torch.no_grad():
        expected = torch.log_softmax(model(ids).logits[0].double(), -1).numpy()
    convert(tmp_path / "model", tmp_path / "out.gguf", "f32")
    with LLM.load(tmp_path / "out.gguf", n_ctx=64, threads=1, cache_type="f32") as llm:
        found = torch.log_softmax(torch.tensor(llm.logits(ids[0].tolist())).double(), -1).numpy()
    assert np.abs(found - expected).max() < ROUNDED.get(FAMILIES[name][0], 1e-5)


WORDS: dict[str, Any] = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##"}
WORDS["vocab"] = {word: i for i, word in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b"))}
PIECES: dict[str, Any] = {"type": "Unigram", "unk_id": 3}
PIECES["vocab"] = [[piece, -float(i)] for i, piece in enumerate(("<s>", "<pad>", "</s>", "<unk>", "▁", "a", "b"))]
ADDED = [{"id": 2, "content": "[CLS]", "special": True}, {"id": 3, "content": "[SEP]", "special": True}]
PAD = {"Bert": 0, "XLMRoberta": 1, "Qwen3": 49}
RANKING: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "Bert": (
        {"model": WORDS, "normalizer": {"type": "BertNormalizer"}, "pre_tokenizer": {"type": "BertPreTokenizer"},
         "added_tokens": ADDED},
        {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"},
    ),
    "XLMRoberta": (
        {"model": PIECES, "pre_tokenizer": {"type": "Metaspace", "replacement": "▁"}},
        {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "sep_token": "</s>", "pad_token": "<pad>"},
    ),
    "Qwen3": (LETTERS, {}),
}  # fmt: skip


@pytest.mark.parametrize("kind", RANKING)
def test_scores_of_rerankers(kind: str, tmp_path: Path) -> None:
    tokenizer, settings = RANKING[kind]
    sharp_model(tmp_path / "model", kind, {"num_labels": 1, "pad_token_id": PAD[kind]}, head=RANKS)
    (tmp_path / "model" / "tokenizer.json").write_text(json.dumps(tokenizer))
    (tmp_path / "model" / "tokenizer_config.json").write_text(json.dumps(settings))
    model = getattr(transformers, kind + RANKS).from_pretrained(tmp_path / "model", dtype=torch.float32)
    convert(tmp_path / "model", tmp_path / "out.gguf", "f32")
    with LLM.load(tmp_path / "out.gguf", threads=1, cache_type="f32") as llm:
        documents = ["b", "a b b a"]
        found = llm.rerank("a b", documents)
        for text, score in zip(documents, found, strict=True):
            ids = llm.tokenizer.encode_pair("a b", text)
            if kind == "Qwen3":
                ids = llm.tokenizer.encode_filled(QWEN3_TEMPLATE, {"query": "a b", "document": text})
            more = {"token_type_ids": torch.tensor([second_of(ids, 3)])} if kind == "Bert" else {}
            with torch.no_grad():
                expected = model(torch.tensor([ids]), **more).logits[0, 0]
            assert abs(score - float(expected)) < 1e-5 * max(1, abs(expected))
    assert abs(found[0] - found[1]) > 1e-3


def second_of(ids: list[int], separator: int) -> list[int]:
    """The types of tokens: 1 behind the first separator."""
    end = ids.index(separator)
    return [int(i > end) for i in range(len(ids))]


@pytest.mark.parametrize("scheme", ["gpt-2", "llama-bpe", "digits", "characters"])
def test_ids_of_a_trained_tokenizer(scheme: str, tmp_path: Path) -> None:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=scheme != "llama-bpe")
    steps: dict[str, list[Any]] = {
        "llama-bpe": [pre_tokenizers.Split(Regex(LLAMA_3_PATTERN), "isolated")],
        "digits": [pre_tokenizers.Digits(individual_digits=True)],
    }
    settings: dict[str, Any] = {"special_tokens": ["<unk>", "<s>", "</s>"], "show_progress": False}
    tokenizer = Tokenizer(models.BPE())
    if scheme == "characters":
        settings["special_tokens"] += [f"<0x{byte:02X}>" for byte in range(256)]
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*steps.get(scheme, []), byte_level])
        tokenizer.decoder = decoders.ByteLevel()
        settings["initial_alphabet"] = pre_tokenizers.ByteLevel.alphabet()
    text = shared_path("text/tinystories-valid-excerpt.txt").read_text(encoding="utf-8")
    words = text[:60000].split("\n") if scheme != "characters" else [text[i : i + 8] for i in range(0, 60000, 8)]
    tokenizer.train_from_iterator(words, trainers.BpeTrainer(vocab_size=900, **settings))
    random_llama(tmp_path / "model", vocab_size=1000)
    saved = json.loads(tokenizer.to_str())
    saved["added_tokens"] = [token for token in saved["added_tokens"] if not token["content"].startswith("<0x")]
    (tmp_path / "model" / "tokenizer.json").write_text(json.dumps(saved))
    convert(tmp_path / "model", tmp_path / "out.gguf")
    expected = Tokenizer.from_str(json.dumps(saved))
    with LLM.load(tmp_path / "out.gguf", n_ctx=16, threads=1) as llm:
        assert llm.tokenizer.n_vocab == 1000
        for piece in (*text[60000:70000].split("\n"), "It's 1234567 o'clock\tin  Zürich: ½ 日本語 🦙", "a" * 50):
            ids = expected.encode(piece, add_special_tokens=False).ids
            assert llm.tokenizer.encode(piece, add_special=False) == ids, piece
