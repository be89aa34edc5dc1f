"""The object file of each SIMD level: one exported symbol, and no instruction beyond its level.

Code compiled for a newer CPU must not be able to replace code that older ones run: an inline function of a shared
header, compiled into a level's object as a weak symbol, could be the copy that the linker keeps.
"""

from __future__ import annotations

import functools
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CMAKE = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
HERE = platform.machine()


def machine_of(level: str) -> str:
    return HERE if level == "scalar" else "aarch64" if level.startswith("neon") else "x86_64"


LEVELS = re.findall(r"add_level\((\w+)", CMAKE)
"""Levels of this machine, and those of 64-bit ARM, which Debian's cross-compiler can build too."""
KERNELS = ROOT / "csrc" / "kernels"
OBJECTS = [
    (level, kind) for level in LEVELS for kind in ("table", "encode") if (KERNELS / level / f"{kind}.cpp").exists()
]
"""Level and source file: the kernels of the engine, and the searches of ``llamaq quantize``."""

AVX512_REGISTERS = r"%zmm\d|%[xy]mm(1[6-9]|2\d|3[01])\b|%k[0-7]\b"
BEYOND = {
    "scalar": r"\tv[a-z]|%[yz]mm\d" if HERE == "x86_64" else r"\t[su]dot\t|mmla\t",
    "avx2": AVX512_REGISTERS + r"|vpdp",
    "avxvnni": AVX512_REGISTERS + r"|vpdp(?!busd)",
    "avx512": r"%tmm\d|\{vex\}|vpdp(?!busd)",
    "amx": r"\{vex\}|vpdp(?!busd)|tdp(?!bssd|bf16ps)",
    "neon": r"\t[su]dot\t|mmla\t",
    "neon_dotprod": r"mmla\t|\tusdot\t",
    "neon_i8mm": r"\tz\d+\.|\tbf(?:dot|mmla|mlal|cvt)",
}
"""What the code of a level must not hold: VEX-encoded instructions, registers and instructions of later levels."""

EXTENDED = {"avxvnni": "avx2", "amx": "avx512", "neon_dotprod": "neon", "neon_i8mm": "neon"}
"""Levels that extend another one, whose table they name: it runs wherever they do."""

pytestmark = [pytest.mark.slow, pytest.mark.subprocess]


def program(*names: str) -> str:
    """The first of these programs that is installed."""
    for name in names:
        if found := shutil.which(name):
            return found
    if os.environ.get("CI"):
        pytest.fail(f"none of {names} is installed")
    pytest.skip(f"none of {', '.join(names)} is installed")


def tool(level: str, *names: str) -> str:
    """A compiler or a reader of objects, for the machine of this level."""
    machine = machine_of(level)
    return program(*(names if machine == HERE else (f"{machine}-linux-gnu-{name}" for name in names)))


def level_flags(level: str) -> list[str]:
    """What CMakeLists.txt adds for a level."""
    (flags,) = re.findall(rf"add_level\({level}\b([^)]*)\)", CMAKE)
    return [word for word in str(flags).split() if word.startswith("-")]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """An object file of a level: one of a build in LLAMAQ_OBJECTS (folders), else compiled as the build does it."""
    folder = tmp_path_factory.mktemp("objects")
    grids = [ROOT / "tools" / "make_grids_header.py", ROOT / "src" / "llamaq" / "formats" / "grids.py"]
    subprocess.run([sys.executable, *grids, folder / "iq_grids.inc"], check=True)
    common = ["-std=c++17", "-O3", "-DNDEBUG", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off"]
    common += [f"-I{ROOT / 'csrc'}", f"-I{folder}"]

    builds = [Path(build) for build in os.environ.get("LLAMAQ_OBJECTS", "").split(os.pathsep) if build]

    @functools.cache
    def compile_level(level: str, kind: str) -> Path:
        for build in builds:
            made = build / "CMakeFiles" / f"llamaq_{level}.dir" / "csrc" / "kernels" / level / f"{kind}.cpp.o"
            if made.exists():
                return made
        source, target = KERNELS / level / f"{kind}.cpp", folder / f"{level}_{kind}.o"
        compiler = tool(level, "g++", "c++", "clang++")
        subprocess.run([compiler, *common, *level_flags(level), "-c", source, "-o", target], check=True)
        return target

    return compile_level


@pytest.mark.parametrize(("level", "kind"), OBJECTS)
def test_an_object_exports_its_table_alone(compiled: Callable[[str, str], Path], level: str, kind: str) -> None:
    """And it needs C functions alone, such as memcpy and fmaf: nothing of the C++ library, of ours at most the table
    of the level that it extends."""
    path = compiled(level, kind)
    listing = subprocess.check_output([tool(level, "nm"), path], text=True)
    symbols = re.findall(r"^\w* +([A-Za-z?]) (\S+)$", listing, re.MULTILINE)
    assert [name for kind, name in symbols if kind.isupper() and kind not in "UWV"] == [f"llamaq_{kind}_{level}"]
    assert [name for kind, name in symbols if kind in "WwVvu"] == []
    ours = [name for kind, name in symbols if kind == "U" and name.startswith(("_Z", "llamaq"))]
    assert ours == ([f"llamaq_table_{EXTENDED[level]}"] if level in EXTENDED else [])


@pytest.mark.parametrize("level", sorted({"avx2", "avxvnni", "avx512"} & {level for level, _ in OBJECTS}))
def test_weights_are_fetched_ahead(compiled: Callable[[str, str], Path], level: str) -> None:
    """Also those whose blocks take the most lines, which a compiler once left out."""
    listing = subprocess.check_output(
        [tool(level, "objdump"), "--disassemble", "--no-show-raw-insn", compiled(level, "table")], text=True
    )
    functions = re.split(r"^\w+ (?=<.*>:$)", listing, flags=re.MULTILINE)
    assert sum(text.count("prefetcht1") for text in functions if "Q8_0" in text.split("\n")[0]) >= 9


@pytest.mark.parametrize(("level", "kind"), OBJECTS)
def test_an_object_stays_within_its_level(compiled: Callable[[str, str], Path], level: str, kind: str) -> None:
    path = compiled(level, kind)
    listing = subprocess.check_output([tool(level, "objdump"), "--disassemble", "--no-show-raw-insn", path], text=True)
    assert len(listing) > 100_000
    assert re.findall(rf"^.*(?:{BEYOND[level]}).*$", listing, re.MULTILINE)[:5] == []
