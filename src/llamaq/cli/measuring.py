"""What the commands share that read a text to measure a model: options, loading, the text in chunks."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from llamaq.cli.options import (
    Parser,
    add_batch,
    add_cache_type,
    add_no_pack,
    add_numerics,
    add_threads,
    at_least,
    from_env,
)
from llamaq.cli.progress import Bar
from llamaq.cli.prompt import file_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from llamaq.llm.llm import LLM

__all__ = ["add_text_options", "load", "text_chunks", "text_of"]


def add_text_options(parser: Parser) -> None:
    """``-f``, ``-c``, ``--chunks`` and what loading a model takes."""
    add = parser.add_argument
    add("-f", "--file", metavar="FILE", help="the text to read (- is stdin); WikiText-2's test set is customary")
    add(
        "-c",
        "--ctx-size",
        metavar="N",
        type=at_least(4),
        default=from_env("LLAMA_ARG_CTX_SIZE", "512"),
        help="tokens of a chunk of the text (default 512, env LLAMA_ARG_CTX_SIZE)",
    )
    add("--chunks", metavar="N", type=at_least(-1), default=-1, help="read at most N chunks; -1: all (default -1)")
    add_threads(parser)
    add_batch(parser)
    add_cache_type(parser)
    add_no_pack(parser)
    add_numerics(parser)
    add("--pre", metavar="NAME", help="use this pre-tokenizer instead of the one that the file names")


def load(path: str, args: argparse.Namespace) -> LLM:
    """Loads a model with the context of one chunk."""
    from llamaq.llm.llm import LLM

    with Bar("loading", "B", binary=True) as progress:
        return LLM.load(
            path, n_ctx=args.ctx_size, threads=max(args.threads, 0) or None, n_batch=args.batch_size,
            cache_type=args.cache_type, pack=args.pack, numerics=args.numerics, pre=args.pre, progress=progress,
        )  # fmt: skip


def text_of(args: argparse.Namespace) -> str:
    """The text that the arguments name."""
    if args.file is None:
        args.parser.error("no text is given: name a file with -f")
    return file_text(args.file)


def text_chunks(llm: LLM, args: argparse.Namespace) -> NDArray[np.int32]:
    """The text that the arguments name, as the chunks that the model is to read."""
    from llamaq.measure import chunks_of

    return chunks_of(llm.tokenizer, text_of(args), args.ctx_size, args.chunks if args.chunks > 0 else None)
