"""Dialogues: lists of messages in which somebody greets, asks, counts, or wants a story."""

from __future__ import annotations

import random

from . import words
from .grammar import pairs, polish, render
from .llamaq_facts import FACTS
from .plots import PLOTS
from .stories import Story, Wanted, story, tale
from .sums import riddle, sum_in_words, sum_of

Turn = tuple[str, str]

GREETINGS = pairs("""
    Q: [Hello|Hi|Hey|Good morning|Good evening|Hello there|Hi there|hello|hi|hey][!|.|]
    A: [Hello!|Hi!|Hello there!|Good day!] [How can I help you?|What can I do for you?|Shall I tell you a
    story?|Would you like to hear a story?]

    Q: [How are you?|How do you do?|How are you today?|how are you]
    A: [I am fine, thank you.|Very well, thank you.|I am a program, but I am in a good mood.] [Would you like a
    story?|What shall we do?]

    Q: [My name is|I am|I'm|Call me] {name}.
    A: [Nice to meet you|Hello|I am glad to meet you], {name}! [Would you like to hear a story?|What can I do for
    you?|Shall I tell you a story?]
""")
GOODBYES = pairs("""
    Q: [Thank you|Thanks|Thank you very much|thanks][!|.|]
    A: [You are welcome!|With pleasure!|I am glad that you liked it.|Any time!]

    Q: [Goodbye|Bye|See you|Good night|bye][!|.|]
    A: [Goodbye!|Bye! Come back soon.|See you!|Goodbye, and take care!]

    Q: [That was nice|I liked that|What a lovely story|Good story][!|.|]
    A: [Thank you!|I am glad!] [Shall I tell you another one?|]
""")
BEYOND = pairs("""
    Q: [What is the capital of {far}?|Who is the king of {far}?|How many people live in {far}?|What is the weather
    in {far}?|Translate this into the language of {far}.|Who won the election in {far}?|What happened in {far} in
    the year {year}?|Write a program that sorts a list.|What is the meaning of life?|How does a {noun} work?|Who
    wrote {work}?|Why is the sky blue?|Which medicine should I take?|What should I cook tonight?|Explain {hard}.]
    A: [I do not know that.|I am sorry, I do not know.|That is too hard for me.] [I am only a small demo model.|I am
    too small for such questions.] [But I can tell you a story.|Ask me for a story, or for a small sum.|A bigger
    model will know it.]
""")
VALUES = {
    "far": "[France|Japan|Brazil|Egypt|Norway|Peru|India|Canada|Kenya|Spain|China|Poland|Mexico|Greece|Italy|Chile]",
    "work": "[that song|this book|Hamlet|Don Quixote|Faust]",
    "hard": "[gravity|quantum physics|inflation|evolution|electricity|music theory]",
}
ASK = (
    "[Tell me|Can you tell me|Please tell me|Could you tell me|I would like to hear|Write|Please write|I want|tell me|"
    "Make up|Give me] a "
)
LONG = 0.1
"""Share of the wishes for a long story, among those that name no plot; the others get a tale."""


