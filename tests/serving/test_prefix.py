"""Shared pages of the cache: counts, copies, what the tree of prefixes finds, and what goes first."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaq.engine.kv_cache import PAGE_TOKENS, KVCache
from llamaq.engine.page_pool import GONE
from llamaq.errors import ContextOverflowError
from llamaq.serving.prefix import PrefixTree, common_prefix
from pages import limited_plan
from tiny_llama import plan_of, tiny_llama

PLAN = plan_of(*tiny_llama(layers=1))[1]


def cache_of(pages: int) -> KVCache:
    return KVCache(PLAN, pages * PAGE_TOKENS)


def put(cache: KVCache, tree: PrefixTree, sequence: int, tokens: list[int]) -> None:
    """Reads a text and forgets its sequence: the tree keeps it."""
    pages, known = tree.find(tokens)
    cache.adopt(sequence, pages, known)
    cache.reserve(sequence, len(tokens))
    cache.commit(sequence, len(tokens))
    tree.insert(sequence, tokens, tree.root, partial=True)
    cache.drop(sequence)


def test_a_shared_page_is_copied_before_it_is_written() -> None:
    cache = cache_of(4)
    cache.reserve(1, 40)
    cache.commit(1, 40)
    cache.by_layer()[0][cache.pages(1)[1][0]] = 7
    cache.adopt(2, cache.pages(1), 40)
    assert cache.pages(1) == cache.pages(2)
    assert cache.free_tokens == 2 * PAGE_TOKENS
    cache.reserve(2, 41)
    assert cache.pages(2)[0] == cache.pages(1)[0]
    assert cache.pages(2)[1] != cache.pages(1)[1]
    assert (cache.by_layer()[0][cache.pages(2)[1][0]] == 7).all()
    cache.reserve(1, 41)  # the other one is alone with its page now
    assert cache.free_tokens == PAGE_TOKENS
    cache.drop(1)
    cache.drop(2)
    assert cache.free_tokens == 4 * PAGE_TOKENS


def test_a_claimed_context_costs_nothing_until_it_is_used() -> None:
    tracemalloc.start()
    try:
        cache = cache_of(1 << 19)
        own = tracemalloc.take_snapshot().filter_traces([tracemalloc.DomainFilter(True, 0)])  # NumPy's is left out
    finally:
        tracemalloc.stop()
    assert sum(trace.size for trace in own.traces) < 100_000
    assert cache.free_tokens == PAGE_TOKENS << 19
    cache.reserve(1, 3 * PAGE_TOKENS)
    assert cache.pages(1) == [(0,), (1,), (2,)]
    cache.truncate(1, 0)
    cache.commit(1, 0)
    cache.drop(1)
    assert cache.free_tokens == PAGE_TOKENS << 19


def test_rewinding_into_a_shared_page_copies_it_too() -> None:
    cache = cache_of(3)
    cache.reserve(1, 64)
    cache.commit(1, 64)
    cache.adopt(2, cache.pages(1), 64)
    cache.truncate(2, 33)
    cache.reserve(2, 34)
    assert cache.pages(2)[1] not in cache.pages(1)
    cache.truncate(1, 5)
    assert cache.pools[0].users(cache.pages(1)[0][0]) == 2
    with pytest.raises(ContextOverflowError):
        cache.reserve(1, 97)


def test_the_longest_beginning_is_found_up_to_the_token() -> None:
    cache = cache_of(16)
    tree = PrefixTree(cache)
    text = list(range(100))
    put(cache, tree, 1, text)
    assert tree.find(text)[1] == 100
    assert tree.find(text[:50])[1] == 50
    assert tree.find([*text[:70], 5, 5])[1] == 70
    assert tree.find([*text, 1, 2, 3])[1] == 100
    assert tree.find([5])[1] == 0
    assert tree.find([])[1] == 0
    put(cache, tree, 2, [*text[:70], 5, 5])
    assert len(set(tree.find(text)[0]) & set(tree.find([*text[:70], 5])[0])) == 2
    assert tree.find([*text[:70], 5, 5, 5])[1] == 72
    assert cache.free_tokens == (16 - 5) * PAGE_TOKENS


def test_equal_texts_read_side_by_side_end_in_one_copy() -> None:
    cache = cache_of(8)
    tree = PrefixTree(cache)
    text = list(range(64))
    for sequence in (1, 2):
        cache.reserve(sequence, 64)
        cache.commit(sequence, 64)
        tree.insert(sequence, text, tree.root)
    assert cache.pages(1) == cache.pages(2)
    assert cache.free_tokens == 6 * PAGE_TOKENS


def test_what_was_not_asked_for_longest_goes_first_and_what_is_in_use_stays() -> None:
    cache = cache_of(6)
    tree = PrefixTree(cache)
    texts = [[i] * 64 for i in range(3)]
    for i, text in enumerate(texts):
        put(cache, tree, i, text)
    assert cache.free_tokens == 0
    assert tree.find(texts[0])[1] == 64
    cache.reserve(9, 32)
    assert [tree.find(text, touch=False)[1] for text in texts] == [64, 32, 64]
    pages, _ = tree.find(texts[1])
    cache.adopt(5, pages, 32)
    cache.reserve(9, 5 * PAGE_TOKENS)  # it takes all but the page in use
    assert [tree.find(text)[1] for text in texts] == [0, 32, 0]
    with pytest.raises(ContextOverflowError):
        cache.reserve(9, 6 * PAGE_TOKENS)


PLANS = {
    "whole": limited_plan((0, 0)),
    "window": limited_plan((40, 0)),
    "both": limited_plan((0, 0), (33, 0)),
    "chunk": limited_plan((50, 64), (0, 0), (1, 0)),
    "state": limited_plan((0, 0), (33, 0), states=1),
}


@settings(max_examples=300)
@given(
    st.sampled_from([*PLANS]), st.lists(st.lists(st.integers(0, 1), max_size=190), max_size=12), st.integers(8, 11),
    st.sampled_from([1, 20, 512]),
)  # fmt: skip
def test_whatever_is_read_the_tree_stays_true(name: str, texts: list[list[int]], pages: int, max_rows: int) -> None:
    """Each page is stamped with the text before and in it; what is found must bear the right stamps, and be all that
    the next token sees."""
    cache = KVCache(PLANS[name], pages * PAGE_TOKENS, max_rows=max_rows, texts=1)
    tree = PrefixTree(cache)
    stamps: dict[tuple[int, int], list[int]] = {}
    seen: list[list[int]] = []
    for sequence, text in enumerate(texts):
        found, known = tree.find(text, limit=max(0, len(text) - 1))
        assert known <= max([common_prefix(text, other) for other in seen], default=0)
        assert len(found) == -(-known // PAGE_TOKENS)
        cache.adopt(sequence, found, known)
        start = known
        while start < len(text):
            end = min(start + max_rows, len(text))
            if cache.states is not None and end // PAGE_TOKENS * PAGE_TOKENS > start:
                end = end // PAGE_TOKENS * PAGE_TOKENS
            for i, row in enumerate(cache.pages(sequence)[: -(-start // PAGE_TOKENS)]):
                for group, (pool, page) in enumerate(zip(cache.pools, row, strict=True)):
                    within = pool is cache.states and start % PAGE_TOKENS  # that state is the sequence's alone
                    if i in pool.needed(start) and not within:
                        upto = min(start, (i + 1) * PAGE_TOKENS)
                        assert stamps[group, page][:upto] == text[:upto]
            cache.reserve(sequence, end)
            for i, row in enumerate(cache.pages(sequence)[: -(-end // PAGE_TOKENS)]):
                for group, (pool, page) in enumerate(zip(cache.pools, row, strict=True)):
                    if i >= start // PAGE_TOKENS and pool is not cache.states:
                        assert pool.users(page) == 1
                        stamps[group, page] = text[: (i + 1) * PAGE_TOKENS]
            cache.commit(sequence, end)
            if cache.states is not None and end % PAGE_TOKENS == 0:
                stamps[len(cache.pools) - 1, cache.pages(sequence)[-1][-1]] = text[:end]
            tree.insert(sequence, text[:end], tree.root)
            start = end
        tree.insert(sequence, text, tree.root, partial=True)
        cache.drop(sequence)
        seen.append(text)
    for group in range(len(cache.pools)):
        tree.evict(group, 100)
    assert all(pool.free == len(pool.layers[0]) for pool in cache.pools)
    assert np.count_nonzero(tree.root.children) == 0


def test_a_window_keeps_what_stands_near_the_end() -> None:
    cache = KVCache(PLANS["both"], 4096, max_rows=32, texts=2)
    assert [len(pool.layers[0]) for pool in cache.pools] == [128, 9]
    tree, text = PrefixTree(cache), list(range(2000))
    for end in range(32, 2001, 32):
        cache.reserve(1, end)
        cache.commit(1, end)
        tree.insert(1, text[:end], tree.root)
    assert [page for page, _ in zip(cache.pages(1), range(58), strict=False)] == [(i, GONE) for i in range(58)]
    cache.drop(1)
    assert tree.find(text)[1] == 1984
    assert tree.find(text[:1900])[1] == 1900
    assert tree.find(text[:1000])[1] == 0  # nothing in the window before it is left
    assert tree.find(text[:1900], whole=True)[1] == 1888
    cache.adopt(2, *tree.find(text[:1900]))
    with pytest.raises(ValueError, match="is no longer kept: read them anew"):
        cache.truncate(2, 100)
    cache.truncate(2, 1890)
    assert cache.length(2) == 1890
    cache.truncate(2, 0)
    cache.place(3, 1000)
    assert cache.pages(3)[29:] == [(*cache.pages(3)[29][:1], GONE), *cache.pages(3)[30:]]
    assert GONE not in {page for pages in cache.pages(3)[30:] for page in pages}
    with pytest.raises(ContextOverflowError, match="room for 5000 tokens, the cache has room for"):
        cache.place(4, 5000)


def test_what_was_asked_for_last_stays_in_a_window() -> None:
    """A beginning that others share stays readable although its text went on."""
    cache = KVCache(PLANS["both"], 4096, max_rows=32, texts=3)
    tree, shared = PrefixTree(cache), list(range(320))
    for number in range(5):
        text = [*shared, *[number] * 96]
        pages, known = tree.find(text)
        assert known == (320 if number else 0)
        cache.adopt(number, pages, known)
        for end in range(known + 32, len(text) + 1, 32):
            cache.reserve(number, end)
            cache.commit(number, end)
            tree.insert(number, text[:end], tree.root)
        cache.drop(number)
