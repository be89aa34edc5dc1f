"""Runs the suites of OpenAI's and Anthropic's SDKs, as their sdists have them, against ``llamaq serve``:
``python tools/sdk_suites/run.py [FILE]``. The sdists come from pip, in the installed versions. FILE is OpenAI's
openapi.yaml: schemathesis makes requests up from it."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

TOOLS = Path(__file__).parents[1]
sys.path.insert(0, str(TOOLS.parent / "tests" / "support"))
from served import served  # noqa: E402

SUITES = {
    "openai": [
        "chat/test_completions.py",
        "test_completions.py",
        "test_embeddings.py",
        "test_models.py",
        "test_responses.py",
    ],
    "anthropic": ["test_messages.py"],
}
"""Files in ``tests/api_resources``, by SDK."""
OPTIONS = {"openai": "", "anthropic": "-p tests._alias_httpx"}
"""What their own settings give to pytest, but for what makes it quick."""
BASE = {"openai": "/v1", "anthropic": ""}
PATHS = {
    "not_a_server_error,response_schema_conformance": [
        "/chat/completions", "/completions", "/responses", "/models", "/models/{model}",
    ],
    "not_a_server_error": ["/embeddings"],  # the schema knows of no vectors in base64
}  # fmt: skip
"""What requests are made up for, by what is checked."""


def source(sdk: str, folder: Path) -> Path:
    """The unpacked sdist."""
    asked = ["--no-deps", "--no-binary", sdk, f"{sdk}=={version(sdk)}"]
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", *asked, "-d", folder], check=True)
    (archive,) = folder.glob(f"{sdk}-*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    return archive.with_name(archive.name.removesuffix(".tar.gz"))


def run(sdk: str, url: str) -> int:
    """The exit code of its suite."""
    with tempfile.TemporaryDirectory() as folder:
        root = source(sdk, Path(folder))
        tests = [f"tests/api_resources/{name}" for name in SUITES[sdk]]
        own = {"TEST_API_BASE_URL": url + BASE[sdk], "SDK_SUITE": sdk, "PYTHONPATH": str(TOOLS)}
        options = [
            "-p",
            "sdk_suites.inverted",
            "-o",
            f"addopts={OPTIONS[sdk]}",
            "--tb=short",
            "--show-capture=no",
            "-q",
        ]
        command = [sys.executable, "-m", "pytest", *options, *tests]
        return subprocess.run(command, cwd=root, env={**os.environ, **own}).returncode


def make_up(schema: str, url: str) -> int:
    """The exit code of requests that a schema describes."""
    limits = ["--phases=examples,fuzzing", "--max-examples=100", "--request-timeout=120"]
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", schema, f"--url={url}", *limits]
    code = 0
    for checks, paths in PATHS.items():
        where = [f"--include-path={path}" for path in paths]
        code |= subprocess.run([*command, f"--checks={checks}", *where]).returncode
    return code


def main(schemas: list[str]) -> int:
    with served("--alias", "demo,*", "--log-format", "none") as server:
        codes = {sdk: run(sdk, server.url) for sdk in SUITES}
        codes |= {schema: make_up(schema, f"{server.url}/v1") for schema in schemas}
    print(", ".join(f"{sdk}: {'FAILED' if code else 'passed'}" for sdk, code in codes.items()))
    return int(any(codes.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
