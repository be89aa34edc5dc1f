"""Seconds from the bytes of a picture to the first token of an answer, beside llama.cpp's, in turns:

    python benchmarks/encoder_speed.py TEXT.gguf --threads 2 --peer "env PYTHONPATH=DIR python" --json OUT.json

The projector has the shape of Gemma 3's (SigLIP, 896 pixels, 27 layers) and random weights. TEXT.gguf is a Gemma 3 of
any size, best a tiny one, so that the encoder is all that takes time. The peer is a Python that has xllamacpp. Each
turn is a process of its own; each picture is another one, so that nothing can be reused.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

import numpy as np
from numpy.typing import NDArray
from PIL import Image

IMAGE, PATCH, WIDTH, FEED_FORWARD, LAYERS, HEADS = 896, 14, 1152, 4304, 27, 16
PATCHES = (IMAGE // PATCH) ** 2
SIDE = 1024  # numbers of a side of the products that NumPy is timed with
TEMPLATE = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"


def operations(layers: int = LAYERS) -> float:
    """Multiplications and additions of one picture: products with weights, and attention."""
    products = 2 * PATCHES * (4 * WIDTH**2 + 2 * WIDTH * FEED_FORWARD)
    return float(layers * (products + 4 * PATCHES**2 * WIDTH) + 2 * PATCHES * WIDTH * 3 * PATCH**2)


def write_projector(path: Path, format_name: str, columns: int, layers: int = LAYERS) -> None:
    """A projector for a text model of so many columns. Rows that no block of the format divides are F16, as in files of
    llama.cpp."""
    from llamaq.formats import encode, format_by_name
    from llamaq.gguf import TensorData, write_gguf

    rng = np.random.default_rng(0)
    found: list[TensorData] = []

    def add(name: str, *shape: int, kind: str = "F32", mean: float = 0.0) -> None:
        spread = 0.02 if len(shape) > 1 else 0.01
        values = rng.normal(mean, spread, shape).astype(np.float32)
        format = format_by_name(kind if shape[-1] % format_by_name(kind).block == 0 else "F16")
        data = encode(format, values.reshape(-1, shape[-1])).tobytes()
        found.append(TensorData(name, format, shape, data))

    add("v.patch_embd.weight", WIDTH, 3, PATCH, PATCH, kind="F16")
    add("v.position_embd.weight", PATCHES, WIDTH)
    add("mm.input_projection.weight", WIDTH, columns, kind="F16")
    add("mm.soft_emb_norm.weight", WIDTH, mean=1)
    add("v.patch_embd.bias", WIDTH)
    sizes = {"attn_q": (WIDTH, WIDTH), "attn_k": (WIDTH, WIDTH), "attn_v": (WIDTH, WIDTH), "attn_out": (WIDTH, WIDTH),
             "ffn_up": (FEED_FORWARD, WIDTH), "ffn_down": (WIDTH, FEED_FORWARD)}  # fmt: skip
    norms = ["v.post_ln"]
    for block in (f"v.blk.{i}." for i in range(layers)):
        norms += [block + "ln1", block + "ln2"]
        for name, shape in sizes.items():
            add(f"{block}{name}.weight", *shape, kind=format_name)
            add(f"{block}{name}.bias", shape[0])
    for name in norms:
        add(f"{name}.weight", WIDTH, mean=1)
        add(f"{name}.bias", WIDTH)
    vision = {
        "image_size": IMAGE, "patch_size": PATCH, "embedding_length": WIDTH, "feed_forward_length": FEED_FORWARD,
        "block_count": layers, "attention.head_count": HEADS, "attention.layer_norm_epsilon": 1e-6,
        "projection_dim": columns, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    }  # fmt: skip
    metadata: dict[str, Any] = {
        "general.architecture": "clip", "general.type": "mmproj", "clip.has_vision_encoder": True,
        "clip.projector_type": "gemma3", "clip.use_gelu": True,
    } | {f"clip.vision.{key}": value for key, value in vision.items()}  # fmt: skip
    write_gguf(path, metadata, found)


def write_text_model(source: Path, path: Path) -> int:
    """The text model with a context that holds a picture; its columns."""
    from llamaq.gguf import GGUFFile, TensorData, write_gguf

    with GGUFFile.open(source) as file:
        prefix = str(file.metadata["general.architecture"])
        metadata: dict[str, Any] = {**file.metadata, f"{prefix}.context_length": 1024}
        tensors = [
            TensorData(name, info.format, info.shape, file.data(name).tobytes()) for name, info in file.tensors.items()
        ]
        write_gguf(path, metadata, tensors, types=dict(file.metadata_types))
        return int(metadata[f"{prefix}.embedding_length"])


def png(seed: int) -> bytes:
    pixels: NDArray[np.uint8] = np.random.default_rng(seed).integers(0, 256, (IMAGE, IMAGE, 3), np.uint8)
    out = BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=0)
    return out.getvalue()


def timed(ask: Callable[[bytes], Any], count: int) -> list[float]:
    """Seconds of each picture, after one that warms up."""
    found = []
    for seed in range(count + 1):
        data = png(seed)
        start = time.perf_counter()
        ask(data)
        found.append(time.perf_counter() - start)
    return found[1:]


def run_llamaq(args: argparse.Namespace) -> list[float]:
    from llamaq import LLM

    with LLM.load(args.model, mmproj=args.mmproj, threads=args.threads, n_ctx=512) as llm:

        def ask(data: bytes) -> None:
            parts = [{"type": "image", "image": data}, {"type": "text", "text": "a"}]
            llm.chat([{"role": "user", "content": parts}], template=TEMPLATE, max_tokens=1)

        return timed(ask, args.pictures)


def run_peer(args: argparse.Namespace) -> list[float]:
    import xllamacpp

    params: Any = xllamacpp.CommonParams()
    params.model.path, params.mmproj.path = args.model, args.mmproj
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.n_ctx, params.n_parallel, params.n_batch, params.n_ubatch = 1024, 1, 512, 512
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = args.threads
    server = xllamacpp.Server(params)
    opener = build_opener(ProxyHandler({}))
    told = json.load(opener.open(f"{server.listening_address}/props"))
    mark = told.get("media_marker") or "<__media__>"  # stands for a picture in a prompt

    def ask(data: bytes) -> None:
        prompt = {"prompt_string": f"{mark}a", "multimodal_data": [base64.b64encode(data).decode()]}
        body = {"prompt": prompt, "n_predict": 1, "cache_prompt": False}
        address = f"{server.listening_address}/completion"
        opener.open(Request(address, json.dumps(body).encode(), {"content-type": "application/json"})).read()

    return timed(ask, args.pictures)


def float_peak(threads: int) -> float:
    """Operations a second of NumPy's product of float32 matrices: what a good library gets of this machine."""
    script = (
        f"import numpy, time; a = numpy.ones(({SIDE}, {SIDE}), 'f'); a @ a\n"
        "best = 9.0\nfor _ in range(9):\n  t = time.perf_counter(); a @ a; best = min(best, time.perf_counter() - t)\n"
        f"print(2 * {SIDE}**3 / best)"
    )
    limited = {f"{name}_NUM_THREADS": str(threads) for name in ("OPENBLAS", "MKL", "OMP")}
    return float(subprocess.check_output([sys.executable, "-c", script], env={**os.environ, **limited}))


