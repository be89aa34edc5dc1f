"""JSON that a model wrote, made what can be sent on."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["read_json"]


def read_json(text: str) -> Any:
    """What the text says, with U+FFFD in the place of half a surrogate pair. Raises ``ValueError`` for what is no JSON
    or has numbers that are none or beyond all doubles, ``RecursionError`` for what is too deep."""
    found = json.loads(text, parse_constant=int)  # NaN is no number of JSON: int refuses it
    written = json.dumps(found, ensure_ascii=False, allow_nan=False)
    whole = written.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return found if whole == written else json.loads(whole)
