"""llamaq on a Ray cluster: tables (``processor``), files of requests (``cluster_batch``), a server (``openai_app``), a
model in stages (``staged``).

It needs the extra ``llamaq[ray]`` on every machine; importing this without it raises ``LlamaqError``.
"""

from __future__ import annotations

from llamaq.errors import LlamaqError

try:
    import ray
except ImportError:
    raise LlamaqError("llamaq.distributed.ray needs Ray: pip install 'llamaq[ray]'") from None

from llamaq.distributed.ray.batches import cluster_batch
from llamaq.distributed.ray.serving import openai_app
from llamaq.distributed.ray.stages import staged
from llamaq.distributed.ray.tables import processor

__all__ = ["cluster_batch", "openai_app", "processor", "staged"]

del ray
