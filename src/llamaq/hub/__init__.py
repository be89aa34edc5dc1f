"""Models by name: found where other programs keep them, or fetched from the hub."""

from __future__ import annotations

from llamaq.hub.bundled import bundled_model
from llamaq.hub.found import Found
from llamaq.hub.resolve import SOURCES, models, resolve

__all__ = ["SOURCES", "Found", "bundled_model", "models", "resolve"]
