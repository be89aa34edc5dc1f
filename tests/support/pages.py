"""Whether every page of a cache has exactly its users."""

from __future__ import annotations

from llamaq.engine.kv_cache import PAGE_TOKENS
from llamaq.serving.prefix import Node
from llamaq.serving.scheduler import Scheduler

__all__ = ["check_pages"]


def check_pages(s: Scheduler) -> None:
    """Every page is held by exactly the sequences and the nodes that name it."""
    cache, prefixes = s.room.cache, s.room.prefixes
    held = [0] * len(cache.by_layer()[0])
    nodes: list[Node] = [prefixes.root]
    while nodes:
        node = nodes.pop()
        nodes += node.children.values()
        if node is not prefixes.root:
            held[node.page] += 1
    for request in s._requests:
        assert (request.sequence is not None) == (request in s.room.holders)
        if request.sequence is not None:
            for page in cache.pages(request.sequence):
                held[page] += 1
    assert [*cache._users, *[0] * (len(held) - len(cache._users))] == held
    assert cache.free_tokens == held.count(0) * PAGE_TOKENS
