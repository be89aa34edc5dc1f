"""The scheduler's half of an answer: the request that goes on with the tokens that it samples."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from queue import SimpleQueue
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from llamaq.boundary.arguments import wholes
from llamaq.serving.account import OF_FUNCTION, OF_STRUCTURE, Account, by_match
from llamaq.serving.answer import Answer, Event, common_prefix
from llamaq.serving.last_states import LastStates
from llamaq.serving.lookup import Lookup
from llamaq.serving.request import F32, Capture, Guess, Request
from llamaq.serving.texts import Texts

__all__ = ["DraftFunction", "Generation", "Item"]

DraftFunction: TypeAlias = Callable[[NDArray[np.intc]], Iterable[int]]
"""Gives tokens that may follow those of a text."""

Item: TypeAlias = Event | tuple[int, int] | BaseException
"""What a reader gets; a tuple is progress."""

_MOST_GIVEN = 16  # tokens of a function's guess
_JOINT = 32  # tokens of what is known already that show where a text goes on
_AHEAD = 8  # events that may wait for whoever reads them


class Generation(Request):
    """A request that goes on with what it samples. Its events lie in ``queue``, errors among them; with ``gather`` they
    come there all together at the end, which spares waking who waits for each."""

    def __init__(
        self, answer: Answer, ids: list[int], n_ctx: int, *, shift: bool = False, keep: int = 0, dropped: int = 0,
        progress: bool = False, lookup: Lookup | None = None,
        texts: Texts | None = None, function: DraftFunction | None = None, states: LastStates | None = None,
    ) -> None:  # fmt: skip
        super().__init__(list(ids), len(ids) - 1)
        self.captures = () if states is None else (states.capture,)
        self.states = states
        """What the model's block that guesses further tokens reads, where it has one."""
        self._n_ctx = n_ctx
        self.answer = answer
        self.made = 0
        """Tokens of the answer that have joined ``ids``."""
        self.queue: SimpleQueue[list[Item]] = SimpleQueue()
        self.notify: Callable[[], None] | None = None
        self.gather = False
        self._gathered: list[Item] = []
        self._items: list[Item] = []  # ``work`` made these
        self._error: BaseException | None = None  # it came after these
        self._held = ""  # text that was held back at the last ``settle``
        self._lookup = lookup
        self._texts = texts
        self._function = function
        self._given: list[int] = []  # the function gave these
        self.account = Account()
        self._right = 0  # how many of the latest guesses came
        self.dropped = dropped
        self._shift, self._keep = shift, keep
        self._progress = progress
        self._began = time.perf_counter()
        self._prompt_at = self._latest = 0.0

    @property
    def wants_guesses(self) -> bool:
        return self._lookup is not None and self.account.balance > 0

    def may_guess(self, most: int) -> int:
        """How many guesses, up to ``most``, may come."""
        return max(0, min(most, self._n_ctx - len(self.ids), self.answer.left - 1))

    def guess(self, most: int) -> Guess | None:
        if self._lookup is None:
            return None
        most = self.may_guess(most)
        if forced := self.answer.foreseen()[:most]:
            return Guess.alike(forced, self.account.chance(OF_STRUCTURE), OF_STRUCTURE)
        tokens, match = self._lookup.guess(self.ids, most)
        kind = by_match(match)
        if self._texts is not None:
            others, longer = self._texts.guess(self.ids, most)
            if longer > match:
                tokens, kind = others, by_match(longer, other=True)
        if not tokens:
            tokens, kind = self._given[:most], OF_FUNCTION
        return Guess.alike(tokens, self.account.chance(kind), kind) if tokens else None

    def work(self, read: int, logits: F32, captured: Mapping[Capture, F32]) -> None:
        self._items = [(read, len(self.ids))] if self._progress and not self.made else []
        self._error, self._right = None, 0
        if len(logits):
            self._latest = time.perf_counter()
            self._prompt_at = self._prompt_at or self._latest
            try:
                self._take(logits)
                self._ask_function(logits.shape[1])
            except BaseException as error:
                if not self._items:
                    raise
                self._error = error  # what came before it comes as it would have come alone
            self._latest = time.perf_counter()
        if self.states is not None:
            rows = captured[self.states.capture]
            right = len(rows) - len(self.drafts) + self._right
            self.states.add(read + len(self.drafts) - len(rows), rows[:right])

    def _take(self, logits: F32) -> None:
        """Samples after ``ids``, and goes on while what comes is what was guessed."""
        new: list[int] = []
        while len(new) == self._right:
            room = None if self._shift else self._n_ctx - len(self.ids) - len(new)
            self._items += self.answer.take(logits[len(new)], room)
            new = self.answer.tokens[self.made :]
            self._right = common_prefix(new, self.drafts)
            if _ends(self._items):
                break

    def _ask_function(self, vocabulary: int) -> None:
        """Asks what may follow the tokens that have come. No other answer may end by what the function gives."""
        self._given = []
        if self._function is None or not self.wants_guesses or _ends(self._items):
            return
        text = np.array(self.ids + self.answer.tokens[self.made :], np.intc)
        found = [*islice(self._function(text), _MOST_GIVEN)]
        self._given = wholes("the tokens that the draft function gives", found, "token ids", 0, vocabulary - 1)

    def settle(self) -> None:
        if not self._items:
            return
        new = self.answer.tokens[self.made :]
        self.ids += new
        self.made += len(new)
        self.first_wanted = len(self.ids) - 1
        if self.sequence is not None:  # nobody took it away meanwhile
            self.read += self._right
        again = self._right if self.returns and self._right < len(self.kinds) else 0
        self.account.book(self.kinds, self._right, self.price, self.worth, self.fee, again)
        self._held = self.answer.held
        self.done = self._error is None and _ends(self._items)
        if self.done:
            self._add_to_texts()
        self._put(self._items)
        if self._error is not None:
            raise self._error

    def on_end(self, error: BaseException | None) -> None:
        self._put([self.answer.end("cancelled", held=self._held) if error is None else error])
        self._add_to_texts()

    def _add_to_texts(self) -> None:
        """Lets later texts of the same owner be guessed from this one; what was cached of it they know."""
        known = 0 if self.disk_tokens else self.cached or 0
        if self._texts is not None and self.made:
            self._texts.add(self.ids[max(0, known - _JOINT) :])
            self._texts = None

    def shift(self) -> None:
        """Drops the older half of what follows the first ``keep`` tokens, and again where a structure has forced more
        than the context holds."""
        count = 0
        while len(self.ids) - count > self._n_ctx:
            count += (len(self.ids) - count - self._keep) // 2
        del self.ids[self._keep : self._keep + count]
        self.dropped += count
        self._lookup = Lookup() if self._lookup is not None else None  # the text is another one now
        if self.states is not None:
            self.states.clear()
        self.first_wanted = len(self.ids) - 1

    @property
    def paused(self) -> bool:
        return not self.gather and self.made > 0 and self.queue.qsize() >= _AHEAD

    @property
    def runs_foreign_code(self) -> bool:
        return bool(self.answer.sampler.params.logit_processors) or self._function is not None

    @property
    def seconds(self) -> tuple[float, float]:
        """Seconds from the beginning to the first logits, and from there to the latest token."""
        read = self._prompt_at or time.perf_counter()
        return read - self._began, max(0.0, self._latest - read)

    def _put(self, items: Sequence[Item]) -> None:
        self._gathered += items
        if self.gather and not self.done:
            return
        self.queue.put(self._gathered)
        self._gathered = []
        if (notify := self.notify) is not None:  # the reader may take it back now
            notify()


def _ends(items: Sequence[Item]) -> bool:
    """Whether the last of them ends the answer."""
    return bool(items) and isinstance(items[-1], Event) and items[-1].finish_reason is not None
