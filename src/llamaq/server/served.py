"""The models behind the routes, by the names that clients have for them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from llamaq import __version__
from llamaq.server.errors import Refusal

if TYPE_CHECKING:
    from llamaq.llm.llm import LLM

__all__ = ["Models", "Served"]


class Served:
    """A model that answers. ``name`` is what answers call it."""

    def __init__(self, llm: LLM, name: str) -> None:
        self.llm = llm
        self.name = name
        self.created = int(time.time())
        self.fingerprint = f"llamaq-{__version__}-{llm.engine.numerics}"


class Models:
    """One model, under several names; with ``*`` among them any name will do. One event loop uses it."""

    def __init__(self, llm: LLM, names: Sequence[str]) -> None:
        path = llm.model.parts.file.path
        self._any_name = "*" in names
        self.names = tuple(name for name in names if name != "*") or (path.name.removesuffix(".gguf"),)
        self._also = {*self.names, path.name, str(path)}
        self._served = Served(llm, self.names[0])

    @property
    def loaded(self) -> Sequence[Served]:
        """Those that are in memory."""
        return [self._served]

    def find(self, name: str | None) -> Served:
        """The model of this name, or the only one where none is given. Raises ``Refusal``."""
        if name and not self._any_name and name not in self._also:
            message = f"there is no model {name!r:.100} here; there is {', '.join(self.names)}"
            raise Refusal(404, message, param="model", code="model_not_found")
        return self._served

    @asynccontextmanager
    async def use(self, name: str | None) -> AsyncIterator[Served]:
        """The model of this name, which stays while it is used. Raises ``Refusal``."""
        yield self.find(name)
