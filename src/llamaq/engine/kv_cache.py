"""The paged key-value cache: pages of a fixed number of tokens, and a table of pages for each sequence and cache group.

Pages are counted, so that sequences with the same beginning share them; the first write into a shared page goes to
a copy. Layers with a window keep pages near a sequence's end alone, so that their group needs room for a few windows,
not for whole texts. Some models keep a state of each sequence besides (``StatePool``). Python owns the memory and the
bookkeeping; the kernels read and write the pages that a step names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from llamaq import _core
from llamaq.engine.page_pool import GONE, PAGE_TOKENS, PagePool, StatePool
from llamaq.errors import ContextOverflowError, InsufficientMemoryError, ModelError, naming
from llamaq.formats import Format, format_by_name
from llamaq.plan.operands import CacheLayer
from llamaq.plan.plan import CacheGroup, Plan
from llamaq.plan.step import Step

__all__ = [
    "CACHE_TYPES", "PAGE_TOKENS", "CacheLost", "CacheType", "KVCache", "Pages", "StateSlots", "cache_bytes",
    "group_bytes", "state_bytes",
]  # fmt: skip

CacheType = Literal["f16", "f32", "q8_0", "q4_0"]
CACHE_TYPES: tuple[CacheType, ...] = ("f16", "f32", "q8_0", "q4_0")

Pages: TypeAlias = tuple[int, ...]
"""The page of each group that holds the same tokens, and the state behind them; ``GONE`` where it is not kept."""

StateSlots: TypeAlias = tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]
"""What ``KVCache.state_slots`` gives."""

_TEXTS = 8  # texts at once for which a group with a window has room
_STATES = 3  # states of each text: before a step, after it, and one to go on from later


def format_of(cache_type: CacheType) -> Format:
    """The GGUF format of the cache's elements."""
    return format_by_name(cache_type.upper())


def cache_bytes(
    plan: Plan, n_ctx: int, cache_type: CacheType = "f16", *, max_rows: int | None = None, texts: int = _TEXTS
) -> int:
    """Bytes of the keys and values of ``n_ctx`` tokens, rounded up to whole pages; the rest as for ``group_bytes``.

    Raises ``ModelError`` for a type whose blocks the model's heads do not fill.
    """
    groups = (group_bytes(group, n_ctx, cache_type, max_rows=max_rows, texts=texts) for group in plan.caches)
    return sum(groups) + state_bytes(plan, texts=texts)


def group_bytes(
    group: CacheGroup, n_ctx: int, cache_type: CacheType, *, max_rows: int | None = None, texts: int = _TEXTS
) -> int:
    """Bytes of one group of a cache of ``n_ctx`` tokens. With a window it has room for ``texts`` at once, of which
    steps read ``max_rows`` tokens together (None: up to ``n_ctx``). Raises ``ModelError`` as ``cache_bytes``."""
    return _n_pages(group, n_ctx, max_rows, texts) * sum(_page_bytes(layer, cache_type) for layer in group.layers)


def state_bytes(plan: Plan, *, texts: int = _TEXTS) -> int:
    """Bytes of the states of ``texts`` at once, which do not depend on their lengths."""
    return 4 * sum(state.floats for state in plan.states) * _STATES * texts


