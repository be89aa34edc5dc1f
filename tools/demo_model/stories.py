"""Stories: who takes part, what happens, told in paragraphs."""

from __future__ import annotations

import random
from dataclasses import dataclass

from . import words
from .grammar import Character, expand, fill, paragraphs, polish, render
from .plots import PLOTS, Plot

OPENINGS = paragraphs("""
    [Once upon a time|Long ago|Once|Once upon a time], there was a_ {h.trait} {h.kind} named {h}. {h.They} lived
    {h.home}[|, together with {h.their} [two brothers|grandmother|three sisters|parents]|, all by {h.self}].

    [Once upon a time|Long ago|Many years ago], a_ {h.kind} named {h} lived {h.home}. {h.They} was
    [rather|very|quite] {h.trait}[|, and everybody knew it].

    {h} was a_ {h.trait} [|little |]{h.kind} who lived {h.home}. [{habit}|]

    {H.Home} lived a_ {h.kind} [named|called] {h}. [{h.They} was a_ {h.trait} {h.kind}.|{habit}|Everybody called
    {h.them} {h.Trait} {h}.]

    This is the story of {h}, a_ {h.trait} {h.kind} who lived {h.home}. [{habit}|]

    [Do you know|Have you heard of] {h}, the {h.trait} {h.kind}? {h.They} lived {h.home}. [{habit}|]
""")
HABITS = paragraphs("""
    From {h.their} window {h.they} could see {sight} and {sight2}.

    From {h.their} door {h.they} could see {sight}, and when the air was clear, {sight2}.

    On the wall hung a picture of {sight}.

    {h.Their} favourite colour was {colour}, and {h.their} favourite food was {food}.

    The neighbours were a_ {kind} and a_ {trait} {kind2}.

    [On Sundays|In the evenings|On rainy days], {h.they} [played cards|drank tea|sang songs] with a_ {trait} {kind}.

    {h.They} was [good at {art}|famous for {art}|proud of {art}], but [bad at|hopeless at|no good at] {art2}.

    [Every morning|Each day], {h.they} [drank a cup of tea|sang a song|swept the floor|looked at the clouds|counted
    the birds] [before breakfast|and then went for a walk|before doing anything else].

    {h.They} liked nothing better than {food} [and long walks|and good stories|and rainy days|and starry nights].

    {h.They} knew every [stone|tree|path] for miles around.

    {h.They} collected [feathers|stones|bottle caps|old spoons|leaves|jokes] and had a name for every one of them.

    {h.They} could [sleep until noon|laugh very loudly|sing quite well|stand on {h.their} head], but {h.they} could
    not [cook|whistle|keep a secret].
""")
CLOSINGS = (
    "",
    "",
    "",
    "",
    "That night {h.they} dreamed of {sight} and {sight2}.",
    "That night {h.they} dreamed of {sight} and {sight2}.",
    "The end.",
    "And that is the end of the story.",
    "And that is how it was.",
)
ALL_KINDS = [kind for kinds in words.KINDS.values() for kind in kinds]


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
    """A finished story and what is in it; ``thing`` is a look and ``noun``, ``about`` the plot's own phrase, filled."""

    text: str
    hero: Character
    friend: Character
    noun: str
    thing: str
    place: str
    plot: Plot
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
        name or new_name(rng, pronoun), kind.replace("_", " "), pronoun, trait, rng.choice(words.HOMES[home])
    )


def new_name(rng: random.Random, pronoun: str) -> str:
    """Half of the names are from a list, half are made up."""
    if rng.random() < 0.5:
        return rng.choice(words.NAMES[pronoun])
    first, middle = rng.choice(words.FIRST_SYLLABLES), rng.choice(words.MIDDLE_SYLLABLES)
    return first + middle + rng.choice(words.LAST_SYLLABLES[pronoun])


def story(rng: random.Random, wanted: Wanted = Wanted()) -> Story:
    """Makes one story."""
    plot = wanted.plot or rng.choice([p for p in PLOTS if not wanted.noun or p.asks_for("thing")])
    hero = character(rng, wanted.kind, wanted.name)
    friend = character(rng, wanted.friend)
    tries = 0
    while friend.name == hero.name or friend.kind == hero.kind or (friend.pronoun == hero.pronoun and tries < 4):
        tries += 1  # "she" and "he" are told apart more easily
        friend = character(rng, wanted.friend if wanted.friend != hero.kind else None)
    place = wanted.place or rng.choice(list(words.PLACES))
    noun = wanted.noun or rng.choice(words.THINGS)
    thing = f"{rng.choice(rng.choice([words.COLOURS, words.LOOKS]))} {noun}"
    values: dict[str, str | Character] = {
        "h": hero, "f": friend, "noun": noun, "thing": thing, "place": place, "at": words.PLACES[place],
        "food": rng.choice(words.FOODS), "habit": rng.choice(HABITS), "colour": rng.choice(words.COLOURS[:12]),
        "trait": rng.choice(words.TRAITS),
    }  # fmt: skip
    for name, known in (("sight", words.SIGHTS), ("kind", ALL_KINDS), ("art", words.ARTS)):
        values[name], values[f"{name}2"] = (one.replace("_", " ") for one in rng.sample(known, 2))
    values |= {name: text if name == "when" else expand(text, rng) for name, text in rng.choice(plot.cases).items()}
    text = ""
    while not all(word in text for word in (wanted.noun, wanted.place, hero.kind, friend.kind) if word):
        text = told(plot, values, rng)  # what is wanted may have been in a choice that was not taken
    return Story(text, hero, friend, noun, thing, place, plot, polish(f"About {fill(plot.about, values, rng)}")[6:])


def told(plot: Plot, values: dict[str, str | Character], rng: random.Random) -> str:
    """The paragraphs of a story, no two of which name the same time."""
    parts = [rng.choice(OPENINGS), *paragraphs(plot.text), rng.choice(CLOSINGS)]
    times = rng.sample(words.TIMES, len(parts))
    return "\n\n".join(
        render(part, {"when": when} | values, rng) for part, when in zip(parts, times, strict=True) if part
    )
