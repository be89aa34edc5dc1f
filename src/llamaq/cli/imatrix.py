"""``llamaq imatrix``: which columns of the weights matter, for ``llamaq quantize --imatrix``."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from llamaq.boundary.words import counted
from llamaq.cli.command import Command
from llamaq.cli.measuring import add_text_options, load, text_chunks
from llamaq.cli.model_names import model_of
from llamaq.cli.options import Parser, add_model
from llamaq.cli.output import write
from llamaq.cli.progress import Bar

if TYPE_CHECKING:
    from llamaq.gguf.imatrix import Imatrix

__all__ = ["COMMAND"]

SAVE_EVERY = 10  # chunks
_ABOUT = """\
Reads a text and writes an importance matrix: for each weight matrix the mean squares of what its columns are
multiplied with. llamaq quantize --imatrix and llama.cpp's quantizer then spend the bits where they count. Take a text
like those that the model is to work on, of 50 chunks or more. The file (llama.cpp's GGUF format) is written every 10
chunks; --resume goes on where it stopped, with the result that it would have had without the stop."""


def _add_options(parser: Parser) -> None:
    add_model(parser)
    add = parser.add_argument
    add(
        "-o",
        "--output-file",
        "--output",
        metavar="FILE",
        default="imatrix.gguf",
        help="the file to write (default imatrix.gguf)",
    )
    add("--resume", action="store_true", help="go on with the output file of a run that was stopped")
    add(
        "--in-file",
        metavar="FILE",
        action="append",
        default=[],
        help="add to an importance matrix of the same model from other texts; may be repeated",
    )
    add("--process-output", action="store_true", help="also cover the matrix behind the logits")
    add_text_options(parser)


def imatrix(args: argparse.Namespace) -> int:
    """Runs the command."""
    path, out = model_of(args), Path(args.output_file)
    from llamaq.gguf.imatrix import save
    from llamaq.measure import collect_importance

    found = _begun(args, out)
    text = "stdin" if args.file in ("-", None) else args.file
    found.datasets = tuple(dict.fromkeys((*found.datasets, text)))
    with load(path, args) as llm:
        chunks = text_chunks(llm, args)[found.chunks if args.resume else 0 :]
        since, began = time.perf_counter(), found.chunks

        def keep() -> None:
            if (found.chunks - began) % SAVE_EVERY == 0:
                save(out, found)

        with Bar("imatrix", " tokens") as progress:
            collect_importance(llm, chunks, found, output=args.process_output, progress=progress, after_chunk=keep)
    save(out, found)
    seconds = time.perf_counter() - since
    write(
        f"{out}: {counted(len(found.entries), 'tensor')}, {counted(found.chunks, 'chunk')} of {found.chunk_size}; "
        f"{chunks.size} tokens read in {seconds:.2f} s, {chunks.size / seconds:.1f} tokens/s\n"
    )
    return 0


def _begun(args: argparse.Namespace, out: Path) -> Imatrix:
    """What is there to add to: nothing, the sum of other files, or a file that was not finished."""
    from llamaq.gguf.imatrix import Imatrix, merged, read

    if not args.resume:
        return merged([read(path) for path in args.in_file])
    if args.in_file:
        args.parser.error("--resume goes on with the output file alone: it takes no --in-file")
    if not out.exists():
        return Imatrix()
    begun = read(out)
    if begun.datasets != (args.file,) or begun.chunk_size != args.ctx_size:
        raise ValueError(
            f"{out}: --resume expected {args.file} in chunks of {args.ctx_size}, got {', '.join(begun.datasets)} in "
            f"chunks of {begun.chunk_size}; give the same -f and -c, or use --in-file to add another text"
        )
    return begun


COMMAND = Command(
    help="collect an importance matrix for quantize",
    usage="MODEL -f FILE [-o FILE] [options]",
    about=_ABOUT,
    add_options=_add_options,
    run=imatrix,
)
