"""The corpus of the demo model (tools/demo_model): deterministic, well-formed, on the topic, varied."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[1] / "tools"


@pytest.fixture(autouse=True)
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tool is run from a checkout, and not installed."""
    monkeypatch.setattr(sys, "path", [str(TOOLS), *sys.path])


def test_templates() -> None:
    from demo_model.grammar import Character, expand, polish, render

    rng = random.Random(0)
    fox = Character("Pip", "fox", "she", "shy", "in a den")
    assert render("{h.They} saw a_ owl. it saw {h.them} and {h.their} a_ unicorn.", {"h": fox}, rng) == (
        "She saw an owl. It saw her and her a unicorn."
    )
    assert render(
        '{H.Home} sat {h.the}. "{x}," said {h.name}.', {"h": fox, "x": "[a_ {y}?|a_ {y}?]", "y": "egg"}, rng
    ) == ('In a den sat the fox. "An egg?" said Pip.')
    assert {expand("[a|[b|c]]d", rng) for _ in range(50)} == {"ad", "bd", "cd"}
    assert polish("in a_ hour.  then a_ honest man") == "In an hour. Then an honest man"
    with pytest.raises(KeyError):
        render("{nobody}", {}, rng)


WRONG = {
    "something unfilled": r"[{}\[\]]|a_ ",
    "a before a vowel": r"\b[Aa] (?!uni|use|one)[aeio]\w+",
    "an before a consonant": r"\b[Aa]n (?!hour|honest)[^aeiouAEIOU\"]\w+",
    "a small letter at the beginning": r"(^|\n|[.!?] |: )\"?[a-z]",
    "punctuation": r"[.!?,][.!?,]|[?!]\",| ,| \.",
    "a word twice": r"\b(\w+) \1\b",
}


def test_every_story_is_well_formed() -> None:
    from demo_model.plots import PLOTS
    from demo_model.stories import Wanted, story, tale

    made = {f"{plot.name} {n}": story(random.Random(n), Wanted(plot=plot)).text for plot in PLOTS for n in range(25)}
    made |= {f"tale {n}": tale(random.Random(n)).text for n in range(500)}
    for name, text in made.items():
        for what, pattern in WRONG.items():
            if what != "a small letter at the beginning":
                assert not re.search(pattern, text), f"{name}: {what}"
        for paragraph in text.split("\n\n"):
            assert paragraph.count('"') % 2 == 0, f"{name}: {paragraph}"
            assert re.match(r'"?[A-Z]', paragraph), f"{name}: {paragraph}"
            assert re.search(r'[.!?]"?$', paragraph), f"{name}: {paragraph}"
            assert not re.search(r"[.!?] [a-z]", paragraph), f"{name}: {paragraph}"


def test_a_tale_is_about_what_was_wanted() -> None:
    from demo_model.stories import Wanted, tale

    for seed in range(200):
        text = tale(random.Random(seed), Wanted("fox", friend="owl", noun="kite")).text
        assert {"fox", "owl", "kite"} <= set(re.findall(r"\w+", text))
        assert "library" in tale(random.Random(seed), Wanted(place="library")).text


def test_in_nameless_tales_nobody_has_or_hears_a_name() -> None:
    from demo_model.stories import Wanted, tale

    made = [tale(random.Random(seed), Wanted("fox", friend="owl")) for seed in range(200)]
    told = [one.text for one in made if not one.hero.named]
    assert 80 < len(told) < 160
    for text in told:
        assert len(re.findall(r"\bfox\b", text)) > 3
        assert re.search(r"\ban owl\b|\bAn owl\b", text)
        assert not re.search(r"named|called|, the (fox|owl)[.!?,]|the (fox|owl) the", text), text


def test_a_story_is_about_what_was_wanted() -> None:
    from demo_model.stories import Wanted, story

    for seed in range(100):
        made = story(random.Random(seed), Wanted("fox", "Zinka", friend="owl", noun="kite"))
        first = made.text.split("\n\n")[0]
        assert "fox" in first
        assert "Zinka" in first
        assert "kite" in made.text
        assert "owl" in made.text
        assert made.friend.kind == "owl"


