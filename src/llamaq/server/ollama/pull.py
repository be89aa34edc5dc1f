"""Models that clients fetch from the Hugging Face hub: /api/pull."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from llamaq.hub.address import Address
from llamaq.server.endpoint import Job
from llamaq.server.errors import Refusal
from llamaq.server.fields import read_fields
from llamaq.server.hub_names import hub_address
from llamaq.server.ollama.dialect import line
from llamaq.server.ollama.protocol import PULL
from llamaq.server.service import Service

__all__ = ["Pull"]


class Pull(Job):
    """A model that is fetched, which can then be asked for."""

    needs_model = False

    def __init__(self, service: Service, body: dict[str, Any]) -> None:
        super().__init__(service)
        if not service.settings.allow_pull:
            raise Refusal(403, "this server fetches no models for its clients; start it with --allow-pull")
        values, self.ignored = read_fields(PULL, body, strict=service.settings.strict)
        self._address = _address(values.get("model") or values.get("name") or "")
        self.streamed = values.get("stream", True)

    async def whole(self) -> dict[str, Any]:
        async with aclosing(self.service.downloads.fetch(self._address)) as progress:
            async for _ in progress:
                pass
        return {"status": "success"}

    async def frames(self) -> AsyncGenerator[str, None]:
        # Clients tell bars from each other by the digest, which nobody knows before the file is there.
        number = hashlib.sha256(str(self._address).encode()).hexdigest()
        about = {"status": f"pulling {number[:12]}", "digest": f"sha256:{number}"}
        yield line({"status": "pulling manifest"})
        async with aclosing(self.service.downloads.fetch(self._address)) as progress:
            async for done, total in progress:
                yield line({**about, "total": total, "completed": done})
        for status in ("verifying sha256 digest", "writing manifest", "success"):
            yield line({"status": status})


def _address(name: str) -> Address:
    try:
        found = hub_address(name)
    except ValueError as error:
        raise Refusal(400, str(error), param="model") from None
    if found is None:
        message = f"model must be a name on the Hugging Face hub, such as hf.co/user/repo:Q4_K_M, got {name!r:.100}"
        raise Refusal(400, message, param="model")
    return found
