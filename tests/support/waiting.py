"""Waiting for what another thread or process does."""

from __future__ import annotations

import time
from collections.abc import Callable

PAUSE = 0.001  # seconds between two looks


def wait_until(condition: Callable[[], object]) -> None:
    """Returns once it holds. A test whose condition never holds ends by pytest's timeout, with all stacks."""
    while not condition():
        time.sleep(PAUSE)
