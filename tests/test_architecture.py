"""The rules of the house: who may import whom, what needs no compiler, what `import llamaq` costs, how long is long,
where new things go."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from llamaq.cli.command import commands
from llamaq.models.registry import ARCHITECTURES
from llamaq.plan.graph import Graph
from llamaq.plan.op import Op
from llamaq.vision.projectors import PROJECTORS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "llamaq"
CSRC = ROOT / "csrc"

TIERS = [
    {"errors", "boundary"},
    {"formats"},
    {"gguf", "tokenizer", "plan"},
    {"models", "structure"},
    {"engine", "sampling"},
    {"vision"},
    {"serving"},
    {"chat", "hub"},
    {"llm"},
    {"measure", "convert", "quantization", "server", "compat", "integrations"},
    {"batch"},
    {"distributed"},
    {"cli"},
    {"__init__", "__main__"},
]
"""The wings, lowest first. A part imports parts of its own tier or below."""
WITHOUT_COMPILER = [
    "boundary.arguments",
    "boundary.atomic",
    "boundary.files",
    "boundary.locks",
    "boundary.progress",
    "chat",
    "engine.bundled",
    "engine.topology",
    "errors",
    "formats",
    "gguf.imatrix",
    "hub",
    "models",
    "plan.reference",
    "plan.step",
    "structure",
    "tokenizer",
]
USES_CORE = {
    "engine.engine",
    "engine.kv_cache",
    "engine.memory",
    "engine.page_pool",
    "engine.topology",
    "measure.limits",
    "measure.machine",
    "measure.speed",
    "measure.weights",
    "quantization.encode",
    "llm.verify",
    "serving.disk_prefixes",
    "serving.reading",
    "serving.recording",
    "sampling.chain",
    "sampling.dry",
    "sampling.logprobs",
    "sampling.penalties",
    "sampling.sampler",
    "sampling.selectors",
    "sampling.temperature",
    "cli",
    "cli.model_report",
}

MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
"""Module name within the package ("gguf", "gguf.file") to file."""


def imports(module: str, *, types: bool = False) -> set[str]:
    """Modules of the package that this one imports anywhere at run time, functions included; with ``types`` also those
    that only a type checker sees."""
    found = set()
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    for node in ast.walk(tree) if types else run_time_nodes(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = MODULES[module].relative_to(PACKAGE.parent).with_suffix("").parts
                base = ".".join([*parts[: -node.level], *filter(None, [base])])
            for alias in node.names:
                deeper = f"{base}.{alias.name}"
                found.add(deeper if deeper.removeprefix("llamaq.") in {*MODULES, "_core"} else base)
    return {name.removeprefix("llamaq.") for name in found if name.startswith("llamaq.")}


def run_time_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but those under `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from run_time_nodes(node)


def tier(module: str) -> int:
    part = module.split(".")[0]
    numbers = [i for i, parts in enumerate(TIERS) if part in parts]
    assert numbers, f"give {part!r} its place in TIERS"
    return numbers[0]


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module: str) -> None:
    upward = [name for name in imports(module, types=True) - {"_core"} if tier(name) > tier(module)]
    assert upward == []


@pytest.mark.parametrize("types", [False, True], ids=["at run time", "for type checkers"])
def test_imports_have_no_cycle(types: bool) -> None:
    order = list(TopologicalSorter({module: imports(module, types=types) for module in MODULES}).static_order())
    assert set(MODULES) <= set(order)


def test_wings_have_no_circle_for_type_checkers_either() -> None:
    wings: dict[str, set[str]] = {}
    for module in MODULES:
        wing = module.split(".")[0]
        others = {name.split(".")[0] for name in imports(module, types=True)} - {wing, "_core"}
        wings.setdefault(wing, set()).update(others)
    list(TopologicalSorter(wings).static_order())


def test_few_modules_know_the_extension() -> None:
    assert {module for module in MODULES if "_core" in imports(module)} <= USES_CORE


def run_python(script: str) -> str:
    return subprocess.check_output([sys.executable, "-c", script], text=True)


@pytest.mark.subprocess
def test_what_needs_no_compiler() -> None:
    names = ", ".join(f"llamaq.{name}" for name in WITHOUT_COMPILER)
    assert run_python(f"import sys; sys.modules['llamaq._core'] = None; import {names}; print('ok')") == "ok\n"


@pytest.mark.subprocess
def test_what_importing_llamaq_imports() -> None:
    """The standard library and llamaq's errors; all else waits until it is asked for."""
    script = "import sys; before = set(sys.modules); import llamaq; print(*sorted(set(sys.modules) - before))"
    names = run_python(script).split()
    assert {name for name in names if name.split(".")[0] not in sys.stdlib_module_names} == {"llamaq", "llamaq.errors"}


@pytest.mark.subprocess
def test_loading_models_needs_numpy_and_regex_alone() -> None:
    script = "import sys; before = set(sys.modules); import llamaq.llm.llm; print(*sorted(set(sys.modules) - before))"
    tops = {name.split(".")[0] for name in run_python(script).split()} - sys.stdlib_module_names
    assert tops <= {"llamaq", "numpy", "regex"}


def cpp_files(*folders: str) -> list[Path]:
    files = [path for folder in folders for path in sorted((CSRC / folder).rglob("*")) if path.suffix in {".h", ".cpp"}]
    assert files
    return files


