"""llamaq on a Ray cluster: tables (``processor``), files of requests (``cluster_batch``), a server (``openai_app``), a
model in stages (``staged``).

It needs the extra ``llamaq[ray]`` on every machine; importing this without it raises ``LlamaqError``.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from llamaq.errors import LlamaqError

if TYPE_CHECKING:
    from llamaq.distributed.ray.batches import cluster_batch
    from llamaq.distributed.ray.serving import openai_app
    from llamaq.distributed.ray.stages import staged
    from llamaq.distributed.ray.tables import processor

__all__ = ["cluster_batch", "openai_app", "processor", "staged"]

_PLACES = {"cluster_batch": "batches", "openai_app": "serving", "processor": "tables", "staged": "stages"}

if find_spec("ray") is None:
    raise LlamaqError("llamaq.distributed.ray needs Ray: pip install 'llamaq[ray]'")


def __getattr__(name: str) -> Any:
    """Each with its part of Ray: Ray Serve alone takes seconds, which a worker with a model can spare."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
