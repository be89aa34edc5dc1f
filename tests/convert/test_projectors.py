"""Folders of models that see: text and projector are those of the tiny models, bit for bit, whose rows and
log-probabilities are transformers' own (recorded by tests/vision; the folders by vision/record_folders.py)."""

from __future__ import annotations

import logging
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from hf_pictures import NAMES, SAVED, files_of, folder_of, recorded_folders, saved_weights, tensors_of, weights_of
from llamaq import LLM
from llamaq.convert import convert, convert_projector
from llamaq.convert.families import family_of
from llamaq.convert.section import Section
from llamaq.errors import ModelError
from llamaq.gguf import GGUFArray, GGUFFile
from seen import log_probabilities, logits_of, recorded_prompt
from vision_cases import SEEN, recorded

BOUND = 1e-4
"""Of log-probabilities, which are a few units."""


def metadata_of(path: Path) -> dict[str, Any]:
    with GGUFFile.open(path) as file:
        return {k: v.tolist() if isinstance(v, GGUFArray) else v for k, v in file.metadata.items()}


def converted(name: str, folder: Path, **changes: Any) -> tuple[Path, Path]:
    compared = convert(folder_of(name, folder / name, **changes), folder / "out.gguf", "f32")
    assert compared.projector == folder / "mmproj-out.gguf"
    return folder / "out.gguf", compared.projector


def assert_same(found: Path, want: Path) -> None:
    """The same tensors, but for inputs that the text does not read, and bounds that are none."""
    ours, theirs = tensors_of(found), tensors_of(want)
    bounds = {name for name in {*ours} - {*theirs} if np.isinf(ours[name]).all()}
    unread = re.compile(r"per_layer_|blk\.\d+\.(inp_gate|proj|post_norm)\." if "gemma4l" in want.name else "$")
    assert {*ours} - bounds == {name for name in theirs if not unread.match(name)}
    for name in {*ours} - bounds:
        np.testing.assert_array_equal(ours[name].reshape(-1), theirs[name].reshape(-1), err_msg=name)


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_folders_are_those_that_transformers_saves(name: str) -> None:
    made = {key: [[*x.shape], zlib.crc32(x.tobytes())] for key, x in saved_weights(name).items()}
    assert made == recorded_folders()[name]["tensors"]


def test_text_and_projector_are_those_of_the_tiny_model(name: str, tmp_path: Path) -> None:
    model, projector = converted(name, tmp_path)
    assert_same(projector, files_of(name)[1])
    assert_same(model, files_of(name)[0])
    ours, theirs = metadata_of(projector), metadata_of(files_of(name)[1])
    kinds = {keys.get("clip.projector_type", keys.get("clip.vision.projector_type")) for keys in (ours, theirs)}
    assert len(kinds) == 1
    says_nothing = ["clip.vision.feed_forward_length", *["clip.vision.image_size"] * name.startswith("qwen")]
    for key, want in theirs.items():
        if key.startswith("clip.") and not isinstance(want, str) and key not in says_nothing:
            assert np.array_equal(np.float32(ours[key]), np.float32(want)), key
    assert ours["general.type"] == "mmproj"


def test_log_probabilities_with_a_picture_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    model, projector = converted(name, tmp_path)
    want = recorded(name)
    with LLM.load(model, mmproj=projector, threads=2, cache_type="f32") as llm:
        for which in range(len(SEEN)):
            found = log_probabilities(logits_of(llm, recorded_prompt(llm, name, which))[0])
            assert abs(found - want[f"logprobs{which}"]).max() < BOUND


@pytest.mark.parametrize("name", SAVED)
def test_names_as_the_modules_have_them(name: str, tmp_path: Path) -> None:
    folder = folder_of(name, tmp_path / name)
    save_file(weights_of(name), folder / "model.safetensors")
    convert(folder, tmp_path / "out.gguf", "f32")
    assert_same(tmp_path / "mmproj-out.gguf", files_of(name)[1])
    assert_same(tmp_path / "out.gguf", files_of(name)[0])


def test_a_tower_as_it_was_published_and_a_head_for_classes(tmp_path: Path) -> None:
    folder = folder_of("gemma3v", tmp_path / "model")
    weights = {key.replace("tower.", "tower.vision_model."): x for key, x in saved_weights("gemma3v").items()}
    head = {"vision_tower.vision_model.head.probe": np.ones((1, 1, 32), np.float32)}
    save_file(weights | head, folder / "model.safetensors")
    convert_projector(folder, tmp_path / "p.gguf", "f32")
    assert_same(tmp_path / "p.gguf", files_of("gemma3v")[1])


def test_the_projector_alone(tmp_path: Path) -> None:
    folder = folder_of("gemma3v", tmp_path / "model")
    told: list[tuple[int, int]] = []
    convert_projector(folder, tmp_path / "p.gguf", "q8_0", metadata={"general.license": "mit"},
                      progress=lambda done, total: told.append((done, total)))  # fmt: skip
    assert not (tmp_path / "mmproj-p.gguf").exists()
    assert told[-1][0] == told[-1][1] == sum(x.size for x in tensors_of(files_of("gemma3v")[1]).values())
    with GGUFFile.open(tmp_path / "p.gguf") as file:
        formats = {name: info.format.name for name, info in file.tensors.items()}
        assert file.metadata["general.license"] == "mit"
    kept = {"v.patch_embd.weight": "F32", "v.position_embd.weight": "F32", "v.blk.0.attn_q.weight": "Q8_0"}
    assert {name: formats[name] for name in kept} == kept


