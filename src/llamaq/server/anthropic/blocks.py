"""An answer as content blocks, and the events that tell of them."""

from __future__ import annotations

from typing import Any

from llamaq.chat import ChatEvent
from llamaq.chat.json_text import read_json
from llamaq.server.anthropic.dialect import frame

__all__ = ["Blocks"]

_SIGNATURE = "llamaq"
"""Anthropic's clients want one of each thought, to send it back; nothing is proved by it here."""
_EMPTY: dict[str, dict[str, Any]] = {
    "thinking": {"type": "thinking", "thinking": "", "signature": ""}, "text": {"type": "text", "text": ""},
}  # fmt: skip


class Blocks:
    """Grows by the events of a chat; ``read`` and ``end`` give the frames that a stream has of them."""

    def __init__(self) -> None:
        self._blocks: list[tuple[dict[str, Any], list[str]]] = []
        self._open = False

    def read(self, event: ChatEvent) -> list[str]:
        found: list[str] = []
        for kind, piece in (("thinking", event.reasoning), ("text", event.text)):
            if piece:
                if not self._open or self._blocks[-1][0]["type"] != kind:
                    found += self._begin(_EMPTY[kind])
                found.append(self._delta(f"{kind}_delta", kind, piece))
        if (call := event.tool_call) is not None:
            if call.id is not None:
                found += self._begin({"type": "tool_use", "id": call.id, "name": call.name or "", "input": {}})
            if call.arguments:
                found.append(self._delta("input_json_delta", "partial_json", call.arguments))
        return found

    def end(self) -> list[str]:
        """Ends the block that has begun."""
        if not self._open:
            return []
        self._open = False
        last, index = self._blocks[-1][0], len(self._blocks) - 1
        signature = {"type": "signature_delta", "signature": _SIGNATURE}
        signed = [frame("content_block_delta", index=index, delta=signature)] if last["type"] == "thinking" else []
        return [*signed, frame("content_block_stop", index=index)]

    @property
    def content(self) -> list[dict[str, Any]]:
        """The blocks as far as they have come. A call whose arguments are no JSON object, such as one that was cut off,
        is text."""
        return [_filled(block, "".join(parts)) for block, parts in self._blocks]

    def _begin(self, block: dict[str, Any]) -> list[str]:
        ended = self.end()
        self._blocks.append((block, []))
        self._open = True
        return [*ended, frame("content_block_start", index=len(self._blocks) - 1, content_block=block)]

    def _delta(self, type: str, key: str, piece: str) -> str:
        self._blocks[-1][1].append(piece)
        return frame("content_block_delta", index=len(self._blocks) - 1, delta={"type": type, key: piece})


def _filled(block: dict[str, Any], text: str) -> dict[str, Any]:
    if block["type"] == "thinking":
        return {**block, "thinking": text, "signature": _SIGNATURE}
    if block["type"] == "text":
        return {**block, "text": text}
    try:
        arguments = read_json(text)
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        return {"type": "text", "text": block["name"] + text}
    return {**block, "input": arguments}
