"""Folders of PEFT made into GGUF adapters: what is added to each tensor, scales, the model's folder, refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from command import Command
from hf_families import DATA, weights
from hf_llama import LETTERS, logits, nmse, save, tiny
from llamaq import LLM
from llamaq.convert import convert, convert_adapter
from llamaq.errors import ModelError
from llamaq.formats import decode
from llamaq.gguf import GGUFFile
from peft_folders import pair, peft_folder

RECORDED: dict[str, Any] = json.loads(DATA.read_text())
Arrays = dict[str, NDArray[Any]]
EMBEDDINGS = ("embed_tokens.weight", "word_embeddings.weight")


def tensors_of(path: Path) -> Arrays:
    with GGUFFile.open(path) as file:
        return {name: decode(info.format, file.data(name)).reshape(info.shape) for name, info in file.tensors.items()
                if info.format.name in ("F32", "F16", "BF16", "Q8_0")}  # fmt: skip


def product(factors: Arrays, name: str) -> NDArray[Any]:
    a, b = (factors[f"{name}.lora_{which}"].astype(np.float64) for which in "ab")
    return a @ b.T if name.endswith("token_embd.weight") else b @ a


@pytest.mark.parametrize("name", RECORDED)
def test_every_family_adds_what_merging_adds(name: str, tmp_path: Path) -> None:
    """The factors' product is the difference between the files of the merged model and of the model alone."""
    case = RECORDED[name]
    base = weights(case["shapes"])
    matrices = [key for key, x in base.items() if x.ndim == 2 and x.shape[0] > 1 and key.endswith(".weight")]
    modules = {key.removesuffix(".weight"): base[key].shape for key in matrices if not key.endswith(EMBEDDINGS)}
    pairs = {module: pair(module, shape[0], shape[1], 3) for module, shape in modules.items()}
    folder = save(tmp_path / "model", case["config"], base, tokenizer=LETTERS)
    merged = dict(base)
    convert(folder, tmp_path / "base.gguf", "f32")
    adapter = None
    while adapter is None:  # modules that GGUF has changed, or lacks, are left out
        try:
            adapter = peft_folder(tmp_path / "adapter", pairs, lora_alpha=6, r=3)
            convert_adapter(adapter, tmp_path / "adapter.gguf", "f32", base=folder)
        except ModelError as error:
            refused = next(module for module in pairs if repr(f"{module}.weight") in str(error))
            del pairs[refused]
            adapter = None
    for module, (a, b) in pairs.items():
        merged[f"{module}.weight"] = base[f"{module}.weight"] + 2 * (b @ a)
    save(tmp_path / "model", case["config"], merged, tokenizer=LETTERS)
    convert(folder, tmp_path / "merged.gguf", "f32")
    before, after, factors = (tensors_of(tmp_path / f"{part}.gguf") for part in ("base", "merged", "adapter"))
    changed = {each for each in before if not np.array_equal(before[each], after[each])}
    assert changed == {key.rpartition(".")[0] for key in factors}
    assert len(changed) >= 4
    for each in changed:
        np.testing.assert_allclose(2 * product(factors, each), after[each] - before[each], atol=2e-5)


CONFIGS: list[dict[str, Any]] = [
    {"lora_alpha": 6},
    {"lora_alpha": 6, "use_rslora": True},
    {"lora_alpha": 6, "alpha_pattern": {"q_proj": 1.5, r"layers\.1\.mlp.*": 3}, "use_rslora": True},
    {"lora_alpha": 6, "alpha_pattern": {"proj": 1.5, "model.layers.0.self_attn.v_proj": 12}},
]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("tied", [False, True])
def test_logits_with_scales_of_all_kinds(config: dict[str, Any], tied: bool, tmp_path: Path) -> None:
    """Ranks and scales of their own, a head that is the embedding table, and the same from a GGUF file as base."""
    values, tensors = tiny(tie_word_embeddings=tied)
    folder = save(tmp_path / "model", values, tensors, tokenizer=LETTERS)
    convert(folder, tmp_path / "base.gguf", "f32")
    modules = {key.removesuffix(".weight"): x.shape for key, x in tensors.items() if x.ndim == 2 and "proj" in key}
    modules |= {"lm_head": (50, 64)}
    pairs = {module: pair(module, shape[0], shape[1], 2 + i % 3) for i, (module, shape) in enumerate(modules.items())}
    adapter = peft_folder(tmp_path / "adapter", pairs, **config)
    merged = {key: x.astype(np.float64) for key, x in tensors.items()}
    head = merged.get("lm_head.weight", merged["model.embed_tokens.weight"])
    merged["lm_head.weight"] = head
    for i, (module, (a, b)) in enumerate(pairs.items()):
        rank, alpha = 2 + i % 3, 6.0
        if "alpha_pattern" in config:
            if config.get("use_rslora"):
                alpha = 1.5 if module.endswith(".q_proj") else 3.0 if ".1.mlp." in module else 6.0
            else:
                alpha = 12.0 if module.endswith("0.self_attn.v_proj") else 6.0  # "proj" is no end of a name
        scale = alpha / (rank**0.5 if config.get("use_rslora") else rank)
        merged[f"{module}.weight"] = merged[f"{module}.weight"] + scale * (b.astype(np.float64) @ a)
    ids = np.arange(3, 33)
    expected = logits(values, merged, ids)
    for base in (folder, tmp_path / "base.gguf"):
        convert_adapter(adapter, tmp_path / "a.gguf", "f32", base=base)
        with LLM.load(tmp_path / "base.gguf", adapters=tmp_path / "a.gguf", threads=1, cache_type="f32") as llm:
            assert nmse(llm.logits(ids.tolist()), expected) < 1e-9


