"""The default number of threads, from tables of machines and from a /sys of our own making."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from llamaq import _core
from llamaq.engine.topology import Facts, choose, facts_of, gather


def pairs(cpus: Iterable[int], each: int = 2) -> dict[int, str]:
    """Core names of CPUs that follow one another as threads of one core."""
    return {cpu: f"core {cpu // each}" for cpu in cpus}


def cpus(count: int) -> frozenset[int]:
    return frozenset(range(count))


LAPTOP_CORES = pairs(range(12)) | {cpu: f"core {cpu}" for cpu in range(12, 20)}  # 6 P cores of two threads, 8 E cores
MACHINES = {
    "laptop with P and E cores": (
        Facts(cpus(20), cpus(20), core=LAPTOP_CORES, fast=cpus(12)),
        (6, 20, "6 performance cores of 14 cores; affinity and cgroup allow 20 of 20 CPUs"),
    ),
    "the same, known by frequency alone": (
        Facts(
            cpus(20), cpus(20), core=LAPTOP_CORES, frequency={n: 5.0 + n % 2 / 5 if n < 12 else 3.8 for n in range(20)}
        ),
        (6, 20, "6 performance cores of 14 cores; affinity and cgroup allow 20 of 20 CPUs"),
    ),
    "the same, bound to two E cores": (
        Facts(cpus(20), frozenset({13, 15}), core=LAPTOP_CORES, fast=cpus(12)),
        (2, 2, "2 of 14 cores; affinity and cgroup allow 2 of 20 CPUs"),
    ),
    "server with two threads a core": (
        Facts(cpus(64), cpus(64), core={n: f"core {n % 32}" for n in range(64)}),
        (32, 64, "32 of 32 cores; affinity and cgroup allow 64 of 64 CPUs"),
    ),
    "VM with two CPUs": (
        Facts(cpus(2), cpus(2), core={0: "0", 1: "1"}, capacity={0: 1024, 1: 1024}),
        (2, 2, "2 of 2 cores; affinity and cgroup allow 2 of 2 CPUs"),
    ),
    "container with a quota of 1.5 CPUs": (
        Facts(cpus(16), cpus(16), quota=1.5, core=pairs(range(16))),
        (2, 2, "8 of 8 cores; affinity and cgroup allow 2 of 16 CPUs"),
    ),
    "container with a tenth of a CPU": (
        Facts(cpus(4), cpus(4), quota=0.1),
        (1, 1, "4 of 4 cores; affinity and cgroup allow 1 of 4 CPUs"),
    ),
    "affinity mask of one thread": (
        Facts(cpus(8), frozenset({5}), core=pairs(range(8))),
        (1, 1, "1 of 4 cores; affinity and cgroup allow 1 of 8 CPUs"),
    ),
    "affinity mask of both threads of one core": (
        Facts(cpus(8), frozenset({4, 5}), core=pairs(range(8))),
        (1, 2, "1 of 4 cores; affinity and cgroup allow 2 of 8 CPUs"),
    ),
    "ARM with big and little cores": (
        Facts(cpus(8), cpus(8), capacity={n: 1024 if n > 3 else 446 for n in range(8)}),
        (4, 8, "4 performance cores of 8 cores; affinity and cgroup allow 8 of 8 CPUs"),
    ),
    "ARM with three kinds of cores": (
        Facts(cpus(8), cpus(8), capacity={n: (250, 250, 250, 768, 768, 768, 768, 1024)[n] for n in range(8)}),
        (5, 8, "5 performance cores of 8 cores; affinity and cgroup allow 8 of 8 CPUs"),
    ),
    "desktop whose cores differ by their favoured clock": (
        Facts(cpus(4), cpus(4), frequency={0: 5700, 1: 5650, 2: 5500, 3: 5450}),
        (4, 4, "4 of 4 cores; affinity and cgroup allow 4 of 4 CPUs"),
    ),
    "nothing known but the number of CPUs": (
        Facts(cpus(3), cpus(3)),
        (3, 3, "3 of 3 cores; affinity and cgroup allow 3 of 3 CPUs"),
    ),
}


@pytest.mark.parametrize("machine", MACHINES)
def test_choice(machine: str) -> None:
    facts, want = MACHINES[machine]
    choice = choose(facts)
    assert (choice.threads, choice.allowed, choice.reason) == want


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    return root


@pytest.fixture
def bound_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)


LINUX = pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="/sys is Linux's")


@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_facts_that_windows_and_macos_tell(monkeypatch: pytest.MonkeyPatch, system: str) -> None:
    """What the calls of these systems give is made up here: no machine of CI has them."""
    hybrid = [(0, 0, 1, True), (1, 0, 1, True), (2, 1, 1, True), (3, 1, 1, False), (4, 2, 0, True), (5, 3, 0, True)]
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(_core, "system_cpus", lambda: hybrid)
    facts = gather()
    assert facts == facts_of(hybrid)
    assert (facts.fast, facts.allowed) == (cpus(4), frozenset({0, 1, 2, 4, 5}))
    assert choose(facts).threads == 2
    assert choose(facts_of((n, n, 0, True) for n in range(8))).threads == 8
    monkeypatch.setattr(_core, "system_cpus", list)
    assert gather(Path("nowhere")).cpus == cpus(os.cpu_count() or 1)


@LINUX
@pytest.mark.usefixtures("bound_to")
def test_facts_of_a_hybrid_laptop(tmp_path: Path) -> None:
    files = {"sys/devices/system/cpu/online": "0-4", "sys/devices/cpu_core/cpus": "0-1,4"}
    for cpu in range(5):
        folder = f"sys/devices/system/cpu/cpu{cpu}"
        files |= {
            f"{folder}/topology/core_cpus_list": "0-1" if cpu < 2 else str(cpu),
            f"{folder}/cpufreq/cpuinfo_max_freq": str(5000000 - cpu),
        }
    facts = gather(tree(tmp_path, files))
    assert facts == Facts(
        cpus(5), cpus(4), None, {0: "0-1", 1: "0-1", 2: "2", 3: "3", 4: "4"}, frozenset({0, 1, 4}), {},
        {cpu: 5000000 - cpu for cpu in range(5)},
    )  # fmt: skip
    assert choose(facts).threads == 1


@LINUX
@pytest.mark.usefixtures("bound_to")
def test_facts_where_older_or_no_files_are(tmp_path: Path) -> None:
    files = {
        "sys/devices/system/cpu/online": "0,2-3",
        "sys/devices/system/cpu/cpu2/topology/thread_siblings_list": "2-3",
        "sys/devices/system/cpu/cpu2/cpu_capacity": "many",
    }
    assert gather(tree(tmp_path / "old", files)) == Facts(frozenset({0, 2, 3}), cpus(4), core={2: "2-3"})
    nothing = gather(tmp_path / "nothing")
    assert nothing == Facts(cpus(os.cpu_count() or 1), cpus(4))


@LINUX
@pytest.mark.parametrize(
    ("want", "groups", "files"),
    [
        (None, "0::/", {}),
        (None, "0::/a", {"a/cpu.max": "max 100000"}),
        (1.5, "0::/a", {"a/cpu.max": "150000 100000"}),
        (0.5, "0::/a/b/c", {"a/b/c/cpu.max": "max 100000", "a/b/cpu.max": "300000 100000",
                            "a/cpu.max": "50000 100000"}),
        (2.0, "0::/docker/of/the/host", {"cpu.max": "200000 100000"}),
        (None, "4:memory:/a\n0::/b", {"a/cpu.max": "150000 100000"}),
        (2.5, "2:cpu,cpuacct:/x", {"cpu,cpuacct/x/cpu.cfs_quota_us": "250000",
                                   "cpu,cpuacct/x/cpu.cfs_period_us": "100000"}),
        (None, "1:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}),
        (3.0, "1:cpu:/y/z\n0::/", {"cpu/y/cpu.cfs_quota_us": "300000", "cpu/y/cpu.cfs_period_us": "100000",
                                  "cpu/y/z/cpu.cfs_quota_us": "-1", "cpu/y/z/cpu.cfs_period_us": "100000"}),
        (None, "1:cpu:/", {"cpu/cpu.cfs_quota_us": "oops"}),
        (None, "not a line of it", {"cpu.max": "oops"}),
    ],
)  # fmt: skip
def test_quota_of_nested_groups(tmp_path: Path, want: float | None, groups: str, files: dict[str, str]) -> None:
    tree(tmp_path, {"proc/self/cgroup": groups} | {f"sys/fs/cgroup/{name}": text for name, text in files.items()})
    assert gather(tmp_path).quota == want


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs affinity masks")
def test_a_process_bound_to_one_cpu_takes_one_thread() -> None:
    script = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); " \
             "import llamaq.engine.topology as t; print(t.default_threads().threads)"  # fmt: skip
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "1\n"
