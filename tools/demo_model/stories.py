"""Stories: who takes part, what happens, told in paragraphs."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from . import words
from .grammar import Character, Values, expand, fill, paragraphs, polish, render
from .plots import NAMELESS_OPENINGS, PLOTS, QUESTS, TALE_OPENINGS, TALES, Plot, nameless
from .scenes import AMBIENT, EVENINGS, HABITS, MEANWHILE, POOLS, SCENES, WHENS

OPENINGS = paragraphs("""
    [Once upon a time|Long ago|Once|Once upon a time], there was a_ {h.trait} {h.kind}{wearing} named {h}. {h.They}
    lived {h.home}[|, together with {h.their} [two brothers|grandmother|three sisters|parents]|, all by {h.self}].

    [Once upon a time|Long ago|Many years ago], a_ {h.kind} named {h} lived {h.home}. {h.They} was
    [rather|very|quite] {h.trait}[|, and everybody knew it].

    {h} was a_ {h.trait} [|little |]{h.kind}{wearing} who lived {h.home}. [{habit}|||||]

    {H.Home} lived a_ {h.kind} [named|called] {h}. [{h.They} was a_ {h.trait} {h.kind}{wearing}.|{habit}|Everybody
    called {h.them} {h.Trait} {h}.]

    This is the story of {h}, a_ {h.trait} {h.kind}{wearing} who lived {h.home}. [{habit}|||||]

    [Do you know|Have you heard of] {h}, the {h.trait} {h.kind}? {h.They} lived {h.home}. [{habit}|||||]
""")
CLOSINGS = (*[""] * 20, *EVENINGS, *EVENINGS, "The end.", "And that is how it was.")
NAMED = 0.4
"""Share of tales whose heroes have names, where nobody asks for one."""
AMBIENCE = 0.05
"""Share of the middle paragraphs (but those that end with speech) to which a sentence about the background is added."""


@dataclass(frozen=True)
class Wanted:
    """What a story shall be about; None leaves it open."""

    kind: str | None = None
    name: str | None = None
    friend: str | None = None
    noun: str | None = None
    place: str | None = None
    plot: Plot | None = None


@dataclass(frozen=True)
class Story:
    """A finished story and what is in it; ``thing`` is a look and ``noun``, ``about`` the plot's phrase (none: "")."""

    text: str
    hero: Character
    friend: Character
    noun: str
    thing: str
    place: str
    about: str


def character(rng: random.Random, kind: str | None = None, name: str | None = None) -> Character:
    """Somebody of a kind (else any) who lives where such a kind lives."""
    if kind is None:
        kind = rng.choice(words.KINDS[rng.choice(list(words.KINDS))])
    home = next((home for home, kinds in words.KINDS.items() if kind in kinds), "town")
    pronoun = words.PRONOUN_OF.get(kind) or next((p for p in ("he", "she") if name in words.NAMES[p]), "")
    pronoun = pronoun or rng.choice(["he", "she"])
    trait = rng.choice(words.TRAITS)
    return Character(
        name or rng.choice(words.NAMES[pronoun]), kind.replace("_", " "), pronoun, trait, rng.choice(words.HOMES[home])
    )


def cast(rng: random.Random, wanted: Wanted) -> tuple[Character, Character]:
    """Hero and friend, told apart by name and kind, and mostly by "she" and "he", which is easier."""
    hero, friend = character(rng, wanted.kind, wanted.name), character(rng, wanted.friend)
    tries = 0
    while friend.name == hero.name or friend.kind == hero.kind or (friend.pronoun == hero.pronoun and tries < 4):
        tries += 1
        friend = character(rng, wanted.friend if wanted.friend != hero.kind else None)
    return hero, friend


