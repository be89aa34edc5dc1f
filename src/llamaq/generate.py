"""The loop from a prompt to tokens and text: chunks of the prompt, then one token at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from llamaq.engine import Engine
from llamaq.kv_cache import KVCache
from llamaq.sampling import Sampler
from llamaq.step import Step
from llamaq.tokenizer import Tokenizer

__all__ = ["Event", "FinishReason", "StopStrings", "common_prefix", "events", "read_prompt"]

FinishReason = Literal["stop", "length", "context"]


@dataclass(frozen=True)
class Event:
    """A piece of the answer. ``text`` may be empty while a character or a possible stop string is held back.

    ``token`` is the token behind it (None in the last event where only held text is let go).
    ``finish_reason`` is set in the last event: "stop" (an end token or a stop string), "length" (the wanted
    number of tokens) or "context" (no room is left).
    """

    text: str
    token: int | None
    finish_reason: FinishReason | None = None


class StopStrings:
    """Lets text through up to the first stop string, holding back what may be the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(s for s in stops if s)
        self._held = ""
        self.hit = False

    def push(self, text: str) -> str:
        """Text that is safe to show; after a stop string (``hit``) nothing more comes."""
        if self.hit:
            return ""
        self._held += text
        found = [(at + len(s), at) for s in self._stops if (at := self._held.find(s)) >= 0]
        if found:
            _, at = min(found)  # the one that is complete first, however the text was cut into pieces
            self.hit = True
            shown, self._held = self._held[:at], ""
            return shown
        keep = max((self._overlap(s) for s in self._stops), default=0)
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown

    def flush(self) -> str:
        """What was held back, once nothing can follow."""
        held, self._held = self._held, ""
        return held

    def _overlap(self, stop: str) -> int:
        """Length of the longest end of the held text that begins ``stop``."""
        return next((n for n in range(min(len(stop) - 1, len(self._held)), 0, -1) if self._held.endswith(stop[:n])), 0)


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two sequences share at their beginning."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def read_prompt(
    engine: Engine,
    cache: KVCache,
    ids: Sequence[int],
    start: int,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Puts ``ids[start:]`` into sequence 0 of the cache, in chunks; logits after the last, (vocabulary,).

    ``progress`` is called with the tokens read so far and in total.
    """
    logits = np.empty((0, 0), np.float32)
    for first in range(start, len(ids), engine.max_rows):
        chunk = ids[first : first + engine.max_rows]
        last = first + len(chunk) == len(ids)
        logits = engine.forward(Step.of(chunk, start=first, wanted="last" if last else "none"), cache)
        if progress is not None:
            progress(first + len(chunk), len(ids))
    last_row: NDArray[np.float32] = logits[0]
    return last_row


def events(
    engine: Engine,
    cache: KVCache,
    tokenizer: Tokenizer,
    ids: list[int],
    logits: NDArray[np.float32],
    sampler: Sampler,
    *,
    max_tokens: int | None,
    stop: Sequence[str] = (),
) -> Iterator[Event]:
    """Samples from ``logits`` on until something ends the text. Each token that was read is appended to ``ids``,
    which so always says what the cache holds."""
    # After text, a space that the answer begins with is part of it; after BOS alone it is the tokenizer's.
    decoder = tokenizer.stream(continuation=any(tokenizer.token_bytes(id) for id in ids))
    stops = StopStrings(stop)

    def ending(reason: FinishReason, token: int | None = None) -> Event:
        text = stops.push(decoder.flush()) + stops.flush()
        return Event(text, token, "stop" if stops.hit else reason)

    sampler.feed(ids)
    made = 0
    if max_tokens == 0:
        yield ending("length")
        return
    while True:
        token = sampler.sample(logits)
        if token in tokenizer.eog_ids:
            yield ending("stop", token)
            return
        made += 1
        sampler.accept(token)
        text = stops.push(decoder.push(token))
        if stops.hit:
            yield Event(text, token, "stop")
            return
        yield Event(text, token)
        if made == max_tokens or len(ids) >= cache.n_ctx:
            yield ending("length" if made == max_tokens else "context")
            return
        logits = engine.forward(Step.of([token], start=len(ids)), cache)[0]
        ids.append(token)
