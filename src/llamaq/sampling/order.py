"""The order of the samplers, by name or by letter, as llama.cpp writes them."""

from __future__ import annotations

from collections.abc import Iterable

from llamaq.boundary.arguments import shown, texts
from llamaq.errors import naming

__all__ = ["DEFAULT_ORDER", "SAMPLER_LETTERS", "parse_order"]

DEFAULT_ORDER = ("penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature")

SAMPLER_LETTERS = {
    "e": "penalties",
    "d": "dry",
    "s": "top_n_sigma",
    "k": "top_k",
    "y": "typ_p",
    "p": "top_p",
    "m": "min_p",
    "x": "xtc",
    "t": "temperature",
    "a": "adaptive_p",
}

_OTHER_NAMES = {"top_nsigma": "top_n_sigma", "typical": "typ_p", "typical_p": "typ_p", "typ": "typ_p",
                "nucleus": "top_p", "temp": "temperature"}  # fmt: skip


def parse_order(samplers: str | Iterable[str]) -> tuple[str, ...]:
    """Names of samplers, from names, from ``"top_k;temperature"``, or from letters (``"kt"``).

    ``-`` counts as ``_``. A sampler that is left out does nothing; one that comes twice is applied twice. Raises
    ``ValueError`` for a name or letter that is no sampler.
    """
    if samplers is DEFAULT_ORDER:
        return DEFAULT_ORDER
    given, lettered = samplers, False
    if isinstance(samplers, str):
        lettered = bool(samplers) and ";" not in samplers and _name(samplers) not in SAMPLER_LETTERS.values()
        samplers = [SAMPLER_LETTERS.get(c, c) for c in samplers] if lettered else filter(None, samplers.split(";"))
    names = tuple(_name(name) for name in texts("samplers", samplers))
    for name in names:
        if name not in SAMPLER_LETTERS.values():
            known = ", ".join(f"{name} ({letter})" for letter, name in SAMPLER_LETTERS.items())
            of = f" (the letters of {shown(given)})" if lettered else ""
            raise naming(ValueError(f"samplers: there is no sampler {name!r}{of}; there are {known}"), "samplers")
    return names


def _name(text: str) -> str:
    name = text.strip().lower().replace("-", "_")
    return _OTHER_NAMES.get(name, name)
