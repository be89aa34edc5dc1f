"""What this machine can do at best: the yardstick that ``llamaq bench`` holds speeds against."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from llamaq import _core
from llamaq.engine.cgroup import text
from llamaq.engine.memory import available_memory
from llamaq.engine.topology import default_threads

__all__ = ["MachineLimits", "cpu_name", "probe"]

_BUFFER = 512 << 20  # bytes that are read: far more than a last-level cache holds


@dataclass(frozen=True)
class MachineLimits:
    """Limits of ``threads`` threads on one SIMD level, together.

    ``read_bandwidth``: bytes a second out of memory. ``int8_peak``: int8 operations a second with the level's
    cheapest instructions, operands in registers and the first cache; a product and its addition are two.
    """

    level: str
    threads: int
    read_bandwidth: float
    int8_peak: float


def probe(threads: int, level: str = "") -> MachineLimits:
    """Measures the limits, in about a second; ``level`` "" is the level in use (``LLAMAQ_ISA`` or the best).

    The best of several passes counts, so a moment's rest of other programs is enough. Takes up to 512 MiB of
    memory. Raises ``ISAError`` for a level that is not available, ``LlamaqError`` where threads or memory are
    refused.
    """
    level = level or _core.chosen_isa()
    available = available_memory()
    size = _BUFFER if available is None else min(_BUFFER, available // 4)
    team = _core.ThreadTeam(threads, threads <= default_threads().allowed)
    bandwidth, peak = _core.probe(team, size, level)
    return MachineLimits(level, threads, bandwidth, peak)


def cpu_name() -> str:
    """The processor's name as it, or the system, tells it."""
    if name := _core.cpu_name():
        return name
    lines = (text(Path("/proc/cpuinfo")) or "").splitlines()  # an ARM CPU has numbers of maker and design there
    entries = dict(line.partition(":")[::2] for line in reversed(lines))
    told = {key.strip(): value.strip() for key, value in entries.items()}
    design = [told[key] for key in ("CPU implementer", "CPU part") if key in told]
    return told.get("model name") or told.get("Model") or " ".join([platform.machine(), *design])
