"""Records what transformers saves of the tiny models that see: config.json, the processor's file, and the shape and the
CRC-32 of each tensor, for tests/convert/test_projectors.py.

    PYTHONPATH=src:tests/vision LLAMAQ_SHARED=SHARED python tests/vision/record_folders.py

needs torch and transformers, and writes tests/data/vision/folders.json.
"""

from __future__ import annotations

import json
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file

sys.path.append(str(Path(__file__).parents[1] / "support"))

import record_dynamic  # type: ignore[import-not-found]
import record_towers  # type: ignore[import-not-found]
import record_transformers  # type: ignore[import-not-found]

from hf_pictures import NAMES, weights_of
from vision_cases import DATA

PROCESSORS: dict[str, Callable[[], Any]] = {
    "gemma3v": lambda: transformers.Gemma3ImageProcessorPil(size={"height": 64, "width": 64}),
    "smolvlm": lambda: transformers.SmolVLMImageProcessorPil(
        size={"longest_edge": 64}, max_image_size={"longest_edge": 64}
    ),
    "gemma4e": lambda: record_towers.gemma4_processor(16),
    "gemma4l": lambda: record_towers.gemma4_processor(16),
    # Llama 4's own needs torchvision; colours and their size are those of this one.
    "llama4": lambda: transformers.Gemma3ImageProcessorPil(size={"height": 32, "width": 32}),
    "llava": lambda: record_towers.llava_processor(32, pad=True),
    "llavanext": lambda: record_towers.processor_of("llavanext"),
    "granitev": lambda: record_towers.processor_of("granitev"),
    "mistral3": lambda: record_towers.pixtral_processor(16),
    "pixtral12": lambda: record_towers.pixtral_processor(8),
}


def made(name: str) -> tuple[Any, Any]:
    """The model, with its weights, and its processor."""
    if name in record_dynamic.MODELS:
        make, processor = record_dynamic.MODELS[name]
        return make(), processor(name)
    make = record_towers.MODELS[name][0] if name in record_towers.MODELS else record_transformers.model_of
    return make(name), PROCESSORS[name]()


def saved(name: str) -> dict[str, Any]:
    model, processor = made(name)
    record_transformers.load(name, model.eval().float(), weights_of(name))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        tensors = load_file(Path(folder) / "model.safetensors")
        files = [json.loads((Path(folder) / f"{stem}.json").read_text()) for stem in ("config", "preprocessor_config")]
    crc = {
        key: [[*x.shape], zlib.crc32(x.numpy().tobytes())]
        for key, x in sorted(tensors.items())
        if ".head." not in key  # SigLIP's, for classes: nobody reads it, so it has no numbers of ours
    }
    return {"config": files[0], "processor": files[1], "tensors": crc}


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    found = {name: saved(name) for name in NAMES}
    (DATA / "folders.json").write_text(json.dumps(found) + "\n", encoding="utf-8")
