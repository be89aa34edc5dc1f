"""Logits of llamaq and of llama.cpp for the same text, file by file: how far apart, and how far from exact."""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llamaq.formats import decode, format_by_name
from llamaq.gguf import GGUFFile, TensorData, write_gguf
from report import Result, machine, print_table
from runtimes import Runtime, open_runtime

__all__ = ["run_logits"]

Logits = NDArray[np.float32]


def all_logits(runtime: Runtime, ids: Sequence[int], batch: int) -> Logits:
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
        runtime = open_runtime("llama.cpp", copy, plain)
        runtime.begin(1, len(ids))
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
        runtime = open_runtime(name, str(path), args)
        runtime.begin(1, n_ctx)
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
