"""The part of ``LLM`` that loads adapters."""

from __future__ import annotations

import os
from typing import TypeVar

from llamaq.boundary.arguments import path_of
from llamaq.engine.adapters import Adapter, PathsOfAdapters, adapter_files
from llamaq.llm.calls import public
from llamaq.serving.adaptation import AdapterChoice
from llamaq.serving.model import Model

__all__ = ["Adapting", "PathsOfAdapters"]

T = TypeVar("T", bound="Adapting")


class Adapting:
    """Its methods are those of ``LLM``."""

    model: Model

    def load_adapter(
        self, path: str | os.PathLike[str], *, scale: float = 1.0, name: str | None = None,
        layers: tuple[int, int] | None = None,
    ) -> Adapter:  # fmt: skip
        """Loads a LoRA adapter of this model (GGUF), beside those that there are. Answers take it by ``adapter=``, with
        this ``scale`` where they name no other; its ``name`` is that of the file without its ending, if none is given.
        A control vector (GGUF) is loaded and taken in the same way: ``layers`` are the first and the last that it is
        added to, counted from 0; None: all that the file has.

        Raises ``GGUFError``, ``ModelError`` for one that does not fit the model, ``ValueError`` for a name that another
        one has, ``InsufficientMemoryError``, ``ClosedError``.
        """
        self.model.scheduler.check_open()
        return self.model.adapters.load(path, scale, name, layers)

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
            every = [*adapter_files(self.model.defaults.adapters), *adapter_files(paths)]
            files = {path_of("path", file.path): file for file in every}.values()  # of one file the last counts
            adapters.default = adapters.of(
                {adapters.load(file.path, file.scale, file.name, file.layers): file.scale for file in files}
            )
        except BaseException:
            self.model.close()
            raise
        return self


public(Adapting, called="LLM")
