"""What the scheduler runs: tokens to read, and what becomes of their logits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from llamaq.plan.adapter import Adapted
from llamaq.plan.inserted import Inserted, LookedAt, places_of
from llamaq.serving.adaptation import Adaptation
from llamaq.serving.prefix import Mark, Node

__all__ = ["ASKER", "F32", "OWNER", "Capture", "Guess", "Request"]

F32: TypeAlias = NDArray[np.float32]
Capture: TypeAlias = tuple[int, int, int]
"""Number of an op of the plan, the slot to look at after it, and the columns of the value there."""


@dataclass(frozen=True)
class Guess:
    """Tokens that may come next. Of each: how likely it is right where those before it are, and its kind, which the
    account of the text counts it by."""

    tokens: list[int]
    chances: list[float]
    kinds: list[int]

    @classmethod
    def alike(cls, tokens: list[int], chance: float, kind: int) -> Guess:
        """All of one kind."""
        return cls(tokens, [chance] * len(tokens), [kind] * len(tokens))


OWNER: ContextVar[str] = ContextVar("llamaq-owner", default="")
"""Whose requests those made here are: on disk nobody finds what another owner's have left."""


ASKER: ContextVar[str] = ContextVar("llamaq-asker", default="")
"""Who makes them: guesses come from the same one's texts alone."""


