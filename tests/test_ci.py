"""CI leaves nothing out for good: every session is a step, and every part of a long one comes round."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BY_HAND = {
    "full", "install", "transformers", "demo-model", "bench-kernels", "published-models", "drop-in", "ray", "cross",
    "sdk-suites",
}  # fmt: skip
"""Sessions that are no step of .ci/run: that which runs it, what others require, and those that say why themselves."""


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT / "tools"), *sys.path])


def sessions() -> set[str]:
    """The names of the sessions of noxfile.py."""
    found = set()
    for node in ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            for decorator in map(ast.unparse, node.decorator_list):
                if decorator.startswith("nox.session"):
                    name = re.search(r"name='([^']+)'", decorator)
                    found.add(name[1] if name else node.name)
    return found


def test_every_session_is_a_step_of_ci() -> None:
    listed = re.search(r"sessions=\(\n(.*?)\n\)", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.DOTALL)
    assert listed is not None
    steps = {re.sub(r"\W?\(.*|\"", "", word) for word in re.findall(r'"[^"]+"|\S+', listed[1])}
    assert steps == sessions() - BY_HAND


def test_a_commit_has_its_parts_and_all_parts_come_round(monkeypatch: pytest.MonkeyPatch) -> None:
    from ci_parts import COMMIT, part_of

    parts = ["scalar", "avx2", "avx512", "amx"]
    monkeypatch.delenv(COMMIT, raising=False)
    assert part_of("levels", parts) == parts
    seen: dict[str, int] = dict.fromkeys(parts, 0)
    for i in range(400):
        monkeypatch.setenv(COMMIT, f"{i:040x}")
        drawn = part_of("levels", parts, 2)
        assert drawn == part_of("levels", parts, 2) == sorted(drawn, key=parts.index)
        assert len(drawn) == 2
        for part in drawn:
            seen[part] += 1
    assert min(seen.values()) > 150
    assert part_of("levels", parts, 9) == parts


def test_another_session_draws_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    from ci_parts import COMMIT, part_of

    pairs = set()
    for i in range(50):
        monkeypatch.setenv(COMMIT, f"{i:040x}")
        pairs.add((*part_of("one", ["a", "b"]), *part_of("other", ["a", "b"])))
    assert len(pairs) == 4


@pytest.mark.parametrize("target", ["x86_64-windows-gnu", "x86_64-macos", "aarch64-macos", "aarch64-linux-musl"])
def test_cross_compiling_takes_every_file(target: str) -> None:
    from cross_compile import sources

    files = sources(target)
    other = "neon" if target.startswith("x86_64") else "avx|amx"
    there = {str(path.relative_to(ROOT)) for path in (ROOT / "csrc").rglob("*.cpp")}
    assert set(files) == {path for path in there if not re.search(rf"bindings/|kernels/({other})", path)}
    assert not [word for words in files.values() for word in words if word[:2] not in ("-D", "-m", "-W")]
    assert "-DLLAMAQ_SCALAR" in files["csrc/kernels/dispatch.cpp"]
