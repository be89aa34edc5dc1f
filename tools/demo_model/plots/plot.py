"""What a plot is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plot:
    """Paragraphs (a template of grammar.py, between blank lines) that follow the introduction of the hero.

    They may name ``{h}`` and ``{f}``, hero and friend; ``{thing}`` and its last word ``{noun}``; ``{food}``;
    ``{place}`` and ``{at}``, where it is; ``{when}``; and the values of one of ``cases``, which belong together.

    ``about`` says in a few words what a story is about, to be asked for ("a lost kite"); values may be in it.
    """

    name: str
    about: str
    text: str
    cases: tuple[dict[str, str], ...]

    def asks_for(self, value: str) -> bool:
        """Whether the story has a ``thing`` or a ``place`` that may be chosen freely."""
        return f"{{{value}}}" in self.text and not any(value in case for case in self.cases)
