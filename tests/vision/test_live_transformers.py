"""Folders that transformers saves of tiny models that see, converted: log-probabilities of prompts with pictures are
those of the models themselves, whose weights are others than the recorded ones.

Needs the extra ``transformers``, which CI leaves out; ``nox -s transformers`` runs this. The models, and how pictures
are put to them, are those of the files that record.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

reason = "the extra 'transformers' is not installed (CI leaves it out: gigabytes of libraries for GPUs)"
torch = pytest.importorskip("torch", reason=reason)
transformers = pytest.importorskip("transformers", reason=reason)

sys.path.append(str(Path(__file__).parent))

import record_dynamic  # type: ignore[import-not-found] # noqa: E402
import record_folders  # type: ignore[import-not-found] # noqa: E402
import record_mllama  # type: ignore[import-not-found] # noqa: E402
import record_towers  # type: ignore[import-not-found] # noqa: E402
import record_transformers  # type: ignore[import-not-found] # noqa: E402

import mllama_cases  # noqa: E402
from hf_pictures import NAMES, tokenizer_of, weights_of  # noqa: E402
from llamaq import LLM, _core  # noqa: E402
from llamaq.convert import convert  # noqa: E402
from llamaq.vision.canvas import on_canvas  # noqa: E402
from llamaq.vision.preprocess import Picture  # noqa: E402
from seen import log_probabilities, logits_of, recorded_prompt  # noqa: E402
from tiny_converted import checkpoint  # noqa: E402
from vision_cases import SEEN  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

BOUND = 1e-4
"""Of log-probabilities, which are a few units."""


def shuffled(weights: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Each tensor with its numbers in another order."""
    rng = np.random.default_rng(31)
    return {name: rng.permutation(x.reshape(-1)).reshape(x.shape) for name, x in weights.items()}


class Tiles:
    """In the place of Llama 4's processor, which needs torchvision: llamaq's own tiles, which test_llama4 compares."""

    def __init__(self, size: dict[str, int]) -> None:
        self._size = size["height"]

    def __call__(self, images: list[Any], **_: Any) -> dict[str, Any]:
        size = self._size
        canvas = on_canvas(Picture(np.asarray(images[0])), 16, size)
        rows, columns = canvas.height // size, canvas.width // size
        tiles = canvas.pixels.reshape(rows, size, columns, size, 3).transpose(0, 2, 4, 1, 3).reshape(-1, 3, size, size)
        whole = np.asarray(images[0].resize((size, size), 2)).transpose(2, 0, 1)[None]
        seen = np.concatenate([tiles, whole]) if rows * columns > 1 else tiles
        return {"pixel_values": torch.tensor(seen), "aspect_ratios": torch.tensor([[rows, columns]])}


@pytest.mark.parametrize("name", NAMES)
def test_log_probabilities_are_those_of_the_model(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformers, "Llama4ImageProcessor", Tiles)
    others = (of for of in (record_dynamic, record_towers) if name in of.MODELS)
    recording, folder = next(others, record_transformers), tmp_path / name
    with torch.no_grad():
        model, processor = record_folders.made(name)
        record_transformers.load(name, model.eval().float(), shuffled(weights_of(name)))
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        want = recording.made_by(name, model)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_of(name)))
    convert(folder, tmp_path / "out.gguf", "f32")
    with LLM.load(tmp_path / "out.gguf", mmproj=tmp_path / "mmproj-out.gguf", threads=2, cache_type="f32") as llm:
        for which in range(len(SEEN)):
            found = log_probabilities(logits_of(llm, recorded_prompt(llm, name, which))[0])
            assert abs(found - want[f"logprobs{which}"]).max() < BOUND


def test_log_probabilities_are_those_of_llama_32_vision(tmp_path: Path) -> None:
    with torch.no_grad():
        model = record_mllama.model_of(checkpoint("mllama", tmp_path / "old"))
        weights = shuffled({name: x.numpy() for name, x in model.state_dict().items()})
        model.load_state_dict({name: torch.tensor(x) for name, x in weights.items()})
        model.save_pretrained(tmp_path / "new")
        want = record_mllama.made_by(model)
    (tmp_path / "new" / "tokenizer.json").write_bytes((tmp_path / "old" / "tokenizer.json").read_bytes())
    convert(tmp_path / "new", tmp_path / "out.gguf", "f32")
    with LLM.load(tmp_path / "out.gguf", threads=2, cache_type="f32") as llm:
        for name in mllama_cases.PROMPTS:
            (logits,) = logits_of(llm, mllama_cases.reading(llm, name))
            found = np.array([row - _core.log_sum_exp(row) for row in logits])
            assert abs(found - want[name]).max() < BOUND, name
