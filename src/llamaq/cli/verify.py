"""``llamaq verify``: repeats the answer of a receipt here."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from llamaq import __version__
from llamaq.boundary.words import counted
from llamaq.cli.adapters import adapters_of, add_adapters, add_control_vectors
from llamaq.cli.command import Command
from llamaq.cli.model_names import located
from llamaq.cli.options import MODEL, Parser, at_least, given_model, threads_default
from llamaq.cli.output import harmless, write
from llamaq.cli.progress import Bar
from llamaq.errors import LlamaqError, ReceiptError

if TYPE_CHECKING:
    from pathlib import Path

    from llamaq.llm.verify import Verification
    from llamaq.serving.receipt import Receipt, Top
    from llamaq.tokenizer import Tokenizer

__all__ = ["COMMAND"]

_ABOUT = """\
Reads the tokens of a receipt ('llamaq run --receipt FILE') again with the same model, and compares every bit of the
logits behind each token, and the choice of each. The level here is the CPU's best, or that of LLAMAQ_ISA. Where no
MODEL is given, those of llamaq list are looked through for the name that the receipt says.
Adapters are given by --lora; their scales are in the receipt. The exit code is 0 where all is the same, 1 where
something differs, 2 where it cannot be verified: another model or adapter, fast numerics, a file that is no receipt."""


def _add_options(parser: Parser) -> None:
    parser.add_argument("receipt", metavar="RECEIPT", help="the file of the receipt")
    parser.add_argument("model", metavar="MODEL", nargs="?", help=MODEL)
    parser.add_argument("-m", "--model", metavar="MODEL", dest="model_option", help="the same as an option")
    add_adapters(parser)
    add_control_vectors(parser)
    parser.add_argument("-t", "--threads", metavar="N", type=at_least(-1), default=threads_default(),
                        help="-1: one for each performance core that this process may use (default -1)")  # fmt: skip


def verify(args: argparse.Namespace) -> int:
    """Runs the command."""
    from llamaq.gguf import GGUFFile
    from llamaq.llm.llm import LLM
    from llamaq.llm.verify import context_of
    from llamaq.llm.verify import verify as verified
    from llamaq.serving.receipt import Receipt

    try:
        receipt = Receipt.load(args.receipt)
        file = GGUFFile.open(_model(args, receipt))
        with Bar("loading", "B", binary=True) as progress:
            llm = LLM.load(
                file, n_ctx=context_of(file, receipt), cache_type=receipt.cache_type,
                threads=max(args.threads, 0) or None, progress=progress, adapters=adapters_of(args),
            )  # fmt: skip
        with llm:
            found = verified(llm, receipt)
            write(_told(found, receipt, llm.tokenizer))
    except (LlamaqError, ValueError) as error:  # such as two files of one name
        print(f"llamaq: error: cannot be verified: {args.parser.told(error):.1000}", file=sys.stderr)
        return 2
    return 0 if found.same else 1


def _model(args: argparse.Namespace, receipt: Receipt) -> Path:
    """The file that is named, or one that is here and has the name in the receipt: nothing is fetched for its sake."""
    from llamaq.hub import models

    if (name := given_model(args)) is not None:
        return located(name, args).path
    ours = (path for found in models() for path in found.paths[:1])
    if (path := next((path for path in ours if path.name == receipt.model), None)) is None:
        raise ReceiptError(f"no model here has the name {receipt.model!r}; give MODEL")
    return path


def _told(found: Verification, receipt: Receipt, tokenizer: Tokenizer) -> str:
    what = "logits and choices" if found.chosen else "logits (functions of the caller took part in the choices)"
    sides = f"{receipt.model}; then {receipt.isa}, llamaq {receipt.llamaq}; here {found.isa}, llamaq {__version__}"
    first = found.first
    if first is None:
        return harmless(f"the same, bit for bit: {what} of {counted(found.tokens, 'token')} ({sides})") + "\n"

    def token(id: int) -> str:
        return f"{id} {tokenizer.token_bytes(id).decode(errors='replace')!r}" if id < tokenizer.n_vocab else str(id)

    def side(chosen: int | None, top: Top) -> str:
        largest = ", ".join(f"{token(id)} {value!r}" for id, value in top) or "none"
        return (f"token {token(chosen)}; " if chosen is not None else "") + f"largest logits {largest}"

    differing = counted(found.differing, "token")
    how = "its logits" if first.logits else "its choice, from the same logits,"
    lines = [
        f"differs: {how} at token {first.index} of {found.tokens}; {differing} in all ({sides})",
        f"  recorded: {side(first.recorded, first.top_recorded)}",
        f"  here:     {side(first.here, first.top_here)}",
    ]
    return "".join(f"{harmless(line)}\n" for line in lines)


COMMAND = Command(
    help="repeat the answer of a receipt, and compare every bit",
    usage="RECEIPT [MODEL] [options]",
    about=_ABOUT,
    add_options=_add_options,
    run=verify,
)
