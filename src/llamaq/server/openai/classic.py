"""The classic ``logprobs`` of completions: a list for each thing, and the entries that chat has beside them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from llamaq.server.openai.asking import token_entry

if TYPE_CHECKING:
    from llamaq.serving.answer import Event
    from llamaq.serving.reading import Score
    from llamaq.tokenizer import Tokenizer

__all__ = ["Lists"]


class Lists:
    """Grows with the tokens of a text; ``offset`` is where the text goes on."""

    def __init__(self, tokenizer: Tokenizer, offset: int = 0) -> None:
        self.found: dict[str, list[Any]] = {
            "tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": [], "content": [],
        }  # fmt: skip
        self.offset = offset
        self._tokenizer = tokenizer

    def add_prompt(self, ids: list[int], score: Score) -> None:
        """The tokens of a prompt; nothing is known of how likely its first one was."""
        decoder = self._tokenizer.stream()
        self._add(ids[0], None, ())
        self.offset += len(decoder.push(ids[0]))
        for id, logprob, top in zip(score.tokens, score.logprobs, score.top_logprobs or [()] * len(ids), strict=False):
            self._add(id, float(logprob), top)
            self.offset += len(decoder.push(id))

    def add(self, events: Iterable[Event]) -> None:
        """The tokens of an answer, without the one that ends it."""
        for event in events:
            if event.token is not None and event.token not in self._tokenizer.eog_ids:
                self._add(event.token, event.logprob, event.top_logprobs)
            self.offset += len(event.text)

    def _add(self, token: int, logprob: float | None, top: Iterable[tuple[int, float]]) -> None:
        entry = token_entry(self._tokenizer, token, logprob, top)
        self.found["tokens"].append(entry["token"])
        self.found["text_offset"].append(self.offset)
        if logprob is None:
            self.found["token_logprobs"].append(None)
            self.found["top_logprobs"].append(None)
            return
        self.found["token_logprobs"].append(entry["logprob"])
        self.found["top_logprobs"].append({each["token"]: each["logprob"] for each in entry["top_logprobs"]})
        self.found["content"].append(entry)
