"""llama.cpp's quantizer through llama-cpp-python: prints seconds, CPU seconds and peak memory as JSON.

    python benchmarks/quantize_peer.py SOURCE TARGET NUMBER --threads 2 [--pure] [--importance FILE.npz]

NUMBER is the file type's; FILE.npz holds float32 importance by tensor name.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import resource
import sys
import time
from typing import Any

import numpy as np


def importance_of(path: str, library: Any) -> tuple[Any, list[Any]]:
    """The array that llama_model_quantize_params points at, and what must stay alive meanwhile."""
    found = np.load(path)
    entry = library.llama_model_imatrix_data
    entries, kept = (entry * (len(found.files) + 1))(), []
    for at, name in enumerate(found.files):
        values = np.ascontiguousarray(found[name], np.float32)
        kept.append(values)
        pointer = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        entries[at] = entry(name.encode(), pointer, values.size)
    return entries, kept


def main() -> None:
    parser = argparse.ArgumentParser(description="Times llama.cpp's quantizer.")
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("number", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pure", action="store_true")
    parser.add_argument("--importance")
    args = parser.parse_args()
    import llama_cpp.llama_cpp as library

    silent = library.llama_log_callback(lambda level, text, data: None)
    library.llama_log_set(silent, None)
    params = library.llama_model_quantize_default_params()
    params.nthread, params.ftype, params.pure = args.threads, args.number, args.pure
    if args.importance:
        entries, _kept = importance_of(args.importance, library)
        params.imatrix = ctypes.cast(entries, type(params.imatrix))
    wall, cpu = time.perf_counter(), time.process_time()
    failed = library.llama_model_quantize(args.source.encode(), args.target.encode(), ctypes.byref(params))
    result = {
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    if failed:
        sys.exit(f"llama_model_quantize: {failed}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