def values_of(rng: random.Random, wanted: Wanted) -> dict[str, str | tuple[str, ...] | Character]:
    """What the slots of any plot or tale stand for."""
    hero, friend = cast(rng, wanted)
    place = wanted.place or rng.choice(list(words.PLACES))
    noun = wanted.noun or rng.choice(words.THINGS)
    thing = f"{rng.choice(rng.choice([words.COLOURS, words.LOOKS]))} {noun}"
    return POOLS | {
        "h": hero, "f": friend, "noun": noun, "thing": thing, "place": place, "at": words.PLACES[place],
        "food": rng.choice(words.FOODS), "habit": rng.choice(HABITS), "colour": rng.choice(words.COLOURS[:12]),
    }  # fmt: skip


def finished(text: str, values: Values, about: str = "") -> Story:
    hero, friend = values["h"], values["f"]
    noun, thing, place = (str(values[name]) for name in ("noun", "thing", "place"))
    assert isinstance(hero, Character)
    assert isinstance(friend, Character)
    return Story(text, hero, friend, noun, thing, place, about)


def tale(rng: random.Random, wanted: Wanted = Wanted()) -> Story:
    """Makes a story of a few sentences; a plot cannot be wanted of it."""
    values = values_of(rng, wanted)
    fits = [one for one in TALES if ("{noun}" in one or not wanted.noun) and ("{at}" in one or not wanted.place)]
    if wanted.name or rng.random() < NAMED:
        return finished(render(f"{rng.choice(TALE_OPENINGS)} {rng.choice(fits)}", values, rng), values)
    for who in ("h", "f"):
        values[who] = replace(known := values[who], name=f"the {known.kind}")  # type: ignore[type-var,union-attr]
    template = nameless(f"{rng.choice(NAMELESS_OPENINGS)} {rng.choice(fits)}")
    return finished(render(template, values, rng), values)


def story(rng: random.Random, wanted: Wanted = Wanted()) -> Story:
    """Makes one story of a few paragraphs."""
    plot = wanted.plot or rng.choice([p for p in (*PLOTS, *QUESTS) if not wanted.noun or p.asks_for("thing")])
    values = values_of(rng, wanted)
    hero, friend, noun = values["h"], values["f"], str(values["noun"])
    assert isinstance(hero, Character)
    assert isinstance(friend, Character)
    values["art"], values["art2"] = rng.sample(words.ARTS, 2)
    values |= drawn(plot, {hero.kind, friend.kind, noun}, rng)
    values |= {name: text if name == "when" else expand(text, rng) for name, text in rng.choice(plot.cases).items()}
    text = ""
    while not all(word in text for word in (wanted.noun, wanted.place, hero.kind, friend.kind) if word):
        text = told(plot, values, rng)  # what is wanted may have been in a choice that was not taken
    return finished(text, values, polish(f"About {fill(plot.about, values, rng)}")[6:])


def drawn(plot: Plot, taken: set[str], rng: random.Random) -> dict[str, str]:
    """What is drawn once for a story; of dicts none whose ``kind`` or ``noun`` is in the story already."""
    values = {name: expand(rng.choice(pool), rng) for name, pool in plot.fixed.items()}
    values["music1"] = rng.choice(POOLS["music"])
    for name, pool, count in (*plot.picks, ("scene", SCENES, 3), ("ambient", AMBIENT, 3)):
        free = [one for one in pool if isinstance(one, str) or not taken.intersection(one.values())]
        for number, one in enumerate(rng.sample(free, count), 1):
            parts = {name: one} if isinstance(one, str) else one
            values |= {f"{key}{number}": expand(text, rng) for key, text in parts.items()}
    return values


def told(plot: Plot, values: dict[str, str | tuple[str, ...] | Character], rng: random.Random) -> str:
    """The paragraphs of a story."""
    middle = paragraphs(plot.text)
    parts = []
    for part in (rng.choice(OPENINGS), *middle, rng.choice(CLOSINGS)):
        when = rng.choice(WHENS) + rng.choice([*[""] * 9, ", " + rng.choice(MEANWHILE)])
        text = render(part, {"when": when} | values, rng)
        if part in middle[:-1] and text.endswith(".") and not plot.picks and rng.random() < AMBIENCE:
            text += " " + render(rng.choice(AMBIENT), values, rng)
        parts.append(text)
    return "\n\n".join(part for part in parts if part)
