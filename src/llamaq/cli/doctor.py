"""``llamaq doctor``: what llamaq finds on this machine, and what would make it faster."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from llamaq.cli.command import Command
from llamaq.cli.options import Parser
from llamaq.cli.output import harmless, size, write

if TYPE_CHECKING:
    from llamaq.measure.machine import Machine

__all__ = ["COMMAND"]

_ABOUT = """\
Tells what llamaq finds on this machine: CPU and SIMD levels, cores, memory and its speed (measured for a second),
versions of packages; and what would make llamaq faster. For bug reports, too: it names neither you, nor your machine,
nor any path."""


def _add_options(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def doctor(args: argparse.Namespace) -> int:
    """Runs the command."""
    from llamaq.measure.machine import advice, examine

    machine = examine()
    remarks = list(advice(machine))
    if args.json:
        write(json.dumps({**asdict(machine), "advice": remarks}, indent=2, allow_nan=False) + "\n")
        return 0
    width = max(len(name) for name, _ in _rows(machine))
    lines = [f"{name.ljust(width)}  {value}" for name, value in _rows(machine)]
    lines += ["", "What would make it faster:" if remarks else "Nothing that it knows of would make it faster."]
    write(harmless("\n".join([*lines, *(f"* {each}" for each in remarks)])) + "\n")
    return 0


def _rows(machine: Machine) -> Iterator[tuple[str, str]]:
    yield "llamaq", f"{machine.llamaq} ({machine.build})"
    yield "Python", machine.python
    yield "system", machine.system
    yield "CPU", f"{machine.cpu}{', in a virtual machine' if machine.virtual else ''}"
    yield "level", f"{machine.level or 'none'}, of {', '.join(machine.levels)}"
    if missing := [name for name in machine.built if name not in machine.levels]:
        yield "", f"beyond this CPU: {', '.join(missing)}"
    yield "threads", f"{machine.choice.threads}: {machine.choice.reason}"
    if machine.load is not None:
        yield "load", f"{machine.load:.2f} programs wanted a CPU in the last minute"
    huge = machine.huge_pages or "not told"
    yield "memory", f"{_bytes(machine.memory)}, {_bytes(machine.available)} available; huge pages: {huge}"
    if machine.limits is None:
        yield "speed", "not measured: the system refused memory or threads"
    else:
        read, peak = machine.limits.read_bandwidth / 1e9, machine.limits.int8_peak / 1e9
        yield "speed", f"{read:.1f} GB/s out of memory, {peak:.0f} billion int8 operations a second"
    yield from _packages(machine)
    yield from machine.environment.items()


def _packages(machine: Machine) -> Iterator[tuple[str, str]]:
    from llamaq.measure.machine import EXTRAS, REQUIRED

    def told(names: tuple[str, ...]) -> str:
        return ", ".join(f"{name} {machine.packages.get(name) or 'MISSING'}" for name in names)

    yield "packages", told(REQUIRED)
    for extra, names in EXTRAS.items():
        whole = all(machine.packages.get(name) for name in names)
        yield f"[{extra}]", told(names) + ("" if whole else f" (pip install 'llamaq[{extra}]')")


def _bytes(count: int | None) -> str:
    return "unknown" if count is None else size(count)


COMMAND = Command(
    help="tell what llamaq finds on this machine, and what would make it faster",
    usage="[options]",
    about=_ABOUT,
    add_options=_add_options,
    run=doctor,
)
