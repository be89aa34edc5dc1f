"""Command R7B and Command A: Command R's blocks; three of four have a window and rope, the fourth neither."""

from __future__ import annotations

from dataclasses import replace

from llamaq.models import command_r
from llamaq.models.command_r import CommandR, trace
from llamaq.models.hparams import windows_of
from llamaq.models.keys import Keys

__all__ = ["read", "trace"]


def read(keys: Keys) -> CommandR:
    hp = command_r.read(keys)
    windows = windows_of(keys, hp.layers, size=4096, period=4)
    return replace(hp, windows=windows, ropes=tuple(hp.rope if window else None for window in windows))
