"""What a LoRA adapter costs: seconds to read a prompt and for a token, without one and with one of random factors of
all matrices of the blocks, in turns.

    python benchmarks/adapter_cost.py model.gguf --rank 16 --rounds 5 --json OUT.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from llamaq import LLM, SamplingParams
from llamaq.formats import encode, format_by_name
from llamaq.gguf import GGUFFile, TensorData, write_gguf
from report import machine, print_table

SAMPLING = SamplingParams(temperature=0, ignore_eos=True)


def write_adapter(path: Path, model: str, rank: int, format: str) -> None:
    """Factors of the blocks' matrices, small enough that the model goes on as it was."""
    rng, fmt, tensors = np.random.default_rng(0), format_by_name(format), []
    with GGUFFile.open(model) as file:
        for name, info in file.tensors.items():
            if name.startswith("blk.") and len(info.shape) == 2:
                rows, cols = info.shape
                for which, shape in (("a", (rank, cols)), ("b", (rows, rank))):
                    data = encode(fmt, (1e-3 * rng.standard_normal(shape)).astype(np.float32))
                    tensors.append(TensorData(f"{name}.lora_{which}", fmt, shape, data))
        architecture = file.metadata["general.architecture"]
    keys = {"general.architecture": str(architecture), "general.type": "adapter", "adapter.type": "lora"}
    write_gguf(path, {**keys, "adapter.lora.alpha": float(rank)}, tensors)


def seconds(llm: LLM, ids: list[int], new: int, adapter: Any) -> tuple[float, float]:
    """To read ``ids`` and for each of ``new`` tokens after them."""
    began = time.perf_counter()
    stream = llm.stream(ids, max_tokens=new + 1, sampling=SAMPLING, adapter=adapter)
    next(stream)
    read = time.perf_counter()
    for _ in stream:
        pass
    return read - began, (time.perf_counter() - read) / new


def compare(args: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {"rank": args.rank, "format": args.format, "prompt": args.prompt, "new": args.new}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "adapter.gguf")
        write_adapter(path, args.model, args.rank, args.format)
        found["bytes"] = path.stat().st_size
        with LLM.load(args.model, n_ctx=2048, threads=args.threads, speculation=False) as llm:
            llm.load_adapter(path)
            rng = np.random.default_rng(1)
            runs: dict[str, list[tuple[float, float]]] = {"without": [], "with": []}
            for _ in range(args.rounds + 1):
                ids = rng.integers(3, llm.hparams.vocab_size, args.prompt).tolist()
                for kind, adapter in (("without", {}), ("with", "adapter")):
                    runs[kind].append(seconds(llm, ids, args.new, adapter))
    for kind, pairs in runs.items():  # the first round warms up
        found[kind] = {"read": [read for read, _ in pairs[1:]], "token": [token for _, token in pairs[1:]]}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--format", default="F16")
    parser.add_argument("--prompt", type=int, default=512, help="tokens")
    parser.add_argument("--new", type=int, default=64, help="tokens")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = compare(args)
    rows = []
    for key, unit in (("read", 1.0), ("token", 1e3)):
        without, with_one = (found[kind][key] for kind in ("without", "with"))
        ratio = statistics.median(b / a for a, b in zip(without, with_one, strict=True))
        medians = (f"{unit * statistics.median(each):.2f}" for each in (without, with_one))
        rows.append([f"{key} {'s' if unit == 1 else 'ms'}", *medians, f"{ratio:.2f}"])
    print_table([["", "without", f"rank {args.rank}", "ratio"], *rows])
    if args.json:
        args.json.write_text(
            json.dumps({"machine": machine(), "model": Path(args.model).name, **found}, indent=1) + "\n",
            encoding="utf-8",
        )


if __name__ == "__main__":
    main()
