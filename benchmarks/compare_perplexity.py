"""Perplexity of llamaq and of llama.cpp over the same chunks of a text, file by file."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from llamaq.gguf import GGUFFile
from llamaq.measure import chunks_of, log_sums, scored_from
from llamaq.tokenizer import load_tokenizer
from report import Result, machine, print_table
from runtimes import open_runtime

__all__ = ["run_perplexity"]


def compare_perplexity(path: Path, text: str, args: argparse.Namespace) -> tuple[Result, Result]:
    """One file in both runtimes; also what the runtimes say of themselves."""
    with GGUFFile.open(path) as file:
        chunks = chunks_of(load_tokenizer(file.metadata), text, args.batch, args.chunks)
    first = scored_from(args.batch)
    result: Result = {"file": path.name, "scored": len(chunks) * (args.batch - 1 - first)}
    described: dict[str, Result] = {}
    for name in ("llamaq", "llama.cpp"):
        runtime = open_runtime(name, str(path), args)
        runtime.begin(1, args.batch)
        losses = []
        for chunk in chunks:
            logits = runtime.forward(chunk.tolist(), 0, all_logits=True)[first:-1]
            losses.append(log_sums(logits) - logits[np.arange(len(logits)), chunk[first + 1 :]])
        result[name] = float(np.exp(np.mean(losses)))
        described[name] = runtime.describe()
        runtime.close()
    result["difference"] = result["llamaq"] / result["llama.cpp"] - 1
    return result, described


def run_perplexity(args: argparse.Namespace) -> Result:
    """All files."""
    text = args.text.read_text(encoding="utf-8").removesuffix("\n")
    found = [compare_perplexity(path, text, args) for path in args.files]
    rows = [["file", "scored", "llamaq", "llama.cpp", "difference"]]
    for result, _ in found:
        numbers = [f"{result['llamaq']:.4f}", f"{result['llama.cpp']:.4f}", f"{result['difference']:+.3%}"]
        rows.append([result["file"], str(result["scored"]), *numbers])
    print_table(rows)
    settings = {"text": args.text.name, "n_ctx": args.batch, "cache_type": args.cache_type}
    settings["flash_attention"] = args.flash_attention
    files = [result for result, _ in found]
    return {"machine": machine(), "runtimes": found[0][1], "settings": settings, "files": files}