class Request(ABC):
    """Tokens to read, and what becomes of their logits. The scheduler's lock guards everything in it but
    ``done``, which once it is True stays so, and what ``work`` keeps for ``settle``.

    ``ids`` may grow until ``done``; ``read`` of them are in the cache, ``cached`` were there at the beginning.
    Logits are wanted of token number ``first_wanted`` and all after it. With ``share`` the beginning may come from the
    cache, and stays there for others.
    """

    def __init__(self, ids: list[int], first_wanted: int, *, share: bool = True) -> None:
        self.ids = ids
        self.prompt_tokens = len(ids)
        self.why = "it has not begun yet"
        """Why so much of the prompt, and no more, came from the cache."""
        self.expected = 0
        """Tokens that were in the cache when their owner last looked."""
        self.first_wanted = first_wanted
        self.share = share
        self.adaptation: Adaptation | None = None
        """The adapters that it is read with; None: the scheduler's default, once it is submitted."""
        self.inserted: tuple[Inserted | LookedAt, ...] = ()
        """Rows whose ids stand in ``ids``."""
        self.owner = OWNER.get()
        self.asked_disk = False
        """Whether it was asked what the disk has of its beginning."""
        self.kept_on_disk = False
        """Whether its prompt was given to the disk."""
        self.from_disk = (0, 0)
        """From which token to which the disk has brought its text into the cache."""
        self.captures: tuple[Capture, ...] = ()
        self.drafts: list[int] = []
        """Guesses of what follows ``ids``, read with the last of them: the cache has them until ``settle``."""
        self.kinds: list[int] = []
        """Of each of them."""
        self.price = self.worth = self.fee = 0.0
        """What each of them costs, and saves where it is right, and what it cost to make them: in steps."""
        self.returns = False
        """Whether right ones are read again where a later one is wrong."""
        self.max_rows: int | None = None
        """Most rows of this request in a step."""
        self.age = 0
        """Its number in the order in which requests came."""
        self.read = 0
        self.kept = 0
        """Tokens that the cache was left with when the sequence was taken away."""
        self.cached: int | None = None
        self.done = False
        self.busy = False
        """Whether ``work`` is under way; it gets no rows meanwhile."""
        self.slow = False
        """Whether it waited for something outside when rows were last chosen: its room is anybody's."""
        self.sequence: int | None = None
        self.node: Node | None = None
        """The last full page that the tree of prefixes has of this request."""
        self.page_keys: list[int] = []
        """A key for each full page of ``ids``, as far as they were asked for: of the text up to the page's end."""
        self.behind: tuple[Request, int] | None = None
        """A request that reads pages that this one wants, and the token up to which it does."""

    def __repr__(self) -> str:
        state = f"read={self.read}, sequence={self.sequence}, paused={self.paused}, busy={self.busy}"
        return f"{type(self).__name__}(tokens={len(self.ids)}, {state})"

    def begin(self) -> None:
        """It is about to be read from token number ``read`` on: for the first time, or again from there because others
        needed its room meanwhile."""
        return

    @property
    def wants_guesses(self) -> bool:
        """Whether guesses of what follows ``ids`` may pay."""
        return False

    def guess(self, most: int) -> Guess | None:
        """Up to ``most`` tokens that may follow ``ids``, for ``drafts``; None where nothing is known."""
        return None

    @abstractmethod
    def work(self, read: int, logits: F32, captured: Mapping[Capture, F32]) -> None:
        """Gets what a step gave, outside of the lock, and keeps for ``settle`` what it makes of it: ``logits``
        (n, vocabulary) of the last n of the first ``read`` tokens and the ``drafts`` after them, and ``captured``
        arrays (rows of the step, cols)."""

    @abstractmethod
    def settle(self) -> None:
        """After ``work``, under the lock and unless the request has ended: may add to ``ids``, or say ``done``. Where
        the first of the ``drafts`` have joined ``ids``, and it has a sequence still, they are ``read`` already."""

    def end(self, error: BaseException | None) -> None:
        """Ends the request early, with an error or (None) because someone cancelled it. ``work`` may be under way."""
        self.done = True
        self.on_end(error)

    @abstractmethod
    def on_end(self, error: BaseException | None) -> None:
        """Tells whoever waits that the request has ended early."""

    def shift(self) -> None:
        """Makes ``ids`` shorter once they are more than a context; they are read anew then. Only requests that let
        ``ids`` grow are asked."""
        raise NotImplementedError

    @cached_property
    def places(self) -> NDArray[np.int32] | None:
        """Of the prompt's tokens, where pictures have places of their own; rows of pictures stand in prompts alone."""
        return places_of(self.ids[: self.prompt_tokens], self.inserted) if self.inserted else None

    @property
    def paused(self) -> bool:
        """Whether the next step should be taken without it."""
        return False

    @property
    def runs_foreign_code(self) -> bool:
        """Whether ``work`` calls functions of the user, which may take any time."""
        return False

    def explain(self, known: int, limit: str = "") -> str:
        """Why ``read`` tokens, and no more, came from a cache from which reading can go on behind so many of the
        beginning; ``limit`` is what keeps it from more where that is not what other texts are."""
        total = self.prompt_tokens
        if not self.share:
            return f"none of the {total} tokens came from the cache: the request reads everything itself"
        if limit and self.read == known < total:
            return f"{known or 'none'} of the {total} tokens were in the cache; {limit}"
        if known < self.expected:
            gone = f"what was read of it before, up to token {self.expected}, had to make room for other texts"
            return f"{self.read} of the {total} tokens were in the cache; {gone}"
        if known == 0:
            return f"none of the {total} tokens were in the cache: no text in it begins with the same token"
        if self.read < known or known == total:
            return f"{self.read} of the {total} tokens were in the cache; the others are read for their logits"
        return f"{known} of the {total} tokens were in the cache; no text in it goes on with the same token after them"

    @property
    def mark(self) -> Mark:
        """What its pages depend on beside its tokens."""
        return () if self.adaptation is None else self.adaptation.key

    @property
    def adapted(self) -> Adapted:
        """The same for a step."""
        return () if self.adaptation is None else self.adaptation.adapted

    @property
    def disk_tokens(self) -> int:
        """How many of the tokens that were in the cache at the beginning had come from the disk."""
        first, end = self.from_disk
        return max(0, min(self.cached or 0, end) - first)

    @property
    def wants_something(self) -> bool:
        """Whether anything is to be read for it; if not, it is complete as it comes."""
        return self.first_wanted < len(self.ids) or bool(self.captures)

    @property
    def pending(self) -> int:
        return len(self.ids) - self.read
