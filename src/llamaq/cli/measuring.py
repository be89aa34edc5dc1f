"""What the commands share that read a text to measure a model: options, loading, the text in chunks."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from llamaq.cli.llama_cpp import add_llama_cpp_options
from llamaq.cli.options import Parser, add_context, add_loading, at_least, loading_options
from llamaq.cli.progress import Bar
from llamaq.cli.prompt import file_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from llamaq.llm.llm import LLM

__all__ = ["add_text_options", "load", "most_chunks", "text_chunks", "text_of"]


def add_text_options(parser: Parser) -> None:
    """``-f``, ``-c``, ``--chunks`` and what loading a model takes."""
    add = parser.add_argument
    add("-f", "--file", metavar="FILE", help="the text to read (- is stdin); WikiText-2's test set is customary")
    add_context(parser, "tokens of a chunk of the text", least=4, default=512)
    add("--chunks", metavar="N", type=at_least(-1), default=-1, help="read at most N chunks; -1: all (default -1)")
    add_loading(parser)
    add_llama_cpp_options(parser)


def load(path: str | os.PathLike[str], args: argparse.Namespace) -> LLM:
    """Loads a model with the context of one chunk."""
    from llamaq.llm.llm import LLM

    with Bar("loading", "B", binary=True) as progress:
        return LLM.load(path, n_ctx=args.ctx_size, progress=progress, **loading_options(args))


def text_of(args: argparse.Namespace) -> str:
    """The text that the arguments name."""
    if args.file is None:
        args.parser.error("no text is given: name a file with -f")
    return file_text(args.file)


def most_chunks(args: argparse.Namespace) -> int | None:
    """How many chunks of the text are read; None for all."""
    return args.chunks if args.chunks > 0 else None


def text_chunks(llm: LLM, args: argparse.Namespace) -> NDArray[np.int32]:
    """The text that the arguments name, as the chunks that the model is to read."""
    from llamaq.measure import chunks_of

    return chunks_of(llm.tokenizer, text_of(args), args.ctx_size, most_chunks(args))
