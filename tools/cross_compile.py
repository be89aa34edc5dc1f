"""Compiles the engine and every kernel for another system with the Clang of the package ziglang, warnings as errors, as
CMakeLists.txt lists them; links tests/native/levels.cpp with it and runs it where a program can: ``cross_compile.py
TARGET FOLDER [RUNNER...]``, as in ``x86_64-windows-gnu objects wine64``. A RUNNER "-" runs it as it is.

Code is not optimized, for Clang takes minutes for a level otherwise; LLAMAQ_CROSS_OPTIONS=-O2 does it all the same.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
CMAKE = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
OPTIONS = [
    "-std=c++17", "-ffp-contract=off", "-fno-sanitize=all", "-Wall", "-Wextra", "-Wconversion",
    "-Wno-sign-conversion", "-Wno-for-loop-analysis", "-Wno-float-conversion",
    "-Wno-unused-command-line-argument", "-Werror",
]  # fmt: skip


def sources(target: str) -> dict[str, list[str]]:
    """Each file of the target, with the options of its own."""
    found: dict[str, list[str]] = {path: [] for path in re.findall(r"^  (csrc/[\w/]+\.cpp)", CMAKE, re.MULTILINE)}
    defined = []
    for name, options in re.findall(r"add_level\((\w+)([^)]*)\)", CMAKE):
        if name == "scalar" or (name.startswith("neon") == target.startswith("aarch64")):
            defined.append(f"-DLLAMAQ_{name.upper()}")
            own = [_spelt(option) for option in options.split() if option[:2] in ("-m", "-W")]
            paths = (f"csrc/kernels/{name}/{kind}.cpp" for kind in ("table", "encode"))
            found |= {path: own for path in paths if (ROOT / path).exists()}
    for path in ("csrc/kernels/dispatch.cpp", "csrc/quantize/quantize.cpp"):
        found[path] = defined
    return found


def _spelt(option: str) -> str:
    """zig wants -mcpu where others take -march."""
    return option.replace("-march=armv8.2-a+", "-mcpu=generic+")


def compile_all(target: str, folder: Path, files: dict[str, list[str]]) -> list[Path]:
    """The objects; ends the process where a file does not compile."""
    grids = ROOT / "src/llamaq/formats/grids.py"
    subprocess.run([sys.executable, ROOT / "tools/make_grids_header.py", grids, folder / "iq_grids.inc"], check=True)
    optimize = os.environ.get("LLAMAQ_CROSS_OPTIONS", "-O0").split()

    def compiled(path: str) -> Path:
        out = folder / (path.replace("/", "_") + ".o")
        words = [*OPTIONS, *optimize, *files[path], f"-I{ROOT / 'csrc'}", f"-I{folder}", "-c", str(ROOT / path)]
        subprocess.run([*zig(target), *words, "-o", out], check=True)
        return out

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(pool.map(compiled, sorted(files, key=lambda path: "table" not in path)))  # the long ones first


def zig(target: str) -> list[str]:
    return [sys.executable, "-m", "ziglang", "c++", "-target", target]


def main() -> int:
    target, folder, runner = sys.argv[1], Path(sys.argv[2]).resolve(), sys.argv[3:]
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["ZIG_GLOBAL_CACHE_DIR"] = os.environ["ZIG_LOCAL_CACHE_DIR"] = str(folder / "zig")
    files = sources(target) | ({"tests/native/levels.cpp": []} if runner else {})
    objects = compile_all(target, folder, files)
    print(f"{target}: {len(objects)} files compiled", flush=True)
    if not runner:
        return 0
    program = folder / ("levels.exe" if "windows" in target else "levels")
    subprocess.run([*zig(target), *objects, "-o", program], check=True)
    return subprocess.run([*(word for word in runner if word != "-"), program]).returncode


if __name__ == "__main__":
    sys.exit(main())
