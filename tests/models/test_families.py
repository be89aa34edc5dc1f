"""What the keys and tensors of a family's files may say, beyond those of the tiny models."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaq.engine.loading import plan_of
from llamaq.errors import ModelError
from llamaq.gguf import GGUFFile, TensorData, write_gguf
from llamaq.models import build_plan, family_of
from llamaq.models.hparams import Decoder
from llamaq.models.registry import ARCHITECTURES, UNSUPPORTED
from llamaq.plan.ops.attention import Attention
from llamaq.plan.ops.route import Route
from llamaq.plan.plan import Plan
from llamaq.plan.reference import Reference
from llamaq.plan.rope import make_rope
from llamaq.plan.step import Step
from shared_files import ROOT
from tiny_llama import Arrays, tiny_llama
from tiny_models import tiny_model

MORE_NORMS = {
    "gemma2": {"post_attention_norm": 64, "post_ffw_norm": 64},
    "gemma3": {"post_attention_norm": 64, "post_ffw_norm": 64, "attn_q_norm": 16, "attn_k_norm": 16},
    "olmo2": {"post_attention_norm": 64, "post_ffw_norm": 64, "attn_q_norm": 64, "attn_k_norm": 32},
}


def model(architecture: str, layers: int = 8, **keys: Any) -> tuple[dict[str, Any], Arrays]:
    """Metadata and tensors; "__" stands for the dots of keys, and None takes a key away."""
    metadata, tensors = tiny_llama(layers=layers, **keys)
    for i in range(layers):
        for norm, n in MORE_NORMS.get(architecture, {}).items():
            tensors[f"blk.{i}.{norm}.weight"] = np.ones(n, np.float32)
    metadata = {k.replace("llama.", f"{architecture}."): v for k, v in metadata.items() if v is not None}
    return metadata | {"general.architecture": architecture}, tensors


def traced(architecture: str, layers: int = 8, **keys: Any) -> tuple[Decoder, Plan]:
    metadata, tensors = model(architecture, layers, **keys)
    hp, plan = build_plan(metadata, {name: x.shape for name, x in tensors.items()})
    assert isinstance(hp, Decoder)
    return hp, plan


def attention_of(plan: Plan) -> list[Attention]:
    return [node.op for node in plan.nodes if isinstance(node.op, Attention)]


def test_windows_of_layers() -> None:
    assert traced("gemma2", 4)[0].windows == (4096, 0, 4096, 0)
    assert traced("gemma3", 7, attention__sliding_window=512)[0].windows == (512,) * 5 + (0, 512)
    assert traced("gemma3")[0].windows == (0,) * 8
    pattern = [True, True, False, True, False, False, True, True]
    hp, plan = traced("gemma3", attention__sliding_window=9, attention__sliding_window_pattern=pattern)
    assert hp.windows == tuple(9 * flag for flag in pattern)
    assert [op.window for op in attention_of(plan)] == list(hp.windows)
    for period, want in ((0, (9,) * 4), (1, (0,) * 4), (2, (9, 0, 9, 0)), (3, (9, 9, 0, 9))):
        keys = {"attention__sliding_window": 9, "attention__sliding_window_pattern": period}
        assert traced("gemma2", 4, **keys)[0].windows == want
    for wrong in ([True], "yes", [1, 0, 1, 0], -1, 0.5):
        with pytest.raises(ModelError, match=r"gemma2.attention.sliding_window_pattern is .*expected"):
            traced("gemma2", 4, attention__sliding_window_pattern=wrong)


def test_ropes_of_layers() -> None:
    hp, _ = traced("gemma3", 7, attention__sliding_window=512, rope__freq_base=1e6, rope__scaling__factor=8.0)
    local, everywhere = make_rope(16, 1e4, layout="neox"), make_rope(16, 1e6, factor=8.0, layout="neox")
    assert hp.ropes == (local,) * 5 + (everywhere, local)
    hp, _ = traced("gemma3", 7, attention__sliding_window=512, rope__freq_base_swa=5e4)
    assert hp.ropes[0] == make_rope(16, 5e4, layout="neox")
    assert {*traced("gemma3", rope__freq_base=1e6)[0].ropes} == {make_rope(16, 1e6, layout="neox")}
    assert [rope is None for rope in traced("smollm3")[0].ropes] == [False, False, False, True] * 2
    hp, _ = traced("olmo2", 4, attention__sliding_window=8, rope__freq_base=5e5, rope__scaling__factor=4.0)
    assert hp.ropes == (*[make_rope(16, 5e5, layout="neox")] * 3, make_rope(16, 5e5, factor=4.0, layout="neox"))
    assert {*traced("granite", rope__scaling__finetuned=False)[0].ropes} == {None}


def test_scales() -> None:
    assert traced("llama", attention__scale=0.3)[0].scale == 0.3
    assert traced("llama", attention__scale=0.0)[0].scale == 1 / 4
    assert traced("gemma2", 46, heads=2)[0].scale == 1 / math.sqrt(64 / 2)
    assert traced("gemma3", 62, heads=2)[0].scale == 1 / math.sqrt(64 / 2)
    assert traced("gemma3", 61, heads=2)[0].scale == 1 / math.sqrt(16)


def test_files_of_old_converters() -> None:
    """Other names of keys; and what a Gemma 3 with an image encoder leaves out."""
    metadata, tensors = model("gemma3", 6, attention__sliding_window=8, rope__local__freq_base=2e4,
                              rope__global__freq_base=5e5, attention__layer_norm_rms_epsilon=None)  # fmt: skip
    shapes = {name: x.shape for name, x in tensors.items()}
    hp: Any = build_plan(metadata, shapes)[0]
    assert hp.eps == 1e-6
    assert (hp.ropes[0], hp.rope) == (make_rope(16, 2e4, layout="neox"), make_rope(16, 5e5, layout="neox"))
    del metadata["gemma3.rope.global.freq_base"]
    hp = build_plan(metadata, shapes | {"v.patch_embedding.weight": (8, 3, 2, 2)})[0]
    assert hp.rope == make_rope(16, 1e6, factor=8.0, layout="neox")
    yarn = {"rope__scaling__type": "yarn", "rope__scaling__factor": 4.0, "rope__scaling__original_context_length": 64}
    new = traced("mistral3", 2, rope__scaling__yarn_beta_fast=4.0, rope__scaling__yarn_log_multiplier=1.0,
                 attention__temperature_scale=0.1, **yarn)  # fmt: skip
    old = traced("mistral3", 2, rope__scaling__beta_fast=4.0, rope__scaling__mscale_all_dim=1.0,
                 rope__scaling_beta=0.1, **yarn)  # fmt: skip
    assert new == old


def both_logits(folder: Path, name: str, renamed: dict[str, str], keys: Callable[[dict[str, Any]], Any]) -> list[Any]:
    """The logits of a tiny model, and those of a file as ollama's converter wrote it: parts of tensors' names are
    renamed, and ``keys`` changes the metadata."""
    path, reference = tiny_model(name)
    with GGUFFile.open(path) as file:
        tensors = []
        for tensor, info in file.tensors.items():
            new = reduce(lambda name, pair: name.replace(*pair), renamed.items(), tensor)
            tensors.append(TensorData(new, info.format, info.shape, file.data(tensor)))
        write_gguf(folder / "old.gguf", keys({**file.metadata}), tensors)
        logits = [Reference(*plan_and_weights(file)).forward(Step.of(reference["ids"], wanted="all"))]
    with GGUFFile.open(folder / "old.gguf") as file:
        assert not any(old in name for old in renamed for name in file.tensors)
        logits.append(Reference(*plan_and_weights(file)).forward(Step.of(reference["ids"], wanted="all")))
    return logits


def test_gpt_oss_as_ollama_wrote_it(tmp_path: Path) -> None:
    """Other names of keys and tensors, and no word of YaRN: the logits stay."""
    names = {"attn_output": "attn_out", "post_attention_norm": "ffn_norm", "attn_sinks.weight": "attn_sinks"}

    def keys(metadata: dict[str, Any]) -> dict[str, Any]:
        found = {key.replace("gpt-oss.", "gptoss."): value for key, value in metadata.items()}
        del found["gptoss.rope.scaling.type"]
        return found | {"general.architecture": "gptoss"}

    np.testing.assert_array_equal(*both_logits(tmp_path, "gptoss", names, keys))
    assert family_of("gptoss") == family_of("gpt-oss")


@pytest.mark.parametrize("name", ["qwen35", "qwen35moe", "qwen3next"])
def test_qwen_3_5_as_ollama_wrote_it(name: str, tmp_path: Path) -> None:
    """Layers without KV heads are the delta nets, whatever else a file says of them."""
    with GGUFFile.open(tiny_model(name)[0]) as file:
        recurrent = plan_of(file, 64)[0].recurrent  # type: ignore[attr-defined]
    assert {*recurrent} == {True, False}

    def keys(metadata: dict[str, Any]) -> dict[str, Any]:
        counts = f"{name}.attention.head_count_kv"
        of_layers = [0 if is_net else metadata[counts] for is_net in recurrent]
        return metadata | {counts: of_layers, f"{name}.full_attention_interval": 1}

    np.testing.assert_array_equal(*both_logits(tmp_path, name, {"ssm_dt.bias": "ssm_dt"}, keys))
    with pytest.raises(ModelError, match=r"head_count_kv is 0; expected a number of KV heads for the layers with"):
        both_logits(tmp_path, name, {}, lambda metadata: metadata | {f"{name}.attention.head_count_kv": 0})


def test_experts_of_gemma_4_as_ollama_named_them(tmp_path: Path) -> None:
    names = {"ffn_down_exps.scale": "ffn_gate_inp.per_expert_scale"}
    np.testing.assert_array_equal(*both_logits(tmp_path, "gemma4-moe", names, lambda metadata: metadata))


@pytest.mark.parametrize("name", ["lfm2", "llama4"])
def test_lengths_of_halves_that_ollama_wrote_are_not_believed(name: str, tmp_path: Path) -> None:
    """LFM 2's is the number before an adjustment, Llama 4's that of the experts: the tensors decide."""

    def keys(metadata: dict[str, Any]) -> dict[str, Any]:
        return metadata | {f"{name}.feed_forward_length": 12288}

    np.testing.assert_array_equal(*both_logits(tmp_path, name, {}, keys))


def test_glm_4_flash_as_ollama_wrote_it() -> None:
    """It says how long a head is; the lengths of the compressed row follow from others."""
    with GGUFFile.open(tiny_model("deepseek3")[0]) as file:
        shapes = {name: info.shape for name, info in file.tensors.items()}
        keys = {key.replace("deepseek2.", "glm4moelite."): value for key, value in file.metadata.items()}
        _, want = build_plan(file.metadata, shapes)
    attention = "glm4moelite.attention."
    old = {"head_count_kv": keys[attention + "head_count"], "value_length": keys[attention + "value_length_mla"]}
    old |= {"key_length": keys[attention + "key_length_mla"], "key_length_mla": keys[attention + "key_length"]}
    keys |= {"general.architecture": "glm4moelite"} | {attention + key: value for key, value in old.items()}
    assert build_plan(keys, shapes)[1] == want


def test_olmo_3_as_ollama_named_it() -> None:
    metadata, tensors = model("olmo2", attention__sliding_window=8)
    named = {key.replace("olmo2.", "olmo3."): value for key, value in metadata.items()}
    shapes = {name: x.shape for name, x in tensors.items()}
    _, plan = build_plan(named | {"general.architecture": "olmo3"}, shapes)
    assert plan == build_plan(metadata, shapes)[1]


def plan_and_weights(file: GGUFFile) -> tuple[Plan, dict[str, Any]]:
    return plan_of(file, 64)[1], {name: (info.format, file.data(name)) for name, info in file.tensors.items()}


def test_a_long_rope_is_chosen_by_the_context_that_runs() -> None:
    metadata, tensors = model("llama", 2, rope__scaling__type="longrope", rope__scaling__original_context_length=100)
    shapes = {name: x.shape for name, x in tensors.items()}
    names = ("rope_factors_long.weight", "rope_factors_short.weight")
    shapes |= dict.fromkeys(names, (8,))
    vectors = {name: [divisor] * 8 for name, divisor in zip(names, (3.0, 2.0), strict=True)}
    for n_ctx, divisor in ((None, 3.0), (101, 3.0), (100, 2.0), (1, 2.0)):
        hp: Any = build_plan(metadata, shapes, vectors=vectors, n_ctx=n_ctx)[0]
        assert hp.rope == make_rope(16, 1e4, divisors=[divisor] * 8)
    with pytest.raises(ValueError, match="vectors must have the content"):
        build_plan(metadata, shapes)


def test_layers_that_guess_further_tokens_are_left_out() -> None:
    hp, plan = traced("llama", 4, nextn_predict_layers=1)
    assert hp.layers == 3
    assert not any(name.startswith("blk.3.") for name in plan.tensors)
    for number in (4, 9):
        with pytest.raises(ModelError, match="nextn_predict_layers"):
            traced("llama", 4, nextn_predict_layers=number)


@pytest.mark.parametrize("biases", ["none", "fused", "apart"])
def test_one_tensor_for_queries_keys_and_values(biases: str) -> None:
    """The same bits as with three, wherever the biases are."""
    metadata, tensors = model("qwen2", 2, biases=biases != "none")
    fused = dict(tensors)
    for i in range(2):
        parts = [f"blk.{i}.attn_{part}" for part in "qkv"]
        fused[f"blk.{i}.attn_qkv.weight"] = np.concatenate([fused.pop(f"{part}.weight") for part in parts])
        if biases == "fused":
            fused[f"blk.{i}.attn_qkv.bias"] = np.concatenate([fused.pop(f"{part}.bias") for part in parts])
    logits = []
    for weights in (tensors, fused):
        _, plan = build_plan(metadata, {name: x.shape for name, x in weights.items()})
        assert {*plan.tensors} == {*weights}
        logits.append(Reference(plan, weights).forward(Step.of(range(9), wanted="all")))
    np.testing.assert_array_equal(*logits)
    with pytest.raises(ModelError, match=r"attn_qkv.weight': expected 64 \+ 32 \+ 32 rows, got 127"):
        build_plan(metadata, {n: (127, 64) if n.endswith("qkv.weight") else x.shape for n, x in fused.items()})


def test_gate_and_up_in_one_tensor_have_an_even_number_of_rows() -> None:
    metadata, tensors = model("phi3", 1, feed_forward_length=None)
    shapes = {name: x.shape for name, x in tensors.items()} | {"blk.0.ffn_up.weight": (97, 64)}
    with pytest.raises(ModelError, match=r"'blk.0.ffn_up.weight': expected the rows of two matrices, got 97"):
        build_plan(metadata, shapes)
    metadata["phi3.feed_forward_length"] = 96
    with pytest.raises(
        ModelError, match=r"feed_forward_length is 96; expected 48, the rows of 'blk.0.ffn_up.weight' / 2"
    ):
        build_plan(metadata, shapes | {"blk.0.ffn_up.weight": (96, 64)})


def test_what_a_file_asks_for_and_llamaq_lacks_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match=r"glm4.rope.dimension_sections is \[1, 2, 1, 0\]; expected sections for all"):
        traced("glm4", 1, feed_forward_length=None, rope__dimension_sections=[1, 2, 1, 0])
    with pytest.raises(ModelError, match=r"^gemma3.attention.causal is False; expected true: decoders whose"):
        traced("gemma3", 1, attention__causal=False)  # EmbeddingGemma, as ollama's converter has it
    metadata, tensors = model("llama", 1)
    shapes = {name: x.shape for name, x in tensors.items()}
    for name in ("blk.0.attn_q.scale", "output.input_scale"):
        with pytest.raises(ModelError, match=rf"tensor '{name}': scales of whole tensors \(NVFP4\) are not supported"):
            build_plan(metadata, shapes | {name: (1,)})


def test_experts_of_glm_are_chosen_by_sigmoid_where_the_file_does_not_say() -> None:
    with GGUFFile.open(tiny_model("glm4moe")[0]) as file:
        metadata = {key: value for key, value in file.metadata.items() if not key.endswith("expert_gating_func")}
        _, plan = build_plan(metadata, {name: info.shape for name, info in file.tensors.items()})
    routes = [node.op for node in plan.nodes if isinstance(node.op, Route)]
    assert len(metadata) < len(file.metadata)
    assert {op.gating for op in routes} == {"sigmoid"}


def test_a_projector_is_told_what_it_goes_with() -> None:
    with pytest.raises(ModelError, match=r"^the file is a projector, .*--mmproj or mmproj= of that model$"):
        build_plan({"general.architecture": "clip"}, {})


def test_an_unknown_architecture_is_told_in_words() -> None:
    with pytest.raises(
        ModelError, match=r"^Gemma 3n is not supported yet; llamaq runs Llama, Mistral and Mixtral, .*Qwen 3, "
    ):
        build_plan({"general.architecture": "gemma3n"}, {})
    with pytest.raises(ModelError, match=r"^general.architecture is 'nosuch'; llamaq runs Llama"):
        build_plan({"general.architecture": "nosuch"}, {})
    assert (family_of("gemma3"), family_of("gemma4"), family_of("nosuch"), family_of(3)) == (
        "Gemma 3",
        "Gemma 4",
        None,
        None,
    )
    assert not {*ARCHITECTURES} & {*UNSUPPORTED}


def test_the_page_of_models_has_every_architecture() -> None:
    text = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)[1:] == list(ARCHITECTURES)


nonsense = st.one_of(
    st.integers(-(2**63), 2**64), st.integers(-2, 40), st.floats(), st.booleans(), st.text(max_size=5), st.none(),
    st.lists(st.booleans(), max_size=9), st.lists(st.integers(-3, 70), max_size=9),
)  # fmt: skip
keys = st.sampled_from(
    [f"attention.{k}" for k in ("sliding_window", "sliding_window_pattern", "scale", "head_count_kv", "key_length")]
    + [f"attention.temperature_{k}" for k in ("scale", "length")]
    + [f"rope.{k}" for k in ("freq_base", "freq_base_swa", "dimension_count_swa", "scaling.finetuned", "scaling.type")]
    + ["embedding_scale", "residual_scale", "logit_scale", "attn_logit_softcapping", "final_logit_softcapping"]
    + ["nextn_predict_layers", "rope.local.freq_base", "rope.scaling_beta"]
)


@settings(max_examples=200)
@given(
    st.sampled_from(["gemma2", "gemma3", "mistral3", "granite", "olmo2"]), st.dictionaries(keys, nonsense, max_size=4)
)
def test_nonsense_is_accepted_or_refused_but_never_crashes(architecture: str, changes: dict[str, Any]) -> None:
    metadata, tensors = model(architecture, 2)
    metadata |= {f"{architecture}.{key}": value for key, value in changes.items()}
    try:
        _, plan = build_plan(metadata, {name: x.shape for name, x in tensors.items()})
    except ModelError:
        return
    assert all(math.isfinite(op.scale) and op.window >= 0 for op in attention_of(plan))
