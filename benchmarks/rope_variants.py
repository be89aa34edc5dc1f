"""Writes variants of a small F32 model that differ in what `llama` files use beside plain RoPE.

    python benchmarks/rope_variants.py stories260K-F32.gguf FOLDER

They mean nothing as models; `compare_llama_cpp.py logits FOLDER` shows that both runtimes read them alike.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamaq.formats import format_by_name
from llamaq.gguf import GGUFFile, TensorData, write_gguf

SCALING = "llama.rope.scaling."
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "linear": {SCALING + "type": "linear", SCALING + "factor": 4.0},
    "yarn": {SCALING + "type": "yarn", SCALING + "factor": 4.0, SCALING + "original_context_length": 128},
    "yarn-attention": {SCALING + "type": "yarn", SCALING + "factor": 8.0, SCALING + "original_context_length": 64,
                       SCALING + "attn_factor": 1.3},
    "rope_freqs": {"llama.rope.freq_base": 500000.0},
    "biases": {},
}  # fmt: skip


def vector(name: str, values: NDArray[np.float64]) -> TensorData:
    return TensorData(name, format_by_name("F32"), values.shape, values.astype(np.float32).view(np.uint8))


def extra_tensors(variant: str, file: GGUFFile) -> list[TensorData]:
    if variant == "rope_freqs":
        pairs = int(file.metadata["llama.rope.dimension_count"]) // 2  # type: ignore[arg-type]
        return [vector("rope_freqs.weight", np.geomspace(1.0, 8.0, pairs))]
    if variant == "biases":
        rng = np.random.default_rng(0)
        names = [n for n in file.tensors if n.startswith("blk.") and ".attn_" in n and "norm" not in n]
        return [vector(n.replace(".weight", ".bias"), rng.normal(0, 0.3, file.tensors[n].shape[0])) for n in names]
    return []


def main() -> None:
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    with GGUFFile.open(source) as file:
        for variant, keys in VARIANTS.items():
            tensors = [TensorData(n, i.format, i.shape, file.data(n)) for n, i in file.tensors.items()]
            tensors += extra_tensors(variant, file)
            write_gguf(folder / f"{variant}.gguf", {**file.metadata, **keys}, tensors, types=file.metadata_types)


if __name__ == "__main__":
    main()
