"""Blocks that predict further tokens, as they come from Hugging Face folders: behind the others, and whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_families import RECORDED, converted, folder_of, weights
from hf_llama import LETTERS, save
from llamaq.errors import ModelError
from llamaq.models import build_plan, nextn_plan
from llamaq.models.nextn import embedding_of
from tiny_converted import CONVERTED


def test_the_block_of_deepseek_for_further_tokens_comes_behind_the_others(tmp_path: Path) -> None:
    """With its layer's names, and those that llama.cpp gives such a block of GLM 4.7 Flash; a second one goes, and half
    a block is refused."""
    shapes = RECORDED["deepseek3"]["shapes"]
    last, block, (width,) = "model.layers.1.", "model.layers.2.", shapes["model.norm.weight"]
    own = {name.replace(last, block): shape for name, shape in shapes.items() if name.startswith(last)}
    new = {
        "eh_proj": (width, 2 * width), "enorm": (width,), "hnorm": (width,), "shared_head.norm": (width,),
        **dict.fromkeys(("embed_tokens", "shared_head.head"), shapes["model.embed_tokens.weight"]),
    }  # fmt: skip
    extra = weights(own | {f"{block}{part}.weight": shape for part, shape in new.items()})
    odd = {"model.layers.3.odd.weight": np.ones((3,), np.float32)}
    keys, found = converted(folder_of("deepseek3", tmp_path, tensors=extra | odd))
    assert (keys["deepseek2.block_count"], keys["deepseek2.nextn_predict_layers"]) == (3, 1)
    parts = {f"nextn.{part.replace('.', '_')}.weight": part for part in new}
    names = {name.removeprefix("blk.2.") for name in found if name.startswith("blk.2.")}
    assert names == {name.removeprefix("blk.1.") for name in found if name.startswith("blk.1.")} | {*parts}
    for name, old in parts.items():
        np.testing.assert_array_equal(found[f"blk.2.{name}"], extra[f"{block}{old}.weight"])
    hp, _ = build_plan(keys, {name: value.shape for name, value in found.items()})
    plan = nextn_plan(hp, {name: value.shape for name, value in found.items()})
    assert plan is not None
    assert {f"blk.2.{name}" for name in names} - {*plan.tensors} == {"blk.2.nextn.embed_tokens.weight"}
    (tmp_path / "half").mkdir()
    half = extra | {f"{block}self_attn.o_proj.weight": None}
    with pytest.raises(ModelError, match=r"does not fit the tensors.*blk\.2\.attn_output"):
        converted(folder_of("deepseek3", tmp_path / "half", tensors=half))


@pytest.mark.parametrize("name", ["qwen35", "qwen35moe", "qwen3next"])
def test_the_block_of_qwen_for_further_tokens_comes_behind_the_others(name: str, tmp_path: Path) -> None:
    """With the names that its layer has as any with attention, and norms that have their 1; a second one goes."""
    shapes, layers = RECORDED[name]["shapes"], RECORDED[name]["keys"][f"{name}.block_count"]
    like = next(key.partition("self_attn")[0] for key in shapes if key.endswith("self_attn.q_proj.weight"))
    inner = {f"mtp.layers.0.{key.removeprefix(like)}": shape for key, shape in shapes.items() if key.startswith(like)}
    (width,) = shapes[f"{like}input_layernorm.weight"]
    outer = {f"mtp.{key}.weight": (width,) for key in ("pre_fc_norm_embedding", "pre_fc_norm_hidden", "norm")}
    extra = weights(inner | outer | {"mtp.fc.weight": (width, 2 * width), "mtp.layers.1.odd.weight": (3,)})
    keys, found = converted(folder_of(name, tmp_path, tensors=extra))
    assert (keys[f"{name}.block_count"], keys[f"{name}.nextn_predict_layers"]) == (layers + 1, 1)
    assert keys[f"{name}.attention.recurrent_layers"].tolist()[layers:] == [False]
    own = {key.removeprefix(f"blk.{layers}.") for key in found if key.startswith(f"blk.{layers}.")}
    number = like.split(".")[-2]
    same = {key.removeprefix(f"blk.{number}.") for key in found if key.startswith(f"blk.{number}.")}
    parts = {f"nextn.{part}.weight" for part in ("eh_proj", "enorm", "hnorm", "shared_head_norm")}
    assert own == same | parts
    norms = {"enorm": "pre_fc_norm_embedding", "hnorm": "pre_fc_norm_hidden", "shared_head_norm": "norm"}
    for part, old in norms.items():
        np.testing.assert_array_equal(found[f"blk.{layers}.nextn.{part}.weight"], extra[f"mtp.{old}.weight"] + 1)
    np.testing.assert_array_equal(found[f"blk.{layers}.nextn.eh_proj.weight"], extra["mtp.fc.weight"])
    hp, _ = build_plan(keys, {key: value.shape for key, value in found.items()})
    plan = nextn_plan(hp, {key: value.shape for key, value in found.items()})
    assert plan is not None
    assert {f"blk.{layers}.{key}" for key in own} <= {*plan.tensors}


def test_the_block_of_glm_for_further_tokens_is_read(tmp_path: Path) -> None:
    """All of it, with tables of its own where the folder has them; a second one goes, and a folder may have none."""
    folder = folder_of("glm4moe", tmp_path, tensors={"model.layers.3.odd.weight": np.ones((3,), np.float32)})
    keys, found = converted(folder)
    shapes = {name: value.shape for name, value in found.items()}
    assert (keys["glm4moe.block_count"], keys["glm4moe.nextn_predict_layers"]) == (3, 1)
    hp, _ = build_plan(keys, shapes)
    plan = nextn_plan(hp, shapes)
    assert plan is not None
    own = {name for name in found if name.startswith("blk.2.")}
    assert own - {*plan.tensors} == {embedding_of(found, 2)} == {"blk.2.nextn.embed_tokens.weight"}
    behind = {name: None for name in RECORDED["glm4moe"]["shapes"] if name.startswith("model.layers.2.")}
    (tmp_path / "b").mkdir()
    keys, found = converted(folder_of("glm4moe", tmp_path / "b", tensors=behind))
    assert (keys["glm4moe.block_count"], "glm4moe.nextn_predict_layers" in keys) == (2, False)
    build_plan(keys, {name: value.shape for name, value in found.items()})


def test_the_block_of_nemotron_for_further_tokens_is_its_attention_and_its_experts(tmp_path: Path) -> None:
    """Two layers become one block with llama.cpp's names; further layers go."""
    case = CONVERTED["nemotron-h-latent"]
    names: dict[str, Any] = dict(case["shapes"])
    for new, old in (("mtp.layers.0.", "backbone.layers.2."), ("mtp.layers.1.", "backbone.layers.0.")):
        names |= {name.replace(old, new): shape for name, shape in names.items() if name.startswith(old)}
    names |= {f"mtp.layers.0.{part}.weight": [64] for part in ("enorm", "hnorm")}
    names |= {"mtp.layers.0.eh_proj.weight": [64, 128], "mtp.layers.1.final_layernorm.weight": [64]}
    tensors = weights(names)
    odd = {"mtp.layers.2.odd.weight": np.ones((3,), np.float32)}
    keys, found = converted(save(tmp_path / "model", case["config"], tensors | odd, tokenizer=LETTERS))
    own = {key: keys[f"nemotron_h_moe.{key}"] for key in ("block_count", "nextn_predict_layers")}
    assert own == {"block_count": 5, "nextn_predict_layers": 1}
    for key, value in {"attention.head_count_kv": [0, 0, 2, 0, 2], "feed_forward_length": [32, 0, 0, 32, 32]}.items():
        assert keys[f"nemotron_h_moe.{key}"].tolist() == value
    shapes = {name: value.shape for name, value in found.items()}
    of = {i: {name[6:]: shape for name, shape in shapes.items() if name.startswith(f"blk.{i}.")} for i in (0, 2, 4)}
    parts = {"eh_proj": (64, 128), "enorm": (64,), "hnorm": (64,), "shared_head_norm": (64,)}
    more = {"post_attention_norm.weight": (64,), **{f"nextn.{part}.weight": x for part, x in parts.items()}}
    assert of[4] == of[0] | of[2] | more
    for new, old in (
        ("attn_norm", "0.norm"), ("post_attention_norm", "1.norm"), ("nextn.shared_head_norm", "1.final_layernorm"),
        ("attn_k", "0.mixer.k_proj"), ("ffn_up_shexp", "1.mixer.shared_experts.up_proj"),
    ):  # fmt: skip
        np.testing.assert_array_equal(found[f"blk.4.{new}.weight"], tensors[f"mtp.layers.{old}.weight"])
    hp, _ = build_plan(keys, shapes)
    plan = nextn_plan(hp, shapes)
    assert plan is not None
    assert {f"blk.4.{name}" for name in of[4]} <= {*plan.tensors}
