"""Speed of each matmul kernel: format x level x rows of activations, one thread, CPU time.

    pytest benchmarks/test_kernels.py --benchmark-json=OUT.json

needs pytest-benchmark. ``extra_info`` has GB/s of weights, GOP/s (a product and its addition are two) and percent of
the level's int8 peak, measured in the same run; formats of plain numbers have no percentage.
"""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import pytest

from kernel_cases import COLS, FORMATS, ROWS, case, levels, weight_bytes
from llamaq import _core
from llamaq.formats import format_by_name
from llamaq.measure.limits import probe

pytestmark = pytest.mark.benchmark(timer=time.thread_time)  # other programs may run meanwhile


@cache
def int8_peak(level: str) -> float:
    return probe(1, level).int8_peak


@pytest.mark.parametrize("m", [1, 4, 16, 512])
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("level", levels())
def test_matmul(benchmark: Any, level: str, name: str, m: int) -> None:
    matmul = case(level, name, m)
    benchmark.group = f"{level}, M={m}"
    benchmark.pedantic(matmul.run, rounds=5 if m > 16 else 25, warmup_rounds=1)
    seconds = benchmark.stats.stats.min
    ops = 2 * m * ROWS * COLS
    info = benchmark.extra_info
    info |= {"level": level, "format": name, "m": m, "kernel": _core.kernel_name(level, format_by_name(name).id)}
    info["gb_per_s"] = round(weight_bytes(name) / seconds / 1e9, 2)
    info["gop_per_s"] = round(ops / seconds / 1e9, 1)
    info["percent_of_int8_peak"] = (
        round(100 * ops / seconds / int8_peak(level), 1) if "_i8_" in info["kernel"] else None
    )
