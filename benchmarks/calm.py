"""Waiting for a machine that does nothing else.

A virtual machine shares its cores with strangers. Their work halves the speed of code that keeps a core busy and hardly
slows what waits for memory, so no ratio of two programs holds beside it.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["Calm"]

_DATA = bytes(1 << 20)  # hashed in about 3 ms, by the core's arithmetic alone and without the GIL

T = TypeVar("T")


class Calm:
    """Repeats measurements beside which a CPU was slowed down. ``least`` are the seconds of a hash on the slowest CPU
    while nothing disturbs it (None: the least of three seconds; infinity: measurements are not repeated)."""

    SLACK = 1.15
    PATIENCE = 90.0  # seconds a measurement

    def __init__(self, least: float | None) -> None:
        self.least = min(seconds_of_all() for _ in range(300)) if least is None else least
        self.disturbed = 0  # measurements that were taken as they came, as patience had an end

    def measure(self, work: Callable[[], T]) -> T:
        """What ``work`` gives when the CPUs were undisturbed right before and right after it."""
        end = time.monotonic() + self.PATIENCE
        while time.monotonic() < end:
            if not self.now():
                time.sleep(0.05)
                continue
            result = work()
            if self.now():
                return result
        self.disturbed += 1
        return work()

    def now(self) -> bool:
        """Whether nothing slows a CPU down at the moment."""
        return self.least == float("inf") or seconds_of_all() <= self.SLACK * self.least


def seconds_of_all() -> float:
    """Of a hash on each CPU at once, the slowest."""
    found: list[float] = []
    threads = [
        threading.Thread(target=lambda cpu=cpu: found.append(seconds_on(cpu))) for cpu in os.sched_getaffinity(0)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return max(found)


def seconds_on(cpu: int) -> float:
    """Of a hash on one CPU, in the calling thread."""
    os.sched_setaffinity(0, {cpu})
    began = time.perf_counter()
    hashlib.sha256(_DATA).digest()
    return time.perf_counter() - began
