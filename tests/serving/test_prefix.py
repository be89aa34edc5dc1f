"""Shared pages of the cache: counts, copies, what the tree of prefixes finds, and what goes first."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaq.engine.kv_cache import PAGE_TOKENS, KVCache
from llamaq.errors import ContextOverflowError
from llamaq.serving.prefix import PrefixTree, common_prefix
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
    cache.by_layer()[0][cache.pages(1)[1]] = 7
    cache.adopt(2, cache.pages(1), 40)
    assert cache.pages(1) == cache.pages(2)
    assert cache.free_tokens == 2 * PAGE_TOKENS
    cache.reserve(2, 41)
    assert cache.pages(2)[0] == cache.pages(1)[0]
    assert cache.pages(2)[1] != cache.pages(1)[1]
    assert (cache.by_layer()[0][cache.pages(2)[1]] == 7).all()
    cache.reserve(1, 41)  # the other one is alone with its page now
    assert cache.free_tokens == PAGE_TOKENS
    cache.drop(1)
    cache.drop(2)
    assert cache.free_tokens == 4 * PAGE_TOKENS


def test_a_claimed_context_costs_nothing_until_it_is_used() -> None:
    tracemalloc.start()
    try:
        cache = cache_of(1 << 19)
        own = tracemalloc.take_snapshot().filter_traces([tracemalloc.DomainFilter(True, 0)])  # without NumPy's memory
    finally:
        tracemalloc.stop()
    assert sum(trace.size for trace in own.traces) < 100_000
    assert cache.free_tokens == PAGE_TOKENS << 19
    cache.reserve(1, 3 * PAGE_TOKENS)
    assert cache.pages(1) == [0, 1, 2]
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
    assert cache.users(cache.pages(1)[0]) == 2
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
    cache.reserve(9, 5 * PAGE_TOKENS)  # all but the page in use
    assert [tree.find(text)[1] for text in texts] == [0, 32, 0]
    with pytest.raises(ContextOverflowError):
        cache.reserve(9, 6 * PAGE_TOKENS)


@settings(max_examples=150)
@given(st.lists(st.lists(st.integers(0, 1), max_size=130), max_size=12), st.integers(6, 9))
def test_whatever_is_read_the_tree_stays_true(texts: list[list[int]], pages: int) -> None:
    """Each page is stamped with the text before and in it; what is found must bear the right stamps."""
    cache = cache_of(pages)
    tree = PrefixTree(cache)
    stamps: dict[int, list[int]] = {}
    seen: list[list[int]] = []
    for sequence, text in enumerate(texts):
        found, known = tree.find(text)
        assert known <= max([common_prefix(text, other) for other in seen], default=0)
        assert len(found) == -(-known // PAGE_TOKENS)
        for i, page in enumerate(found):
            end = min(known, (i + 1) * PAGE_TOKENS)
            assert stamps[page][:end] == text[:end]
        cache.adopt(sequence, found, known)
        cache.reserve(sequence, len(text))
        cache.commit(sequence, len(text))
        for i, page in enumerate(cache.pages(sequence)):
            if len(text) > known and (i + 1) * PAGE_TOKENS > known:
                assert cache.users(page) == 1
                stamps[page] = text[: (i + 1) * PAGE_TOKENS]
        tree.insert(sequence, text, tree.root, partial=True)
        cache.drop(sequence)
        seen.append(text)
    tree.evict(pages)
    assert cache.free_tokens == pages * PAGE_TOKENS
    assert np.count_nonzero(tree.root.children) == 0
