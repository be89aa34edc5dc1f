"""Long sessions of CI run in part. Which parts, the commit's hash decides, so that all of them come round."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

COMMIT = "LLAMAQ_PART_OF"
"""Environment variable with the commit's hash, as .ci/run sets it. Without it every part runs: by hand, and in
``nox -s full``."""


def part_of(session: str, parts: Sequence[str], count: int = 1) -> list[str]:
    """Those ``count`` parts of a session that this commit runs, in their order.

    A part's chance is the same for all, and does not change for the others where one is added.
    """
    commit = os.environ.get(COMMIT, "")
    if not commit:
        return list(parts)
    drawn = sorted(parts, key=lambda part: hashlib.sha256(f"{commit} {session} {part}".encode()).digest())[:count]
    return [part for part in parts if part in drawn]
