"""Which rows of which requests come next: single tokens first, then prompts, in the order in which they came."""

from __future__ import annotations

from collections.abc import Sequence

from llamaq.plan.inserted import whole_spans
from llamaq.serving.request import Request
from llamaq.serving.room import Room

__all__ = ["choose", "choose_whole", "ready"]

_FEW = 16
"""Rows; requests that want no more than so many go first."""

_PROMPT_ROWS = 128
"""Rows of prompts, at most, in a step that others wait for with their next token."""


def ready(request: Request) -> bool:
    """Whether a request waits for rows, and for nothing else."""
    return not request.slow and not request.busy


def choose(requests: Sequence[Request], room: Room, max_rows: int, *, patient: bool = True) -> dict[Request, int]:
    """How many rows of which requests come next; room in the cache is theirs already.

    ``requests`` are all that are not done, in order of age. Those whose readers are slow lose their room to whoever
    needs it, and so do, unless ``patient``, those that are busy.
    """
    for request in requests:
        request.slow = request.paused or (request.busy and not patient)
    waiting = [request for request in requests if ready(request)]
    running = [request for request in waiting if request.sequence is not None]
    chosen: dict[Request, int] = {}
    for request in sorted(running, key=lambda r: r.pending > _FEW):
        if request.sequence is not None:  # an older request may have needed its room
            _choose_rows(request, chosen, room, max_rows)
    for request in waiting:
        if request.sequence is None and not room.is_being_read(request):
            if not room.begin(request):
                break  # there is no room, so those behind it wait too
            if not request.done:
                _choose_rows(request, chosen, room, max_rows)
    return _side_by_side(chosen)


def choose_whole(requests: Sequence[Request], room: Room, max_rows: int) -> dict[Request, int]:
    """As ``choose``, for encoders: whole texts, as many of the oldest as fit a step. They take no room."""
    chosen: dict[Request, int] = {}
    for request in filter(ready, requests):
        if request.sequence is None:
            room.begin(request)
        if request.done:
            continue
        if sum(chosen.values()) + request.pending > max_rows:
            break
        chosen[request] = request.pending
    return _side_by_side(chosen)


def _side_by_side(chosen: dict[Request, int]) -> dict[Request, int]:
    """The same rows, those that go through the same adapters together: they are one product then."""
    if not any(request.mark for request in chosen):
        return chosen
    return dict(sorted(chosen.items(), key=lambda row: row[0].mark))


def _choose_rows(request: Request, chosen: dict[Request, int], room: Room, max_rows: int) -> None:
    """Chooses as many rows of a request that has a sequence as there are left, and room in the cache for."""
    left = max_rows - sum(chosen.values())
    if request.pending > _FEW and any(r.pending <= _FEW for r in chosen):
        left = min(left, _PROMPT_ROWS - sum(n for r, n in chosen.items() if r.pending > _FEW))
    count = min(request.pending, left, request.max_rows or left)
    if request.inserted and count > 0:
        count = whole_spans(request.ids, request.inserted, request.read, count, max_rows - sum(chosen.values()))
    if count > 0:
        count = room.step_rows(request, count)
        has_room = room.grow(request, request.read + count)
        for other in [r for r in chosen if r.sequence is None]:  # these gave way
            del chosen[other]
        if has_room:
            chosen[request] = count
