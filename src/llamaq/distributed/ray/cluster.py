"""The cluster: how it is reached, and what its machines have."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from llamaq.errors import LlamaqError

__all__ = ["connected", "cpus_of_nodes"]


@contextmanager
def connected(address: str) -> Iterator[None]:
    """A connection for the time of the context, unless there is one: ``auto`` is a cluster of this machine, ``local`` a
    new one here, ``HOST:PORT`` any. Raises ``LlamaqError`` where there is none."""
    if ray.is_initialized():
        yield
        return
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    except (ConnectionError, OSError, ValueError, RuntimeError) as error:
        told = " ".join(str(error).split())
        raise LlamaqError(f"no Ray cluster at {address!r}: {told}; start one with 'ray start --head'") from None
    try:
        yield
    finally:
        ray.shutdown()


def cpus_of_nodes() -> list[int]:
    """CPUs that each machine of the cluster lends to Ray. Raises ``LlamaqError`` where none does."""
    nodes = (node["Resources"] for node in ray.nodes() if node["Alive"])
    found = [int(resources.get("CPU", 0)) for resources in nodes]
    if not any(found):
        raise LlamaqError("no machine of the Ray cluster lends CPUs: start one with 'ray start --num-cpus N'")
    return [count for count in found if count]
