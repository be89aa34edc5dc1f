"""Text from templates.

``[one|two|]`` is a choice (nested at will, and it may be empty), ``{x}`` a value, ``{x.they}`` a form of a value, and
``a_`` before a word, and ``a`` before a value, is "a" or "an". ``{X}`` and ``{x.They}`` begin with a capital letter,
as sentences do anyway.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass

PRONOUNS = {
    "he": ("he", "him", "his", "himself"),
    "she": ("she", "her", "her", "herself"),
    "it": ("it", "it", "its", "itself"),
}
INNERMOST = re.compile(r"\[([^\[\]]*)\]")
SLOT = re.compile(r"\{(\w+)(?:\.(\w+))?\}")
ARTICLE = re.compile(r"\b([Aa])_ (\w+)")
START = re.compile(r'(^|[.!?] |\n)("?)(?!llamaq)([a-z])')  # a command stays as it is typed
HOW = r"\1[|||||||||||||| quietly| softly| after a moment|{gesture}]."
SAID = re.compile(r'(" said \{[hf]\})\.')
BEFORE_SLOT = re.compile(r"\b([Aa]) (?=\{)")
VOWEL_SOUND = re.compile(r"(?!uni|use|usu|one|eu)[aeiou]|hour|honest", re.IGNORECASE)


@dataclass(frozen=True)
class Character:
    """Somebody in a story; ``trait`` is an adjective, ``home`` where they live ("in a hollow tree")."""

    name: str
    kind: str
    pronoun: str
    trait: str
    home: str

    @property
    def named(self) -> bool:
        """Whether they have a name of their own; others are called "the fox"."""
        return self.name != f"the {self.kind}"

    def form(self, which: str, rng: random.Random) -> str:
        """``they``, ``them``, ``their``, ``self``; ``the`` ("the fox"); ``ref`` (name or ``the``); ``intro``."""
        they, them, their, self_ = PRONOUNS[self.pronoun]
        forms = {"they": they, "them": them, "their": their, "self": self_, "the": f"the {self.kind}"}
        forms |= {"kind": self.kind, "trait": self.trait, "home": self.home, "name": self.name}
        forms["ref"] = rng.choice([self.name, self.name, f"the {self.kind}"])
        forms["intro"] = rng.choice(
            [
                f"{self.name} the {self.kind}",
                f"a_ {self.kind} named {self.name}",
                f"a_ {self.trait} {self.kind} named {self.name}",
            ]
        )
        return forms[which]


Values = Mapping[str, "str | tuple[str, ...] | Character"]
"""A tuple is a pool: one of it is drawn afresh at each use."""


def expand(template: str, rng: random.Random) -> str:
    """Makes every choice, from the innermost outwards."""
    while INNERMOST.search(template):
        template = INNERMOST.sub(lambda found: rng.choice(found[1].split("|")), template)
    return template


def fill(template: str, values: Values, rng: random.Random) -> str:
    """Puts in the values; a value may hold choices and slots of its own.

    Raises:
        KeyError: The template names a value or a form that there is not.
    """

    def value(found: re.Match[str]) -> str:
        name, form = found.groups()
        known = values[name.lower()]
        known = rng.choice(known) if isinstance(known, tuple) else known
        text = known if isinstance(known, str) else known.form((form or "name").lower(), rng)
        return text[0].upper() + text[1:] if (form or name)[0].isupper() else text

    template = expand(
        SAID.sub(HOW, template),
        rng,
    )
    while SLOT.search(template):
        template = expand(SLOT.sub(value, BEFORE_SLOT.sub(r"\1_ ", template)), rng)
    return template


def polish(text: str) -> str:
    """Articles, capital letters at the beginnings of sentences, single spaces."""
    text = re.sub(r" +([.,!?:])", r"\1", re.sub(r" +", " ", text)).strip()
    text = re.sub(r'([?!.]),"', r'\1"', text)  # a question or a call needs no comma at the end of speech
    text = ARTICLE.sub(lambda m: f"{m[1]}{'n' if VOWEL_SOUND.match(m[2]) else ''} {m[2]}", text)
    text = re.sub(r'\."(?= (said|asked)\b)', ',"', text)
    return START.sub(lambda m: m[1] + m[2] + m[3].upper(), text)


def render(template: str, values: Values, rng: random.Random) -> str:
    """The text of a template: ``expand``, ``fill`` and ``polish``."""
    return polish(fill(template, values, rng))


def listed(text: str) -> list[str]:
    """Words or phrases between commas."""
    return [" ".join(part.split()) for part in text.split(",")]


def paragraphs(text: str) -> list[str]:
    """Templates between blank lines, each on one line."""
    return [" ".join(part.split()) for part in text.strip().split("\n\n")]


def pairs(text: str) -> list[tuple[str, str]]:
    """Templates of questions ("Q: ...") and answers ("A: ..."), between blank lines."""
    split = (part.removeprefix("Q: ").split(" A: ") for part in paragraphs(text))
    return [(question, answer) for question, answer in split]