def includes(path: Path) -> set[str]:
    return set(re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', path.read_text(encoding="utf-8"), re.MULTILINE))


KERNEL_INCLUDES = re.compile(
    r"stddef\.h|stdint\.h|string\.h|immintrin\.h|arm_neon\.h|core/format\.h|cpu/features\.h|iq_grids\.inc"
    r"|kernels/(encode_)?table\.h|kernels/(generic|encode|scalar|avx\w+|amx|neon\w*)/\w+\.h"
)


@pytest.mark.parametrize("path", cpp_files("kernels"), ids=lambda path: str(path.relative_to(CSRC)))
def test_kernels_know_neither_threads_nor_the_engine(path: Path) -> None:
    if path.stem == "dispatch":  # chooses among the levels, and is compiled for every CPU
        assert all(
            name.startswith(("core/", "cpu/features", "kernels/", "std", "string", "vector")) for name in includes(path)
        )
    else:
        assert [name for name in includes(path) if not KERNEL_INCLUDES.fullmatch(name)] == []


@pytest.mark.parametrize(
    "path", cpp_files("core", "cpu", "engine", "quantize", "sampling"), ids=lambda path: str(path.relative_to(CSRC))
)
def test_the_engine_knows_neither_python_nor_intrinsics(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"pybind11|Python\.h|PyErr_|\bpy::", text)
    if path.parent.name != "cpu":
        assert not re.search(r"\b_mm\d*_|__m(128|256|512)|immintrin|arm_neon|\bv\w+q_[fsu]\d+", text)
        assert not [name for name in includes(path) if name.startswith(("bindings/", "kernels/generic/"))]


def recipes() -> dict[str, str]:
    """The texts of docs/architecture.md that say where a new thing goes, by their titles."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^### (A new .+)\n\n((?:(?!#).*\n)+)", text, re.MULTILINE))


REGISTERED: dict[str, set[str]] = {
    "A new operation": {op.kind for op in Op.__subclasses__()},
    "A new architecture": {entry.module for entry in ARCHITECTURES.values()},
    "A new SIMD level": set(re.findall(r"llamaq_table_(\w+)", (CSRC / "kernels/dispatch.cpp").read_text("utf-8"))),
    "A new kind of projector": {kind.__module__.rpartition(".")[2] for kind in PROJECTORS.values()},
    "A new sampler": set(),
    "A new command": {name for name, _ in commands()},
    "A new route of the server": set(),
}
"""What there is of each kind that docs/architecture.md has a recipe for; its files are named after it."""
REGISTRIES = {
    "A new operation": ["CMakeLists.txt", "csrc/engine/ops/ops.h", "csrc/engine/ops/registry.cpp",
                        "src/llamaq/plan/graph.py", "tests/support/op_cases.py"],
    "A new architecture": ["src/llamaq/models/registry.py"],
    "A new SIMD level": ["CMakeLists.txt", "csrc/kernels/dispatch.cpp", "csrc/kernels/table.h"],
    "A new kind of projector": ["src/llamaq/vision/projectors/__init__.py", "docs/images.md"],
    "A new command": ["src/llamaq/cli/command.py", "docs/cli.md"],
}  # fmt: skip
"""Files in which each of them has its line."""


@pytest.mark.parametrize("title", REGISTERED)
def test_a_recipe_names_files_that_everything_registered_has(title: str) -> None:
    recipe = recipes()[title]
    assert len(re.findall(r"\S.*", recipe)) <= 10
    paths = re.findall(r"`((?:src|csrc|tests|tools|docs)/[\w/.]+|CMakeLists\.txt)`", recipe)
    assert paths
    for name in REGISTERED[title] or {"NAME"}:
        assert [path for path in paths if not (ROOT / path.replace("NAME", name)).exists()] == []
        for path in REGISTRIES.get(title, []):
            assert path in paths
            assert re.search(rf"(?<![a-z])(parse_|llamaq_table_)?{name}\b", (ROOT / path).read_text("utf-8")), path


def test_there_is_a_recipe_for_each_kind_of_thing() -> None:
    assert recipes().keys() == REGISTERED.keys()
    files = {path.stem for path in (PACKAGE / "plan" / "ops").glob("[a-z]*.py")}
    assert REGISTERED["A new operation"] == files & set(dir(Graph))


def own_files() -> list[Path]:
    folders = [PACKAGE, ROOT / "tests", ROOT / "tools", ROOT / "benchmarks", CSRC]
    files = [path for folder in folders for path in folder.rglob("*") if path.suffix in {".py", ".h", ".cpp"}]
    return [*files, ROOT / "noxfile.py"]


def test_files_are_short() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in own_files()}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_functions_are_short() -> None:
    long = {}
    for path in own_files():
        if path.suffix == ".py":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef) and node.end_lineno and node.end_lineno - node.lineno >= 60:
                    long[f"{path.name}:{node.name}"] = node.end_lineno - node.lineno + 1
    assert long == {}


@pytest.mark.subprocess
def test_the_library_is_silent_unless_somebody_listens() -> None:
    said = "import llamaq, logging; logging.getLogger('llamaq.engine').warning('a context was shortened')"
    for before, expected in (("", ""), ("import logging; logging.basicConfig(); ", "a context was shortened")):
        done = subprocess.run([sys.executable, "-c", before + said], capture_output=True, text=True, check=True)
        assert (done.stdout, expected in done.stderr, bool(done.stderr)) == ("", True, bool(expected))
