"""What each quantization type costs and loses: bits a weight, KL divergence, perplexity; beside llama.cpp's quantizer.

    python benchmarks/quantization_report.py demo-f16.gguf --text held-out.txt --importance-text train.txt
        --peer PYTHON --json OUT.json --picture OUT.svg

Both quantizers' files are read by llamaq, so that only the quantizers differ. Types that llama.cpp refuses without an
importance matrix get one, the same for both.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import llamaq
from compare_quantize import NEED_IMPORTANCE, peer
from llamaq.gguf import GGUFFile
from llamaq.gguf.imatrix import Imatrix
from llamaq.measure import chunks_of, collect_importance, scored_from
from llamaq.measure.divergence import compare_logits
from llamaq.quantization import FILE_TYPES
from report import machine, print_table
from scatter import scatter

PLAIN = ("F32", "F16", "BF16")


def logits_of(model: Path, chunks: NDArray[np.int32], first: int) -> list[NDArray[np.float32]]:
    """Logits of the scored tokens of each chunk."""
    with llamaq.LLM.load(model, n_ctx=chunks.shape[1], n_batch=chunks.shape[1]) as llm:
        return [llm.logits(chunk[:-1].tolist(), first=first) for chunk in chunks]


def ids_of(llm: llamaq.LLM, path: Path) -> list[int]:
    """A text's tokens; the special ones in it, such as those of a chat, are what they say."""
    return llm.tokenizer.encode(path.read_text(encoding="utf-8"), parse_special=True)


def bits_per_weight(model: Path) -> float:
    with GGUFFile.open(model) as file:
        tensors = file.tensors.values()
        return 8 * sum(info.nbytes for info in tensors) / sum(info.n_elements for info in tensors)


def measure(model: Path, base: list[NDArray[np.float32]], chunks: NDArray[np.int32]) -> dict[str, float]:
    """Bits, divergence and perplexity of a file, against the logits of the file that it was made from."""
    first = scored_from(chunks.shape[1])
    kl, same, losses = [], [], []
    for expected, found, chunk in zip(base, logits_of(model, chunks, first), chunks, strict=True):
        divergence, top, loss = compare_logits(expected, found, chunk[first + 1 :])
        kl.append(divergence.mean())
        same.append(top.mean())
        losses.append(loss[1].mean())
    return {
        "bits_per_weight": bits_per_weight(model),
        "bytes": model.stat().st_size,
        "kl_mean": float(np.mean(kl)),
        "same_top": float(np.mean(same)),
        "perplexity": float(np.exp(np.mean(losses))),
    }


def needs_importance(type: str) -> bool:
    """Whether llama.cpp refuses it otherwise; its Q2_K_S and mixtures of IQ3_XS ask for one, too."""
    return type.startswith(NEED_IMPORTANCE) or type in ("Q2_K_S", "IQ3_XS")


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each type and quantizer."""
    results = []
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs, saved = (Path(folder) / name for name in ("a.gguf", "b.gguf", "importance.npz"))
        with llamaq.LLM.load(args.model, n_ctx=args.n_ctx, n_batch=args.n_ctx) as llm:
            chunks, reading = (
                chunks_of(llm.tokenizer, ids_of(llm, path), args.n_ctx, args.chunks)
                for path in (args.text, args.importance_text)
            )
            imatrix = Imatrix()
            collect_importance(llm, reading, imatrix)
        means = {name: entry.means()[0] for name, entry in imatrix.entries.items()}
        np.savez(saved, **means)
        base = logits_of(args.model, chunks, scored_from(args.n_ctx))
        results.append({"type": "source", "quantizer": "none", **measure(args.model, base, chunks)})
        for type in args.types:
            weighted = needs_importance(type)
            llamaq.quantize(args.model, ours, type, imatrix=means if weighted else None)
            more = ["--importance", str(saved)] if weighted else []
            peer(args.model, theirs, FILE_TYPES[type].number, args, *more)
            for who, path in (("llamaq", ours), ("llama.cpp", theirs)):
                row = {"type": type, "quantizer": who, "importance": weighted, **measure(path, base, chunks)}
                results.append(row)
                print(json.dumps(row), file=sys.stderr, flush=True)
    return results


def table(results: list[dict[str, Any]]) -> list[list[str]]:
    rows = [["type", "bits", "KL", "KL, llama.cpp", "perplexity", "perplexity, llama.cpp"]]
    found = {(row["type"], row["quantizer"]): row for row in results}
    for type in dict.fromkeys(row["type"] for row in sorted(results, key=lambda row: row["bits_per_weight"])):
        row, other = found.get((type, "llamaq")), found.get((type, "llama.cpp"))
        if row is None or other is None:
            continue
        mark = "*" if row["importance"] else ""
        numbers = [f"{row['bits_per_weight']:.2f}", *(f"{r['kl_mean']:.2g}" for r in (row, other))]
        rows.append([type + mark, *numbers, *(f"{r['perplexity']:.3f}" for r in (row, other))])
    return rows


def picture(results: list[dict[str, Any]], model: str) -> str:
    series = {
        who: [(row["type"], row["bits_per_weight"], row["kl_mean"]) for row in results if row["quantizer"] == who]
        for who in ("llamaq", "llama.cpp")
    }
    title = f"Quantization types on {model}"
    caption = "lower and further left is better; both quantizers' files read by llamaq"
    return scatter(title, caption, ("bits per weight", "mean KL divergence, nats"), series)


def main() -> None:
    parser = argparse.ArgumentParser(description="Bits, divergence and perplexity of every quantization type.")
    parser.add_argument("model", type=Path, help="the original, F16 or F32")
    parser.add_argument("--text", type=Path, required=True, help="what is measured over")
    parser.add_argument("--importance-text", type=Path, required=True, help="what the importance matrix is from")
    parser.add_argument("--types", nargs="+", default=[type for type in FILE_TYPES if type not in PLAIN])
    parser.add_argument("--n-ctx", type=int, default=512)
    parser.add_argument("--chunks", type=int, default=24)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peer", default=sys.executable, help="a Python that has llama-cpp-python")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path)
    args = parser.parse_args()
    results = run(args)
    print_table(table(results))
    if args.json:
        about = {"machine": machine(), "model": args.model.name, "n_ctx": args.n_ctx, "chunks": args.chunks}
        args.json.write_text(json.dumps(about | {"results": results}, indent=1) + "\n", encoding="utf-8")
    if args.picture:
        args.picture.write_text(picture(results, args.model.stem), encoding="utf-8")


if __name__ == "__main__":
    main()
