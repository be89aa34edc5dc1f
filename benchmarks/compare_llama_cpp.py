"""llamaq beside llama.cpp (llama-cpp-python, the extra "peers"): the same files, tokens and threads.

    python benchmarks/compare_llama_cpp.py logits FOLDER --text FILE --json OUT.json
    python benchmarks/compare_llama_cpp.py speed FILE... --threads 2 --json OUT.json

See README.md beside this file for what the results mean.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamaq.formats import decode, format_by_name
from llamaq.gguf import GGUFFile, TensorData, write_gguf
from runtimes import FLASH_ATTENTION, LlamaCpp, Llamaq

Logits = NDArray[np.float32]
Result = dict[str, Any]


def open_runtime(name: str, path: str, args: argparse.Namespace, n_ctx: int) -> Llamaq | LlamaCpp:
    """``name`` "llamaq" or "llama.cpp", with the settings of the command line."""
    common: dict[str, Any] = {
        "n_ctx": n_ctx, "threads": args.threads, "n_batch": args.batch, "cache_type": args.cache_type,
    }  # fmt: skip
    if name == "llamaq":
        return Llamaq(path, **common)
    return LlamaCpp(path, flash_attention=args.flash_attention, **common)


def machine() -> Result:
    """The processor and the versions that do not belong to a runtime."""
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip() or None
    return {
        "cpu": cpu,
        "cpus": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "commit": commit,
    }


# -- logits


def all_logits(runtime: Llamaq | LlamaCpp, ids: Sequence[int], batch: int) -> Logits:
    """Logits after each token, read in batches."""
    parts = [runtime.forward(ids[i : i + batch], i, all_logits=True) for i in range(0, len(ids), batch)]
    return np.concatenate(parts)


def nmse(found: Logits, expected: Logits) -> float:
    """Mean squared error over the mean square of what was expected."""
    exact = expected.astype(np.float64)
    return float(((found - exact) ** 2).sum() / (exact**2).sum())


def exact_logits(path: str, ids: Sequence[int], args: argparse.Namespace) -> Logits:
    """Logits of the same weights as F32, with an F32 cache, in llama.cpp: no activation is rounded."""
    with tempfile.TemporaryDirectory() as folder, GGUFFile.open(path) as file:
        copy, f32 = str(Path(folder) / "f32.gguf"), format_by_name("F32")
        tensors = [
            TensorData(name, f32, info.shape, map(decode, [info.format], [file.data(name)]))
            for name, info in file.tensors.items()
        ]
        write_gguf(copy, file.metadata, tensors, types=file.metadata_types)
        plain = argparse.Namespace(**vars(args) | {"cache_type": "f32", "flash_attention": "off"})
        runtime = open_runtime("llama.cpp", copy, plain, len(ids))
        logits = all_logits(runtime, ids, args.batch)
        runtime.close()
    return logits


def compare_logits(path: Path, text: str, args: argparse.Namespace) -> tuple[Result, Result]:
    """One file in both runtimes, fed with the same text, whatever they would have said themselves.

    Also what the runtimes say of themselves.
    """
    with GGUFFile.open(path) as file:
        context = file.metadata["llama.context_length"]
        assert isinstance(context, int)
        n_ctx = min(args.tokens, context)
        formats = Counter(info.format.name for info in file.tensors.values() if len(info.shape) > 1)
    ids: dict[str, list[int]] = {}
    logits: dict[str, Logits] = {}
    described: dict[str, Result] = {}
    for name in ("llamaq", "llama.cpp"):
        runtime = open_runtime(name, str(path), args, n_ctx)
        ids[name] = runtime.tokenize(text)
        logits[name] = all_logits(runtime, ids["llamaq"][:n_ctx], args.batch)
        described[name] = runtime.describe()
        runtime.close()
    ours, peer = logits["llamaq"], logits["llama.cpp"]
    parted = ours.argmax(1) != peer.argmax(1)
    top = np.sort(peer, axis=1)
    margins = (top[:, -1] - top[:, -2])[parted]
    result: Result = {
        "file": path.name,
        "formats": dict(formats.most_common()),
        "tokens": len(ours),
        "same_ids": ids["llamaq"] == ids["llama.cpp"],
        "nmse": nmse(ours, peer),
        "max_difference": float(np.abs(ours - peer).max()),
        "greedy_agreement": float(1 - parted.mean()),
        "widest_margin_parted": float(margins.max(initial=0.0)),
    }
    if args.exact:
        exact = exact_logits(str(path), ids["llamaq"][:n_ctx], args)
        result["nmse_to_exact"] = {name: nmse(logits[name], exact) for name in logits}
    return result, described


def run_logits(args: argparse.Namespace) -> Result:
    """All files of a folder."""
    text = args.text.read_text()[: 16 * args.tokens]
    found = [compare_logits(path, text, args) for path in sorted(args.folder.glob("*.gguf"))]
    if not found:
        raise SystemExit(f"{args.folder}: no .gguf files")
    rows = [["file", "tokens", "same ids", "NMSE", "greedy agreement", "widest margin parted"]]
    if args.exact:
        rows[0] += ["llamaq to exact", "llama.cpp to exact"]
    for result, _ in found:
        row = [result["file"], str(result["tokens"]), "yes" if result["same_ids"] else "NO", f"{result['nmse']:.1e}"]
        row += [f"{result['greedy_agreement']:.1%}", f"{result['widest_margin_parted']:.3f}"]
        rows.append(row + [f"{error:.1e}" for error in result.get("nmse_to_exact", {}).values()])
    print_table(rows)
    settings = {"text": args.text.name, "cache_type": args.cache_type, "flash_attention": args.flash_attention}
    files = [result for result, _ in found]
    return {"machine": machine(), "runtimes": found[0][1], "settings": settings, "files": files}


# -- speed


def measure(args: argparse.Namespace) -> Result:
    """Loads one file in one runtime, in this process, and times a prompt and the tokens after it."""
    began = time.perf_counter()
    runtime = open_runtime(args.runtime, args.file, args, -(-(args.prompt + args.decode) // 256) * 256)
    loaded = time.perf_counter()
    ids = np.random.default_rng(0).integers(3, 500, args.prompt + args.decode).tolist()
    for start, stop in ((0, 16), (16, 17), (17, 18)):  # buffers and caches get touched once
        runtime.forward(ids[start:stop], start)
    marks = [time.perf_counter()]
    for i in range(0, args.prompt, args.batch):
        runtime.forward(ids[i : min(i + args.batch, args.prompt)], i)
    marks.append(time.perf_counter())
    for i in range(args.prompt, args.prompt + args.decode):
        runtime.forward(ids[i : i + 1], i)
        marks.append(time.perf_counter())
    tokens = np.diff(marks[1:])
    return {
        "prompt": args.prompt / (marks[1] - marks[0]),
        "decode": args.decode / tokens.sum(),
        "token_ms": [round(1e3 * float(np.quantile(tokens, q)), 3) for q in (0.1, 0.5, 0.9)],
        "load_seconds": loaded - began,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "runtime": runtime.describe(),
    }


def measure_apart(name: str, path: Path, args: argparse.Namespace) -> Result:
    """``measure`` in a process of its own, so that neither runtime's threads or memory touch the other's."""
    command = [sys.executable, __file__, "measure", name, str(path)]
    for option in ("prompt", "decode", "threads", "batch", "cache_type", "flash_attention"):
        command += [f"--{option.replace('_', '-')}", str(getattr(args, option))]
    load = os.getloadavg()[0]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: Result = json.loads(done.stdout)
    return result | {"load_average_before": load}


def spread(values: Iterable[float]) -> Result:
    """Median, least and greatest."""
    listed = [round(value, 3) for value in values]
    return {"median": statistics.median(listed), "min": min(listed), "max": max(listed), "all": listed}


def compare_speed(path: Path, args: argparse.Namespace) -> Result:
    """One file: each round measures llamaq, then llama.cpp."""
    rounds: dict[str, list[Result]] = {"llamaq": [], "llama.cpp": []}
    for _ in range(args.rounds):
        for name, results in rounds.items():
            results.append(measure_apart(name, path, args))
    result: Result = {"file": path.name, "megabytes": round(path.stat().st_size / 1e6)}
    result["runtimes"] = {name: results[0]["runtime"] for name, results in rounds.items()}
    for what in ("decode", "prompt", "load_seconds", "peak_rss_mb", "load_average_before"):
        result[what] = {name: spread(r[what] for r in results) for name, results in rounds.items()}
    result["token_ms_p10_p50_p90"] = {name: [r["token_ms"] for r in results] for name, results in rounds.items()}
    pairs = list(zip(*rounds.values(), strict=True))
    result["ratio"] = {what: spread(a[what] / b[what] for a, b in pairs) for what in ("decode", "prompt")}
    return result


def run_speed(args: argparse.Namespace) -> Result:
    """All the files given."""
    rows = [["file", "", "llamaq", "llama.cpp", "ratio", "ratio min–max"]]
    found = []
    for path in args.files:
        result = compare_speed(path, args)
        found.append(result)
        for what in ("decode", "prompt"):
            ratio = result["ratio"][what]
            row = [result["file"], what, *(f"{result[what][n]['median']:.2f}" for n in ("llamaq", "llama.cpp"))]
            rows.append([*row, f"{ratio['median']:.2f}", f"{ratio['min']:.2f}–{ratio['max']:.2f}"])
    print("tokens/s, median of the rounds")
    print_table(rows)
    names = ("prompt", "decode", "rounds", "threads", "batch", "cache_type", "flash_attention")
    settings = {name: getattr(args, name) for name in names}
    return {"machine": machine(), "settings": settings, "files": found}


# -- command line


def print_table(rows: list[list[str]]) -> None:
    """A Markdown table; the first row is its head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    print("\n".join(lines))


