"""The names of properties in a schema, and the patterns that match no others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from llamaq.structure.engine import limits, llguidance

__all__ = ["names_in", "names_matching"]

_MOST_STEPS = 2000  # bytes of names that are tried


def names_in(root: Any) -> tuple[str, ...]:
    """All that a schema lists as properties or as required, wherever."""
    return tuple(dict.fromkeys(_listed(root)))


@lru_cache(maxsize=256)
def names_matching(pattern: str, names: tuple[str, ...]) -> tuple[str, ...] | None:
    """Those of the names that match; None where a text that is no name does, or where that took too long to find out.

    Follows the texts of the pattern, byte by byte, as long as they begin names.
    """
    grammar = llguidance().LLMatcher.grammar_from_json_schema(json.dumps({"type": "string", "pattern": pattern}))
    start = llguidance().LLMatcher(llguidance().LLTokenizer("byte"), grammar, log_level=0, limits=limits())
    texts = {json.dumps(name, ensure_ascii=False).encode("utf-8", "surrogatepass"): name for name in names}
    waiting, found = [(b"", start, list(texts))], set()
    for _ in range(_MOST_STEPS):
        if not waiting:
            return tuple(name for name in texts.values() if name in found)
        before, matcher, left = waiting.pop()
        if before in texts:
            found.add(texts[before])
            continue
        allowed = set(_bytes(matcher.compute_bitmask()))
        begun = {text[len(before)] for text in left}
        if matcher.is_error() or not allowed <= begun:
            return None
        for byte in allowed:
            after = matcher.deep_copy()
            after.consume_token(byte)
            text = before + bytes([byte])
            waiting.append((text, after, [name for name in left if name.startswith(text)]))
    return None


def _listed(root: Any) -> Iterator[str]:
    waiting = [root]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            for key, inside in value.items():
                if key == "properties" and isinstance(inside, dict):
                    yield from inside
                if key == "required" and isinstance(inside, list):
                    yield from (name for name in inside if isinstance(name, str))
            waiting += reversed(value.values())
        elif isinstance(value, list):
            waiting += reversed(value)


def _bytes(mask: bytes) -> Iterator[int]:
    return (byte for byte in range(256) if mask[byte // 8] >> byte % 8 & 1)
