"""The model that comes with llamaq, under a name of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from llamaq.engine import bundled
from llamaq.errors import ModelError
from llamaq.hub.found import Found

__all__ = ["Bundled", "bundled_model"]


def bundled_model() -> Found:
    """The bundled model. Raises ``ModelError`` where this build has none."""
    path = bundled.path()
    return Found(path, path.stem, Bundled.title, (path.name,))


class Bundled:
    """It is called ``demo``, as its file."""

    title = "bundled"
    removal = "it is a part of llamaq"

    def folders(self) -> list[Path]:
        return []

    def models(self) -> Iterator[Found]:
        with suppress(ModelError):
            yield bundled_model()
