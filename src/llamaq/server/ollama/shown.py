"""What is told of models: /api/tags, /api/show, /api/ps."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from llamaq.errors import LlamaqError
from llamaq.gguf import GGUFArray, GGUFFile
from llamaq.server.about import architecture, parameter_count, quantization, template_facts, template_of
from llamaq.server.endpoint import Job
from llamaq.server.fields import read_fields
from llamaq.server.ollama.answering import time_text
from llamaq.server.ollama.protocol import SHOW
from llamaq.server.served import Entry, signature
from llamaq.server.service import Service
from llamaq.tokenizer import load_tokenizer

__all__ = ["Shown", "running", "tags"]

_NEVER = "9999-12-31T23:59:59Z"
"""When a model goes that stays, or goes later than such a time can tell."""
_LAST = 253402300799.0  # the same in seconds since 1970


async def tags(service: Service) -> dict[str, Any]:
    """All models."""
    entries = service.models.listed()
    facts = await asyncio.gather(*(_facts(service, entry) for entry in entries))
    found = []
    for entry, (details, capabilities) in zip(entries, facts, strict=True):
        about = {
            "modified_at": _time(entry.modified), "size": entry.size, "digest": _digest(entry.path),
            "details": details, "capabilities": capabilities,
        }  # fmt: skip
        found += [{"name": name, "model": name, **about} for name in entry.names]
    return {"models": found}


async def running(service: Service) -> dict[str, Any]:
    """The models in memory."""
    found = []
    for entry in service.models.listed():
        if entry.served is None:
            continue
        context = entry.served.llm.n_ctx  # now, for it may be unloaded while its file is looked at
        details, _ = await _facts(service, entry)
        found.append(
            {
                "name": entry.name, "model": entry.name, "size": entry.memory, "digest": _digest(entry.path),
                "details": details,
                "expires_at": _time(entry.expires) if entry.expires and entry.expires < _LAST else _NEVER,
                "size_vram": 0, "context_length": context,
            }
        )  # fmt: skip
    return {"models": found}


class Shown(Job):
    """All that is known of a model, which need not be in memory."""

    needs_model = False

    def __init__(self, service: Service, body: dict[str, Any]) -> None:
        super().__init__(service)
        self._values, self.ignored = read_fields(SHOW, body, strict=service.settings.strict)
        self.model = self._values.get("model") or self._values.get("name")

    async def whole(self) -> dict[str, Any]:
        models = self.service.models
        entry = models.find(self.model)
        details, capabilities = await _facts(self.service, entry)
        async with models.header(self.model) as file:
            verbose = self._values.get("verbose", False)
            info = {key: _value(value, verbose) for key, value in file.metadata.items()}
            info |= self._context(entry, file.metadata)
            template = template_of(file.metadata, self.service.settings.template)
            source = "" if template is None else template.source
            found: dict[str, Any] = {
                "license": _text(file.metadata, "general.license"), "modelfile": f"FROM {entry.name}\n",
                "parameters": "", "template": source, "system": "", "details": details,
                "model_info": {**info, "general.parameter_count": parameter_count(file)},
                "capabilities": capabilities, "modified_at": _time(entry.modified),
            }  # fmt: skip
            if verbose:
                found["tensors"] = [
                    {"name": name, "type": tensor.format.name, "shape": list(reversed(tensor.shape))}
                    for name, tensor in file.tensors.items()
                ]
            return found

    def _context(self, entry: Entry, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """The context under the model's key, as it is here: clients ask for all that they see."""
        key = f"{architecture(metadata)}.context_length"
        own = metadata.get(key)
        here = self.service.settings.load.get("n_ctx") if entry.served is None else entry.served.llm.n_ctx
        return {key: min(own, here)} if isinstance(own, int) and here else {}


async def _facts(service: Service, entry: Entry) -> tuple[dict[str, Any], list[str]]:
    """Details and capabilities; empty ones for a file that cannot be read."""
    if entry.served is None:
        sees = bool(service.settings.load.get("mmproj"))
    else:
        sees = entry.served.llm.model.encoder is not None
    try:
        own = (entry.path, signature(entry.path), service.settings.template)
        details, found = await asyncio.to_thread(_facts_of, *own)
        return details, [*found, "vision"] if sees else found
    except LlamaqError:
        return _details("", "", ""), []


@lru_cache(256)
def _facts_of(path: Path, _: tuple[int, int, int], template: str | None) -> tuple[dict[str, Any], list[str]]:
    with GGUFFile.open(path) as file:
        family = architecture(file.metadata)
        details = _details(family, _count_text(parameter_count(file)), quantization(file))
        for name in ("context_length", "embedding_length"):
            if isinstance(number := file.metadata.get(f"{family}.{name}"), int):
                details[name] = number
        return details, _capabilities(file.metadata, family, template)


def _details(family: str, size: str, level: str) -> dict[str, Any]:
    return {
        "parent_model": "", "format": "gguf", "family": family, "families": [family] if family else [],
        "parameter_size": size, "quantization_level": level,
    }  # fmt: skip


def _capabilities(metadata: Mapping[str, Any], family: str, template: str | None) -> list[str]:
    if f"{family}.pooling_type" in metadata:
        return ["embedding"]
    facts = template_facts(metadata, template)
    can = {"completion": True, "tools": facts.tools, "thinking": facts.thinking, "insert": _fills_in(metadata)}
    return [name for name, yes in can.items() if yes]


def _fills_in(metadata: Mapping[str, Any]) -> bool:
    try:
        special = load_tokenizer(metadata).special
    except LlamaqError:
        return False
    return None not in (special.fim_pre, special.fim_suf, special.fim_mid)


def _digest(path: Path) -> str:
    """Of what the file is, not of its bytes, which would all have to be read: another file has another one."""
    return hashlib.sha256(repr((path.name, *signature(path))).encode()).hexdigest()


def _count_text(count: int) -> str:
    """How many parameters, as Ollama writes it."""
    if count >= 10**9:
        return f"{count / 1e9:.1f}B"
    return f"{count / 1e6:.2f}M" if count >= 10**6 else f"{count / 1e3:.2f}K"


def _value(value: Any, verbose: bool) -> Any:
    if isinstance(value, GGUFArray):
        return [_value(item, verbose) for item in value.tolist()] if verbose else None
    if isinstance(value, str) and not value.isascii():  # a token may be part of a character
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _text(metadata: Mapping[str, Any], key: str) -> str:
    value = metadata.get(key)
    return value if isinstance(value, str) else ""


def _time(seconds: float) -> str:
    return time_text(round(seconds * 1e9))
