"""Caches without a model, and whether every page has exactly its users."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from llamaq.engine.page_pool import GONE
from llamaq.plan.operands import CacheLayer, StateLayer
from llamaq.plan.plan import CacheGroup
from llamaq.serving.prefix import Node
from llamaq.serving.scheduler import Scheduler

__all__ = ["check_pages", "limited_plan"]


def limited_plan(*limits: tuple[int, int], states: int = 0) -> Any:
    """What a cache asks of a plan: a group of one layer for each (window, chunk), and layers with a state."""
    groups = [CacheGroup(*limit, (CacheLayer(i, 1, 32, 32),)) for i, limit in enumerate(limits)]
    kept = [StateLayer(len(limits) + i, 8) for i in range(states)]
    return SimpleNamespace(caches=groups, states=kept, out_cols=1, encodes=False)


def check_pages(s: Scheduler) -> None:
    """Every page is held by exactly the sequences and the nodes that name it."""
    cache, prefixes = s.room.cache, s.room.prefixes
    held = [[0] * len(pool.layers[0]) for pool in cache.pools]
    nodes: list[Node] = [prefixes.root]
    while nodes:
        node = nodes.pop()
        nodes += node.children.values()
        if node is not prefixes.root:
            _count(held, node.pages)
    for request in s._requests:
        assert (request.sequence is not None) == (request in s.room.holders)
        if request.sequence is not None:
            for pages in cache.pages(request.sequence):
                _count(held, pages[: len(cache._groups)])
            for slot in (*cache._states.get(request.sequence, ()), *cache._turns.get(request.sequence, ())[1:]):
                _count(held[-1:], [slot])
    for pool, users in zip(cache.pools, held, strict=True):
        assert [*pool._users, *[0] * (len(users) - len(pool._users))] == users
        assert pool.free == users.count(0)


def _count(held: list[list[int]], pages: Sequence[int]) -> None:
    for users, page in zip(held, pages, strict=False):
        if page != GONE:
            users[page] += 1