def test_experts_are_stacked_and_embeddings_lie_the_other_way(tmp_path: Path) -> None:
    config, tensors = tiny(architectures=["MixtralForCausalLM"], num_local_experts=2, num_experts_per_tok=1)
    save(tmp_path / "model", config, tensors)
    experts = {f"model.layers.0.block_sparse_moe.experts.{i}.w1": pair(str(i), 96, 64, 2 + i) for i in range(2)}
    table = {"model.embed_tokens": pair("table", 64, 50, 3)}
    a, b = table["model.embed_tokens"]
    extra = {"base_model.model.model.embed_tokens.base_layer.weight": tensors["model.embed_tokens.weight"]}
    adapter = peft_folder(tmp_path / "adapter", {**experts, **table}, tensors=extra, lora_alpha=1)
    for outtype, formats in (("f32", {"F32"}), ("q8_0", {"Q8_0", "F16"})):
        convert_adapter(adapter, tmp_path / "a.gguf", outtype, base=tmp_path / "model")
        with GGUFFile.open(tmp_path / "a.gguf") as file:
            assert {info.format.name for info in file.tensors.values()} == formats
            shapes = {name: info.shape for name, info in file.tensors.items()}
    assert shapes == {
        "blk.0.ffn_gate_exps.weight.lora_a": (2, 3, 64), "blk.0.ffn_gate_exps.weight.lora_b": (2, 96, 3),
        "token_embd.weight.lora_a": (50, 3), "token_embd.weight.lora_b": (64, 3),
    }  # fmt: skip
    convert_adapter(adapter, tmp_path / "a.gguf", "f32", base=tmp_path / "model")
    factors, scale = tensors_of(tmp_path / "a.gguf"), 1 / 3  # the file's: alpha / rank
    np.testing.assert_allclose(product(factors, "token_embd.weight"), (b @ a).T, rtol=1e-5, atol=1e-5)
    for i, (a, b) in enumerate(experts.values()):
        np.testing.assert_allclose(
            product(factors, "blk.0.ffn_gate_exps.weight")[i] * scale, (b @ a) / (2 + i), atol=1e-5
        )


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A model's folder, and that of an adapter for it."""
    config, tensors = tiny()
    model = save(tmp_path / "model", config, tensors, tokenizer=LETTERS)
    return model, peft_folder(tmp_path / "adapter", {"model.layers.0.self_attn.q_proj": pair("q", 64, 64, 4)})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"peft_type": "LOHA"}, "peft_type: expected 'LORA', got 'LOHA'"),
        ({"use_dora": True}, "use_dora: DoRA"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save: whole modules"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"alora_invocation_tokens": [1]}, "aLoRA"),
        ({"target_parameters": ["mlp.experts.gate_up_proj"]}, "target_parameters"),
        ({"layer_replication": [[0, 1]]}, "layer_replication"),
        ({"lora_bias": True}, "lora_bias"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights: 'pissa_niter_4'"),
        ({"lora_alpha": 0}, "lora_alpha: expected a positive number, got 0"),
        ({"lora_alpha": None}, "lora_alpha: expected a positive number"),
        ({"alpha_pattern": {"(": 1}}, "alpha_pattern: '\\(' cannot be understood"),
        ({"alpha_pattern": {"(q|q|_)*(_proj)*!": 1, ".*": "x"}}, "alpha_pattern.*expected a positive number"),
    ],
)
def test_settings_beyond_factors_are_refused(
    folders: tuple[Path, Path], tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    model, adapter = folders
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    with pytest.raises(ModelError, match=message):
        convert_adapter(adapter, tmp_path / "out.gguf", base=model)
    assert not (tmp_path / "out.gguf").exists()


F = np.zeros
Q = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({f"{Q}.lora_magnitude_vector.weight": F(64)}, "lora_magnitude_vector.weight': DoRA"),
        ({f"{Q}.bias": F(64)}, "q_proj.bias': biases"),
        ({"base_model.model.lm_head.weight": F((50, 64))}, "lm_head.weight': a tensor that is no factor"),
        ({"base_model.model.lm_head.lora_A.weight": F((4, 64))}, "'lm_head.weight': expected factors A and B, got A"),
        ({f"{Q}.lora_A.weight": F((5, 64))}, r"expected factors \(rank, columns\) and \(rows, rank\)"),
        ({f"{Q}.lora_A.weight": F((4, 64, 1, 1))}, "adapters of matrices alone"),
        ({f"{Q}.lora_A.weight": F((4, 64), np.int64)}, "expected one of F32, F16, BF16, F64, got I64"),
        ({f"{Q}.lora_A.weight": np.full((4, 64), np.nan)}, "expected finite weights"),
        ({f"{Q}.lora_B.weight": F((60, 4))}, "expected rows for 4 heads|of shape"),
        ({"base_model.model.what.lora_A.weight": F((4, 64)), "base_model.model.what.lora_B.weight": F((64, 4))},
         "'what.weight': expected the names of LlamaForCausalLM"),
    ],
)  # fmt: skip
def test_tensors_beyond_factors_are_refused(
    folders: tuple[Path, Path], tmp_path: Path, tensors: Arrays, message: str
) -> None:
    model, adapter = folders
    convert(model, tmp_path / "model.gguf", "f32")
    a, b = pair("q", 64, 64, 4)
    every = {f"{Q}.lora_A.weight": a, f"{Q}.lora_B.weight": b, **tensors}
    peft_folder(adapter, {}, tensors=every)
    with pytest.raises(ModelError, match=message):
        convert_adapter(adapter, tmp_path / "out.gguf", base=tmp_path / "model.gguf")


