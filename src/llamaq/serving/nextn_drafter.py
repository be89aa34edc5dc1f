"""Guesses of the block in the model's own file that guesses further tokens (``engine.nextn``).

It runs between two steps of the model, on the same threads, for all texts of a step together. What it has read of a
text begins with the latest tokens whose states were kept when it was first asked.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from llamaq.engine.nextn import NextN
from llamaq.errors import ContextOverflowError, LlamaqError
from llamaq.sampling.logprobs import LogProbabilities
from llamaq.serving.generation import Generation
from llamaq.serving.request import F32, Request
from llamaq.serving.rounds import Round, Rounds

__all__ = ["NextNDrafter"]

logger = logging.getLogger("llamaq")


@dataclass
class _Text:
    """A text in the block's cache, from its token number ``base`` on: ``read`` rows with the model's own states. Behind
    them may lie those of guesses, which the next ones take the place of."""

    sequence: int
    dropped: int
    base: int
    read: int = 0

    @property
    def end(self) -> int:
        return self.base + self.read


class NextNDrafter(Rounds):
    """Asks the block. The thread of the model's scheduler alone uses it."""

    def __init__(self, nextn: NextN) -> None:
        super().__init__(nextn.share)
        self._nextn = nextn
        self._texts: dict[Request, _Text] = {}
        self._sequences = itertools.count()
        self._likely = LogProbabilities(1)
        self._failed = False

    def forget(self, request: Request) -> None:
        text = self._texts.pop(request, None)
        if text is not None:
            self._nextn.cache.drop(text.sequence)

    def _behind(self, request: Generation) -> int | None:
        states = request.states
        if self._failed or states is None or states.end != len(request.ids) - 1:
            return None
        text = self._texts.get(request)
        if text is None or text.dropped != request.dropped or text.end < states.start:
            self.forget(request)
            text = self._texts[request] = _Text(next(self._sequences), request.dropped, states.start)
        return states.end - text.end or None

    def _run(self, rounds: Mapping[Generation, Round], step: float) -> None:
        parts: dict[Generation, tuple[int, int, F32]] = {}
        left = self._nextn.engine.max_rows
        for request in rounds:
            text, states = self._texts[request], request.states
            assert states is not None
            if states.end - text.end <= left:  # others come with a later step
                tokens = request.ids[text.end + 1 :]
                rows = self._nextn.rows(tokens, self._nextn.normed(states.take(text.end)))
                parts[request] = text.sequence, text.read, rows
                text.read += len(rows)
                left -= len(rows)
        try:
            while parts:
                parts = self._next(rounds, parts)
        except ContextOverflowError:  # the texts begin anew, with what is left of them
            for held in [*self._texts]:
                self.forget(held)
        except LlamaqError as error:  # no answer ends by it
            self._failed = True
            logger.warning("there are no more guesses of the model's own block: %s", error)

    def _next(
        self, rounds: Mapping[Generation, Round], parts: Mapping[Generation, tuple[int, int, F32]]
    ) -> dict[Generation, tuple[int, int, F32]]:
        """A guess for each text, and the rows of those that want another."""
        logits, states = self._nextn.read([*parts.values()])
        more: dict[Generation, tuple[int, int, F32]] = {}
        for i, (request, (sequence, at, rows)) in enumerate(parts.items()):
            self._likely.load(logits[i])
            found = self._likely.likeliest()
            rounds[request].passes += 1
            if found is not None and found[0] not in request.answer.end_ids and rounds[request].take(*found):
                more[request] = sequence, at + len(rows), self._nextn.rows([found[0]], states[i : i + 1])
        return more
