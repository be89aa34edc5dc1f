"""llamaq's quantizer beside llama.cpp's: the squared errors of the same rows, and the time for the same file.

    python benchmarks/compare_quantize.py error --model trained-F32.gguf --json OUT.json
    python benchmarks/compare_quantize.py speed f16.gguf --types Q4_0 Q4_K_M Q6_K --json OUT.json

See README.md beside this file for what the results mean.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import llamaq
from llamaq.formats import decode, format_by_name
from llamaq.gguf import GGUFFile, TensorData, write_gguf
from llamaq.quantization import file_type_by_name

HERE = Path(__file__).parent
TYPES = {"Q3_K": "Q3_K_S", "Q4_K": "Q4_K_S", "Q5_K": "Q5_K_S", "IQ2_S": "IQ2_M", "MXFP4": "MXFP4_MOE"}
FORMATS = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "MXFP4"]
FORMATS += ["IQ3_S", "IQ3_XXS", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S", "TQ1_0", "TQ2_0"]
NEED_IMPORTANCE = ("IQ1", "IQ2", "IQ3_XXS")  # llama.cpp refuses these without an importance matrix
METADATA: dict[str, Any] = {
    "general.architecture": "llama",
    "llama.block_count": 1,
    "llama.context_length": 64,
    "llama.embedding_length": 256,
    "llama.feed_forward_length": 256,
    "llama.attention.head_count": 4,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
}


def peer(source: Path, target: Path, number: int, args: argparse.Namespace, *more: str) -> dict[str, float]:
    """One run of llama.cpp's quantizer, in a process of its own."""
    command = [args.peer, HERE / "quantize_peer.py", source, target, str(number), "--threads", str(args.threads), *more]
    found: dict[str, float] = json.loads(subprocess.check_output(list(map(str, command)), text=True))
    return found


def rows_of(model: Path) -> dict[str, Any]:
    """Rows to quantize, by the name that their tensor gets: trained ones, Gaussian, and with heavy tails."""
    rng = np.random.default_rng(0)
    with GGUFFile.open(model) as file:
        matrices = [
            file.data(name).view(np.float32)
            for name, info in file.tensors.items()
            if len(info.shape) == 2 and info.shape[1] == 256 and info.format.name == "F32"
        ]
    trained = np.concatenate(matrices)
    kept = trained[np.abs(trained).max(axis=1) > 0][:512]
    return {
        "blk.0.ffn_up.weight": ("trained", kept),
        "blk.0.ffn_gate.weight": ("gauss", (0.02 * rng.standard_normal((64, 2048))).astype(np.float32)),
        "blk.0.attn_q.weight": ("student-t 3", (0.02 * rng.standard_t(3, (64, 2048))).astype(np.float32)),
    }


def run_error(args: argparse.Namespace) -> dict[str, Any]:
    """Weighted squared error over weighted energy, of both, by format, rows and importance."""
    rows = rows_of(args.model)
    rng = np.random.default_rng(1)
    importance = {name: rng.lognormal(0, 1, x.shape[1]).astype(np.float32) for name, (_, x) in rows.items()}
    results = []
    with tempfile.TemporaryDirectory() as folder:
        source, saved = Path(folder) / "rows.gguf", Path(folder) / "importance.npz"
        tensors = [TensorData(name, format_by_name("F32"), x.shape, x) for name, (_, x) in rows.items()]
        write_gguf(source, METADATA, tensors)
        np.savez(saved, **importance)
        for format in args.formats:
            type = TYPES.get(format, format)
            for weighted in (False, True):
                if not weighted and format.startswith(NEED_IMPORTANCE):
                    continue
                files = {"llamaq": Path(folder) / "a.gguf", "llama.cpp": Path(folder) / "b.gguf"}
                llamaq.quantize(source, files["llamaq"], type, pure=True, imatrix=importance if weighted else None)
                more = ["--pure", *(["--importance", str(saved)] if weighted else [])]
                peer(source, files["llama.cpp"], file_type_by_name(type).number, args, *more)
                for name, (kind, x) in rows.items():
                    weights = importance[name] if weighted else np.ones(x.shape[1])
                    errors = {who: relative_error(path, format, name, x, weights) for who, path in files.items()}
                    results.append({"format": format, "rows": kind, "importance": weighted, **errors})
                    ratio = errors["llamaq"] / errors["llama.cpp"]
                    print(f"{format:8} {kind:12} {'imatrix' if weighted else '':8} {ratio:.4f}", flush=True)
    return {"results": results}


def relative_error(path: Path, format: str, name: str, x: Any, weights: Any) -> float:
    with GGUFFile.open(path) as file:
        assert file.tensors[name].format.name == format, f"{path}: {name} is {file.tensors[name].format.name}"
        values = decode(format_by_name(format), file.data(name)).astype(np.float64)
    return float((weights * (values - x) ** 2).sum() / (weights * x.astype(np.float64) ** 2).sum())


def run_speed(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of both for a whole file, in turns; the writing to the disk is part of it."""
    results = []
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        for type in args.types:
            for turn in range(args.rounds):
                ours = own(args.source, Path(folder) / "a.gguf", type, args.threads)
                theirs = peer(args.source, Path(folder) / "b.gguf", file_type_by_name(type).number, args)
                results.append({"type": type, "round": turn, "llamaq": ours, "llama.cpp": theirs})
                print(type, json.dumps(results[-1]), flush=True)
    return {"threads": args.threads, "source_bytes": args.source.stat().st_size, "results": results}


def own(source: Path, target: Path, type: str, threads: int) -> dict[str, float]:
    """One run of ours, in a process of its own as well."""
    command = [sys.executable, __file__, "own", source, target, type, str(threads)]
    found: dict[str, float] = json.loads(subprocess.check_output(list(map(str, command)), text=True))
    return found


def run_own(args: argparse.Namespace) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    llamaq.quantize(args.source, args.target, args.type, threads=args.threads)
    seconds, used = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "cpu_seconds": used, "peak_rss_mb": peak}))


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="llamaq's quantizer beside llama.cpp's.")
    modes = parser.add_subparsers(dest="mode", required=True)
    error = modes.add_parser("error", help="squared errors of the same rows")
    error.add_argument("--model", type=Path, required=True, help="a trained F32 model with rows of 256")
    error.add_argument("--formats", nargs="+", default=FORMATS)
    speed = modes.add_parser("speed", help="seconds for the same file, in turns")
    speed.add_argument("source", type=Path)
    speed.add_argument("--types", nargs="+", default=["Q4_0", "Q8_0", "Q4_K_M", "Q6_K", "IQ4_XS"])
    speed.add_argument("--rounds", type=int, default=1)
    speed.add_argument("--folder", type=Path, help="where the files are written")
    for mode in (error, speed):
        mode.add_argument("--threads", type=int, default=2)
        mode.add_argument(
            "--peer", default=sys.executable, help="a Python that has llama-cpp-python (default: this one)"
        )
        mode.add_argument("--json", type=Path, help="write the result there too")
    alone = modes.add_parser("own", help="one run of llamaq, for the mode speed")
    for name, kind in (("source", Path), ("target", Path), ("type", str), ("threads", int)):
        alone.add_argument(name, type=kind)
    return parser


def main() -> None:
    args = make_parser().parse_args()
    if args.mode == "own":
        return run_own(args)
    result = {"mode": args.mode} | (run_error(args) if args.mode == "error" else run_speed(args))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return None


if __name__ == "__main__":
    main()
