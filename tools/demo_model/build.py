"""The demo model from nothing to the file that ships, in one command: ``python -m demo_model.build FOLDER``.

FOLDER gets ``model/`` (safetensors), ``demo-f16.gguf`` (the original) and ``demo.gguf`` (what ships: copy it to
src/llamaq/data/). A model that is there already is not trained again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from llamaq.convert import convert
from llamaq.quantization import quantize

CARD = Path(__file__).with_name("card.md")
LARGEST = 6_000_000
"""Bytes of the file that ships, at most."""


def metadata(record: dict[str, float]) -> dict[str, str | list[str]]:
    """Name, licence and model card; ``record`` is what train.py writes to training.json."""
    return {
        "general.name": "llamaq demo",
        "general.author": "the llamaq developers",
        "general.license": "mit",
        "general.description": CARD.read_text(encoding="utf-8").format_map(record),
        "general.languages": ["en"],
        "general.tags": ["text-generation", "stories", "demo"],
    }


def build(folder: Path) -> Path:
    """Trains, converts and quantizes; gives the path of the file that ships."""
    trained, original, ships = folder / "model", folder / "demo-f16.gguf", folder / "demo.gguf"
    if not (trained / "model.safetensors").exists():
        from .model import Shape  # this imports torch
        from .train import Setting, train

        train(Shape(), Setting(), trained)
    record = json.loads((trained / "training.json").read_text(encoding="utf-8"))
    convert(trained, original, "f16", metadata=metadata(record))
    quantize(original, ships, "Q8_0")
    if ships.stat().st_size > LARGEST:
        raise SystemExit(f"{ships}: {ships.stat().st_size} bytes are more than the {LARGEST} that may ship")
    return ships


def main() -> None:
    parser = argparse.ArgumentParser(prog="demo_model.build", description="Builds the demo model.")
    parser.add_argument("folder", type=Path, help="where everything goes")
    args = parser.parse_args()
    print(build(args.folder))


if __name__ == "__main__":
    main()