def test_what_is_drawn_for_a_story_is_kept() -> None:
    """The gift of the first meeting helps in the end, and nobody else is of the hero's kind."""
    from demo_model.plots import QUESTS
    from demo_model.stories import Wanted, story

    gifts = next(plot for plot in QUESTS if plot.name == "gifts")
    for seed in range(50):
        made = story(random.Random(seed), Wanted("fox", plot=gifts))
        given = re.search(r"Take this ([a-z ]+),", made.text)
        assert given
        assert f"remembered the {given[1]}" in made.text
        askers = re.search(r"told \w+ about the ([a-z ]+) and the ([a-z ]+), and they", made.text)
        assert askers
        assert len({"fox", made.friend.kind, askers[1], askers[2]}) == 4


def test_hero_and_friend_are_told_apart() -> None:
    from demo_model.stories import Wanted, story

    for seed in range(200):
        made = story(random.Random(seed), Wanted("fox", friend="fox"))
        assert made.hero.kind == "fox"
        assert made.friend.kind != "fox"
        assert made.friend.name != made.hero.name


def test_sums_are_right() -> None:
    from demo_model.sums import riddle, sum_in_words, sum_of

    rng = random.Random(0)
    for _ in range(300):
        question, answer = sum_of(rng)
        a, sign, b = re.search(r"(\d+) (plus|minus|times|[-+*x]) (\d+)", question).groups()  # type: ignore[union-attr]
        right = {"p": int(a) + int(b), "+": int(a) + int(b), "m": int(a) - int(b), "-": int(a) - int(b)}
        assert int(re.findall(r"\d+", answer)[-1]) == right.get(sign[0], int(a) * int(b))
        assert sum_in_words(rng)[1].endswith((".",))
        assert riddle(rng)[0].endswith((".", "?"))


@pytest.mark.parametrize(
    ("prompt", "answer", "fits"),
    [
        ("Tell me a story about a fox", "Once there was a fox.", True),
        ("I want a short story with a green coin.", "Once there was an old coat.", False),
        ("write a story with the library in it", "A hen sat in the library.", True),
        ("what's 8 plus 7", "8 plus 7 is 15.", True),
        ("7 x 8 = ?", "7 x 8 is 56.", True),
        ("How much is 18 minus 0?", "18 minus 0 is 8.", False),
        ("Who are you?", "I am llamaq.", None),
    ],
)
def test_answers_are_judged(prompt: str, answer: str, fits: bool | None) -> None:
    from demo_model.score import judged

    found = judged(prompt, answer)
    assert (found and found[1]) is fits


def test_documents_are_dialogues_or_stories_and_always_the_same() -> None:
    from demo_model.corpus import document, documents

    found = list(documents(300))
    assert found[7] == document(7)
    assert document(7) != document(7, held_out=True)
    assert len({made.text for made in found}) > 280
    for made in found:
        assert made.text.endswith("<|endoftext|>")
        assert made.text.isascii()
        assert made.text.count("<|im_start|>") == made.text.count("<|im_end|>")
        assert made.text.count("<|im_start|>user\n") == made.text.count("<|im_start|>assistant\n")
        assert not re.search(r"[{}\[\]]|\ba_ ", made.text)


def test_the_template_gives_the_text_of_the_corpus() -> None:
    from demo_model.chat import TEMPLATE, chat_text
    from jinja2 import Template

    messages = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi!"}]
    assert Template(TEMPLATE, keep_trailing_newline=True).render(messages=messages) == chat_text(messages)
    asked = Template(TEMPLATE, keep_trailing_newline=True).render(messages=messages[:1], add_generation_prompt=True)
    assert chat_text(messages).startswith(asked)


def test_what_is_held_out_is_not_recited() -> None:
    from demo_model.corpus import statistics

    found = statistics(2000, held_out=200)
    assert found["share new documents"] > 0.9
    assert found["share new sentences"] > 0.3
    assert found["share new sentences, names aside"] > 0.35
    assert found["distinct words"] > 1900


@pytest.mark.subprocess
def test_the_same_text_in_another_process(tmp_path: Path) -> None:
    """Neither the order of sets nor the hash of strings decides anything."""
    from demo_model.corpus import document

    command = [sys.executable, "-m", "demo_model.corpus", "--documents", "1", "--show", "3"]
    shown = subprocess.run(command, cwd=TOOLS, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "5"})
    assert shown.stdout == "".join(document(number).text + "\n\n" for number in range(3))
