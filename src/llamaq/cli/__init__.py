"""The command ``llamaq``. Each command is a file; what is heavy is imported only when a command runs."""

from __future__ import annotations

import argparse
import contextlib
import errno
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

from llamaq import __version__
from llamaq.boundary.files import reason
from llamaq.cli.command import WORDS, commands, spelt_out
from llamaq.cli.llama_cpp import ignored
from llamaq.cli.options import INTERRUPTED, Parser
from llamaq.cli.output import write
from llamaq.errors import LlamaqError

__all__ = ["main"]

BROKEN_PIPE = 141  # 128 + SIGPIPE
_MOST_SHOWN = 4000  # characters of an error: a file may have put a book into it


_SHORT_HELP = """\
llamaq runs GGUF language models on ordinary CPUs.

  llamaq run                        a chat with the small model that comes along
  llamaq run MODEL                  a chat with yours: a GGUF file, or a name
  llamaq run MODEL "A question"     one answer
  llamaq list                       the names of the models that are here
  llamaq serve MODEL                OpenAI's protocol over HTTP, for programs
  llamaq show MODEL                 what a file is, and whether it runs here
  llamaq help                       all commands; 'llamaq help COMMAND': its options
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line (default: the process's own) and returns the exit code.

    0: done; 1: an error, told in one line on stderr; 2: wrong usage; 130: Ctrl-C; 141: nobody reads stdout any more.
    """
    debug = False
    argv = sys.argv[1:] if argv is None else argv
    parser = _parser()
    try:
        if not argv:
            write(_SHORT_HELP)
            return 0
        args = parser.parse_args(spelt_out(argv))
        parser = args.parser
        debug = getattr(args, "debug", False)
        if (line := ignored(args)) is not None:
            print(f"llamaq: {line}", file=sys.stderr)
        with _warnings_on_stderr():
            code: int = args.command(args)
            return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as end:  # argparse has printed the help, the version, or what is wrong with the arguments
        return end.code if isinstance(end.code, int) else 1
    except BrokenPipeError:
        return BROKEN_PIPE
    except Exception as error:
        if debug:
            traceback.print_exc()
        else:
            print(f"llamaq: error: {_one_line(error, parser)}", file=sys.stderr)
        return 1
    finally:
        _drop_unwritten()


def _parser() -> Parser:
    parser = Parser(
        prog="llamaq",
        about="Runs GGUF language models on ordinary CPUs.",
        epilog=f"{WORDS}\n'llamaq COMMAND --help' lists the options of a command.",
    )
    parser.add_argument("--version", action=_Version, help="show the version, the SIMD level in use and the build")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, command in commands():
        command.add_to(subparsers, name)
    return parser


class _Version(argparse.Action):
    """``--version``; compiled code is loaded only when it is asked for."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(nargs=0, **kwargs)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from llamaq import _core

        try:
            level = _core.chosen_isa()
        except LlamaqError:
            level = "no level"  # commands that run a model say what is wrong with LLAMAQ_ISA
        write(f"llamaq {__version__} ({level}; {_core.BUILD})\n")
        parser.exit()


@contextlib.contextmanager
def _warnings_on_stderr() -> Iterator[None]:
    """The library only logs; here its warnings become lines on stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("llamaq: warning: %(message)s"))
    logger = logging.getLogger("llamaq")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _one_line(error: Exception, parser: Parser) -> str:
    if isinstance(error, MemoryError):
        lower = "" if (option := parser.option_of("n_ctx")) is None else f"lower {option}, "
        text = f"out of memory; {lower}choose a smaller model, or free memory"
    elif isinstance(error, OSError) and error.strerror:
        text = reason(error, "") if error.errno in (errno.EMFILE, errno.ENFILE) else error.strerror
        text = f"{error.filename}: {text}" if error.filename else text
    elif isinstance(error, LlamaqError | ValueError | OSError):
        text = parser.told(error)
    else:
        text = f"{type(error).__name__}: {error} (a bug in llamaq: --debug shows where)"
    text = " ".join(text.splitlines())
    return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + " ..."


def _drop_unwritten() -> None:
    """Lets what stdout could not take vanish, so that the interpreter does not try again at its end."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, sys.stdout.fileno())
            os.close(null)
