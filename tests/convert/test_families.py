"""Each family's tables beside llama.cpp's own converter (recorded), and what checkpoints of families may hold."""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from hf_damage import VALUES, places
from hf_families import RECORDED, converted, folder_of, weights
from hf_llama import LETTERS, save
from llamaq.convert import convert
from llamaq.convert.families import FAMILIES, family_of
from llamaq.convert.section import Section
from llamaq.errors import LlamaqError, ModelError
from llamaq.formats import decode, format_by_name
from llamaq.gguf import GGUFFile
from llamaq.models import ARCHITECTURES
from tiny_converted import CONVERTED
from tiny_converted import converted as tiny_converted


@pytest.mark.parametrize("name", RECORDED)
def test_keys_and_tensors_equal_llama_cpps(name: str, tmp_path: Path) -> None:
    keys, tensors = converted(folder_of(name, tmp_path))
    for key, value in RECORDED[name]["keys"].items():
        found = keys[key].tolist() if hasattr(keys[key], "tolist") else keys[key]
        assert found == (pytest.approx(value, rel=1e-6) if isinstance(value, float) else value), key
    found_tensors = {
        key: [[n for n in value.shape if n > 1], zlib.crc32(value.tobytes())] for key, value in tensors.items()
    }
    assert found_tensors == {
        key: [[n for n in shape if n > 1], crc] for key, (shape, crc) in RECORDED[name]["tensors"].items()
    }


def test_every_architecture_that_runs_is_converted() -> None:
    assert {*ARCHITECTURES} == {family.architecture for family in FAMILIES}
    recorded = {case["keys"]["general.architecture"] for case in RECORDED.values()}
    assert {family.architecture for family in FAMILIES} - recorded == {
        *("nomic-bert", "mllama", "mamba2", "nemotron_h", "nemotron_h_moe")
    }


def test_routers_and_norms_stay_in_binary32(tmp_path: Path) -> None:
    folder = folder_of("qwen3moe", tmp_path)
    convert(folder, tmp_path / "out.gguf", "q8_0")
    with GGUFFile.open(tmp_path / "out.gguf") as file:
        formats = {name.split(".", 2)[-1]: info.format.name for name, info in file.tensors.items()}
    kept = ("ffn_gate_inp.weight", "attn_q_norm.weight", "attn_norm.weight")
    assert {name: formats[name] for name in kept} == dict.fromkeys(kept, "F32")
    assert (formats["ffn_gate_exps.weight"], formats["ffn_down_exps.weight"]) == ("Q8_0", "F16")  # 32 and 16 columns


