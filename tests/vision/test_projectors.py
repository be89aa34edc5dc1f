"""What a projector file may say: every contradiction is an error, and quantized files run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamaq.errors import ModelError
from llamaq.formats import format_by_name
from llamaq.gguf import GGUFFile, TensorData, write_gguf
from llamaq.vision.encoder import Encoder, traced
from llamaq.vision.projectors import PROJECTORS
from tiny_vision import copy_of, projector_keys, projector_tensors
from vision_cases import EMBEDDED, SIZE, picture


@pytest.fixture
def gemma(shared: Callable[[str], Path]) -> Path:
    return shared("tiny-models/gemma3v-mmproj.gguf")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"general.architecture": "llama"}, "'llama', but a projector file"),
        ({"clip.projector_type": "ultravox"}, f"is 'ultravox'; llamaq has {', '.join(PROJECTORS)}"),
        ({"clip.projector_type": None}, "is ''"),
        ({"clip.vision.image_size": 4}, "clip.vision.image_size is 4; expected 8 to 1024"),
        ({"clip.vision.image_size": 8192}, "clip.vision.image_size is 8192; expected"),
        ({"clip.vision.image_size": 40}, "expected patches by 4 along each side"),
        ({"clip.vision.image_size": 96}, "position_embd.weight': expected 144 rows, one for each patch, got 64"),
        ({"clip.vision.patch_size": 0}, "clip.vision.patch_size is 0; expected"),
        ({"clip.vision.patch_size": 4}, "position_embd.weight': expected 256 rows"),
        ({"clip.vision.patch_size": 4, "clip.vision.image_size": 32}, "patch_embd.weight': expected 48 columns"),
        ({"clip.vision.attention.head_count": 5}, "expected a divisor of embedding_length"),
        ({"clip.vision.embedding_length": 64}, "patch_embd|attn|position"),
        ({"clip.vision.block_count": 3}, "no tensor 'v.blk.2"),
        ({"clip.vision.block_count": 2**31 - 1}, "no tensor 'v.blk.2"),
        ({"clip.vision.projection_dim": 65}, "projection_dim is 65; expected 64"),
        ({"clip.vision.image_std": [0.5, 0.0, 0.5]}, "expected positive numbers"),
        ({"clip.vision.image_mean": [0.5, 0.5]}, "an array of 3 finite numbers"),
        ({"clip.vision.image_mean": "grey"}, "an array of 3 finite numbers"),
        ({"clip.vision.image_mean": None}, "lacks the key clip.vision.image_mean"),
        ({"clip.vision.projector.scale_factor": 9}, "scale_factor is 9; expected an integer from 1 to 8"),
    ],
    ids=str,
)
def test_contradictions_are_errors(gemma: Path, tmp_path: Path, entries: dict[str, Any], message: str) -> None:
    path = copy_of(gemma, tmp_path / "x.gguf", entries)
    with GGUFFile.open(path) as file, pytest.raises(ModelError, match=message):
        traced(file)


@pytest.mark.parametrize("name", ["mm.input_projection.weight", "v.position_embd.weight", "v.blk.1.ffn_up.weight"])
def test_a_missing_tensor_is_an_error(gemma: Path, tmp_path: Path, name: str) -> None:
    path = copy_of(gemma, tmp_path / "x.gguf", {}, without=name)
    with GGUFFile.open(path) as file, pytest.raises(ModelError, match=name):
        traced(file)


def test_a_projector_of_another_model_is_an_error(gemma: Path) -> None:
    with GGUFFile.open(gemma) as file, pytest.raises(ModelError, match="makes rows of 64 floats, the model reads 128"):
        Encoder(file, traced(file), columns=128, first_id=10, threads=1)


@pytest.mark.parametrize("name", EMBEDDED)
def test_quantized_projectors_are_near_the_others(shared: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    source = shared(f"tiny-models/{name}-mmproj.gguf")
    found = []
    for path in (source, copy_of(source, tmp_path / "q.gguf", {}, format="Q8_0")):
        with GGUFFile.open(path) as file:
            found.append(Encoder(file, traced(file), columns=64, first_id=10, threads=1).rows(picture(SIZE, SIZE)).rows)
    error = abs(found[1] - found[0]).max()
    assert 0 < error < 0.05 * abs(found[0]).max()


def test_what_is_no_number_is_told_once_rows_are_made(gemma: Path, tmp_path: Path) -> None:
    """No warning of NumPy's comes before."""
    tiny = copy_of(gemma, tmp_path / "tiny.gguf", {"clip.vision.image_std": [1e-45] * 3})
    f32, tensors = format_by_name("F32"), projector_tensors("qwen3vl")
    for name, number in (("v.patch_embd.weight", np.inf), ("v.patch_embd.weight.1", -np.inf)):
        tensors[name] = np.full_like(tensors[name], number)
    write_gguf(tmp_path / "both.gguf", projector_keys("qwen3vl"),
               [TensorData(name, f32, x.shape, x) for name, x in tensors.items()])  # fmt: skip
    for path in (tiny, tmp_path / "both.gguf"):
        with GGUFFile.open(path) as file:
            of = traced(file)
            encoder = Encoder(file, of, columns=of.plan.out_cols, first_id=10, threads=1)
            with pytest.raises(ModelError, match="not numbers"):
                encoder.rows(picture(SIZE, SIZE))
