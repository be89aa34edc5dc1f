"""``llamaq merge``: a model of several files in one again, or a model with adapters in one file."""

from __future__ import annotations

import argparse
from pathlib import Path

from llamaq.cli.adapters import adapters_of, add_adapters
from llamaq.cli.command import Command
from llamaq.cli.model_names import located
from llamaq.cli.options import Parser, at_least, threads_default
from llamaq.cli.output import size, write
from llamaq.cli.progress import Bar

__all__ = ["COMMAND"]

_ABOUT = """\
Writes the parts of a split GGUF model as one file; the parts stay. With --lora or --lora-scaled adapters become part of
the model: W + scale * B A in the place of W. What they do not change is copied, and what they do keeps its format,
quantized anew, unless --type says another. Quantizing twice costs something: for the best file merge into the F16 or
BF16 one, and quantize that."""


def _add_options(parser: Parser) -> None:
    parser.add_argument("source", metavar="MODEL", help="a model; of a split one any part, the others lie beside it")
    parser.add_argument("target", metavar="OUT.gguf", help="the file to write")
    add_adapters(parser)
    parser.add_argument("--type", metavar="FORMAT", help="format of the tensors that adapters change, such as f16 or "
                        "q8_0 (default: each keeps its own)")  # fmt: skip
    parser.add_argument("-t", "--threads", metavar="N", type=at_least(-1), default=threads_default(),
                        help="-1: one for each performance core that this process may use (default -1)")  # fmt: skip


def merge(args: argparse.Namespace) -> int:
    """Runs the command."""
    adapters = {file.path: file.scale for file in adapters_of(args)}
    if args.type and not adapters:
        args.parser.error("--type is for what adapters change; name them by --lora")
    source = located(args.source, args)
    with Bar("merging", "B", binary=True) as progress:
        if adapters:
            from llamaq.quantization import merge_adapters

            threads = max(args.threads, 0) or None
            merge_adapters(source, args.target, adapters, type=args.type, threads=threads, progress=progress)
        else:
            from llamaq.gguf.split import merge_gguf

            merge_gguf(source, args.target, progress=progress)
    write(f"{args.target}: {size(Path(args.target).stat().st_size)}\n")
    return 0


COMMAND = Command(
    help="write a split model, or a model with adapters, as one file",
    usage="MODEL OUT.gguf [--lora FILE ...]",
    about=_ABOUT,
    add_options=_add_options,
    run=merge,
)
