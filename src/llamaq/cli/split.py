"""``llamaq split``: a model in several files."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from llamaq.boundary.words import counted
from llamaq.cli.command import Command
from llamaq.cli.model_names import located
from llamaq.cli.options import Parser, at_least
from llamaq.cli.output import size, write
from llamaq.cli.progress import Bar

__all__ = ["COMMAND"]

_ABOUT = """\
Writes a GGUF model as PREFIX-00001-of-0000N.gguf and so on, which llamaq and llama.cpp open by any part. Tensors stay
whole."""

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}


def _add_options(parser: Parser) -> None:
    add = parser.add_argument
    add("source", metavar="IN.gguf", help="the model, or any part of a split one")
    add("prefix", metavar="PREFIX", help="the beginning of the parts' names, with the folder")
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--split-max-tensors", metavar="N", type=at_least(1), help="at most N tensors a part (default 128)"
    )
    group.add_argument(
        "--split-max-size",
        metavar="SIZE",
        type=_bytes,
        help="at most so many bytes of tensors a part, such as 500M or 2G (millions and billions)",
    )
    add("--no-tensor-first-split", action="store_true", help="the first part has the metadata alone")
    add("--dry-run", action="store_true", help="tell the parts, write nothing")


def split(args: argparse.Namespace) -> int:
    """Runs the command."""
    from llamaq.gguf import GGUFFile
    from llamaq.gguf.split import part_path, part_sizes, plan_parts, split_gguf

    source, max_bytes = located(args.source, args), args.split_max_size
    max_tensors = None if max_bytes else args.split_max_tensors or 128
    limits = {"max_tensors": max_tensors, "max_bytes": max_bytes, "metadata_alone": args.no_tensor_first_split}
    if args.dry_run:
        with GGUFFile.open(source) as file:
            parts = plan_parts(list(file.tensors.values()), **limits)
            sizes = part_sizes(file, parts)
        for i, (tensors, nbytes) in enumerate(zip(parts, sizes, strict=True)):
            path = part_path(Path(args.prefix), i, len(parts))
            write(f"{path}: {counted(len(tensors), 'tensor')}, {size(nbytes)}\n")
        return 0
    with Bar("splitting", "B", binary=True) as progress:
        paths = split_gguf(source, args.prefix, **limits, progress=progress)
    write("".join(f"{path}: {size(path.stat().st_size)}\n" for path in paths))
    return 0


def _bytes(text: str) -> int:
    """An argparse type: bytes, with K, M or G for thousands, millions and billions."""
    found = re.fullmatch(r"(\d+)([KMG]?)B?", text.upper())
    if found is None or int(found[1]) == 0:
        raise argparse.ArgumentTypeError(f"expected a size such as 500M or 2G, got {text!r}")
    return int(found[1]) * _UNITS[found[2]]


COMMAND = Command(
    help="write a model as several files",
    usage="IN.gguf PREFIX [options]",
    about=_ABOUT,
    add_options=_add_options,
    run=split,
)
