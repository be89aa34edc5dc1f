"""Where a ``$ref`` leads: inside the schema's own text, by pointer, anchor or ``$id``."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

from .keywords import check_keywords
from .reading import fail

__all__ = ["REFERENCES", "References"]

REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
"""The keywords. The last two lead elsewhere only between several documents."""


class References:
    """The references of one schema."""

    def __init__(self, root: Any) -> None:
        """Raises ``StructureError`` where a keyword has a wrong value: nothing else looks at what is not checked."""
        self._checked: set[int] = set()
        check_keywords(root, "$", self._checked)
        self._bases: dict[int, str] = {}  # bases by the identity of each object
        self._targets: dict[str, tuple[Any, str]] = {"": (root, "$")}
        waiting = [(root, "", "$")]
        while waiting:
            value, base, path = waiting.pop()
            if isinstance(value, dict):
                own = value.get("$id")
                if isinstance(own, str) and not own.startswith("#"):
                    base = _joined(base, own)
                    self._targets[base] = value, path
                self._bases[id(value)] = base
                for key in ("$anchor", "$dynamicAnchor"):
                    if isinstance(value.get(key), str):
                        self._targets[f"{base}#{value[key]}"] = value, path
                waiting += [(child, base, f"{path}.{key}") for key, child in value.items()]
            elif isinstance(value, list):
                waiting += [(child, base, f"{path}[{i}]") for i, child in enumerate(value)]

    def target(self, schema: dict[str, Any], key: str, path: str) -> tuple[Any, str]:
        """The schema that the reference at ``key`` means, and its path."""
        reference = schema[key]
        base, fragment = _split(self._bases[id(schema)], reference)
        if fragment and not fragment.startswith("/"):
            base, fragment = f"{base}#{fragment}", ""
        if base not in self._targets:
            fail(f"{path}.{key}", f"the schema has no {reference[:100]!r}, and no others are fetched")
        found, where = self._targets[base]
        for step in unquote(fragment).split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and step.isdecimal() and len(step) < 10 and int(step) < len(found):
                found, where = found[int(step)], f"{where}[{step}]"
            elif isinstance(found, dict) and step in found:
                found, where = found[step], f"{where}.{step}"
            else:
                fail(f"{path}.{key}", f"{reference[:100]!r} leads nowhere: there is no {step[:50]!r} in {where[:100]}")
        if not isinstance(found, dict | bool):
            fail(f"{path}.{key}", f"{reference[:100]!r} leads to no schema")
        check_keywords(found, where, self._checked)
        return found, where


def _joined(base: str, reference: str) -> str:
    try:
        return urldefrag(urljoin(base, reference))[0]
    except ValueError:
        return reference


def _split(base: str, reference: str) -> tuple[str, str]:
    if reference.startswith("#") or not reference:
        return base, reference[1:]
    uri, _, fragment = reference.partition("#")
    return _joined(base, uri), fragment
