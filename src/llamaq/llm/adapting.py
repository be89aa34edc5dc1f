"""The part of ``LLM`` that loads adapters."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TypeAlias, TypeVar

from llamaq.boundary.arguments import items
from llamaq.engine.adapters import Adapter
from llamaq.llm.calls import public
from llamaq.serving.adaptation import AdapterChoice
from llamaq.serving.model import Model

__all__ = ["Adapting", "PathsOfAdapters"]

PathsOfAdapters: TypeAlias = (
    "str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Mapping[str | os.PathLike[str], float]"
)
"""A file, several, or files with their scales."""

T = TypeVar("T", bound="Adapting")


class Adapting:
    """Its methods are those of ``LLM``."""

    model: Model

    def load_adapter(self, path: str | os.PathLike[str], *, scale: float = 1.0, name: str | None = None) -> Adapter:
        """Loads a LoRA adapter of this model (GGUF), beside those that there are. Answers take it by ``adapter=``, with
        this ``scale`` where they name no other; its ``name`` is that of the file without its ending, if none is given.

        Raises ``GGUFError``, ``ModelError`` for one that does not fit the model, ``ValueError`` for a name that another
        one has, ``InsufficientMemoryError``, ``ClosedError``.
        """
        self.model.scheduler.check_open()
        return self.model.adapters.load(path, scale, name)

    def unload_adapter(self, adapter: str | Adapter) -> None:
        """Forgets an adapter; what runs with it goes on. Raises ``ValueError`` for one that is not loaded."""
        self.model.adapters.unload(adapter)

    @property
    def adapters(self) -> tuple[Adapter, ...]:
        """Those that are loaded, in the order in which they were."""
        return self.model.adapters.loaded

    @property
    def adapter(self) -> dict[str, float]:
        """Names and scales of the adapters of whatever asks for no other; set it to what ``adapter=`` takes."""
        return {adapter.name: scale for adapter, scale in self.model.adapters.default.parts}

    @adapter.setter
    def adapter(self, adapter: AdapterChoice) -> None:
        self.model.adapters.default = self.model.adapters.of({} if adapter is None else adapter)

    def _with_adapters(self: T, paths: PathsOfAdapters) -> T:
        """Loads them and those of the model's owner, and makes them the default. What goes wrong closes the model."""
        adapters = self.model.adapters
        try:
            paths = [paths] if isinstance(paths, str | os.PathLike) else paths
            scales = paths if isinstance(paths, Mapping) else dict.fromkeys(items("adapters", paths, "paths"), 1.0)
            scales = {**dict.fromkeys(self.model.defaults.adapters, 1.0), **scales}
            adapters.default = adapters.of({adapters.load(path, scale): scale for path, scale in scales.items()})
        except BaseException:
            self.model.close()
            raise
        return self


public(Adapting, called="LLM")