def turn(command: list[str], role: str, text: Path, path: Path, args: argparse.Namespace) -> float:
    """The median of a process of its own."""
    options = ["--role", role, "--mmproj", path, "--threads", args.threads, "--pictures", args.pictures]
    done = subprocess.run(
        list(map(str, [*command, __file__, text, *options])), stdout=subprocess.PIPE, check=True, text=True
    )
    return float(statistics.median(json.loads(done.stdout.splitlines()[-1])))


def compare(args: argparse.Namespace) -> dict[str, Any]:
    from llamaq.measure.limits import cpu_name, probe

    limits = probe(args.threads)
    found: dict[str, Any] = {
        "cpu": cpu_name(), "level": limits.level, "threads": args.threads, "operations": operations(args.layers),
        "int8_peak": limits.int8_peak, "float_peak": float_peak(args.threads), "formats": {},
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.gguf"
        width = write_text_model(args.model, text)
        for name in args.formats:
            path = Path(folder) / f"mmproj-{name}.gguf"
            write_projector(path, name, width, args.layers)
            turns: list[tuple[float, float]] = []
            for _ in range(args.rounds):
                ours = turn([sys.executable], "llamaq", text, path, args)
                theirs = turn(shlex.split(args.peer), "peer", text, path, args) if args.peer else float("nan")
                turns.append((ours, theirs))
            best = min(ours for ours, _ in turns)
            peak = found["float_peak" if name in ("F16", "F32", "BF16") else "int8_peak"]
            ratios = [theirs / ours for ours, theirs in turns] if args.peer else []
            share = operations(args.layers) / best / peak
            found["formats"][name] = {"seconds": turns, "ratios": ratios, "share": share}
            told = f"{statistics.median(ratios):.2f} times as fast" if ratios else "no peer"
            print(f"{name}: {best:.2f} s a picture, {told}, {100 * share:.0f} % of the limit", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a Gemma 3 text model")
    parser.add_argument("--formats", nargs="+", default=["F16", "Q8_0"])
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each")
    parser.add_argument("--pictures", type=int, default=3, help="of a turn, after the first")
    parser.add_argument("--layers", type=int, default=LAYERS, help="fewer, to try the script")
    parser.add_argument("--peer", default="", help="a command that runs a Python with xllamacpp")
    parser.add_argument("--json", type=Path, help="a file for all figures")
    parser.add_argument("--role", choices=("llamaq", "peer"), help=argparse.SUPPRESS)
    parser.add_argument("--mmproj", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.role:
        print(json.dumps(run_llamaq(args) if args.role == "llamaq" else run_peer(args)))
        return
    found = compare(args)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
