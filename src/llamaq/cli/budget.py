"""``llamaq quantize`` under a budget: its options, and what was chosen as a table."""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from llamaq.cli.options import Parser, number
from llamaq.cli.progress import Bar
from llamaq.cli.prompt import file_text

if TYPE_CHECKING:
    from llamaq.gguf import GGUFFile
    from llamaq.quantization import Budget, Fit, Importance, Options
    from llamaq.quantization.ladder import Rung

__all__ = ["add_budget_options", "budget_of", "fit_table", "fitted"]


def add_budget_options(parser: Parser) -> None:
    """``--target-size``, ``--target-bpw``, ``--max-kl`` and ``--text``."""
    group = parser.add_argument_group("a budget instead of TYPE: formats are chosen for the least divergence")
    add = group.add_argument
    add("--target-size", metavar="SIZE", help="at most so large a file, such as 4.5GiB, 700MiB or 4G (10^9)")
    add("--target-bpw", metavar="BITS", type=number, help="at most so many bits per weight, of all tensors")
    add("--max-kl", metavar="NATS", type=number, help="the smallest file of at most this mean divergence over --text")
    add("--text", metavar="FILE", help="measure over this text how much each group of tensors counts")


def budget_of(args: argparse.Namespace) -> Budget | None:
    """What the options say; None without a limit."""
    from llamaq.quantization import Budget

    text = file_text(args.text) if args.text else None
    budget = Budget.of(args.target_size, args.target_bpw, args.max_kl, text)
    if budget is not None and args.reference:
        raise ValueError("expected either the bytes of --reference or a budget, got both")
    return budget


def fitted(
    file: GGUFFile,
    budget: Budget,
    options: Options,
    importance: Importance | None,
    keep_split: bool,
    threads: int | None,
) -> Fit:
    """The choice, with bars."""
    from llamaq.quantization import fit

    with Bar("trying formats", " tensors") as weighing, Bar("measuring", " groups") as measuring:
        return fit(
            file, budget, options, importance, keep_split=keep_split, threads=threads, weighing=weighing,
            measuring=measuring,
        )  # fmt: skip


def fit_table(found: Fit, keep_split: bool) -> str:
    """A line for each group of tensors, and what is to be expected of the file."""
    groups: dict[str, list[Rung]] = defaultdict(list)
    for group, rung in found.rungs():
        groups[group].append(rung)
    lines = [f"{'group':<17}{'matrices':>8}{'weights':>13}{'bits':>7}{'sensitivity':>13}{'loss':>8}  formats"]
    for group, rungs in sorted(groups.items()):
        weights = sum(rung.tensor.info.n_elements for rung in rungs)
        bits = 8 * sum(rung.tensor.nbytes for rung in rungs) / weights
        loss = found.sensitivity[group] * sum(rung.error for rung in rungs) / (found.predicted or 1)
        counts = Counter(rung.tensor.format.name for rung in sorted(rungs, key=lambda rung: rung.nbytes))
        formats = ", ".join(name if count == 1 else f"{count} {name}" for name, count in counts.items())
        lines.append(
            f"{group:<17}{len(rungs):>8}{weights:>13}{bits:>7.2f}{found.sensitivity[group]:>13.4g}"
            f"{100 * loss:>6.1f} %  {formats}"
        )
    size = f"{found.plan.file_nbytes(keep_split)} bytes, {found.plan.bits_per_weight:.3f} bits per weight"
    kl = "" if found.measured is None else f"; mean KLD predicted {found.predicted:.6f}, measured {found.measured:.6f}"
    return "\n".join([*lines, size + kl, ""])
