"""Models of Ollama, read in place: a manifest for each name, and blobs under their digests."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from llamaq.errors import ModelError
from llamaq.hub.folders import MOST_ENTRIES, existing, from_environment, home
from llamaq.hub.found import Found
from llamaq.hub.reading import read_json, read_small

__all__ = ["OF_SERVICE", "Ollama"]

OF_SERVICE = Path("/usr/share/ollama")
"""The home of the user that Ollama's service has on Linux."""

_HOST, _NAMESPACE, _TAG = "registry.ollama.ai", "library", "latest"
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}")
_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
_KIND = "application/vnd.ollama.image."
_MOST_ADAPTERS = 64
_REFUSED = {
    "tensor": "its weights are tensors of Ollama's own engine (image.tensor), not a GGUF file",
}


class Ollama:
    """Names are Ollama's: ``[host/][namespace/]model[:tag]``."""

    title = "Ollama"
    removal = "ollama rm NAME"

    def folders(self) -> list[Path]:
        own = from_environment("OLLAMA_MODELS") or home(".ollama", "models")
        return existing(own, OF_SERVICE / ".ollama" / "models" if sys.platform == "linux" else None)

    def models(self) -> Iterator[Found]:
        for folder in self.folders():
            for manifest in islice(_manifests(folder / "manifests"), MOST_ENTRIES):
                yield _model(folder, manifest)


def _manifests(folder: Path, depth: int = 3) -> Iterator[Path]:
    """The files four levels below, whose folders are host, namespace and model."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    for name in names:
        if _PART.fullmatch(name) and os.path.isdir(path := folder / name) == (depth > 0):
            yield from _manifests(path, depth - 1) if depth else [path]


def _model(folder: Path, manifest: Path) -> Found:
    host, namespace, model, tag = manifest.parts[-4:]
    long = [f"{host}/{namespace}/{model}"]
    if host == _HOST:
        long.append(f"{namespace}/{model}")
        if namespace == _NAMESPACE:
            long.append(model)
    name = f"{long[-1]}:{tag}"
    aliases = (*(f"{each}:{tag}" for each in long), *(long if tag == _TAG else ()))
    try:
        return _read(folder, manifest, name, aliases)
    except ModelError as error:
        return Found(manifest, name, Ollama.title, aliases, problem=str(error))


def _read(folder: Path, manifest: Path, name: str, aliases: tuple[str, ...]) -> Found:
    layers = read_json(manifest).get("layers")
    if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
        raise ModelError(f"{manifest}: expected a list of layers; pull the model again (ollama pull {name})")
    kinds = [str(layer.get("mediaType")).removeprefix(_KIND) for layer in layers]
    for kind, why in _REFUSED.items():
        if kind in kinds:
            raise ModelError(f"{name}: {why}")
    if kinds.count("model") != 1:
        raise ModelError(f"{name}: expected one model in {manifest}, got {kinds.count('model')}")
    if kinds.count("projector") > 1:
        raise ModelError(f"{name}: expected one projector at most in {manifest}, got {kinds.count('projector')}")
    found = dict(zip(kinds, layers, strict=True))
    path = _blob(folder, found["model"], name)
    parameters = read_json(_blob(folder, found["params"], name)) if "params" in found else {}
    system = ""
    if "system" in found:
        try:
            system = read_small(_blob(folder, found["system"], name)).decode().strip()
        except UnicodeDecodeError:
            raise ModelError(f"{name}: its system message is not UTF-8") from None
    adapters = [layer for kind, layer in zip(kinds, layers, strict=True) if kind == "adapter"]
    if len(adapters) > _MOST_ADAPTERS:
        raise ModelError(f"{name}: expected at most {_MOST_ADAPTERS} adapters, got {len(adapters)}")
    paths = tuple(_blob(folder, layer, name) for layer in adapters)
    projector = _blob(folder, found["projector"], name) if "projector" in found else None
    return Found(path, name, Ollama.title, aliases, parameters, system, adapters=paths, projector=projector)


def _blob(folder: Path, layer: dict[str, Any], name: str) -> Path:
    """The file of a layer, whole."""
    digest, size = layer.get("digest"), layer.get("size")
    match = _DIGEST.fullmatch(digest) if isinstance(digest, str) else None
    if match is None:
        raise ModelError(f"{name}: expected a digest such as sha256:..., got {digest!r:.100}")
    path = folder / "blobs" / f"sha256-{match[1]}"
    try:
        got = path.stat().st_size
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}; pull the model again (ollama pull {name})") from None
    if isinstance(size, int) and got != size:
        raise ModelError(f"{path}: expected {size} bytes, got {got}; pull the model again (ollama pull {name})")
    return path
