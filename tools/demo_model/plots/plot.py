"""What a plot is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Plot:
    """Paragraphs (a template of grammar.py, between blank lines) that follow the introduction of the hero.

    They may name ``{h}`` and ``{f}``, hero and friend; ``{thing}`` and its last word ``{noun}``; ``{food}``;
    ``{place}`` and ``{at}``, where it is; ``{when}``; and the values of one of ``cases``, which belong together.

    ``picks`` are drawn once for a story, all different: ``("part", PARTS, 3)`` gives ``{part1}`` to ``{part3}``; of a
    pool of dicts, each key is numbered. ``fixed`` are single ones. ``{scene1}`` and ``{ambient1}`` (to 3) are sentences
    of scenes.py, whose pools may be used, too; they are drawn afresh at each use.

    ``about`` says in a few words what a story is about, to be asked for ("a lost kite"); values may be in it.
    """

    name: str
    about: str
    text: str
    cases: tuple[dict[str, str], ...] = ({},)
    picks: tuple[tuple[str, Sequence[str | dict[str, str]], int], ...] = ()
    fixed: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def asks_for(self, value: str) -> bool:
        """Whether the story is about a ``thing`` (named three times), or ``at`` a place, to be chosen freely."""
        slots = (
            self.text.count("{thing}") + self.text.count("{noun}") if value == "thing" else 3 * ("{at}" in self.text)
        )
        return slots >= 3 and not any(value in case for case in self.cases)
