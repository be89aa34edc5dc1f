"""``llamaq perplexity``: how well a model foretells a text."""

from __future__ import annotations

import argparse
import json
import math
from typing import TYPE_CHECKING

from llamaq.boundary.words import counted
from llamaq.cli.command import Command
from llamaq.cli.measuring import add_text_options, load, text_chunks
from llamaq.cli.model_names import model_of
from llamaq.cli.options import Parser, add_model
from llamaq.cli.output import write
from llamaq.cli.progress import Bar

if TYPE_CHECKING:
    from llamaq.measure import Perplexity

__all__ = ["COMMAND"]

_ABOUT = """\
Measures the perplexity of a text: exp of the mean loss of its tokens, so lower is better, and only numbers of one
text, tokenizer and context can be compared. The method is llama.cpp's: the text is cut into chunks of -c tokens, each
read from an empty context with BOS (where the model has it) in place of its first token, and the tokens of its second
half are scored. The number after +/- is the standard error."""


def _add_options(parser: Parser) -> None:
    add_model(parser)
    add_text_options(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def perplexity(args: argparse.Namespace) -> int:
    """Runs the command."""
    path = model_of(args)
    from llamaq import measure

    with load(path, args) as llm:
        chunks = text_chunks(llm, args)
        with Bar("perplexity", " tokens") as progress:
            found = measure.perplexity(llm, chunks, progress=progress)
    write(json.dumps(_as_json(found)) + "\n" if args.json else _as_text(found))
    return 0


def _as_text(found: Perplexity) -> str:
    chunks, tokens = len(found.losses), found.tokens
    return (
        f"Final estimate: PPL = {found.value:.4f} +/- {found.uncertainty:.5f}\n"
        f"{counted(found.losses.size, 'token')} scored, in {counted(chunks, 'chunk')} of {found.n_ctx}; "
        f"{tokens} read in {found.seconds:.2f} s, {tokens / found.seconds:.1f} tokens/s\n"
    )


def _as_json(found: Perplexity) -> dict[str, float | None]:
    numbers = {
        "perplexity": found.value,
        "uncertainty": found.uncertainty,
        "scored": found.losses.size,
        "chunks": len(found.losses),
        "n_ctx": found.n_ctx,
        "tokens": found.tokens,
        "seconds": found.seconds,
        "tokens_per_second": found.tokens / found.seconds,
    }
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}


COMMAND = Command(
    help="measure how well a model foretells a text",
    usage="MODEL -f FILE [options]",
    about=_ABOUT,
    add_options=_add_options,
    run=perplexity,
)