def test_weights_in_mxfp4_keep_their_values(tmp_path: Path) -> None:
    """OpenAI publishes gate and up in alternate rows, consecutive weights in a byte, exponents apart."""
    rng = np.random.default_rng(0)
    tensors: dict[str, Any] = {}
    for layer in range(2):
        b = f"model.layers.{layer}.mlp.experts."
        tensors |= {b + "gate_up_proj": None, b + "down_proj": None}
        for part, rows, blocks in (("gate_up_proj", 128, 1), ("down_proj", 32, 2)):
            tensors[f"{b}{part}_blocks"] = rng.integers(0, 256, (4, rows, blocks, 16), np.uint8)
            tensors[f"{b}{part}_scales"] = rng.integers(110, 130, (4, rows, blocks), np.uint8)
    quantized = {"quantization_config": {"quant_method": "mxfp4"}}
    folder = folder_of("gpt-oss", tmp_path, quantized, tensors=tensors)
    _, found = converted(folder)
    magnitudes = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
    table = np.concatenate((magnitudes, -magnitudes))

    def values(name: str) -> NDArray[np.float32]:
        blocks, scales = tensors[f"{name}_blocks"], tensors[f"{name}_scales"]
        pairs = np.stack((table[blocks & 15], table[blocks >> 4]), -1).reshape(*scales.shape, 32)
        return np.asarray(pairs * np.exp2(scales.astype(np.float32) - 127)[..., None]).reshape(*scales.shape[:2], -1)

    def decoded(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        rows = found[name].reshape(-1, shape[-1] // 32 * 17)
        return decode(format_by_name("MXFP4"), rows).reshape(shape)

    both = values("model.layers.1.mlp.experts.gate_up_proj")
    np.testing.assert_array_equal(decoded("blk.1.ffn_gate_exps.weight", (4, 64, 32)), both[:, ::2])
    np.testing.assert_array_equal(decoded("blk.1.ffn_up_exps.weight", (4, 64, 32)), both[:, 1::2])
    down = values("model.layers.1.mlp.experts.down_proj")
    np.testing.assert_array_equal(decoded("blk.1.ffn_down_exps.weight", (4, 32, 64)), down)
    short = tensors["model.layers.1.mlp.experts.down_proj_scales"][:, :, :1].copy()
    (tmp_path / "b").mkdir()
    bad = folder_of(
        "gpt-oss",
        tmp_path / "b",
        quantized,
        tensors=tensors | {"model.layers.1.mlp.experts.down_proj_scales": short},
    )
    with pytest.raises(ModelError, match=r"down_proj_scales': expected bytes, one for each block"):
        convert(bad, tmp_path / "bad.gguf")


def test_the_part_for_images_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Models that see images have the text's configuration within theirs, and other names; the values are the same."""
    _, expected = converted(folder_of("gemma3", tmp_path))
    case = RECORDED["gemma3"]
    for old, new in (("model.", "language_model.model."), ("model.", "model.language_model.")):
        tensors = {name.replace(old, new, 1): value for name, value in weights(case["shapes"]).items()}
        tensors["vision_tower.patch.weight"] = np.ones((2, 2), np.float32)
        outer = {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": case["config"]}
        place = tmp_path / new.replace(".", "")
        place.mkdir()
        with caplog.at_level(logging.WARNING, "llamaq"):
            _, found = converted(save(place / "model", outer, tensors, tokenizer=LETTERS))
        assert "the part for images is left out" in caplog.text
        assert found.keys() == expected.keys()
        assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_buffers_that_follow_from_the_configuration_are_left_out(tmp_path: Path) -> None:
    """Whatever their type: MiniLM's file has its positions as integers."""
    folder = folder_of("bert", tmp_path)
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, "embeddings.position_ids": np.arange(256)[None]}, folder / "model.safetensors")
    assert "position_ids" not in " ".join(converted(folder)[1])
    save_file({**weights, "embeddings.numbers": np.arange(256)[None]}, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"'embeddings\.numbers': expected one of F32, F16, BF16, F64, got I64"):
        converted(folder)


def test_ranking_heads_of_bert(tmp_path: Path) -> None:
    """The pooler comes before the classifier, and both are in the file; embeddings alone need neither."""
    shapes = {f"bert.{name}": shape for name, shape in RECORDED["bert"]["shapes"].items()}
    tensors = weights(shapes | {"classifier.weight": (1, 32), "classifier.bias": (1,)})
    config = RECORDED["bert"]["config"] | {"architectures": ["BertForSequenceClassification"]}
    config["id2label"] = {"0": "LABEL_0"}
    keys, found = converted(save(tmp_path / "model", config, tensors, tokenizer=LETTERS))
    np.testing.assert_array_equal(found["cls.weight"], tensors["bert.pooler.dense.weight"])
    np.testing.assert_array_equal(found["cls.output.weight"].reshape(1, 32), tensors["classifier.weight"])
    assert keys["bert.pooling_type"] == 4
    assert "cls.weight" not in RECORDED["bert"]["tensors"]


@pytest.mark.parametrize(("mode", "number"), [("mean_tokens", 1), ("cls_token", 2), ("lasttoken", 3)])
def test_pooling_as_sentence_transformers_say_it(mode: str, number: int, tmp_path: Path) -> None:
    folder = folder_of("bert", tmp_path)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{mode}": True}))
    assert converted(folder)[0]["bert.pooling_type"] == number


def test_nomic(tmp_path: Path) -> None:
    """Both configurations are read: that of Nomic's own code, and that of transformers."""
    block = {"attn.Wqkv": (96, 32), "attn.out_proj": (32, 32), "norm1": (32,), "norm2": (32,)}
    block |= {"mlp.fc11": (64, 32), "mlp.fc12": (64, 32), "mlp.fc2": (32, 64)}
    shapes: dict[str, Any] = {f"encoder.layers.0.{name}.weight": shape for name, shape in block.items()}
    shapes |= {"embeddings.word_embeddings.weight": (48, 32), "embeddings.token_type_embeddings.weight": (2, 32)}
    shapes |= {"emb_ln.weight": (32,), "emb_ln.bias": (32,)}
    tensors = weights(shapes)
    names = {"n_embd": 32, "n_head": 4, "n_layer": 1, "n_inner": 64, "n_positions": 512, "layer_norm_epsilon": 1e-12}
    own = {"architectures": ["NomicBertModel"], "rotary_emb_base": 1000, "activation_function": "swiglu", **names}
    keys, found = converted(save(tmp_path / "model", own, tensors, tokenizer=LETTERS))
    np.testing.assert_array_equal(found["blk.0.ffn_gate.weight"], tensors["encoder.layers.0.mlp.fc12.weight"])
    np.testing.assert_array_equal(found["blk.0.attn_qkv.weight"], tensors["encoder.layers.0.attn.Wqkv.weight"])
    assert keys["general.architecture"] == "nomic-bert"
    assert (keys["nomic-bert.rope.freq_base"], keys["nomic-bert.attention.causal"]) == (1000.0, False)


def test_nemotron(tmp_path: Path) -> None:
    """Keys and tensors as llama.cpp's converter names and shapes them; both spellings of the layers mean the same."""
    with GGUFFile.open(tiny_converted("nemotron-h-latent", tmp_path)) as file:
        own = "nemotron_h_moe."
        keys: dict[str, Any] = {
            key.removeprefix(own): value for key, value in file.metadata.items() if key.startswith(own)
        }
        shapes = {name: info.shape for name, info in file.tensors.items()}
    lists = {key: keys[key].tolist() for key in ("attention.head_count_kv", "feed_forward_length")}
    assert lists == {"attention.head_count_kv": [0, 0, 2, 0], "feed_forward_length": [32, 0, 0, 32]}
    wanted = {
        "block_count": 4, "context_length": 1 << 20, "attention.key_length": 24, "rope.scaling.finetuned": False,
        "ssm.conv_kernel": 4, "ssm.state_size": 16, "ssm.group_count": 2, "ssm.inner_size": 128,
        "ssm.time_step_rank": 8, "expert_count": 8, "expert_used_count": 2, "expert_feed_forward_length": 32,
        "expert_shared_feed_forward_length": 48, "expert_shared_count": 1, "expert_weights_norm": True,
        "expert_weights_scale": 2.5, "expert_group_count": 2, "moe_latent_size": 40,
    }  # fmt: skip
    assert {key: keys[key] for key in wanted} == wanted
    first = {"attn_norm.weight": (64,), "ffn_gate_inp.weight": (8, 64), "exp_probs_b.bias": (8,),
             "ffn_up_exps.weight": (8, 32, 40), "ffn_down_exps.weight": (8, 40, 32), "ffn_up_shexp.weight": (48, 64),
             "ffn_down_shexp.weight": (64, 48), "ffn_latent_down.weight": (40, 64),
             "ffn_latent_up.weight": (64, 40)}  # fmt: skip
    assert {name[6:]: shape for name, shape in shapes.items() if name.startswith("blk.0.")} == first
    second = {"attn_norm.weight": (64,), "ssm_in.weight": (328, 64), "ssm_conv1d.weight": (192, 4),
              "ssm_conv1d.bias": (192,), "ssm_dt.bias": (8,), "ssm_a": (8, 1), "ssm_d": (8, 1),
              "ssm_norm.weight": (2, 64), "ssm_out.weight": (64, 128)}  # fmt: skip
    assert {name[6:]: shape for name, shape in shapes.items() if name.startswith("blk.1.")} == second
    config = CONVERTED["nemotron-h-latent"]["config"]
    named = {**config, "layers_block_type": ["moe", "linear_attention", "full_attention", "moe"]}
    del named["hybrid_override_pattern"]
    assert family_of(Section(named, "")).keys(Section(named, "")) == family_of(Section(config, "")).keys(
        Section(config, "")
    )
    for odd, message in (
        ({"hybrid_override_pattern": "MX*E"}, "hybrid_override_pattern: expected for each layer one of mamba"),
        ({"num_hidden_layers": 5}, "num_hidden_layers: expected 4"),
        ({"mlp_hidden_act": "silu"}, "mlp_hidden_act: expected 'relu2'"),
        ({"mamba_proj_bias": True}, "mamba_proj_bias: expected False"),
    ):
        section = Section({**config, **odd}, "config.json")
        with pytest.raises(ModelError, match=message):
            family_of(section).keys(section)


NAME = "model.layers.1.mlp.experts.3.up_proj.weight"


@pytest.mark.parametrize(
    ("name", "config", "tensors", "message"),
    [
        ("qwen3moe", {}, {NAME: None}, r"expected one matrix for each of the 4 experts of config\.json, got 3"),
        ("qwen3moe", {}, {NAME.replace("3", "2", 1): None}, "up_proj"),
        ("qwen3moe", {}, {NAME: np.ones((3, 32), np.float32)}, r"experts\.3\..*expected the shape \(16, 32\)"),
        ("qwen3moe", {"norm_topk_prob": False}, {}, r"norm_topk_prob: expected True, as readers .*, got False"),
        ("qwen3moe", {"num_local_experts": None}, {}, "num_experts: expected a positive number, got nothing"),
        ("gemma2", {"query_pre_attn_scalar": 144}, {}, "query_pre_attn_scalar: expected 16"),
        ("gpt-oss", {"layer_types": ["full_attention"] * 2}, {}, "layer_types: expected"),
        ("smollm3", {"no_rope_layers": [1, 0]}, {}, "no_rope_layers: expected"),
        ("deepseek3", {"scoring_func": "tanh"}, {}, "scoring_func: expected softmax or sigmoid, got 'tanh'"),
        ("deepseek3", {"v_head_dim": 9}, {}, r"kv_b_proj.*expected 4 heads of 8 \+ 9 rows"),
        ("phi3-long", {"rope_parameters": {"rope_type": "longrope", "long_factor": [1.0]}}, {}, "list of"),
        ("olmo3", {"layer_types": ["full_attention"]}, {}, "layer_types: expected 2, one for each layer"),
        ("llama4", {"attention_chunk_size": 64}, {}, "attention_chunk_size: expected 8192"),
        ("xlm-roberta", {"max_position_embeddings": 2**20}, {}, "expected a table of at least 1048574 rows"),
    ],
    ids=str,
)
def test_checkpoints_that_are_refused(
    name: str, config: dict[str, Any], tensors: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=message):
        convert(folder_of(name, tmp_path, config, tensors=tensors), tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()


def test_memory_is_that_of_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Views are read some rows at a time, and give the same bytes."""
    folder = folder_of("llama4", tmp_path)
    _, expected = converted(folder)
    monkeypatch.setattr("llamaq.convert.checkpoint._PIECE", 64)
    _, found = converted(folder)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_stacks_that_somebody_saved_as_one_tensor_need_its_rows(tmp_path: Path) -> None:
    case = RECORDED["granitemoe"]
    odd = weights(case["shapes"]) | {
        "model.layers.0.block_sparse_moe.input_linear.weight": np.ones((4, 31, 32), np.float32)
    }
    folder = save(tmp_path / "model", case["config"], {}, tokenizer=LETTERS)
    save_file(odd, folder / "model.safetensors")
    with pytest.raises(ModelError, match="expected gate and up of one length"):
        convert(folder, tmp_path / "out.gguf")


CONFIG_PLACES = [(name, *path) for name, case in RECORDED.items() for path in places(case["config"]) if path]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(CONFIG_PLACES), value=st.sampled_from(VALUES))
def test_any_value_at_any_place(place: tuple[Any, ...], value: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Every configuration is converted or refused by a LlamaqError."""
    name, *path, last = place
    config = copy.deepcopy(RECORDED[name]["config"])
    holder: Any = config
    for key in path:
        holder = holder[key]
    holder[last] = value
    folder = save(tmp_path_factory.mktemp(name), config, weights(RECORDED[name]["shapes"]), tokenizer=LETTERS)
    with contextlib.suppress(LlamaqError):
        convert(folder, folder / "out.gguf")
