"""What a release repeats is what the project says: versions, requirements, paths of tests."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from llamaq import __version__

ROOT = Path(__file__).parents[1]
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
RECIPE = (ROOT / "packaging" / "conda" / "recipe.yaml").read_text(encoding="utf-8")
WORKFLOW = (ROOT / ".github" / "workflows" / "wheels.yml").read_text(encoding="utf-8")


def listed(name: str) -> list[str]:
    """A list of pyproject.toml."""
    (line,) = re.findall(rf"^{name} = \[(.*)\]$", PROJECT, re.MULTILINE)
    return re.findall(r'"([^"]+)"', line)


def test_the_version_has_one_place() -> None:
    assert re.search(r'^dynamic = \["version"\]$', PROJECT, re.MULTILINE)
    assert re.findall(r'^  version: "(.*)"$', RECIPE, re.MULTILINE) == [__version__]


def test_conda_needs_what_the_wheel_needs() -> None:
    (run,) = re.findall(r"^  run:\n((?:    - .*\n)+)", RECIPE, re.MULTILINE)
    wanted = [line.replace(" ", "") for line in re.findall(r"- (.*)", run)]
    assert wanted == ["python", *listed("dependencies")]


def test_wheels_are_tested_by_files_that_there_are() -> None:
    """The command has double quotes alone: those that cmd knows, too."""
    (command,) = re.findall(r"^test-command = '(.*)'$", PROJECT, re.MULTILINE)
    paths = re.findall(r"tests/\S+\.py", command)
    assert "tests/test_digests.py" in paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_wheels_are_built_for_every_python_of_the_project() -> None:
    built = re.findall(r"cp3(\d+)-\*", PROJECT)
    (least,) = re.findall(r'^requires-python = ">=3\.(\d+)"$', PROJECT, re.MULTILINE)
    assert built[0] == least
    assert [int(minor) for minor in built] == list(range(int(least), int(least) + len(built)))
    assert "CIBW_BUILD" not in WORKFLOW  # it would take the list's place


def test_only_the_job_that_publishes_may_ask_for_an_identity() -> None:
    assert WORKFLOW.count("id-token: write") == 1
    publish = WORKFLOW[WORKFLOW.index("\n  publish:") :]
    assert "id-token: write" in publish
    assert "startsWith(github.ref, 'refs/tags/v')" in publish


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib is of Python 3.11")
def test_each_system_has_an_architecture_to_build() -> None:
    import tomllib

    settings = tomllib.loads(PROJECT)["tool"]["cibuildwheel"]
    assert all(settings[name]["archs"] == ["auto64"] for name in ("linux", "macos", "windows"))
