"""Which tests need Ray, and a small cluster for them."""

from __future__ import annotations

from importlib.util import find_spec

NEEDED = ["test_ray_batch.py", "test_ray_serving.py", "test_ray_stages.py", "test_ray_tables.py"]
collect_ignore = NEEDED if find_spec("ray") is None else []
"""Tests on a cluster of processes; ``nox -s ray`` installs what they need."""
