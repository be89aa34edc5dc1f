"""A home folder of its own, with models where other programs would have put them."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

__all__ = ["COMMIT", "Places"]

COMMIT = "a" * 40
_VARIABLES = (
    "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME",
    "LLAMA_CACHE", "OLLAMA_MODELS", "LLAMAQ_MODELS", "HF_ENDPOINT", "HF_TOKEN", "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE", "LLAMA_ARG_MODEL",
)  # fmt: skip
MODEL = "application/vnd.ollama.image.model"


def _below(home: Path) -> Iterator[metadata.Distribution]:
    return (found for found in metadata.Distribution.discover() if home in Path(str(found.locate_file(""))).parents)


class Places:
    """``home`` is the user's; each method puts a model of these bytes somewhere, and returns its path."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch, content: bytes = b"GGUF") -> None:
        self.home, self.content = home, content
        self.monkeypatch = monkeypatch
        for name in _VARIABLES:
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.setenv("USERPROFILE", str(home))
        monkeypatch.setattr(metadata, "distributions", lambda: _below(home))  # this machine's may carry models, too
        self.own_folder = home / "own"
        monkeypatch.setenv("LLAMAQ_MODELS", str(self.own_folder))

    def _write(self, path: Path, content: bytes | None = None) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.content if content is None else content)
        return path

    def own(self, file: str) -> Path:
        return self._write(self.own_folder / file)

    def lm_studio(self, file: str, folder: str = ".lmstudio/models") -> Path:
        return self._write(self.home / folder / file)

    def llama_cpp(self, file: str) -> Path:
        return self._write(self.home / ".cache" / "llama.cpp" / file)

    @property
    def hub_folder(self) -> Path:
        return self.home / ".cache" / "huggingface" / "hub"

    def hub(
        self, repo: str, file: str, *, commit: str = COMMIT, ref: str = "main", content: bytes | None = None
    ) -> Path:
        """As the hub's library does: a link to a blob."""
        folder = self.hub_folder / f"models--{repo.replace('/', '--')}"
        content = self.content if content is None else content
        blob = self._write(folder / "blobs" / hashlib.sha256(content).hexdigest(), content)
        link = folder / "snapshots" / commit / file
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
        if ref:
            self._write(folder / "refs" / ref, commit.encode())
        return link

    def ollama(self, name: str = "registry.ollama.ai/library/llama3.2/latest", **layers: Any) -> Path:
        """A manifest with a model, and further ``layers`` (``params``, ``system`` ...); bytes, text or JSON."""
        entries = []
        for kind, value in {"model": self.content, **layers}.items():
            raw = (
                value if isinstance(value, bytes) else (value if isinstance(value, str) else json.dumps(value)).encode()
            )
            digest = hashlib.sha256(raw).hexdigest()
            self._write(self.home / ".ollama" / "models" / "blobs" / f"sha256-{digest}", raw)
            media = MODEL.replace("model", kind)
            entries.append({"mediaType": media, "digest": f"sha256:{digest}", "size": len(raw)})
        self.manifest(name, {"schemaVersion": 2, "layers": entries})
        digest = hashlib.sha256(self.content).hexdigest()
        return self.home / ".ollama" / "models" / "blobs" / f"sha256-{digest}"

    def manifest(self, name: str, content: Any) -> Path:
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        return self._write(self.home / ".ollama" / "models" / "manifests" / name, raw)

    def package(self, name: str, file: str) -> Path:
        """An installed distribution whose code must not run."""
        site = self.home / "site"
        module = name.replace("-", "_")
        path = self._write(site / module / file)
        self._write(site / module / "__init__.py", b"raise SystemExit('imported')")
        info = site / f"{module}-1.0.dist-info"
        self._write(info / "METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode())
        self._write(info / "RECORD", f"{module}/__init__.py,,\n{module}/{file},sha256=x,4\n".encode())
        if str(site) not in sys.path:
            self.monkeypatch.setattr(sys, "path", [*sys.path, str(site)])
        return path
