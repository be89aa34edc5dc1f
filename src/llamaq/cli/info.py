"""``llamaq info``: what is in a model file, and what running it here would take."""

from __future__ import annotations

import argparse
import json

from llamaq.cli.command import Command
from llamaq.cli.model_names import model_of
from llamaq.cli.options import Parser, add_cache_type, add_context, add_model, add_no_pack, cache_type
from llamaq.cli.output import write

__all__ = ["COMMAND"]

_ABOUT = """\
Shows what is in a GGUF file: metadata, tensors by format, parameters, bits per weight; and what running it on
this machine would take: memory, and the kernel of each format. Files that llamaq cannot run are shown as well."""


def _add_options(parser: Parser) -> None:
    add_model(parser)
    add_context(parser, "tell memory for so many tokens; 0: the model's own context")
    add_cache_type(parser)
    add_no_pack(parser)
    add = parser.add_argument
    add("--tensors", action="store_true", help="list every tensor")
    add("--json", action="store_true", help="print everything as JSON, arrays in full")


def info(args: argparse.Namespace) -> int:
    """Runs the command."""
    path = model_of(args)
    from llamaq.cli.model_report import as_json, as_text, examine
    from llamaq.gguf import GGUFFile

    with GGUFFile.open(path) as file:
        report = examine(file, args.ctx_size, cache_type(args), pack=args.pack, tell=args.parser.told)
        if args.json:
            text = json.dumps(as_json(report), indent=2, allow_nan=False) + "\n"
        else:
            text = as_text(report, every_tensor=args.tensors)
    write(text)
    return 0


COMMAND = Command(
    help="show what is in a model file and what it needs",
    usage="MODEL [options]",
    about=_ABOUT,
    add_options=_add_options,
    run=info,
)