def test_folders_without_a_processor_become_text(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = folder_of("gemma3v", tmp_path / "model")
    (folder / "preprocessor_config.json").unlink()
    with caplog.at_level(logging.WARNING, "llamaq"):
        assert convert(folder, tmp_path / "out.gguf").projector is None
    assert (
        "the file is for text: processor_config.json: image_processor.image_mean: expected a list of 3" in caplog.text
    )
    assert not (tmp_path / "mmproj-out.gguf").exists()
    with pytest.raises(ModelError, match=r"image_mean: expected a list of 3 numbers, got nothing"):
        convert_projector(folder, tmp_path / "p.gguf")


def vision(name: str, **changes: Any) -> dict[str, Any]:
    return {"vision_config": recorded_folders()[name]["config"]["vision_config"] | changes}


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("gemma3v", vision("gemma3v", hidden_act="relu"), "hidden_act: expected 'gelu_pytorch_tanh'"),
        ("gemma3v", {"mm_tokens_per_image": 5}, "mm_tokens_per_image: expected the square of a divisor of 8"),
        ("gemma3v", vision("gemma3v", image_size=96), "position_embd.weight': expected 144 rows"),
        ("gemma3v", vision("gemma3v", num_hidden_layers=3), "no tensor 'v.blk.2"),
        ("qwen25vl", vision("qwen25vl", fullatt_block_indexes=[2, 1]), "fullatt_block_indexes: expected the last of"),
        ("qwen25vl", vision("qwen25vl", depth=3, temporal_patch_size=1), "temporal_patch_size: expected 2"),
        ("qwen3vl", vision("qwen3vl", deepstack_visual_indexes=[2, 0]), "deepstack_visual_indexes: expected numbers"),
        ("qwen3vl", vision("qwen3vl", deepstack_visual_indexes=[0]), "deepstack_merger_list.1.*expected a merger"),
        ("llama4", vision("llama4", pixel_shuffle_ratio=0.3), "pixel_shuffle_ratio: expected one divided by"),
        ("llava", vision("llava", hidden_act="gelu"), "hidden_act: expected 'quick_gelu'"),
        ("llava", vision("llava", model_type="dinov2"), "model_type: expected 'pixtral'"),
        ("llava", {"vision_feature_select_strategy": "full"}, "vision_feature_select_strategy: expected 'default'"),
        ("llava", vision("llava", model_type="siglip_vision_model"), "hidden_act: expected 'gelu_pytorch_tanh'"),
        ("llava", {"vision_feature_layer": [-2, -3]}, "mm.0.*expected 64 columns"),
        ("llava", {"vision_feature_layer": [-2, 3]}, "vision_feature_layer: expected different ones of 4 layers"),
        ("llava", {"vision_feature_layer": -6}, "vision_feature_layer: expected different ones of 4 layers, got -6"),
        (
            "llavanext",
            {"image_grid_pinpoints": [[32, 64, 32]]},
            "config.json: image_grid_pinpoints: expected a list",
        ),
        ("llavanext", {"image_grid_pinpoints": [[32, 64]]}, "preprocessor_config.json: image_grid_pinpoints: expected"),
        ("llavanext", vision("llavanext", image_size=64), "crop_size.height: expected 64"),
        ("llavanext", vision("llavanext", model_type="dinov2"), "model_type: expected 'clip_vision_model'"),
        ("granitev", {"vision_feature_select_strategy": "default"}, "vision_feature_select_strategy: expected 'full'"),
        ("mistral3", vision("mistral3", hidden_act="gelu"), "hidden_act: expected 'silu'"),
        ("mistral3", vision("mistral3", head_dim=8), "head_dim: expected 16"),
        ("gemma4e", vision("gemma4e", num_key_value_heads=1), "num_key_value_heads: expected 2"),
    ],
    ids=str,
)
def test_what_no_reader_would_know(name: str, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        convert_projector(folder_of(name, tmp_path / name, **changes), tmp_path / "p.gguf")
    assert not (tmp_path / "p.gguf").exists()


def test_llava_as_it_was_published(tmp_path: Path) -> None:
    """Configurations say the layer from either end, may leave out sizes, and processors cut pictures' sides off."""
    seen = []
    for changes in ({}, {"vision_feature_layer": 3}, {"vision_feature_layer": None}):
        folder = folder_of("llava", tmp_path / "model", **changes)
        weights = {key.replace("tower.", "tower.vision_model."): x for key, x in saved_weights("llava").items()}
        weights["vision_tower.vision_model.embeddings.position_ids"] = np.arange(17.0, dtype=np.float32)[None]
        save_file(weights, folder / "model.safetensors")
        convert_projector(folder, tmp_path / "p.gguf", "f32")
        assert_same(tmp_path / "p.gguf", files_of("llava")[1])
        seen.append(metadata_of(tmp_path / "p.gguf"))
    assert seen[0] == seen[1] == seen[2]
    assert seen[0]["clip.vision.image_crop"] is False
    processor = folder / "preprocessor_config.json"
    processor.write_text(processor.read_text().replace('"do_pad": true, ', ""))
    convert_projector(folder, tmp_path / "p.gguf", "f32")
    assert metadata_of(tmp_path / "p.gguf")["clip.vision.image_crop"] is True
    config = Section({"architectures": ["LlavaForConditionalGeneration"],
                      "vision_config": {"model_type": "clip_vision_model"}}, "config.json")  # fmt: skip
    keys = family_of(config).keys(Section({"model_type": "llama", "max_position_embeddings": 4096}, "config.json"))
    sizes = ("embedding_length", "block_count", "feed_forward_length", "attention.head_count_kv", "context_length")
    assert [keys[name] for name in sizes] == [4096, 32, 11008, 32, 4096]


def test_a_row_between_lines_needs_its_token(tmp_path: Path) -> None:
    folder = folder_of("mistral3", tmp_path / "model")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"expected '\[IMG_BREAK\]' with a row in the text's table, got none"):
        convert_projector(folder, tmp_path / "p.gguf")
