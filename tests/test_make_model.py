"""benchmarks/make_model.py: files of real shapes with random weights, which must load and stay finite."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from llamaq.formats import can_decode, decode, format_by_name
from llamaq.gguf import GGUFFile
from llamaq.models import build_plan
from llamaq.tokenizer import load_tokenizer

FORMATS = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K",
           "IQ4_NL", "IQ4_XS", "IQ2_XXS", "IQ3_S", "IQ1_S", "TQ2_0", "MXFP4")  # fmt: skip


def load_script() -> ModuleType:
    folder = str(Path(__file__).parents[1] / "benchmarks")
    sys.path.insert(0, folder)  # the scripts import one another by name
    try:
        module = importlib.import_module("make_model")
    finally:
        sys.path.remove(folder)
    module.POOL = 1 << 16  # type: ignore[attr-defined]
    return module


script = load_script()


@pytest.mark.parametrize("name", FORMATS)
def test_weights_have_the_wanted_spread_and_no_two_equal_rows(name: str) -> None:
    fmt = format_by_name(name)
    data = np.concatenate(list(script.Weights().stream(fmt, 64, 2048))).reshape(64, fmt.row_bytes(2048))
    assert len(np.unique(data, axis=0)) == 64
    x = decode(fmt, data)
    assert abs(x.std() / script.STD - 1) < 0.1
    assert np.isfinite(x).all()


@pytest.mark.parametrize("name", ["NVFP4", "IQ1_M", "Q8_1", "Q8_K", "I8"])
def test_a_format_without_encoder_or_scale_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: llamaq can neither encode"):
        next(script.Weights().stream(format_by_name(name), 1, 256))


@pytest.mark.parametrize("format_name", ["F32", "q4_0", "Q4_K_M"])
def test_the_tiny_model_is_whole(format_name: str, tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    script.make_model("tiny", format_name, str(path))
    with GGUFFile.open(path) as file:
        assert all(can_decode(info.format) for info in file.tensors.values())
        build_plan(file.metadata, {name: info.shape for name, info in file.tensors.items()})
        assert load_tokenizer(file.metadata).n_vocab == file.tensors["token_embd.weight"].shape[0] == 512


def test_a_mixture_has_its_experts_in_one_tensor(tmp_path: Path) -> None:
    path = tmp_path / "mixture.gguf"
    script.make_model("mixtral-tiny", "Q4_K_M", str(path))
    with GGUFFile.open(path) as file:
        found = {name: (info.shape, info.format.name) for name, info in file.tensors.items()}
        assert file.metadata["llama.expert_count"] == 8
        build_plan(file.metadata, {name: info.shape for name, info in file.tensors.items()})
    assert found["blk.0.ffn_gate_inp.weight"] == ((8, 256), "F32")
    assert found["blk.0.ffn_up_exps.weight"] == ((8, 256, 256), "Q4_K")
    assert found["blk.3.ffn_down_exps.weight"] == ((8, 256, 256), "Q6_K")
    assert found["blk.1.attn_k.weight"] == ((128, 256), "Q8_0")
    assert found["blk.1.attn_output.weight"] == ((256, 256), "Q5_K")


@pytest.mark.parametrize("name", script.SHAPES)
def test_every_shape_is_a_model_that_runs(name: str) -> None:
    shape = script.SHAPES[name]
    shapes = dict(script.tensors(shape))
    vectors = {"rope_freqs.weight": [1.0] * shape.head} if "rope_freqs.weight" in shapes else {}
    _, plan = build_plan(script.metadata(name, shape, "Q4_0"), shapes, vectors=vectors)
    assert {*plan.tensors} | {*vectors} == {*shapes}


@pytest.mark.parametrize(("make", "size"), [("sentencepiece", 32000), ("byte_level", 128256)])
def test_vocabularies_tokenize(make: str, size: int) -> None:
    tokenizer = load_tokenizer(getattr(script, f"{make}_vocabulary")(size))
    text = "The quick brown fox, 1234 times; ÄÖ 日本\n  end."
    assert tokenizer.n_vocab == size
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode("the fox")) < 7


@pytest.mark.parametrize(
    ("format_name", "tensor", "expected"),
    [
        ("Q4_0", "token_embd", "Q6_K"), ("Q8_0", "token_embd", "Q8_0"), ("F16", "token_embd", "F16"),
        ("Q5_1", "token_embd", "Q6_K"), ("Q4_0", "blk.0.ffn_down", "Q4_0"),
        ("Q4_K_M", "token_embd", "Q6_K"), ("Q4_K_M", "blk.0.attn_v", "Q6_K"), ("Q4_K_M", "blk.2.attn_v", "Q4_K"),
        ("Q4_K_M", "blk.4.ffn_down", "Q6_K"), ("Q4_K_M", "blk.15.ffn_down", "Q6_K"), ("Q4_K_M", "blk.0.attn_q", "Q4_K"),
    ],
)  # fmt: skip
def test_formats_are_those_that_llama_cpp_chooses(format_name: str, tensor: str, expected: str) -> None:
    assert script.choose_format(format_name, script.SHAPES["llama-3.2-1b"], tensor, 2048).name == expected


@pytest.mark.parametrize(
    ("name", "tensor", "expected"),
    [
        ("qwen3.5-0.8b", "blk.0.attn_qkv", "Q6_K"), ("qwen3.5-0.8b", "blk.3.attn_v", "Q4_K"),
        ("qwen3.5-0.8b", "blk.0.ssm_conv1d", "F32"), ("qwen3.5-0.8b", "blk.0.ssm_alpha", "Q4_K"),
        ("gemma-4-e2b", "per_layer_token_embd", "Q6_K"), ("gemma-4-e2b", "per_layer_model_proj", "BF16"),
        ("gemma-4-e2b", "blk.3.attn_v", "Q6_K"), ("gemma-4-e2b", "blk.14.attn_v", "Q6_K"),
        ("gemma-4-e2b", "blk.34.ffn_down", "Q6_K"), ("lfm2-1.2b", "blk.8.attn_v", "Q6_K"),
        ("lfm2-1.2b", "blk.2.attn_v", "Q4_K"), ("lfm2-1.2b", "blk.0.shortconv.conv", "F32"),
    ],
)  # fmt: skip
def test_layers_without_values_do_not_count(name: str, tensor: str, expected: str) -> None:
    assert script.choose_format("Q4_K_M", script.SHAPES[name], tensor, 2048).name == expected


def test_untied_models_keep_the_better_format_for_the_output() -> None:
    shape = script.SHAPES["llama-2-7b"]
    assert [script.choose_format("Q4_0", shape, t, 4096).name for t in ("token_embd", "output")] == ["Q4_0", "Q6_K"]


def test_rows_that_are_not_whole_blocks_fall_back() -> None:
    shape = script.SHAPES["tiny"]
    assert [script.choose_format("Q4_K", shape, "blk.2.ffn_down", cols).name for cols in (256, 64, 172)] == [
        "Q4_K", "Q5_0", "F16",
    ]  # fmt: skip
