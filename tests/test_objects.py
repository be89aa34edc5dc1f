"""The object file of each SIMD level: one exported symbol, and no instruction beyond its level.

Code compiled for a newer CPU must not be able to replace code that older ones run: an inline function of a shared
header, compiled into a level's object as a weak symbol, could be the copy that the linker keeps.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEVELS = {"x86_64": ["scalar", "avx2"], "aarch64": ["scalar", "neon"]}.get(platform.machine(), ["scalar"])
BEYOND = {"scalar": r"\tv[a-z]|%[yz]mm\d", "avx2": r"%zmm\d|%[xy]mm(1[6-9]|2\d|3[01])\b|%k[0-7]\b"}
"""What the code of an x86 level must not hold: VEX-encoded instructions, registers of later levels."""

pytestmark = [pytest.mark.slow, pytest.mark.subprocess]


def program(*names: str) -> str:
    """The first of these programs that is installed."""
    for name in names:
        if found := shutil.which(name):
            return found
    if os.environ.get("CI"):
        pytest.fail(f"none of {names} is installed")
    pytest.skip(f"none of {', '.join(names)} is installed")


def level_flags(level: str) -> list[str]:
    """What CMakeLists.txt adds for a level."""
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    (flags,) = re.findall(rf"add_level\({level}\b([^)]*)\)", text)
    return str(flags).split()


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each level's object file, compiled as the build does it."""
    folder = tmp_path_factory.mktemp("objects")
    kernels = ROOT / "csrc" / "kernels"
    grids = [ROOT / "tools" / "make_grids_header.py", ROOT / "src" / "llamaq" / "formats" / "grids.py"]
    subprocess.run([sys.executable, *grids, folder / "iq_grids.inc"], check=True)
    common = ["-std=c++17", "-O3", "-DNDEBUG", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off"]
    command = [program("c++", "g++", "clang++"), *common, f"-I{ROOT / 'csrc'}", f"-I{folder}"]
    result = {level: folder / f"{level}.o" for level in LEVELS}
    compilers = [
        subprocess.Popen([*command, *level_flags(level), "-c", kernels / level / "table.cpp", "-o", target])
        for level, target in result.items()
    ]
    assert [compiler.wait() for compiler in compilers] == [0] * len(compilers)
    return result


@pytest.mark.parametrize("level", LEVELS)
def test_an_object_exports_its_table_alone(objects: dict[str, Path], level: str) -> None:
    listing = subprocess.check_output([program("nm"), objects[level]], text=True)
    symbols = re.findall(r"^\w* +([A-Za-z?]) (\S+)$", listing, re.MULTILINE)
    assert [name for kind, name in symbols if kind.isupper() and kind not in "UWV"] == [f"llamaq_table_{level}"]
    assert [name for kind, name in symbols if kind in "WwVvu"] == []


@pytest.mark.parametrize("level", LEVELS)
def test_an_object_needs_little_of_others(objects: dict[str, Path], level: str) -> None:
    """C functions such as memcpy and fmaf: nothing of the C++ library, nothing of ours."""
    listing = subprocess.check_output([program("nm"), "--undefined-only", objects[level]], text=True)
    assert [name for name in listing.split() if name.startswith(("_Z", "llamaq"))] == []


@pytest.mark.parametrize("level", LEVELS if platform.machine() == "x86_64" else [])
def test_an_object_stays_within_its_level(objects: dict[str, Path], level: str) -> None:
    listing = subprocess.check_output(
        [program("objdump"), "--disassemble", "--no-show-raw-insn", objects[level]], text=True
    )
    assert len(listing) > 100_000
    assert re.findall(rf"^.*(?:{BEYOND[level]}).*$", listing, re.MULTILINE)[:5] == []
