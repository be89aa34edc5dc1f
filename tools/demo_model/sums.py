"""Small sums, and other questions that have one right answer."""

from __future__ import annotations

import random

from . import words
from .grammar import listed, polish

DAYS = listed("Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday")
OPPOSITES = listed("""
    big small, hot cold, up down, old new, day night, fast slow, light dark, happy sad, open closed, full empty,
    hard soft, loud quiet, early late, high low, long short, wet dry, rich poor, near far, left right, good bad,
    strong weak, first last, summer winter
""")
THINGS = listed("apples, marbles, coins, eggs, pears, buttons, nuts, stones, flowers, shells")
SOUNDS = {
    "cow": "moo",
    "dog": "woof",
    "cat": "meow",
    "duck": "quack",
    "sheep": "baa",
    "pig": "oink",
    "owl": "hoot",
    "frog": "ribbit",
    "lion": "roar",
    "bee": "buzz",
    "rooster": "cock-a-doodle-doo",
    "horse": "neigh",
    "mouse": "squeak",
    "crow": "caw",
    "snake": "hiss",
}


def sum_of(rng: random.Random) -> tuple[str, str]:
    """A question with plus, minus or times, and its answer."""
    kind, limit = rng.choice("++--*"), rng.choice([10, 10, 10, 20])
    a, b = rng.randint(0, limit), rng.randint(0, limit)
    if kind == "+":
        word, result = rng.choice(["plus", "+"]), a + b
    elif kind == "-":
        a, b = max(a, b), min(a, b)
        word, result = rng.choice(["minus", "-"]), a - b
    else:
        a, b = a % 11, b % 11
        word, result = rng.choice(["times", "*", "x"]), a * b
    ask = rng.choice(
        ["What is {}?", "How much is {}?", "{}", "{} = ?", "Can you tell me what {} is?", "what's {}", "Calculate {}."]
    )
    return ask.format(f"{a} {word} {b}"), f"{a} {word} {b} is {result}."


def sum_in_words(rng: random.Random) -> tuple[str, str]:
    """A sum in words."""
    names = rng.choice([words.NAMES["she"], words.NAMES["he"]])
    name, they = rng.choice(names), "she" if names is words.NAMES["she"] else "he"
    a, b = rng.randint(2, 12), rng.randint(1, 9)
    things = rng.choice(THINGS)
    if rng.random() < 0.5 or b >= a:
        verb = rng.choice(["finds", "buys", "gets"])
        question = f"{name} has {a} {things} and {verb} {b} more. How many {things} does {name} have now?"
        return question, f"{a} plus {b} is {a + b}. {name} has {a + b} {things} now."
    left = a - b
    question = f"{name} has {a} {things}. Then {they} gives away {b}. How many are left?"
    return question, f"{a} minus {b} is {left}. {'One is' if left == 1 else f'{left} are'} left."


def riddle(rng: random.Random) -> tuple[str, str]:
    """Days, opposites, sounds, the larger of two numbers."""
    which = rng.randrange(5)
    if which == 0:
        i, step = rng.randrange(7), rng.choice([1, -1])
        after = "after" if step == 1 else "before"
        return f"What day comes {after} {DAYS[i]}?", f"{DAYS[(i + step) % 7]} comes {after} {DAYS[i]}."
    if which == 1:
        pair = rng.choice(OPPOSITES).split()
        one, other = pair if rng.random() < 0.5 else pair[::-1]
        return f"What is the opposite of {one}?", f'The opposite of "{one}" is "{other}".'
    if which == 2:
        animal, sound = rng.choice(list(SOUNDS.items()))
        return polish(f"What does a_ {animal} say?"), polish(f'A_ {animal} says "{sound}".')
    a, b = rng.sample(range(21), 2)
    if which == 3:
        return f"Which is bigger, {a} or {b}?", f"{max(a, b)} is bigger than {min(a, b)}."
    start = rng.randint(1, 20)
    run = ", ".join(str(n) for n in range(start, start + 5))
    return f"Count from {start} to {start + 4}.", f"{run}."
