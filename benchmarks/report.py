"""What the comparisons share: the machine, spreads and tables."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from llamaq.measure.limits import cpu_name

__all__ = ["Result", "machine", "print_table", "spread"]

Result = dict[str, Any]


def machine() -> Result:
    """The processor and the versions that do not belong to a runtime."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip() or None
    return {
        "cpu": cpu_name(),
        "cpus": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "commit": commit,
    }


def spread(values: Iterable[float]) -> Result:
    """Median, least and greatest."""
    listed = [round(value, 3) for value in values]
    return {"median": statistics.median(listed), "min": min(listed), "max": max(listed), "all": listed}


def print_table(rows: list[list[str]]) -> None:
    """A Markdown table; the first row is its head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    print("\n".join(lines))
