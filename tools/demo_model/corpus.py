"""The corpus: stories and dialogues by number, and what is new in those that are held out.

``python -m demo_model.corpus --documents 100000 --write train.jsonl`` writes one JSON object with "text" on each line;
``--held-out`` those kept for measuring; ``--stats`` counts; ``--show 5`` prints some.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .chat import STOP, chat_text
from .dialogues import dialogue
from .stories import story, tale

PLAIN = 0.2
"""Share of documents that are a story alone, to be continued from its first words."""
SENTENCE = re.compile(r'(?<=[.!?])"?\s+|\n+')


@dataclass(frozen=True)
class Document:
    """A text with its special tokens, and the names of those in it."""

    text: str
    names: tuple[str, ...]


def document(number: int, *, held_out: bool = False) -> Document:
    """The document of a number: always the same."""
    rng = random.Random(f"{'held-out' if held_out else 'train'} {number}")
    if rng.random() < PLAIN:
        made = tale(rng) if rng.random() < 0.8 else story(rng)
        return Document(made.text + STOP, (made.hero.name, made.friend.name))
    messages, names = dialogue(rng)
    return Document(chat_text(messages) + STOP, tuple(names))


def documents(count: int, *, held_out: bool = False) -> Iterator[Document]:
    """The first ``count`` of them."""
    return (document(number, held_out=held_out) for number in range(count))


def sentences(made: Document, *, names: bool = True) -> list[str]:
    """Its sentences; without ``names``, each name is "N", so that a new name alone makes no new sentence."""
    text = re.sub(r"<\|im_start\|>\w+\n|<\|\w+\|>", "\n", made.text)
    if not names and made.names:
        text = re.sub(rf"\b({'|'.join(map(re.escape, made.names))})\b", "N", text)
    return [sentence.strip() for sentence in SENTENCE.split(text) if sentence.strip()]


def statistics(count: int, held_out: int = 1000) -> dict[str, float]:
    """Sizes of a corpus, and shares of what is held out that occur nowhere in it."""
    seen: set[int] = set()  # hashes of sentences
    nameless: set[int] = set()
    texts: set[int] = set()
    distinct: set[str] = set()
    size = total = words = 0
    for made in documents(count):
        size += len(made.text.encode())
        texts.add(hash(made.text))
        found = sentences(made)
        total += len(found)
        seen.update(map(hash, found))
        nameless.update(map(hash, sentences(made, names=False)))
        split = re.findall(r"[A-Za-z']+", made.text)
        words += len(split)
        distinct.update(word.lower() for word in split)
    kept = list(documents(held_out, held_out=True))
    plain = [sentence for made in kept for sentence in sentences(made)]
    masked = [sentence for made in kept for sentence in sentences(made, names=False)]
    return {
        "documents": count,
        "bytes": size,
        "sentences": total,
        "distinct sentences": len(seen),
        "words": words,
        "distinct words": len(distinct),
        "held-out documents": held_out,
        "share new documents": sum(hash(made.text) not in texts for made in kept) / held_out,
        "share new sentences": sum(hash(sentence) not in seen for sentence in plain) / len(plain),
        "share new sentences, names aside": sum(hash(sentence) not in nameless for sentence in masked) / len(masked),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="demo_model.corpus", description="Makes the corpus of the demo model.")
    parser.add_argument("--documents", type=int, default=10_000, help="how many (default: 10000)")
    parser.add_argument("--held-out", action="store_true", help="those kept for measuring instead")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write them as JSON lines")
    parser.add_argument("--stats", action="store_true", help="count, and compare with 1000 held-out documents")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print the first N")
    args = parser.parse_args()
    for number in range(args.show):
        print(document(number, held_out=args.held_out).text, end="\n\n")
    if args.write:
        with args.write.open("w", encoding="utf-8") as out:
            for made in documents(args.documents, held_out=args.held_out):
                out.write(json.dumps({"text": made.text}) + "\n")
    if args.stats:
        for name, value in statistics(args.documents).items():
            print(f"{name:34} {f'{value:.1%}' if isinstance(value, float) else f'{value:,}'}")


if __name__ == "__main__":
    main()
