"""``llamaq tokenize``: text to token ids, and back."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from llamaq.cli.command import Command
from llamaq.cli.model_names import located
from llamaq.cli.options import MODEL, Parser
from llamaq.cli.output import write
from llamaq.cli.prompt import read_stdin

if TYPE_CHECKING:
    from llamaq.tokenizer import Tokenizer

__all__ = ["COMMAND"]

_ABOUT = """\
Prints the token ids of TEXT, or of stdin (every byte of it), on one line. With --detokenize, prints the text of
ids given as arguments or on stdin, exactly: what tokenizing adds at the ends (BOS, EOS) is taken off again."""


def _add_options(parser: Parser) -> None:
    add = parser.add_argument
    add("file", metavar="MODEL", nargs="?", help=f"{MODEL}; it needs no tensors")
    add("words", metavar="TEXT", nargs="*", help="the text in one argument; with --detokenize, ids")
    add("-m", "--model", metavar="MODEL", dest="model_option", help="the same as an option")
    add("-p", "--prompt", metavar="TEXT", dest="prompt_option", help="the text, as an option")
    add("--detokenize", action="store_true", help="turn ids (between spaces or commas, or a JSON list) into text")
    add(
        "--no-special",
        dest="special",
        action="store_false",
        help="add no BOS and EOS, and take special tokens such as <|im_end|> in TEXT for plain text; "
        "with --detokenize, leave special tokens out",
    )
    add("--json", action="store_true", help='print {"ids": [...], "tokens": [...]}, with --detokenize also "text"')
    add("--pre", metavar="NAME", help="use this pre-tokenizer instead of the one that the file names")


def tokenize(args: argparse.Namespace) -> int:
    """Runs the command."""
    name, words = _arguments(args)
    if not args.detokenize and len(words) > 1:
        args.parser.error("more than one TEXT is given (--prompt is one, too): put quotes around the text")
    given = " ".join(words) if words else read_stdin()
    from llamaq.gguf import GGUFFile
    from llamaq.tokenizer import load_tokenizer

    with GGUFFile.open(located(name, args)) as file:
        tokenizer = load_tokenizer(file.metadata, pre=args.pre)
    if args.detokenize:
        ids = _ids(given)
        text = _text(tokenizer, ids, args.special)
        write(_json(tokenizer, ids, text) if args.json else text)
    else:
        ids = tokenizer.encode(given, add_special=args.special, parse_special=args.special)
        write(_json(tokenizer, ids) if args.json else " ".join(map(str, ids)) + "\n")
    return 0


def _arguments(args: argparse.Namespace) -> tuple[str, list[str]]:
    """The model's name, and the texts; with ``-m`` all arguments are texts."""
    given = [*([] if args.file is None else [args.file]), *args.words]
    if args.model_option is None and not given:
        args.parser.error("no model is given: name a GGUF file, or a model of llamaq list")
    name = given.pop(0) if args.model_option is None else args.model_option
    return name, [*given, *([] if args.prompt_option is None else [args.prompt_option])]


def _ids(given: str | bytes) -> list[int]:
    text = given if isinstance(given, str) else given.decode("utf-8", "backslashreplace")
    words = text.strip().removeprefix("[").removesuffix("]").replace(",", " ").split()
    try:
        return [int(word) for word in words]
    except ValueError as error:
        raise ValueError(f"--detokenize expects token ids, such as 1 15043 or [1, 15043]: {error}") from None


def _text(tokenizer: Tokenizer, ids: list[int], special: bool) -> bytes:
    if special:
        frame = tokenizer.encode("")  # tokenizing adds these: BOS if any, then EOS (or BERT's [SEP]) if any
        begin = tokenizer.add_bos and ids[:1] == frame[:1]
        end = len(frame) > tokenizer.add_bos and ids[begin:][-1:] == frame[-1:]
        ids = ids[begin : len(ids) - end]
    return tokenizer.decode_bytes(ids, special=special)


def _json(tokenizer: Tokenizer, ids: list[int], text: bytes | None = None) -> str:
    found: dict[str, object] = {"ids": ids, "tokens": [tokenizer.token_text(id) for id in ids]}
    if text is not None:
        found["text"] = text.decode("utf-8", "replace")
    return json.dumps(found) + "\n"


COMMAND = Command(
    help="turn text into token ids, or ids into text",
    usage="MODEL [TEXT | --detokenize ID ...] [options]",
    about=_ABOUT,
    add_options=_add_options,
    run=tokenize,
)
