"""How many threads are worth starting here, and why: facts from the system, and a pure choice from them."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from llamaq.boundary.words import counted
from llamaq.engine import cgroup
from llamaq.engine.cgroup import number, text

__all__ = ["Facts", "ThreadChoice", "choose", "default_threads", "facts_of", "gather"]

# A core counts as a performance core from so much of the fastest one's figure on. Favoured cores of one kind differ
# by a few percent of frequency, efficiency cores by a quarter and more; of three ARM clusters the small one is left.
_CAPACITY_SHARE = 0.5
_FREQUENCY_SHARE = 0.8


@dataclass(frozen=True)
class Facts:
    """What is known of the machine and of this process's share of it; an empty mapping: nothing is known.

    ``cpus`` all that are online and ``allowed`` those of the affinity mask, by number; ``quota`` the CPUs that the
    cgroup grants (None: no limit); ``core`` names each CPU's core (threads of one core share the name);
    ``fast`` the CPUs that the system itself calls performance cores; ``capacity`` and ``frequency`` by CPU, in any
    unit.
    """

    cpus: frozenset[int]
    allowed: frozenset[int]
    quota: float | None = None
    core: Mapping[int, str] = field(default_factory=dict)
    fast: frozenset[int] = frozenset()
    capacity: Mapping[int, float] = field(default_factory=dict)
    frequency: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ThreadChoice:
    """A number of threads, the CPUs that affinity and cgroup leave, and why, in one line."""

    threads: int
    allowed: int
    reason: str


def choose(facts: Facts) -> ThreadChoice:
    """One thread for each physical performance core that the process may use, and no more than its quota.

    Two threads of one core share what a matrix product needs, and the slowest thread sets the pace of all: more
    would only make them wait.
    """
    allowed = facts.allowed & facts.cpus or facts.cpus
    fast = _performance(facts)
    used = allowed & fast or allowed  # a process bound to efficiency cores gets those
    cores, all_cores = _cores(facts, used), _cores(facts, facts.cpus)
    quota = len(allowed) if facts.quota is None else max(1, math.ceil(facts.quota))
    granted = min(len(allowed), quota)
    kind = "performance cores of" if len(fast) < len(facts.cpus) and used <= fast else "of"
    cpus = counted(len(facts.cpus), "CPU")
    reason = f"{cores} {kind} {counted(all_cores, 'core')}; affinity and cgroup allow {granted} of {cpus}"
    return ThreadChoice(min(cores, granted), granted, reason)


def _performance(facts: Facts) -> frozenset[int]:
    if facts.fast & facts.cpus:
        return facts.fast & facts.cpus
    for figures, share in ((facts.capacity, _CAPACITY_SHARE), (facts.frequency, _FREQUENCY_SHARE)):
        if facts.cpus <= figures.keys():
            least = share * max(figures[cpu] for cpu in facts.cpus)
            fast = frozenset(cpu for cpu in facts.cpus if figures[cpu] > least)
            if len(fast) < len(facts.cpus):
                return fast
    return facts.cpus


def _cores(facts: Facts, cpus: frozenset[int]) -> int:
    return len({facts.core.get(cpu, f"cpu {cpu}") for cpu in cpus})


def default_threads() -> ThreadChoice:
    """The choice for this process, now."""
    return choose(gather())


def gather(root: Path = Path("/")) -> Facts:
    """The facts of this machine; ``root`` is where /sys and /proc are, if the system has them."""
    if sys.platform in ("win32", "darwin"):
        from llamaq import _core

        if cpus := _core.system_cpus():
            return facts_of(cpus)
    return _linux(root)


def facts_of(cpus: Iterable[tuple[int, int, int, bool]]) -> Facts:
    """Facts from number, core, speed (of its kind of core) and permission of each CPU: what Windows and macOS tell."""
    rows = list(cpus)
    fastest = max(speed for _, _, speed, _ in rows)
    return Facts(
        frozenset(number for number, *_ in rows),
        frozenset(number for number, _, _, allowed in rows if allowed),
        core={number: str(core) for number, core, _, _ in rows},
        fast=frozenset(number for number, _, speed, _ in rows if speed == fastest),
    )


def _linux(root: Path) -> Facts:
    sys_cpu = root / "sys/devices/system/cpu"
    cpus = _cpu_list(sys_cpu / "online") or frozenset(range(os.cpu_count() or 1))
    if sys.platform == "linux":
        allowed = frozenset(os.sched_getaffinity(0))
    else:
        allowed = cpus
    core: dict[int, str] = {}
    capacity: dict[int, float] = {}
    frequency: dict[int, float] = {}
    for cpu in cpus:
        folder = sys_cpu / f"cpu{cpu}"
        name = text(folder / "topology/core_cpus_list") or text(folder / "topology/thread_siblings_list")
        if name is not None:
            core[cpu] = name
        for figures, file in ((capacity, "cpu_capacity"), (frequency, "cpufreq/cpuinfo_max_freq")):
            if (figure := number(folder / file)) is not None:
                figures[cpu] = figure
    return Facts(cpus, allowed, _quota(root), core, _cpu_list(root / "sys/devices/cpu_core/cpus"), capacity, frequency)


def _quota(root: Path) -> float | None:
    """CPUs granted by the tightest of this process's cgroups and those around them."""
    quotas = (_group_quota(group) for group in cgroup.groups("cpu", root))
    return min((quota for quota in quotas if quota is not None), default=None)


def _group_quota(group: Path) -> float | None:
    limit = text(group / "cpu.max")  # "quota period" in microseconds, or "max period"
    if limit is None:
        quota, period = number(group / "cpu.cfs_quota_us"), number(group / "cpu.cfs_period_us")
    else:
        quota, period = (float(part) if part.isdecimal() else None for part in f"{limit} max max".split()[:2])
    return quota / period if quota and period and quota > 0 and period > 0 else None


def _cpu_list(path: Path) -> frozenset[int]:
    """CPUs of a list like "0-3,8"; none where the file is missing or says anything else."""
    cpus: set[int] = set()
    try:
        for part in (text(path) or "").split(","):
            first, _, last = part.partition("-")
            cpus.update(range(int(first), int(last or first) + 1))
    except ValueError:
        return frozenset()
    return frozenset(cpus)
