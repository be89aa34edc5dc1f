"""What llamaq finds on this machine, and what would make it faster here: the matter of ``llamaq doctor``."""

from __future__ import annotations

import os
import platform
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from llamaq import __version__, _core
from llamaq.engine.cgroup import text
from llamaq.engine.memory import available_memory, physical_memory
from llamaq.engine.topology import Facts, ThreadChoice, choose, gather
from llamaq.errors import LlamaqError
from llamaq.measure.limits import MachineLimits, cpu_name, probe

__all__ = ["EXTRAS", "REQUIRED", "Machine", "advice", "examine"]

REQUIRED = ("numpy", "jinja2", "regex", "tqdm")
EXTRAS: dict[str, tuple[str, ...]] = {
    "chat": ("prompt_toolkit", "rich"),
    "structure": ("llguidance",),
    "server": ("starlette", "uvicorn", "httptools", "prometheus_client"),
    "hub": ("huggingface_hub",),
    "convert": ("safetensors", "ml_dtypes", "sentencepiece"),
    "images": ("pillow",),
    "ray": ("ray",),
}
"""The packages of each extra of pyproject.toml that is for users; [ray] needs those of [server], too."""
_VALUES_SHOWN = ("LLAMAQ_ISA", "OMP_NUM_THREADS")
"""Variables whose values are nobody's secret; of others the names are told."""


@dataclass(frozen=True)
class Machine:
    """Facts for whoever wonders about speed or reads a bug report; none of them tells whose machine it is.

    ``level`` is the SIMD level in use ("" where LLAMAQ_ISA names none that runs), ``levels`` those that run here,
    slowest first, ``built`` those of this build. ``memory`` and ``available`` are bytes, ``load`` the average number of
    programs that wanted a CPU in the last minute, ``nodes`` the memory's parts; None: the system does not tell.
    ``packages`` has the version of each package, "" where it is missing.
    """

    cpu: str
    level: str
    levels: tuple[str, ...]
    built: tuple[str, ...]
    cpus: int
    choice: ThreadChoice
    quota: float | None = None
    load: float | None = None
    virtual: bool = False
    nodes: int = 1
    governor: str | None = None
    memory: int | None = None
    available: int | None = None
    huge_pages: str | None = None
    limits: MachineLimits | None = None
    llamaq: str = __version__
    build: str = _core.BUILD
    python: str = ""
    system: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


def examine(root: Path = Path("/"), *, measure: bool = True) -> Machine:
    """Looks at this machine (``root`` is where /sys and /proc are), and measures its memory for about a second."""
    facts = gather(root)
    choice = choose(facts)
    sys_cpu, huge = root / "sys/devices/system/cpu", root / "sys/kernel/mm/transparent_hugepage/enabled"
    return Machine(
        cpu=cpu_name(),
        level=_level(),
        levels=tuple(_core.isas()),
        built=tuple(_core.built_isas()),
        cpus=len(facts.cpus),
        choice=choice,
        quota=facts.quota,
        load=_load(),
        virtual="hypervisor" in _flags(root),
        nodes=_nodes(root),
        governor=_governor(facts, sys_cpu),
        memory=physical_memory(),
        available=available_memory(root),
        huge_pages=_chosen(text(huge)),
        limits=_limits(choice) if measure else None,
        python=_python(),
        system=platform.platform(),
        packages={name: _version(name) for names in (REQUIRED, *EXTRAS.values()) for name in names},
        environment=_environment(),
    )


def advice(machine: Machine) -> Iterator[str]:
    """What would make llamaq faster on this machine, a sentence or two each."""
    x86 = "avx2" in machine.built
    best = machine.levels[-1]
    if not machine.level:
        yield f"LLAMAQ_ISA names no SIMD level of this machine: unset it, or say one of {', '.join(machine.levels)}."
    elif machine.level != best:
        yield f"LLAMAQ_ISA holds llamaq to {machine.level}; without it {best} is used."
    if x86 and best == "scalar":
        hidden = " Virtual machines may hide it: give this one the host's CPU model." if machine.virtual else ""
        yield f"The CPU, as this process sees it, has no AVX2, which is many times faster.{hidden}"
    if any(option in machine.build for option in ("Debug", "SANITIZE", "EMULATE", "RELAXED")):
        yield f"This build ({machine.build}) is one for tests: install one of CMAKE_BUILD_TYPE=Release."
    yield from _advice_on_cpus(machine)
    if machine.huge_pages == "never":
        yield (
            "Huge pages are off: 'echo madvise > /sys/kernel/mm/transparent_hugepage/enabled', as root, lets llamaq "
            "ask for them."
        )
    if machine.nodes > 1:
        yield (
            f"Memory lies on {machine.nodes} nodes: 'numactl --interleave=all llamaq ...' spreads a model over all, "
            "'numactl -N 0 -m 0' keeps a small one on one; measure which is faster with llamaq bench."
        )


def _advice_on_cpus(machine: Machine) -> Iterator[str]:
    granted = machine.choice.allowed
    if machine.quota is not None and machine.quota < machine.cpus:
        yield f"The cgroup grants {machine.quota:g} of {machine.cpus} CPUs: a larger quota (docker: --cpus) helps."
    elif granted < machine.cpus:
        yield f"The affinity mask leaves {granted} of {machine.cpus} CPUs (taskset, docker: --cpuset-cpus)."
    if machine.load is not None and machine.load > 0.5 * granted:
        yield (
            f"Other programs are busy: on average {machine.load:.1f} wanted a CPU in the last minute, of {granted}. "
            "Speed and bandwidth are what they leave."
        )
    if machine.governor == "powersave":
        yield "The CPUs keep to their lowest clock: 'cpupower frequency-set -g performance', as root, lets them rise."


def _level() -> str:
    try:
        return _core.chosen_isa()
    except LlamaqError:
        return ""


def _load() -> float | None:
    if sys.platform == "win32":
        return None
    try:
        return os.getloadavg()[0]
    except OSError:  # a system without /proc has none
        return None


def _limits(choice: ThreadChoice) -> MachineLimits | None:
    try:
        return probe(choice.threads, _level() or _core.isas()[-1])
    except LlamaqError:  # the system refuses memory or threads
        return None


def _flags(root: Path) -> list[str]:
    lines = (text(root / "proc/cpuinfo") or "").splitlines()
    return next((line.split() for line in lines if line.startswith("flags")), [])


def _nodes(root: Path) -> int:
    folder = root / "sys/devices/system/node"
    return max(1, sum(path.name[4:].isdecimal() for path in folder.glob("node*")))


def _governor(facts: Facts, sys_cpu: Path) -> str | None:
    """The governor of the first CPU; None where the driver (intel_pstate, amd-pstate) makes its own of the name."""
    folder = sys_cpu / f"cpu{min(facts.cpus, default=0)}" / "cpufreq"
    driver = text(folder / "scaling_driver") or ""
    return None if "pstate" in driver else text(folder / "scaling_governor")


def _chosen(line: str | None) -> str | None:
    """The word in brackets of a line like "always [madvise] never"."""
    return next((word[1:-1] for word in (line or "").split() if word[0] == "["), None)


def _python() -> str:
    free = ", free-threaded" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    return f"{platform.python_implementation()} {platform.python_version()}, {sys.maxsize.bit_length() + 1} bits{free}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _environment() -> dict[str, str]:
    names = [n for n in os.environ if n.startswith(("LLAMAQ_", "LLAMA_ARG_")) or n in _VALUES_SHOWN]
    return {name: os.environ[name] if name in _VALUES_SHOWN else "(set)" for name in sorted(names)}
