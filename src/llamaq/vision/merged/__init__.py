"""Files of Ollama's that have text and encoder in one: by architecture, how they are read as projectors."""

from __future__ import annotations

from collections.abc import Mapping

from llamaq.gguf import GGUFFile
from llamaq.vision.merged.gemma3 import GEMMA3
from llamaq.vision.merged.gemma4 import GEMMA4
from llamaq.vision.merged.layout import Layout, Merged
from llamaq.vision.merged.llama4 import LLAMA4
from llamaq.vision.merged.mistral3 import MISTRAL3
from llamaq.vision.merged.qwen import QWEN3VL, QWEN25VL
from llamaq.vision.source import Source

__all__ = ["LAYOUTS", "as_projector", "is_merged"]

LAYOUTS: Mapping[str, Layout] = {
    "gemma3": GEMMA3,
    "gemma4": GEMMA4,
    "llama4": LLAMA4,
    "mistral3": MISTRAL3,
    "qwen25vl": QWEN25VL,
    "qwen3vl": QWEN3VL,
    "qwen3vlmoe": QWEN3VL,
    "qwen35": QWEN3VL,
    "qwen35moe": QWEN3VL,
}


def is_merged(file: GGUFFile) -> bool:
    """Whether a model's file has the encoder inside, in a way that is known here."""
    return file.metadata.get("general.architecture") in LAYOUTS and any(
        name.startswith("v.blk.") for name in file.tensors
    )


def as_projector(file: GGUFFile) -> Source:
    """The file as a projector file; one with the encoder inside is shown so. Raises ``ModelError``."""
    return Merged(file, LAYOUTS[str(file.metadata["general.architecture"])]) if is_merged(file) else file