def story_request(rng: random.Random) -> tuple[str, Story]:
    """A wish for a story, and the story."""
    kind = rng.choice(words.KINDS[rng.choice(list(words.KINDS))])
    shape = rng.choice(
        ["open", "kind", "kind", "kind", "kind", "named", "two", "thing", "thing", "place", "plot", "kind-plot"]
    )
    long = "plot" in shape or rng.random() < LONG
    pronoun = words.PRONOUN_OF.get(kind, "she" if rng.random() < 0.5 else "he")
    at = rng.choice([p for p in PLOTS if p.asks_for("at")])
    wanted = {
        "open": Wanted(),
        "kind": Wanted(kind),
        "named": Wanted(kind, rng.choice(words.NAMES[pronoun])),
        "two": Wanted(kind, friend=rng.choice([k for ks in words.KINDS.values() for k in ks if k != kind])),
        "thing": Wanted(noun=rng.choice(words.THINGS)),
        "place": Wanted(place=rng.choice(list(words.PLACES)), plot=at if long else None),
        "plot": Wanted(plot=rng.choice(PLOTS)),
        "kind-plot": Wanted(kind, plot=rng.choice(PLOTS)),
    }[shape]
    made = story(rng, wanted) if long else tale(rng, wanted)
    hero, friend = made.hero, made.friend
    topic = {
        "open": "",
        "kind": f" about [a_ {hero.trait} {hero.kind}|a_ {hero.kind}|a_ {hero.kind}|a_ {hero.kind}]",
        "named": f" about a_ {hero.kind} [named|called] {hero.name}",
        "two": f" about a_ {hero.kind} and a_ {friend.kind}",
        "thing": f" [about|with] a_ [{made.noun}|{made.thing}]",
        "place": f" [with the {made.place} in it|about the {made.place}]",
        "plot": f" about {made.about}",
        "kind-plot": f" about a_ {hero.kind} and {made.about}",
    }[shape]
    end = "[?|]" if rng.random() < 0.2 else "[.|.|!|]"
    size = "long story" if long and "plot" not in shape else "[|short |little |]story"
    return render(ASK + size + topic + end, {}, rng), made


def about_story(rng: random.Random, made: Story) -> Turn:
    """A question after a story."""
    hero, friend = made.hero, made.friend
    both = polish(f"It was about a_ {hero.kind} and a_ {friend.kind}.")
    found = [("Who was the story about?", both), ("What was the story about?", both)]
    if hero.home in made.text:
        found += [(f"Where did {hero.name} live?", f"{hero.name} lived {hero.home}.")]
    if hero.named:
        found += [
            (f"What was the name of the {hero.kind}?", f"The {hero.kind} was called {hero.name}."),
            (f"What was the {friend.kind} called?", f"The {friend.kind} was called {friend.name}."),
            (f"Who was {friend.name}?", polish(f"{friend.name} was a_ {friend.kind}.")),
            (f"Who was {hero.name}?", polish(f"{hero.name} was a_ {hero.kind}.")),
        ]
    question, answer = rng.choice(found)
    return question, polish(answer)


def dialogue(rng: random.Random) -> tuple[list[dict[str, str]], list[str]]:
    """Messages with roles, and the names that occur in them (for statistics)."""
    name = rng.choice(words.NAMES[rng.choice(["she", "he"])])
    kind = rng.choice(words.KINDS[rng.choice(list(words.KINDS))]).replace("_", " ")
    values = {
        **VALUES,
        "name": name,
        "kind": kind,
        "noun": rng.choice(words.THINGS),
        "year": str(rng.randint(1500, 2020)),
    }
    turns: list[Turn] = []
    names = [name]

    def say(question: str, answer: str) -> None:
        turns.append((render(question, values, rng), render(answer, values, rng)))

    if rng.random() < 0.15:
        say(*rng.choice(GREETINGS))
    for _ in range(rng.choice([1, 1, 1, 1, 1, 2])):
        draw = rng.random()
        if draw < 0.55:
            question, made = story_request(rng)
            turns.append((question, made.text))
            names += [made.hero.name, made.friend.name]
            if rng.random() < 0.5:
                turns.append(about_story(rng, made))
        elif draw < 0.75:
            say(*rng.choice(FACTS))
        elif draw < 0.9:
            for _ in range(rng.choice([1, 2, 4])):
                turns.append(rng.choice([sum_of, sum_of, sum_in_words, riddle])(rng))
        elif draw < 0.95:
            say(*rng.choice(BEYOND))
        else:
            say(*rng.choice(GREETINGS))
    if rng.random() < 0.1:
        say(*rng.choice(GOODBYES))
    messages = [{"role": "system", "content": "You are a helpful assistant."}] if rng.random() < 0.05 else []
    for question, answer in turns:
        if rng.random() < 0.15 and not any(known in question for known in names):
            question = question.lower().rstrip(".?!")  # people type so
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return messages, names
