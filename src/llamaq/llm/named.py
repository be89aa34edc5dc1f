"""Models that are called by name: where they lie, and what their owners want of them."""

from __future__ import annotations

import logging
import os
from typing import Any

from llamaq.boundary.arguments import INT32, text, texts, whole
from llamaq.boundary.progress import Progress
from llamaq.hub import Found, resolve
from llamaq.hub.address import Address, address_of
from llamaq.hub.download import fetch
from llamaq.sampling import SamplingParams
from llamaq.serving.defaults import Defaults

__all__ = ["defaults_of", "located", "pretrained"]

logger = logging.getLogger("llamaq")

_SAMPLING = (
    "temperature", "top_k", "top_p", "min_p", "typical_p", "repeat_last_n", "repeat_penalty", "presence_penalty",
    "frequency_penalty", "mirostat", "mirostat_tau", "mirostat_eta", "seed",
)  # fmt: skip
"""Parameters of Ollama that are called so in ``SamplingParams``, too."""


def located(path: str | os.PathLike[str]) -> Found:
    """The model of a path or a name. Raises what `resolve` does."""
    return path if isinstance(path, Found) else resolve(path)


def pretrained(repo: str, filename: str | None, revision: str | None, progress: Progress | None) -> Found:
    """What ``LLM.from_pretrained`` loads, fetched where it is not there."""
    text("repo", repo)
    address = address_of(repo) or address_of(f"hf:{repo}")
    assert address is not None  # that is what hf: makes of it
    if filename is not None:
        address = Address(address.repo, file=text("filename", filename), revision=address.revision)
    if revision is not None:
        address = Address(address.repo, address.quant, address.file, text("revision", revision))
    return fetch(address, progress)


def defaults_of(found: Found | None) -> Defaults:
    """What a manifest's parameters mean here; those that are unknown or wrong are told in the log and left out."""
    if found is None:
        return Defaults()
    values: dict[str, Any] = {"system": found.system}
    sampling: dict[str, Any] = {}
    for name, value in found.parameters.items():
        try:
            _take(name, value, values, sampling)
        except (TypeError, ValueError) as error:
            logger.warning("%s: its parameter is left out: %s", found.name, error)
    return Defaults(**values, sampling=SamplingParams(**sampling))


def _take(name: str, value: Any, values: dict[str, Any], sampling: dict[str, Any]) -> None:
    if name in _SAMPLING:
        if name == "seed" and isinstance(value, int) and value < 0:  # a random one
            return
        SamplingParams(**{name: value})
        sampling[name] = value
    elif name == "stop":
        values["stop"] = texts("stop", value)
    elif name == "num_ctx":
        values["n_ctx"] = whole("num_ctx", value, 0, INT32)
    elif name == "num_predict":
        count = whole("num_predict", value)
        values["max_tokens"] = count if count >= 0 else None
    else:
        logger.debug("the parameter %s of a manifest has no meaning here", name)
