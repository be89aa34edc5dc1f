"""What a model needs in memory, known from its header, and what the machine has."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from llamaq import _core
from llamaq.engine import cgroup
from llamaq.engine.engine import Info, mapped_bytes, packed_bytes
from llamaq.engine.kv_cache import PAGE_TOKENS, CacheType, group_bytes, state_bytes
from llamaq.errors import InsufficientMemoryError, naming
from llamaq.plan.graph import Plan

__all__ = [
    "KEPT_ANSWERS",
    "KEPT_OWNERS",
    "KEPT_STATES",
    "KEPT_TOKENS",
    "GroupNeed",
    "MemoryNeed",
    "available_memory",
    "cache_tokens",
    "check_memory",
    "fitting_context",
    "memory_need",
    "physical_memory",
    "step_rows",
]


KEPT_TOKENS, KEPT_OWNERS = 2**16, 8
"""What guesses come from beside a text itself: so many tokens of earlier texts, for each of so many owners at most."""
KEPT_STATES, KEPT_ANSWERS = 256, 16
"""What the file's own block guesses from: last states of so many tokens, for each of so many answers at most. A step
for more answers has no room for guesses."""


@dataclass(frozen=True)
class GroupNeed:
    """A part of the cache: ``layers`` whose tokens see the last ``window`` ones, of their ``chunk`` of positions (0:
    all), and its bytes; or layers that keep a state."""

    layers: int
    window: int
    chunk: int
    nbytes: int
    state: bool = False


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes: packed weights, key-value cache at ``n_ctx`` tokens, and at most so many of activations and scratch.

    ``mapped`` bytes of the file are read besides, from the system's cache of it: not this process's memory, but
    where it does not fit the file is read anew from the disk for each token.
    """

    weights: int
    cache: int
    scratch: int
    n_ctx: int
    mapped: int
    groups: tuple[GroupNeed, ...]
    """What the cache is made of."""
    threads: int = 0
    """Bytes of the scratch that the threads have, each its own."""
    projector: int = 0
    """Bytes of the projector that is loaded beside the model: its weights, its scratch and the results it keeps."""
    draft: int = 0
    """Bytes of the draft model that is loaded with it: its weights, its cache and its scratch."""
    texts: int = 0
    """Bytes, at most, of earlier texts that guesses come from (docs/speculation.md)."""
    nextn: int = 0
    """Bytes of the file's block that guesses further tokens, where it has one: its weights, its cache, its scratch, and
    the states that wait for it."""

    @property
    def total(self) -> int:
        beside = self.projector + self.draft + self.texts + self.nextn
        return self.weights + self.cache + self.scratch + beside


