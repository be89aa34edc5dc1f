"""What `llamaq doctor` finds, on machines of our own making, and what it advises."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from llamaq import _core
from llamaq.engine.memory import available_memory, physical_memory
from llamaq.engine.topology import ThreadChoice
from llamaq.measure.limits import cpu_name
from llamaq.measure.machine import EXTRAS, REQUIRED, Machine, advice, examine

PROJECT = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")


def machine(**changes: Any) -> Machine:
    facts: dict[str, Any] = {
        "cpu": "A CPU", "level": "avx512", "levels": ("scalar", "avx2", "avx512"),
        "built": ("scalar", "avx2", "avx512"), "cpus": 8, "choice": ThreadChoice(4, 8, "4 of 4 cores"), "load": 0.5,
        "huge_pages": "madvise",
        "build": "GNU 12.2.0, x86_64, Release",
    }  # fmt: skip
    return Machine(**(facts | changes))


def test_nothing_is_advised_where_all_is_well() -> None:
    assert list(advice(machine())) == []
    assert list(advice(machine(load=None, huge_pages=None, governor="schedutil"))) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"level": ""}, "LLAMAQ_ISA names no SIMD level of this machine: unset it, or say one of scalar, avx2, avx512"),
        ({"level": "avx2"}, "LLAMAQ_ISA holds llamaq to avx2; without it avx512 is used"),
        ({"level": "scalar", "levels": ("scalar",)}, "has no AVX2, which is many times faster.$"),
        ({"level": "scalar", "levels": ("scalar",), "virtual": True}, "give this one the host's CPU model"),
        ({"build": "GNU 12.2.0, x86_64, Debug"}, "is one for tests"),
        ({"build": "GNU 12.2.0, x86_64, Release, EMULATE=ON"}, "is one for tests"),
        ({"quota": 1.5, "choice": ThreadChoice(2, 2, "")}, r"The cgroup grants 1.5 of 8 CPUs"),
        ({"choice": ThreadChoice(2, 2, "")}, "The affinity mask leaves 2 of 8 CPUs"),
        ({"load": 5.0}, "on average 5.0 wanted a CPU in the last minute, of 8"),
        ({"governor": "powersave"}, "cpupower frequency-set -g performance"),
        ({"huge_pages": "never"}, "echo madvise >"),
        ({"nodes": 2}, "numactl --interleave=all"),
    ],
)
def test_advice(changes: dict[str, Any], words: str) -> None:
    (line,) = advice(machine(**changes))
    assert re.search(words, line)


@pytest.mark.skipif(sys.platform != "linux", reason="/sys is Linux's")
def test_facts_of_a_system_of_our_making(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    files = {
        "proc/cpuinfo": "model name\t: A CPU\nflags\t\t: fpu hypervisor avx2",
        "proc/meminfo": "MemAvailable: 1000 kB",
        "sys/devices/system/cpu/online": "0-3",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_driver": "acpi-cpufreq",
        "sys/devices/system/node/node0/cpulist": "0-1",
        "sys/devices/system/node/node1/cpulist": "2-3",
        "sys/kernel/mm/transparent_hugepage/enabled": "always madvise [never]",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    found = examine(tmp_path, measure=False)
    assert (found.cpus, found.choice.allowed, found.nodes, found.virtual) == (4, 2, 2, True)
    assert (found.governor, found.huge_pages, found.available) == ("powersave", "never", 1024000)
    (tmp_path / "sys/devices/system/cpu/cpu0/cpufreq/scaling_driver").write_text("intel_pstate\n")
    assert examine(tmp_path, measure=False).governor is None
    nothing = examine(tmp_path / "nothing", measure=False)
    assert (nothing.nodes, nothing.virtual, nothing.governor, nothing.huge_pages) == (1, False, None, None)


def test_facts_of_this_machine() -> None:
    found = examine(measure=False)
    assert found.levels == tuple(_core.isas())
    assert set(found.levels) <= set(found.built)
    assert found.packages["numpy"]
    assert found.memory is None or found.memory > 2**28


def test_memory_that_windows_and_macos_tell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the calls of these systems give is made up here: no machine of CI has them."""
    monkeypatch.setattr(_core, "system_memory", lambda: (8 << 30, 5 << 30))
    assert available_memory(tmp_path) == 5 << 30
    monkeypatch.setattr(sys, "platform", "win32")
    assert physical_memory() == 8 << 30
    monkeypatch.setattr(_core, "system_memory", lambda: (0, 0))
    assert (physical_memory(), available_memory(tmp_path)) == (None, None)


def test_the_processor_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cpu_name().strip()
    monkeypatch.setattr(_core, "cpu_name", lambda: "")
    assert cpu_name().strip()


def test_a_level_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMAQ_ISA", "mmx")
    monkeypatch.setenv("LLAMA_ARG_MODEL", "/home/somebody/secret.gguf")
    found = examine(measure=False)
    assert found.level == ""
    assert found.environment["LLAMAQ_ISA"] == "mmx"
    assert found.environment["LLAMA_ARG_MODEL"] == "(set)"


def test_packages_are_those_of_the_project() -> None:
    def listed(name: str) -> tuple[str, ...]:
        (line,) = re.findall(rf"^{name} = \[(.*)\]$", PROJECT, re.MULTILINE)
        return tuple(found for found in re.findall(r'"([\w-]+)', line) if found != "llamaq")

    (table,) = re.findall(r"^\[project.optional-dependencies\]\n(.*?)\n\n", PROJECT, re.MULTILINE | re.DOTALL)
    extras = set(re.findall(r"^(\w+) = \[", table, re.MULTILINE)) - {"test", "transformers", "peers"}
    assert listed("dependencies") == REQUIRED
    assert {name: listed(name) for name in extras} == EXTRAS
