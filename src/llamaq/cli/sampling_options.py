"""The options of sampling, and the settings that they amount to."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from llamaq.cli.options import Parser, at_least, number

if TYPE_CHECKING:
    from llamaq.sampling import SamplingParams

__all__ = ["add_sampling", "sampling_params"]


def add_sampling(parser: Parser) -> None:
    """All of them."""
    add = parser.add_argument_group("sampling").add_argument
    add(
        "-s",
        "--seed",
        metavar="N",
        type=at_least(-1),
        default=-1,
        help="one seed gives one text, on every SIMD level and thread count; -1: a random one (default -1)",
    )
    add(
        "--temp",
        metavar="T",
        type=number,
        default=0.8,
        help="temperature; 0 takes the most likely token each time (default 0.8)",
    )
    add("--top-k", metavar="K", type=int, default=40, help="only the K most likely; 0: off (default 40)")
    add(
        "--top-p",
        metavar="P",
        type=number,
        default=0.95,
        help="only the most likely that together reach P; 1: off (default 0.95)",
    )
    add(
        "--min-p",
        metavar="P",
        type=number,
        default=0.05,
        help="only those at least P times as likely as the first; 0: off (default 0.05)",
    )
    add(
        "--repeat-penalty",
        metavar="X",
        type=number,
        default=1.0,
        help="make tokens of the latest text less likely; 1: off (default 1)",
    )
    add(
        "--repeat-last-n",
        metavar="N",
        type=int,
        default=64,
        help="how many tokens are the latest text; 0: off, -1: all (default 64)",
    )


def sampling_params(args: argparse.Namespace) -> SamplingParams:
    """What the options say; ``ValueError`` for a value out of range."""
    from llamaq.sampling import SamplingParams

    return SamplingParams(
        temperature=args.temp, top_k=args.top_k, top_p=args.top_p, min_p=args.min_p,
        repeat_penalty=args.repeat_penalty, repeat_last_n=args.repeat_last_n,
        seed=None if args.seed < 0 else args.seed,
    )  # fmt: skip