def test_the_base_model_is_found_or_asked_for(folders: tuple[Path, Path], tmp_path: Path) -> None:
    model, adapter = folders
    out = tmp_path / "out.gguf"
    with pytest.raises(ModelError, match=r"expected the configuration of the model beside the adapter, got none; name"):
        convert_adapter(adapter, out)
    with pytest.raises(ModelError, match=r"expected a folder with config\.json, or a GGUF file, got neither"):
        convert_adapter(adapter, out, base=tmp_path)
    config = adapter / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": "org/model"}))
    with pytest.raises(ModelError, match="which was trained on 'org/model'"):
        convert_adapter(adapter, out)
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": str(model)}))
    convert_adapter(adapter, out)
    want = out.read_bytes()
    shutil.copy(model / "config.json", adapter)
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": None}))
    convert_adapter(adapter / "adapter_model.safetensors", out)
    assert out.read_bytes() == want
    with GGUFFile.open(out) as file:
        said = dict(file.metadata)
    assert said == {
        "general.architecture": "llama", "general.type": "adapter", "general.name": "adapter", "general.file_type": 1,
        "adapter.type": "lora", "adapter.lora.alpha": 8.0,
    }  # fmt: skip


def test_the_command(
    folders: tuple[Path, Path],
    tmp_path: Path,
    capsysbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, adapter = folders
    command = Command(capsysbinary, monkeypatch)
    out = tmp_path / "a.gguf"
    refused = command("convert", adapter, out)
    assert (refused.code, "name the model that it was trained on by --base" in refused.err) == (1, True)
    done = command("convert", adapter, out, "--base", model, "--outtype", "f32")
    assert (done.code, done.out.decode().startswith(f"{out}: ")) == (0, True)
    command("convert", model, tmp_path / "model.gguf")
    assert command("convert", adapter, out, "--base", tmp_path / "model.gguf").code == 0
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    assert "expected that file, got adapter_model.bin" in command("convert", adapter, out, "--base", model).err
