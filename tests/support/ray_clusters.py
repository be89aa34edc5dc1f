"""Clusters of several nodes that are processes of this machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

import llamaq

__all__ = ["cluster_of", "kill_actor"]

_STORE = 200 * 2**20  # bytes


@contextmanager
def cluster_of(*cpus: int) -> Iterator[tuple[str, list[Any], Cluster]]:
    """The address of a cluster, and its nodes beside the head, which lends no CPUs: each so many."""
    places = [Path(llamaq.__file__).parents[1], Path(__file__).parent]  # functions of tests are imported from there
    os.environ["PYTHONPATH"] = os.pathsep.join([*map(str, places), os.environ.get("PYTHONPATH", "")])
    os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0"}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": _STORE,
                      "include_dashboard": False})  # fmt: skip
    nodes = [cluster.add_node(num_cpus=count, object_store_memory=_STORE) for count in cpus]
    try:
        yield cluster.address, nodes, cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def kill_actor(name: str) -> int:
    """Kills a process of an actor of this class, and says which."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            line = (place / "cmdline").read_bytes()
        except OSError:
            continue
        if line.startswith(b"ray::" + name.encode()):
            os.kill(int(place.name), signal.SIGKILL)
            return int(place.name)
    raise AssertionError(f"no actor {name} runs")
