"""How logits become the events of an answer: sampling, text, stop strings, reasons to end."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from llamaq.boundary.arguments import INT32
from llamaq.sampling import Sampler
from llamaq.serving.prefix import common_prefix
from llamaq.serving.recording import Recording
from llamaq.tokenizer import Tokenizer

__all__ = ["Answer", "Event", "FinishReason", "StopStrings", "common_prefix"]

FinishReason = Literal["stop", "length", "context", "cancelled"]


@dataclass(frozen=True)
class Event:
    """A piece of the answer. ``text`` may be empty while a character or a possible stop string is held back.

    ``token`` is the token behind it (None in the last event where only held text is let go).
    ``finish_reason`` is set in the last event: "stop" (an end token or a stop string), "length" (the wanted
    number of tokens), "context" (no room is left) or "cancelled" (by ``cancel`` or a timeout).
    Where ``SamplingParams.logprobs`` is set, ``logprob`` is the token's log-probability before any sampler, and
    ``top_logprobs`` has the most likely tokens and theirs. ``stop`` is the stop string that ended the answer.
    """

    text: str
    token: int | None
    finish_reason: FinishReason | None = None
    logprob: float | None = None
    top_logprobs: tuple[tuple[int, float], ...] = ()
    stop: str | None = None


class StopStrings:
    """Lets text through up to the first stop string, holding back what may be the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(s for s in ((stops,) if isinstance(stops, str) else stops) if s)
        self.held = ""
        """Text that may begin a stop string."""
        self.hit: str | None = None
        """The stop string that came."""

    def push(self, text: str) -> str:
        """Text that is safe to show; after a stop string (``hit``) nothing more comes."""
        if self.hit is not None:
            return ""
        if not self._stops:
            return text
        self.held += text
        found = [(at + len(s), at, s) for s in self._stops if (at := self.held.find(s)) >= 0]
        if found:
            _, at, self.hit = min(found)  # the one that is complete first, however the text was cut into pieces
            shown, self.held = self.held[:at], ""
            return shown
        keep = max((self._overlap(s) for s in self._stops), default=0)
        shown, self.held = self.held[: len(self.held) - keep], self.held[len(self.held) - keep :]
        return shown

    def flush(self) -> str:
        """What was held back, once nothing can follow."""
        held, self.held = self.held, ""
        return held

    def _overlap(self, stop: str) -> int:
        """Length of the longest end of the held text that begins ``stop``."""
        return next((n for n in range(min(len(stop) - 1, len(self.held)), 0, -1) if self.held.endswith(stop[:n])), 0)


class Answer:
    """What follows a prompt: ``take`` the logits after the latest token, read the new ``tokens``, and so on until an
    event has a finish reason.

    ``tokens`` are those of the answer so far, without an end token. ``recording`` is told all of them, and the logits.
    """

    def __init__(
        self, tokenizer: Tokenizer, sampler: Sampler, prompt: Sequence[int], *, max_tokens: int | None,
        stop: Sequence[str] = (), special: bool | Container[int] = False,
        recording: Recording | None = None,
    ) -> None:  # fmt: skip
        self.recording = recording
        self.tokens: list[int] = []
        self.sampler = sampler
        self.sampler.feed(prompt)
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        # After text, a space that the answer begins with is part of it; after BOS alone it is the tokenizer's.
        continuation = any(tokenizer.token_bytes(id) for id in prompt)
        self._decoder = tokenizer.stream(special=special, continuation=continuation)
        self._stop = stop
        self._stops = StopStrings(stop)

    @property
    def end_ids(self) -> frozenset[int]:
        """Tokens that end the answer and are no part of it."""
        return self._tokenizer.eog_ids

    @property
    def left(self) -> int:
        """How many tokens may still come, as far as a number is known."""
        return INT32 if self._max_tokens is None else self._max_tokens - len(self.tokens)

    def take(self, logits: NDArray[np.float32], room: int | None = None) -> list[Event]:
        """Samples from ``logits`` (vocabulary,). ``room`` is how many more tokens can be read (None: no matter)."""
        if self._max_tokens == 0:
            return [self.end("length")]
        events: list[Event] = []
        tokens = [self.sampler.sample(logits)]
        for i, token in enumerate(tokens):  # the list grows by tokens that a structure forces
            if self.recording is not None:
                self.recording.add(token, None if i else logits)
            logprob, top = self.sampler.logprob(token), tuple(self.sampler.top_logprobs())
            if token in self.end_ids:
                return [*events, replace(self.end("stop", token), logprob=logprob, top_logprobs=top)]
            self.tokens.append(token)
            self.sampler.accept(token)
            text = self._stops.push(self._decoder.push(token))
            if self._stops.hit is not None:
                return [*events, Event(text, token, "stop", logprob, top, self._stops.hit)]
            events.append(Event(text, token, None, logprob, top))
            if len(self.tokens) == self._max_tokens:
                return [*events, self.end("length")]
            if room is not None and room <= i:
                return [*events, self.end("context")]
            if i == 0 and self.sampler.params.logprobs is None:
                tokens += self.sampler.forced()
        return events

    def foreseen(self) -> list[int]:
        """Tokens that a structure will force: ``take`` samples them all the same where log-probabilities are wanted."""
        return [] if self.sampler.params.logprobs is None else self.sampler.foreseen()

    @property
    def held(self) -> str:
        """Text that is held back: what may begin a stop string, and U+FFFD for a character that is not complete."""
        return self._stops.held + self._decoder.pending

    def end(self, reason: FinishReason, token: int | None = None, *, held: str | None = None) -> Event:
        """The last event: text that was held back (``held``, None: what is held back now), and the reason."""
        stops = StopStrings(self._stop)
        text = stops.push(self.held if held is None else held) + stops.flush()
        return Event(text, token, reason if stops.hit is None else "stop", stop=stops.hit)
