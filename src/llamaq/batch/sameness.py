"""Takes out of an answer what is another with each run: clocks, random numbers, what the cache happened to have."""

from __future__ import annotations

from typing import Any

__all__ = ["same_each_time"]


def same_each_time(body: dict[str, Any], id: str) -> dict[str, Any]:
    """The body of an answer to the request ``id``. Its times are 0, its own ids are made of the request's, and it tells
    neither how long it took nor how much of the prompt was in the cache, nor on which file."""
    found = {name: value for name, value in body.items() if name not in ("timings", "system_fingerprint")}
    digest = id.rpartition("_")[2]
    for name in ("created", "created_at", "completed_at"):
        if found.get(name) is not None:
            found[name] = 0
    if "id" in found:
        found["id"] = _renamed(found["id"], digest, 0)
    if isinstance(found.get("usage"), dict):
        left_out = ("prompt_tokens_details", "input_tokens_details")
        found["usage"] = {name: value for name, value in found["usage"].items() if name not in left_out}
    calls = [call for choice in found.get("choices", ()) for call in choice.get("message", {}).get("tool_calls", ())]
    for number, item in enumerate([*calls, *found.get("output", ())]):
        for name in {"id", "call_id"} & item.keys():
            item[name] = _renamed(item[name], digest, number)
    return found


def _renamed(id: str, digest: str, number: int) -> str:
    """An id of the same form: templates may want as many letters as it has."""
    begin = max(id.rfind("_"), id.rfind("-")) + 1
    length = len(id) - begin
    own = f"{number:x}{digest}" if number else digest
    return id[:begin] + (own * (length // len(own) + 1))[:length]
