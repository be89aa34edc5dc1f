"""Which adapters a text goes through, and how much of each."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

from llamaq.boundary.arguments import INT32, MOST_SCALE, path_of, real, shown, text, wholes
from llamaq.engine.adapters import Adapter, load_adapter
from llamaq.engine.engine import Engine
from llamaq.errors import naming
from llamaq.gguf import GGUFFile
from llamaq.plan.adapter import Adapted
from llamaq.serving.prefix import Mark

__all__ = ["ASKED", "BASE", "Adaptation", "AdapterChoice", "Adapters"]

AdapterChoice: TypeAlias = "str | Adapter | Mapping[str | Adapter, float] | None"
"""A loaded adapter or its name; several with their scales, {}: none of them; None: what the model does by default."""


@dataclass(frozen=True)
class Adaptation:
    """Adapters and their scales, none of which is 0, in the order of their digests: one combination has one order, and
    so the same bits, whoever asks for it."""

    parts: tuple[tuple[Adapter, float], ...] = ()

    @cached_property
    def key(self) -> tuple[tuple[str, float], ...]:
        """What keys and values of a text depend on beside the model: digests and scales."""
        return tuple((adapter.digest, scale) for adapter, scale in self.parts)

    @cached_property
    def adapted(self) -> Adapted:
        """The same for a step."""
        return tuple((adapter.handle, scale) for adapter, scale in self.parts)


BASE = Adaptation()
"""The model alone."""


ASKED: ContextVar[AdapterChoice] = ContextVar("llamaq-adapter", default=None)
"""What is asked for by whoever says nothing else here, in the place of the model's default."""


class Adapters:
    """The adapters of a model by name, and the ``default`` of texts that ask for none. Any thread may use it."""

    def __init__(self, engine: Engine, model: GGUFFile) -> None:
        self.default = BASE
        self._engine, self._model = engine, model
        self._lock = threading.Lock()
        self._scales: dict[Adapter, float] = {}

    @property
    def loaded(self) -> tuple[Adapter, ...]:
        """In the order in which they were loaded."""
        return tuple(self._scales)

    def load(
        self, path: str | os.PathLike[str], scale: float = 1.0, name: str | None = None,
        layers: tuple[int, int] | None = None,
    ) -> Adapter:  # fmt: skip
        """Raises what ``load_adapter`` does, and ``ValueError`` for a name that another one has."""
        source, scale = path_of("path", path), real("scale", scale, -MOST_SCALE, MOST_SCALE)
        name = source.stem if name is None else text("name", name)
        self._check_free(name)
        if layers is not None:
            first, *last = wholes("layers", layers, "the first and the last layer", 0, INT32)
            if len(last) != 1 or first > last[0]:
                message = f"layers must be the first and the last of some layers, got {shown(layers)}"
                raise naming(ValueError(message), "layers")
            layers = first, last[0]
        adapter = load_adapter(source, name, self._engine, self._model, layers)
        with self._lock:
            self._check_free(name)
            self._scales = {**self._scales, adapter: scale}
        return adapter

    def unload(self, which: str | Adapter) -> None:
        """Forgets an adapter. What runs with it goes on; its memory is free once nothing does."""
        adapter = self.named(which)
        with self._lock:
            self._scales = {one: scale for one, scale in self._scales.items() if one is not adapter}
            self.default = Adaptation(tuple(part for part in self.default.parts if part[0] is not adapter))

    def named(self, which: str | Adapter) -> Adapter:
        """Raises ``ValueError`` for one that is not loaded, ``TypeError`` for what is neither name nor adapter."""
        if not isinstance(which, str | Adapter):
            message = f"adapter must be a loaded adapter, its name, or a mapping of such to scales, got {shown(which)}"
            raise naming(TypeError(message), "adapter")
        for adapter in self._scales:
            if which in (adapter, adapter.name):
                return adapter
        names = ", ".join(repr(adapter.name) for adapter in self._scales) or "none"
        what = which if isinstance(which, str) else which.name
        raise naming(ValueError(f"adapter must be one that is loaded ({names}), got {shown(what)}"), "adapter")

    def of(self, choice: Any) -> Adaptation:
        """What an ``AdapterChoice`` means. Raises ``ValueError`` and ``TypeError``."""
        choice = ASKED.get() if choice is None else choice
        if choice is None:
            return self.default
        if not isinstance(choice, Mapping):
            adapter = self.named(choice)
            choice = {adapter: self._scales.get(adapter, 1.0)}
        scales = {
            self.named(which): real("each scale of adapter", scale, -MOST_SCALE, MOST_SCALE)
            for which, scale in choice.items()
        }
        return _in_order(scales.items())

    def usual(self, which: str) -> float:
        """The scale of whoever names an adapter alone: that which it was loaded with, if not 0."""
        return self._scales.get(self.named(which), 1.0) or 1.0

    def of_key(self, key: Mark) -> Adaptation | None:
        """The loaded adapters of such digests and scales, for each another one; None where one is not loaded."""
        loaded, parts = [*self._scales], []
        for digest, scale in key:  # a file that was loaded twice may stand there twice
            adapter = next((adapter for adapter in loaded if adapter.digest == digest), None)
            if adapter is None:
                return None
            loaded.remove(adapter)
            parts.append((adapter, scale))
        return _in_order(parts)

    def _check_free(self, name: str) -> None:
        if any(adapter.name == name for adapter in self._scales):
            message = (
                f"name must be new among the loaded adapters, got {shown(name)}; --lora NAME=FILE gives another one"
            )
            raise naming(ValueError(message), "name")


def _in_order(parts: Iterable[tuple[Adapter, float]]) -> Adaptation:
    return Adaptation(tuple(sorted((part for part in parts if part[1]), key=lambda part: (part[0].digest, part[1]))))