def memory_need(
    plan: Plan,
    tensors: Mapping[str, Info],
    n_ctx: int,
    *,
    n_cache: int | None = None,
    cache_type: CacheType,
    max_rows: int,
    threads: int,
    pack: bool = True,
    projector: int = 0,
    draft: int = 0,
    speculation: bool = True,
    nextn: Plan | None = None,
    beside: Plan | None = None,
) -> MemoryNeed:
    """What loading the model takes, with a context of ``n_ctx`` tokens and a cache of so many, or of ``n_cache``; in
    steps of ``max_rows`` tokens, or more where it needs more; with what ``speculation`` takes, and the block ``nextn``
    for it, and ``projector`` and ``draft`` bytes besides. Weights of the plan ``beside`` are there already."""
    max_rows = step_rows(plan, n_ctx, max_rows)
    own = 2**20  # bytes that each thread takes
    weights = packed_bytes(plan, tensors, beside) if pack else 0
    if not pack:  # each thread packs 16 rows at a time
        own += max(16 * info.nbytes // max(1, prod(info.shape[:-1])) for info in tensors.values())
    scratch = plan.scratch_bytes(max_rows) + threads * own
    tokens = cache_tokens(n_ctx, n_cache)
    groups = tuple(
        GroupNeed(len(g.layers), g.window, g.chunk, group_bytes(g, tokens, cache_type, max_rows=max_rows))
        for g in plan.caches
    )
    if plan.states:
        groups += (GroupNeed(len(plan.states), 0, 0, state_bytes(plan), state=True),)
    cache = sum(group.nbytes for group in groups)
    texts = KEPT_OWNERS * KEPT_TOKENS * 12 if speculation and not plan.encodes else 0
    mapped = mapped_bytes(plan, tensors, pack=pack)
    block = 0
    if nextn is not None and speculation:
        block = memory_need(nextn, tensors, n_ctx, n_cache=n_cache, cache_type=cache_type, max_rows=max_rows,
                            threads=threads, pack=pack, speculation=False, beside=plan).total  # fmt: skip
        block += KEPT_ANSWERS * min(KEPT_STATES, max_rows) * 4 * plan.last_states[2]
    return MemoryNeed(weights, cache, scratch, n_ctx, mapped, groups, threads * own, projector, draft, texts, block)


def step_rows(plan: Plan, n_ctx: int, n_batch: int) -> int:
    """Tokens of a step: ``n_batch``, or more where a step must hold a whole text."""
    return max(n_ctx, n_batch) if plan.encodes else n_batch


def cache_tokens(n_ctx: int, n_cache: int | None = None) -> int:
    """Tokens that the cache is made for: a page more than asked for, which the copy of a shared page may take."""
    return max(n_ctx, n_cache or 0) + PAGE_TOKENS


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes that this process may still take: the system's free and reclaimable memory, or less where a
    cgroup limits it; None where neither can be found out."""
    limits = [_system_available(root), *(_group_available(group) for group in cgroup.groups("memory", root))]
    return min((limit for limit in limits if limit is not None), default=None)


def physical_memory() -> int | None:
    """Bytes of memory that the machine has; None where the system does not tell."""
    if sys.platform == "win32":
        return _core.system_memory()[0] or None
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def _system_available(root: Path) -> int | None:
    kib = _field(root / "proc/meminfo", "MemAvailable:")
    if kib is not None:
        return kib * 1024
    return _core.system_memory()[1] or None  # Windows and macOS tell


def _group_available(group: Path) -> int | None:
    """What a group's limit leaves; file pages that it has not used lately count as free, as in MemAvailable."""
    limit, used = cgroup.number(group / "memory.max"), cgroup.number(group / "memory.current")
    if limit is None:
        limit, used = cgroup.number(group / "memory.limit_in_bytes"), cgroup.number(group / "memory.usage_in_bytes")
    if limit is None or used is None:
        return None
    stat = group / "memory.stat"
    idle = _field(stat, "total_inactive_file") or _field(stat, "inactive_file") or 0
    return max(0, int(limit - used) + idle)


def _field(path: Path, name: str) -> int | None:
    """The number beside a name in a file of such lines."""
    for line in (cgroup.text(path) or "").splitlines():
        words = line.split()
        if words[:1] == [name] and words[1:] and words[1].isdecimal():
            return int(words[1])
    return None


def check_memory(need: MemoryNeed) -> None:
    """Raises ``InsufficientMemoryError``, with the numbers, where the need exceeds what is available. It advises
    against what takes the most."""
    available = available_memory()
    if available is not None and need.total > available:
        remedies = {
            "choose a smaller model": need.weights,
            "lower n_ctx": need.cache,
            "lower n_batch": need.scratch - need.threads,
            "lower threads": need.threads,
            "leave the projector out": need.projector,
            "leave the draft model out": need.draft,
            "load it without speculation": need.nextn,
        }
        large = sorted((x for x in remedies if remedies[x] > need.total // 10), key=remedies.__getitem__, reverse=True)
        beside = f", projector {_gib(need.projector)}" if need.projector else ""
        beside += f", draft model {_gib(need.draft)}" if need.draft else ""
        beside += f", block that guesses {_gib(need.nextn)}" if need.nextn else ""
        message = (
            f"the model needs {_gib(need.total)} (weights {_gib(need.weights)}, cache of {need.n_ctx} tokens "
            f"{_gib(need.cache)}, scratch {_gib(need.scratch)}{beside}), but {_gib(available)} are available; "
            f"{', '.join(large)}, or free memory"
        )
        raise naming(
            InsufficientMemoryError(message, needed=need.total, available=available), "n_ctx", "n_batch", "threads"
        )


def fitting_context(wanted: int, need: Callable[[int], MemoryNeed]) -> int:
    """The longest context up to ``wanted`` that fits, halved as often as it must be (256 at least)."""
    available = available_memory()
    while available is not None and wanted > 256 and need(wanted).total > available:
        wanted = max(256, wanted // 2 // 256 * 256)
    return wanted


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
