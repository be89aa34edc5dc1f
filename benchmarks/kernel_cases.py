"""Single matmul kernels to be timed: weights of one format times rows of activations, on one thread.

    python benchmarks/kernel_cases.py

prints seconds of the quick cases as JSON, each the least of many runs; ``compare_kernels.py`` starts it.
"""

from __future__ import annotations

import json
import time
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

import make_model
from llamaq import _core
from llamaq.formats import format_by_name

__all__ = ["COLS", "FORMATS", "ROWS", "RUNS", "case", "levels", "weight_bytes"]

FORMATS = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "IQ1_S",
           "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "TQ1_0", "TQ2_0", "MXFP4", "F16", "BF16",
           "F32")  # fmt: skip
ROWS, COLS = 1024, 4096  # the shape of the weights: a few MB, which the last cache holds
QUICK = [(name, m) for name in ("Q4_0", "Q8_0", "Q4_K", "Q6_K", "F16") for m in (1, 4, 512)]
make_model.POOL = 1 << 18  # weights that are really encoded, for each format
RUNS = 0.15  # seconds that the runs of a quick case take together, and three at least


def levels() -> list[str]:
    """SIMD levels worth measuring: all but the specification, where there is another."""
    found = _core.isas()
    return found[1:] or found


def weight_bytes(name: str) -> int:
    """Bytes of a case's weights, which a run reads once."""
    return ROWS * format_by_name(name).row_bytes(COLS)


@cache
def _weights(name: str) -> NDArray[np.uint8]:
    fmt = format_by_name(name)
    return np.concatenate(list(make_model.Weights().stream(fmt, ROWS, COLS))).reshape(ROWS, fmt.row_bytes(COLS))


def case(level: str, name: str, m: int) -> Any:
    """A matmul whose ``run()`` multiplies; packing and quantization are done."""
    x = np.random.default_rng(0).standard_normal((m, COLS), np.float32)
    return _core.Matmul(level, format_by_name(name).id, _weights(name), x)


def main() -> None:
    level, found = levels()[-1], {}
    for name, m in QUICK:
        matmul = case(level, name, m)
        seconds: list[float] = []
        while len(seconds) < 3 or sum(seconds) < RUNS:
            began = time.thread_time()
            matmul.run()
            seconds.append(time.thread_time() - began)
        found[f"{level} {name} M={m}"] = min(seconds)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
