"""``llamaq compare``: what a quantized file lost."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llamaq.boundary.atomic import atomic_file
from llamaq.boundary.words import counted
from llamaq.cli.command import Command
from llamaq.cli.measuring import add_text_options, most_chunks, text_of
from llamaq.cli.model_names import located
from llamaq.cli.options import Parser, loading_options
from llamaq.cli.output import write
from llamaq.cli.progress import Bar

if TYPE_CHECKING:
    from llamaq.measure import Report, WeightError

__all__ = ["COMMAND", "add_report", "verdict"]

_LOSSES = (
    (0.0, "no loss"),
    (0.001, "a loss that nobody will notice"),
    (0.01, "a small loss, as of Q6_K and Q5_K files"),
    (0.06, "a loss that shows here and there, as of good files with four bits"),
    (0.2, "a clear loss, as of files with three bits"),
    (0.7, "a great loss, as of files with two bits: texts go other ways"),
    (math.inf, "OTHER is hardly the same model any more"),
)
"""By the most that the mean divergence may be, in nats; docs/measure.md has the list."""
_FEW = 1000  # tokens, of which an error of some percent is left

_ABOUT = """\
Reads a text with two files of one model and tells how far OTHER's probabilities are from BASE's: perplexities, the
Kullback-Leibler divergence (KLD, in nats), how often both put the same token first, how much the probability of the
token that came has changed. The text is cut and scored as by 'llamaq perplexity'. Also, how far OTHER's weights are
from BASE's. The number after +/- is the standard error."""


def _add_options(parser: Parser) -> None:
    add = parser.add_argument
    add("base", metavar="BASE", help="the file to compare with, such as the F16 one")
    add("other", metavar="OTHER", help="the file to be measured")
    add("--picture", metavar="FILE", help="write an SVG: divergence by position, error of the weights by block")
    add("--tensors", action="store_true", help="list the error of every tensor")
    add("--json", action="store_true", help="print the result as JSON")
    add_text_options(parser)


def compare(args: argparse.Namespace) -> int:
    """Runs the command."""
    text = text_of(args)
    base, other = located(args.base, args), located(args.other, args)
    found = _compared(
        base, other, text, text_name=Path(args.file).name, n_ctx=args.ctx_size, limit=most_chunks(args),
        **loading_options(args),
    )  # fmt: skip
    if args.picture:
        title = f"{other.name} beside {base.name}"
        from llamaq.measure import picture

        with atomic_file(Path(args.picture)) as file:
            file.write(picture(title, found.divergence, found.weights).encode())
    write(json.dumps(_as_json(found)) + "\n" if args.json else _as_text(found, every_tensor=args.tensors))
    return 0


def add_report(base: str | os.PathLike[str], other: Path, text: str, text_name: str) -> str:
    """Keeps in ``other``'s metadata what it lost against ``base``; the same as text."""
    from llamaq.measure import store_report

    found = _compared(base, other, text, text_name=text_name)
    store_report(other, found)
    return "\n" + _as_text(found, every_tensor=False)


def _compared(base: str | os.PathLike[str], other: str | os.PathLike[str], text: str, **options: Any) -> Report:
    from llamaq import measure

    with contextlib.ExitStack() as stack:
        bars = (("loading", "B", True), ("comparing", " tokens", False), ("weights", "", False))
        loading, reading, weighing = (stack.enter_context(Bar(name, unit, binary=kb)) for name, unit, kb in bars)
        return measure.compare(base, other, text, loading=loading, reading=reading, weighing=weighing, **options)


def _as_text(found: Report, *, every_tensor: bool) -> str:
    """The report for people, with llama-perplexity's names."""
    value = found.summary()

    def line(name: str, key: str, digits: int, *, error: bool = True, percent: bool = False) -> str:
        factor, unit = (100, " %") if percent else (1, "")
        spread = f" +/- {factor * value[f'{key}_error']:.{digits}f}{unit}" if error else ""
        return f"{name:<25}{factor * value[key]:.{digits}f}{unit}{spread}"

    lines = [
        line("PPL(other)", "perplexity", 4),
        line("PPL(base)", "base_perplexity", 4),
        line("ln PPL(other)/PPL(base)", "log_perplexity_ratio", 5),
        line("Mean KLD", "kl_mean", 6),
        line("Median KLD", "kl_median", 6, error=False),
        line("99.0 % KLD", "kl_99", 6, error=False),
        line("99.9 % KLD", "kl_99_9", 6, error=False),
        line("Maximum KLD", "kl_max", 6, error=False),
        line("Same top token", "same_top", 3, percent=True),
        line("RMS change of p", "rms_probability_change", 3, percent=True),
        line("Error of the weights", "weight_error", 3, error=False, percent=True),
    ]
    base, count = found.divergence.base, found.divergence.kl.size
    lines.append(f"{counted(count, 'token')} scored, in {counted(len(base.losses), 'chunk')} of {base.n_ctx}")
    lines += ["", *(_every(found) if every_tensor else _by_format(found)), "", verdict(value, count)]
    return "\n".join(lines) + "\n"


def verdict(value: Mapping[str, float], scored: int) -> str:
    """What the numbers mean, in words."""
    kl, same, change = value["kl_mean"], value["same_top"], value["log_perplexity_ratio"]
    if not all(map(math.isfinite, (kl, same, change))):
        return "Verdict: numbers are missing; a file is damaged, or the text was too much for it."
    word = next(word for most, word in _LOSSES if kl <= most)
    percent = 100 * math.expm1(min(change, 20.0))
    if abs(change) <= 2 * value["log_perplexity_ratio_error"]:
        foretells = "foretells the text as well as BASE, as far as this text can tell"
    else:
        foretells = f"foretells it {'worse' if change > 0 else 'better'} (perplexity {percent:+.1f} %)"
    few = f" That is from {counted(scored, 'token')}; a longer text tells more." if scored < _FEW else ""
    places = f"{100 * (1 - same):.1f} of 100 places"
    return f"Verdict: {word}. OTHER puts another token first at {places}, and {foretells}.{few}"


def _by_format(found: Report) -> Iterator[str]:
    from llamaq.measure import relative_error

    groups: dict[str, list[WeightError]] = defaultdict(list)
    for error in found.weights:
        groups[error.format].append(error)
    yield f"{'format':<10}{'matrices':>9}{'weights':>15}{'error':>10}"
    for name, errors in sorted(groups.items(), key=lambda group: -sum(error.weights for error in group[1])):
        weights = sum(error.weights for error in errors)
        yield f"{name:<10}{len(errors):>9}{weights:>15}{100 * relative_error(errors):>8.3f} %"


def _every(found: Report) -> Iterator[str]:
    width = max((len(error.name) for error in found.weights), default=0)
    for error in found.weights:
        yield f"{error.name:<{width}}  {error.format:<8}{100 * error.relative:>8.3f} %"


def _as_json(found: Report) -> dict[str, Any]:
    value = found.summary()
    numbers = {name: number if math.isfinite(number) else None for name, number in value.items()}
    base = found.divergence.base
    return numbers | {
        "base": found.base,
        "text": found.text,
        "n_ctx": base.n_ctx,
        "chunks": len(base.losses),
        "scored": base.losses.size,
        "verdict": verdict(value, base.losses.size).removeprefix("Verdict: "),
        "weights": [
            {"name": e.name, "format": e.format, "weights": e.weights, "error": e.relative} for e in found.weights
        ],
    }


COMMAND = Command(
    help="measure what a quantized file lost",
    usage="BASE OTHER -f FILE [options]",
    about=_ABOUT,
    add_options=_add_options,
    run=compare,
)
