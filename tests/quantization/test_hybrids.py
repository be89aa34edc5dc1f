"""Quantized models of every architecture, with states, shared caches and inputs for each layer: what llama.cpp leaves
stays, and they run."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import llamaq
from llamaq import LLM
from llamaq.engine.engine import Engine
from llamaq.engine.kv_cache import KVCache
from llamaq.engine.loading import plan_of
from llamaq.gguf import GGUFFile
from llamaq.models import ARCHITECTURES
from llamaq.plan.reference import Reference
from llamaq.plan.step import Step
from llamaq.quantization import file_type_by_name
from llamaq.quantization.choice import ModelFacts, TypeOptions, choose
from tiny_encoders import ENCODERS
from tiny_models import tiny_model

KEPT = {  # part of the name behind the block: type; norms are left out
    "ssm_a", "ssm_d", "ssm_dt.bias", "ssm_conv1d.weight", "ssm_conv1d.bias",
    "shortconv.conv.weight", "per_layer_model_proj.weight",
    "layer_output_scale.weight", "ffn_gate_inp.weight", "ffn_gate_inp.scale", "ffn_down_exps.scale",
    "ffn_gate_inp_shexp.weight", "exp_probs_b.bias", "rope_freqs.weight",
}  # fmt: skip
MODELS = sorted({tiny for entry in ARCHITECTURES.values() for tiny in entry.tiny if tiny not in ENCODERS})


@pytest.mark.parametrize("type", ["Q8_0", "Q4_K_M"])
@pytest.mark.parametrize("name", MODELS)
def test_they_keep_what_suffers_and_run(name: str, type: str, tmp_path: Path) -> None:
    source, reference = tiny_model(name)
    path, ids = llamaq.quantize(source, tmp_path / "out.gguf", type), reference["ids"]
    with GGUFFile.open(source) as before, GGUFFile.open(path) as after:
        for tensor, info in after.tensors.items():
            part = re.sub(r"^blk\.\d+\.", "", tensor)
            kept = part in KEPT or "norm" in part or part.endswith(".bias") or len(info.shape) < 2
            if part.startswith("v."):  # an encoder has rules of its own
                continue
            assert (info.format == before.tensors[tensor].format) == kept, tensor
            assert not kept or np.array_equal(after.data(tensor), before.data(tensor))
        weights = {tensor: (info.format, after.data(tensor)) for tensor, info in after.tensors.items()}
        plan, step = plan_of(after, 64)[1], Step.of(ids, wanted="all")
        engine = Engine(plan, after, threads=2)
        want = Reference(plan, weights, cache_type="f16").forward(step)
        np.testing.assert_array_equal(engine.forward(step, KVCache(plan, 64)), want)
        engine.close()


@pytest.mark.parametrize(
    ("architecture", "values", "expected"),
    [
        (
            "qwen35",
            ("attn_qkv", "attn_qkv", "attn_qkv", "attn_v"),
            {"attn_qkv": "QKKKKQ", "attn_v": "QQ", "ssm_alpha": "K" * 8, "ssm_out": "K" * 8, "ssm_conv1d": ""},
        ),
        ("lfm2", ("", "", "attn_v", ""), {"attn_v": "KQ", "shortconv.in_proj": "K" * 8, "shortconv.conv": ""}),
        (
            "granitehybrid",
            ("", "", "attn_v", ""),
            {"attn_v": "KQ", "ssm_in": "K" * 8, "ssm_out": "K" * 8, "ssm_conv1d": ""},
        ),
        ("gemma4", ("attn_v",) * 2 + ("",) * 2, {"attn_v": "KKQQ", "inp_gate": "K" * 8, "proj": "K" * 8}),
    ],
)
def test_formats_count_the_layers_that_have_values(
    architecture: str, values: tuple[str, ...], expected: dict[str, str]
) -> None:
    """As llama.cpp chose them for files of such tensors: K is Q4_K, Q is Q6_K."""
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (64, 256), "per_layer_token_embd.weight": (64, 256)}
    parts = {*expected} - {"attn_qkv", "attn_v"}
    for i in range(8):
        shapes |= {f"blk.{i}.{part}.weight": (64, 256) for part in (*parts, values[i % 4]) if part}
    chosen = choose(shapes, file_type_by_name("Q4_K_M"), ModelFacts(architecture, 8, 2), TypeOptions())
    formats = {name: choice.format.name for name, choice in chosen.items() if choice is not None}
    assert {formats.pop("token_embd.weight"), formats.pop("per_layer_token_embd.weight")} == {"Q6_K"}
    found = {
        part: "".join({"Q4_K": "K", "Q6_K": "Q"}[f] for name, f in formats.items() if name.endswith(f".{part}.weight"))
        for part in expected
    }
    assert found == expected


def test_inputs_of_layers_are_read_where_they_lie() -> None:
    """The largest tensor of Gemma 4 E2B is no part of the packed weights."""
    path = tiny_model("gemma4")[0]
    with GGUFFile.open(path) as file:
        tables = [file.tensors[f"{name}.weight"].nbytes for name in ("token_embd", "per_layer_token_embd")]
        rest = sum(info.nbytes for info in file.tensors.values()) - tables[1]
    with LLM.load(path, threads=1, n_ctx=64) as llm:
        assert llm.memory.mapped == sum(tables)
        assert llm.memory.weights < 1.1 * rest
