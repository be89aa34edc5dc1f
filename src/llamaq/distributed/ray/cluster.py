"""The cluster: how it is reached, and what its machines have."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from llamaq.errors import LlamaqError

__all__ = ["check_born", "connected", "cpus_of_nodes"]


_PATIENCE = 10.0
"""Seconds for a machine to answer."""


@contextmanager
def connected(address: str) -> Iterator[None]:
    """A connection for the time of the context, unless there is one: ``auto`` is a cluster of this machine, ``local`` a
    new one here, ``HOST:PORT`` any. Raises ``LlamaqError`` where there is none."""
    if ray.is_initialized():
        yield
        return
    _check_listens(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    except (ConnectionError, OSError, ValueError, RuntimeError) as error:
        told = " ".join(str(error).split())
        raise LlamaqError(f"no Ray cluster at {address!r}: {told}; start one with 'ray start --head'") from None
    try:
        yield
    finally:
        ray.shutdown()


def _check_listens(address: str) -> None:
    """Raises ``LlamaqError`` for a HOST:PORT where nobody listens, for which Ray itself would wait for minutes."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or "/" in address:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise LlamaqError(f"no Ray cluster at {address!r}: {error}; start one with 'ray start --head'") from None


def cpus_of_nodes() -> list[int]:
    """CPUs that each machine of the cluster lends to Ray. Raises ``LlamaqError`` where none does."""
    nodes = (node["Resources"] for node in ray.nodes() if node["Alive"])
    found = [int(resources.get("CPU", 0)) for resources in nodes]
    if not any(found):
        raise LlamaqError("no machine of the Ray cluster lends CPUs: start one with 'ray start --num-cpus N'")
    return [count for count in found if count]


def check_born(error: Exception) -> None:
    """Raises ``LlamaqError`` where an actor is lost because it could not begin: the next one would fare no better."""
    if getattr(error, "actor_init_failed", False):
        told = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise LlamaqError(f"a machine of the cluster cannot begin its work: {told[-1]}") from None
