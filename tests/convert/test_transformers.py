"""Converted models beside transformers itself: logits of tiny random Llamas, ids of trained tokenizers.

Needs the extra ``transformers``. CI leaves it out, as torch comes with gigabytes of libraries for GPUs; there
test_convert.py holds the same conversions against a forward pass of its own. ``nox -s transformers`` runs this.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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
from llamaq.llm.llm import LLM  # noqa: E402
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
