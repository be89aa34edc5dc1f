"""Files of Ollama's with text and encoder in one: what is read of them is what the tiny projectors have, and prompts
with pictures have the log-probabilities of transformers (recorded)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_pictures import files_of
from llamaq import LLM
from llamaq.errors import ModelError
from llamaq.formats import decode
from llamaq.gguf import GGUFArray, GGUFFile
from llamaq.vision.encoder import STORE_BYTES
from llamaq.vision.loading import has_encoder
from llamaq.vision.merged import LAYOUTS, as_projector
from ollama_files import MERGED, merged_file
from seen import log_probabilities, logits_of, recorded_prompt
from vision_cases import SEEN, picture, recorded

BOUND = 1e-4


@pytest.fixture(params=MERGED)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def values(metadata: Any) -> dict[str, Any]:
    found = {key: value.tolist() if isinstance(value, GGUFArray) else value for key, value in metadata.items()}
    return {key: value for key, value in found.items() if key.startswith("clip.")}


def floats(file: Any, name: str) -> Any:
    if "attn_qkv" in name and name not in file.tensors:  # there each has a tensor of its own
        return np.concatenate([floats(file, name.replace("qkv", part)) for part in "qkv"])
    return decode(file.tensors[name].format, file.data(name)).reshape(-1)


def test_it_is_read_as_the_projector_that_it_has_inside(name: str, tmp_path: Path) -> None:
    want = files_of(name)[1]
    with GGUFFile.open(merged_file(name, tmp_path / "m.gguf")) as file, GGUFFile.open(want) as projector:
        assert has_encoder(file)
        seen = as_projector(file)
        for key in projector.tensors:
            np.testing.assert_array_equal(floats(seen, key), floats(projector, key), err_msg=key)
        ours, theirs = values(seen.metadata), values(projector.metadata)
        kind = {ours.pop("clip.projector_type"), theirs.pop("clip.projector_type", None)}
        kind |= {theirs.pop("clip.vision.projector_type", None)}
        assert len(kind - {None}) == 1
        given = {"clip.vision.image_mean", "clip.vision.image_std", "clip.vision.feed_forward_length"}
        given |= {"clip.vision.image_size", "clip.vision.image_max_pixels"}  # those that say nothing, or that users set
        for key in {*theirs} - given:
            assert np.array_equal(np.float32(ours[key]), np.float32(theirs[key])), key


def test_the_encoder_is_loaded_with_the_first_picture(name: str, tmp_path: Path) -> None:
    with LLM.load(merged_file(name, tmp_path / "m.gguf"), threads=2) as llm:
        encoder, shape = llm.model.encoder, SEEN[0][0]
        assert encoder is not None
        assert encoder._engine is None
        assert llm.memory.projector > STORE_BYTES  # known before
        llm.logits([1, 5, 6])
        assert encoder._engine is None
        encoder.pieces(picture(*shape))
        loaded = encoder._engine
        assert loaded is not None
        encoder.pieces(picture(*shape, 1))
        assert encoder._engine is loaded


def test_pictures_are_seen_as_by_transformers(name: str, tmp_path: Path) -> None:
    edge = {"image_edge": 96} if name.startswith("gemma4") else {}
    path = merged_file(name, tmp_path / "m.gguf")
    with LLM.load(path, threads=2, cache_type="f32", **edge) as llm:
        assert llm.memory.projector > 0
        for which in range(len(SEEN)):
            found = log_probabilities(logits_of(llm, recorded_prompt(llm, name, which))[0])
            assert abs(found - recorded(name)[f"logprobs{which}"]).max() < BOUND


def test_every_layout_has_a_file_that_tests_it() -> None:
    tested = {"gemma3", "gemma4", "llama4", "mistral3", "qwen25vl", "qwen3vl", "qwen35"}
    assert {*LAYOUTS} == tested | {"qwen3vlmoe", "qwen35moe"}  # those with experts have the same encoders


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("gemma3v", {"mm.tokens_per_image": 0}, "mm.tokens_per_image is 0"),
        ("qwen25vl", {"vision.block_count": 2**31 - 1}, "block_count is 2147483647; expected as many layers as there"),
        ("qwen3vl", {"vision.block_count": 2**31 - 1}, "block_count is 2147483647; expected as many layers as there"),
        ("qwen25vl", {"vision.fullatt_block_indexes": [0, 2]}, "expected the last of every so many layers"),
        ("qwen3vl", {"vision.deepstack_visual_indexes": [2, 0]}, "expected numbers of layers, one after the other"),
        ("qwen3vl", {"vision.deepstack_visual_indexes": [0, 7]}, "expected numbers of the 3 layers"),
        ("llama4", {"vision.pixel_shuffle_ratio": 2.0}, "pixel_shuffle_ratio is 2.0"),
        ("llama4", {"vision.pixel_shuffle_ratio": 1e-40}, "expected a number from 0.01 to 1"),
        ("mistral3", {"vision.attention.head_count": 5}, "expected rows for 5 heads"),
        ("gemma4e", {"vision.block_count": 2}, "v.clamp_data': expected four numbers for each matrix of 2 layers"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_told_and_the_text_is_read(
    name: str, changes: dict[str, Any], message: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = merged_file(name, tmp_path / "m.gguf", **changes)
    with GGUFFile.open(path) as file, pytest.raises(ModelError, match=message):
        as_projector(file)
    if "deepstack" in str(changes):
        return
    with caplog.at_level("WARNING", "llamaq"), LLM.load(path, threads=1) as llm:
        assert llm.model.encoder is None
    assert "the model reads text alone" in caplog.text
