"""Streams of Anthropic's protocol, read as the protocol says."""

from __future__ import annotations

import json
from typing import Any

from asgi import Reply


def frames(reply: Reply) -> list[dict[str, Any]]:
    """The events, each of which has the name that its line ``event`` says."""
    found = []
    for part in reply.body.decode().removesuffix("\n\n").split("\n\n"):
        event, data = part.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert event == f"event: {found[-1]['type']}"
    return found


def assembled(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that a stream's events make, as the protocol says that they do."""
    message: dict[str, Any] = {}
    parts: list[str] = []
    for event in events:
        if event["type"] == "message_start":
            assert not message
            message = event["message"]
        elif event["type"] == "content_block_start":
            assert event["index"] == len(message["content"])
            message["content"].append(event["content_block"])
            parts = []
        elif event["type"] == "content_block_delta":
            assert event["index"] == len(message["content"]) - 1
            block, delta = message["content"][-1], event["delta"]
            kind = delta["type"].removesuffix("_delta")
            if kind == "input_json":
                parts.append(delta["partial_json"])
                block["input"] = {}
            else:
                block[kind] += delta[kind]
        elif event["type"] == "content_block_stop" and parts:
            message["content"][-1]["input"] = json.loads("".join(parts))
        elif event["type"] == "message_delta":
            message |= event["delta"]
            message["usage"] |= event["usage"]
    return message