def _n_pages(group: CacheGroup, n_ctx: int, max_rows: int | None, texts: int) -> int:
    pages = -(-n_ctx // PAGE_TOKENS)
    seen, max_rows = min(group.window or n_ctx, group.chunk or n_ctx), max_rows or n_ctx
    # Each text needs two pages more: the window and the step begin and end within a page.
    return min(pages, texts * (-(-seen // PAGE_TOKENS) + 2) + -(-max_rows // PAGE_TOKENS))


def _page_bytes(layer: CacheLayer, cache_type: CacheType) -> int:
    """Bytes of one page of a layer: the keys and values of 32 tokens."""
    fmt = format_of(cache_type)
    for dim in (layer.head_dim, layer.value_dim):
        if dim % fmt.block:
            message = (
                f"a {cache_type} cache needs heads of a multiple of {fmt.block} dimensions, the model's have {dim}; "
                "choose 'f16' for cache_type"
            )
            raise naming(ModelError(message), "cache_type")
    return layer.kv_heads * _core.page_bytes(layer.head_dim, layer.value_dim, fmt.id)


class CacheLost(Exception):
    """Nothing that the cache held is there any more: sequences are to be read again from their beginning."""


class KVCache:
    """Room for ``n_ctx`` tokens, shared by any number of sequences; ``max_rows`` and ``texts`` as for ``group_bytes``.

    One thread at a time may use a cache. ``evict``, where it is set, is asked for a number of pages of a group when
    there are no free ones (it calls ``release``).
    Raises ``InsufficientMemoryError`` where the system does not even grant the reservation.
    """

    PAGES: type[PagePool] = PagePool
    STATES: type[StatePool] = StatePool

    def __init__(
        self, plan: Plan, n_ctx: int, cache_type: CacheType = "f16", *, max_rows: int | None = None, texts: int = _TEXTS
    ) -> None:
        self.n_ctx = n_ctx
        self.cache_type: CacheType = cache_type
        self.evict: Callable[[int, int], None] = lambda group, pages: None
        self._max_rows = max_rows or n_ctx
        # Without attention there are states alone; then a group of pages that hold nothing counts the tokens.
        self._seen = len(plan.caches)
        groups = plan.caches or ((CacheGroup(0, 0, ()),) if plan.states else ())
        sizes = [[_page_bytes(layer, cache_type) for layer in group.layers] or [0] for group in groups]
        try:
            self.pools = [
                self.PAGES(size, _n_pages(group, n_ctx, max_rows, texts), group.window, group.chunk)
                for size, group in zip(sizes, groups, strict=True)
            ]
            """The pages of each group; where the model has states, they come last."""
            self.states = self.STATES([4 * s.floats for s in plan.states], _STATES * texts) if plan.states else None
        except MemoryError:
            size = cache_bytes(plan, n_ctx, cache_type, max_rows=max_rows, texts=texts)
            raise InsufficientMemoryError(
                f"the cache of {n_ctx} tokens needs {size} bytes, which the system refuses; ask for a shorter context",
                needed=size, available=0,
            ) from None  # fmt: skip
        self.pools += [] if self.states is None else [self.states]
        self._tables: dict[int, list[list[int]]] = {}  # a table for each cache group
        # The slot of the tokens that a sequence has, and that of the next step.
        self._states: dict[int, tuple[int, int]] = {}
        self._turns: dict[int, tuple[int, int]] = {}  # ``divide`` said so: tokens, and the slot of their state
        self._lengths: dict[int, int] = {}

    def close(self) -> None:
        """Frees the memory at once."""
        for pool in self.pools:
            pool.close()

    def length(self, sequence: int) -> int:
        """Tokens of the sequence that the cache holds."""
        return self._lengths.get(sequence, 0)

    def pages(self, sequence: int) -> list[Pages]:
        """The sequence's pages in order."""
        columns = list(self._tables.get(sequence, ()))
        if self.states is not None and columns:
            length = self.length(sequence)
            states = [GONE] * -(-length // PAGE_TOKENS)
            guessed = self._turns.get(sequence, (length, GONE))[0] < length
            if states and length % PAGE_TOKENS == 0 and not guessed:
                states[-1] = self._states[sequence][0]
            columns.append(states)
        return list(zip_longest(*columns, fillvalue=GONE))

    @property
    def free_tokens(self) -> int:
        """Tokens for which there are unused pages in the group that keeps most."""
        return max((pool.free for pool in self.pools), default=0) * PAGE_TOKENS

    def spare(self, sequence: int) -> int:
        """Tokens that a sequence which has some may have, all together, without pages that others hold."""
        tables = zip(self._groups, self._tables[sequence], strict=True)
        return min((len(table) + pool.free for pool, table in tables), default=0) * PAGE_TOKENS

    def by_layer(self) -> list[NDArray[np.uint8]]:
        """The memory of each layer, group by group, as (pages, bytes): views."""
        return [layer for pool in self.pools for layer in pool.layers]

    def reserve(self, sequence: int, length: int) -> None:
        """Gives the sequence pages for ``length`` tokens, all or nothing; what it is going to write is its own then.
        Groups with a window that have no room for whole texts let go of what no later token sees, and groups with a
        window give pages for one step's tokens at most.

        Raises ``ContextOverflowError`` where the cache is full.
        """
        start = self.length(sequence)
        tables = self._tables.setdefault(sequence, [[] for _ in self._groups])
        before, after = self._states.get(sequence, (GONE, GONE))
        wanted = []
        for group, (pool, table) in enumerate(zip(self._groups, tables, strict=True)):
            if len(pool.layers[0]) * PAGE_TOKENS < self.n_ctx:  # otherwise there is room for all
                _let_go(pool, table, pool.needed(start).start)
            end = min(length, start + self._max_rows) if pool.limited else length
            at = start // PAGE_TOKENS
            shared = start < length and at < len(table) and pool.users(table[at]) > 1
            more = max(0, -(-end // PAGE_TOKENS) - len(table))
            self._find_room(group, more + shared, length, len(table))
            wanted.append((pool, table, more, at if shared else None))
        if self.states is not None and after == GONE:
            self._find_room(len(self._groups), 1, length, 0)
            self._states[sequence] = before, self.states.take()
        for pool, table, more, copied in wanted:
            if copied is not None:
                own = pool.copy(table[copied])
                pool.release(table[copied])
                table[copied] = own
            table.extend(pool.take() for _ in range(more))

    def place(self, sequence: int, length: int) -> None:
        """Makes a new sequence of ``length`` tokens, with pages of its own, not yet written, for what a later token
        sees of them. Raises ``ContextOverflowError`` where the cache is full."""
        self.drop(sequence)
        needed = [pool.needed(length) for pool in self.pools]
        for group, pages in enumerate(needed):
            self._find_room(group, len(pages), length, 0)
        own = [
            [GONE] * pages.start + [pool.take() for _ in pages] for pool, pages in zip(self.pools, needed, strict=True)
        ]
        self._tables[sequence] = own[: len(self._groups)]
        self._lengths[sequence] = length
        if self.states is not None:
            self._states[sequence] = own[-1][-1] if length else GONE, GONE

    def commit(self, sequence: int, length: int) -> None:
        """Says that a forward has written the sequence up to ``length`` tokens."""
        self._lengths[sequence] = length
        if self.states is not None:
            before, after = self._states[sequence]
            self.states.release(before)
            self._states[sequence] = after, GONE
            if self._turns.get(sequence, (0, GONE))[0] >= length:
                self.states.release(self._turns.pop(sequence)[1])

    def divide(self, sequence: int, length: int) -> bool:
        """Has the next step keep the state behind ``length`` tokens, too, if it reads more: ``settle`` can go back
        there. False where there is no slot for it; where there are no states nothing is needed."""
        if self.states is None:
            return True
        slot = self._turns.get(sequence, (0, GONE))[1]
        if slot == GONE:
            if not self.states.free:
                self.evict(len(self._groups), 1)
            if not self.states.free:
                return False
            slot = self.states.take()
        self._turns[sequence] = length, slot
        return True

    def settle(self, sequence: int, length: int) -> int:
        """Forgets the tokens from ``length`` on, which is no less than ``divide`` said. How many are left: as many as
        that where a state must go back."""
        turn, slot = self._turns.pop(sequence, (0, GONE))
        if self.states is not None and slot != GONE:
            kept = slot
            if length < self.length(sequence):
                length, (kept, _) = turn, self._states[sequence]
                self._states[sequence] = slot, GONE
                self._cut(sequence, length)
            self.states.release(kept)
        self.truncate(sequence, length)
        return length

    def truncate(self, sequence: int, length: int) -> None:
        """Forgets the tokens from ``length`` on and lets go of their pages. Raises ``ValueError`` where a window has
        let go of pages that the next token would see, or a state cannot go back."""
        if length >= self.length(sequence):
            return
        tables = zip(self._groups, self._tables[sequence], strict=True)
        if (length and self.states is not None) or any(
            table[i] == GONE for p, table in tables for i in p.needed(length)
        ):
            raise ValueError(
                f"sequence {sequence} has {self.length(sequence)} tokens; what token {length} would see of"
                " those before it is no longer kept: read them anew"
            )
        self._cut(sequence, length)
        self._forget_states(sequence)

    def drop(self, sequence: int) -> None:
        """Forgets the sequence."""
        for pool, table in zip(self._groups, self._tables.pop(sequence, [[] for _ in self._groups]), strict=True):
            for page in reversed(table):
                pool.release(page)
        self._lengths.pop(sequence, None)
        self._forget_states(sequence)

    def adopt(self, sequence: int, pages: Sequence[Pages], length: int) -> None:
        """Makes a new sequence of ``length`` tokens from pages that others hold; nothing is copied."""
        self.drop(sequence)
        own = [list(table) for table in zip(*pages, strict=True)] or [[] for _ in self.pools]
        for pool, table in zip(self.pools, own, strict=True):
            first = pool.needed(length).start
            table[:first] = [GONE] * min(first, len(table))
            for page in table:
                pool.hold(page)
        self._tables[sequence] = own[: len(self._groups)]
        self._lengths[sequence] = length
        if self.states is not None:
            self._states[sequence] = own[-1][-1] if length else GONE, GONE

    def replace(self, sequence: int, index: int, pages: Pages) -> None:
        """Puts other pages, with the same keys and values, in the place of those that the sequence has."""
        for pool, table, page in zip(self._groups, self._tables[sequence], pages, strict=False):
            if index < len(table) and table[index] != GONE and page not in (GONE, table[index]):
                pool.hold(page)
                pool.release(table[index])
                table[index] = page

    def tables(self, sequences: Sequence[int]) -> Iterator[tuple[PagePool, NDArray[np.int32]]]:
        """Each group of the plan, and the page numbers of these sequences in it: int32 (sequences, most pages), padded
        with -1."""
        for group, pool in enumerate(self._groups[: self._seen]):
            rows = [self._tables[s][group] if s in self._tables else [] for s in sequences]
            table = np.full((len(rows), max(map(len, rows), default=0)), GONE, np.int32)
            for row, pages in zip(table, rows, strict=True):
                row[: len(pages)] = pages
            yield pool, table

    def state_slots(self, step: Step) -> StateSlots | None:
        """The memory of the states. Of each part of a step, a sequence's rows or those on one side of where ``divide``
        said, the slot before it (-1: none yet) and after it; and the part of each row, int32."""
        if self.states is None:
            return None
        parts: dict[tuple[int, bool], int] = {}
        slots: list[tuple[int, int]] = []
        rows = []
        for sequence, position in zip(step.sequences.tolist(), step.positions.tolist(), strict=True):
            turn, middle = self._turns.get(sequence, (step.spans[sequence][1], GONE))
            part = sequence, position >= turn
            if part not in parts:
                parts[part] = len(parts)
                before, after = self._states[sequence]
                divided = turn < step.spans[sequence][1]
                slots.append((middle if part[1] else before, middle if divided and not part[1] else after))
            rows.append(parts[part])
        before_after = np.array(slots, np.int32).reshape(-1, 2)
        return self.states.data, before_after[:, 0].copy(), before_after[:, 1].copy(), np.array(rows, np.int32)

    @property
    def _groups(self) -> list[PagePool]:
        """The pools without that of the states."""
        return self.pools if self.states is None else self.pools[:-1]

    def _find_room(self, group: int, pages: int, length: int, held: int) -> None:
        """Sees to it that a group has so many free pages, for a sequence of ``length`` tokens that holds some."""
        pool = self.pools[group]
        if pages > pool.free:
            self.evict(group, pages - pool.free)
        if pages > pool.free:
            available = min((held + pool.free) * PAGE_TOKENS, self.n_ctx)
            message = (
                f"a sequence needs room for {length} tokens, the cache has room for {available}; "
                "raise n_ctx or shorten the text"
            )
            raise naming(ContextOverflowError(message, needed=length, available=available), "n_ctx")

    def _cut(self, sequence: int, length: int) -> None:
        """Lets go of the pages behind ``length`` tokens."""
        keep = -(-length // PAGE_TOKENS)
        for pool, table in zip(self._groups, self._tables[sequence], strict=True):
            for page in reversed(table[keep:]):
                pool.release(page)
            del table[keep:]
        self._lengths[sequence] = length

    def _forget_states(self, sequence: int) -> None:
        if self.states is not None:
            for slot in (*self._states.pop(sequence, ()), self._turns.pop(sequence, (0, GONE))[1]):
                self.states.release(slot)


def _let_go(pool: PagePool, table: list[int], first: int) -> None:
    """Lets go of pages before ``first``."""
    for i in range(min(first, len(table)) - 1, -1, -1):
        if table[i] == GONE:
            break
        pool.release(table[i])
        table[i] = GONE
