"""Plots of stories: a wish or a mishap, what is tried, how it ends."""

from __future__ import annotations

from .courage import COURAGE
from .finding import FINDING
from .learning import LEARNING
from .plot import Plot
from .quests import QUESTS
from .tales import NAMELESS_OPENINGS, TALE_OPENINGS, TALES, nameless
from .together import TOGETHER

PLOTS: tuple[Plot, ...] = (*FINDING, *LEARNING, *COURAGE, *TOGETHER, *QUESTS)

__all__ = ["NAMELESS_OPENINGS", "PLOTS", "QUESTS", "TALES", "TALE_OPENINGS", "Plot", "nameless"]
