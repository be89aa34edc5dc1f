"""Tells what a model writes for itself, such as ``<think>...</think>``, from its answer, as the text comes."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["REASONING_MARKS", "Beginning", "ReasoningSplitter", "overlap"]

REASONING_MARKS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<reasoning>": "</reasoning>",
    "<seed:think>": "</seed:think>",
    "[THINK]": "[/THINK]",
    "<|START_THINKING|>": "<|END_THINKING|>",
    "◁think▷": "◁/think▷",
    "<|channel|>analysis<|message|>": "<|end|>",
    "<|channel>thought": "<channel|>",
}
"""What begins reasoning at the beginning of an answer, and what ends it."""


@dataclass(frozen=True)
class Beginning:
    """How an answer begins: in the midst of reasoning that ``closer`` will end, or where reasoning ``may_open``."""

    closer: str | None = None
    may_open: bool = True
    trim: bool = False
    """Whether white space at its beginning is none of it."""

    @classmethod
    def after(cls, prompt: str, begun: str = "") -> Beginning:
        """After a prompt, which templates of reasoning models often end with the opening mark. ``begun`` is what the
        prompt has of the answer already."""
        before = prompt.removesuffix(begun).rstrip()
        text = begun.lstrip()
        for open, close in REASONING_MARKS.items():
            if before.endswith(open) or text.startswith(open):
                _, closed, answer = text.partition(close)
                thought = text.removeprefix(open)
                return cls(None, False, not answer.strip()) if closed else cls(close, False, not thought.strip())
        return cls(None, not text, not text and before.endswith((*REASONING_MARKS.values(),)))


class ReasoningSplitter:
    """``push`` gives (reasoning, answer); white space around the marks is dropped."""

    def __init__(self, beginning: Beginning = Beginning()) -> None:
        self._closer = beginning.closer
        self._searching = beginning.may_open
        self._held = ""
        self._trim = beginning.trim

    def push(self, text: str) -> tuple[str, str]:
        """Takes the next piece of the answer."""
        self._held += text
        if self._searching and not self._found_opener():
            return "", ""
        reasoning = "" if self._closer is None else self._reasoning(self._closer)
        return reasoning, "" if self._closer is not None else self._answer()

    def flush(self) -> tuple[str, str]:
        """What was held back, once nothing can follow."""
        held, self._held = self._held, ""
        if self._closer is not None:
            return held.rstrip(), ""
        return "", held.lstrip() if self._trim else held

    def _found_opener(self) -> bool:
        """Whether it is clear now how the answer begins."""
        text = self._held.lstrip()
        for open, close in REASONING_MARKS.items():
            if text.startswith(open):
                self._held, self._closer, self._trim = text[len(open) :], close, True
                break
        else:
            if any(open.startswith(text) for open in REASONING_MARKS):
                return False
        self._searching = False
        return True

    def _reasoning(self, closer: str) -> str:
        text = self._held.lstrip() if self._trim else self._held
        before, found, after = text.partition(closer)
        if found:
            self._closer, self._held, self._trim = None, after, True
            return before.rstrip()
        shown = text[: len(text) - overlap(text, closer)].rstrip()
        self._trim = self._trim and not shown
        self._held = text[len(shown) :]
        return shown

    def _answer(self) -> str:
        text, self._held = self._held.lstrip() if self._trim else self._held, ""
        self._trim = self._trim and not text
        return text


def overlap(text: str, mark: str) -> int:
    """Length of the longest end of ``text`` that may become ``mark``."""
    return next((n for n in range(min(len(mark) - 1, len(text)), 0, -1) if text.endswith(mark[:n])), 0)