def make_parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--threads", "-t", type=int, default=2)
    common.add_argument("--batch", type=int, default=512, help="prompt tokens read at once")
    common.add_argument("--cache-type", choices=("f16", "f32"), default="f16")
    common.add_argument("--flash-attention", choices=FLASH_ATTENTION, default="auto", help="of llama.cpp")
    common.add_argument("--json", type=Path, help="write the result there too")
    timed = argparse.ArgumentParser(add_help=False)
    timed.add_argument("--prompt", "-p", type=int, default=512, help="tokens of the prompt (at least 18)")
    timed.add_argument("--decode", "-n", type=int, default=64, help="tokens after it")

    parser = argparse.ArgumentParser(description="llamaq beside llama.cpp.")
    modes = parser.add_subparsers(dest="mode", required=True)
    logits = modes.add_parser("logits", parents=[common], help="the same text through both, logits compared")
    logits.add_argument("folder", type=Path)
    logits.add_argument("--text", type=Path, required=True)
    logits.add_argument("--tokens", type=int, default=256)
    logits.add_argument("--exact", action="store_true", help="also compare both with F32 weights and activations")
    speed = modes.add_parser("speed", parents=[common, timed], help="tokens per second")
    speed.add_argument("files", type=Path, nargs="+")
    speed.add_argument("--rounds", type=int, default=5)
    one = modes.add_parser("measure", parents=[common, timed], help="one runtime alone (what speed starts)")
    one.add_argument("runtime", choices=("llamaq", "llama.cpp"))
    one.add_argument("file")
    return parser


def main() -> None:
    args = make_parser().parse_args()
    if args.mode == "measure":
        print(json.dumps(measure(args)))
        return
    result = {"mode": args.mode} | (run_logits if args.mode == "logits" else run_speed)(args)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
