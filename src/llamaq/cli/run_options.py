"""The options of ``llamaq run``, and what its arguments mean."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from llamaq.cli.llama_cpp import add_llama_cpp_options, refuse
from llamaq.cli.model_names import located, without_name
from llamaq.cli.options import (
    Parser,
    add_cache_dir,
    add_context,
    add_loading,
    add_model,
    add_projector,
    add_speculation,
    at_least,
    from_env,
    given_model,
)
from llamaq.cli.sampling_options import add_sampling
from llamaq.cli.templates import add_template

if TYPE_CHECKING:
    from llamaq.hub import Found

__all__ = ["ABOUT", "add_options", "model_and_prompt"]

ABOUT = """\
Chats with a model, or continues a text.

Where the model has a chat template (or one is chosen with --chat-template), a PROMPT is a user's message, and the
model's answer to it goes to stdout. Without a prompt, and with stdin and stdout a terminal, a chat opens (/help there
lists its commands). Where there is no template, or with -no-cnv, the prompt is a text that the model continues; with
--infill it is one with a gap, <FILL>.

MODEL is a GGUF file, a name that 'llamaq list' shows, or hf:user/repo[:QUANT], which is fetched from the Hugging Face
hub where it is not here yet. A first argument without a space is always a MODEL; one with a space is PROMPT, for the
model that comes with llamaq (which a line on stderr then says), and so is what -p says.

The prompt is PROMPT, -p or -f. What is piped to stdin (or redirected) is the prompt where none of them is given,
else it follows theirs after a newline; a pipe that stays silent for a second is then left alone (in a loop that
reads a file itself, add </dev/null). One newline at the end of a file or of stdin does not count. Texts are
UTF-8, or UTF-16 or UTF-32 with a byte order mark. An empty text starts from the model's BOS token. Stdout carries the
text alone, with a newline at its end; Ctrl-C ends it."""


_REFUSED: dict[tuple[str, ...], str] = {
    ("-i", "--interactive", "-if", "--interactive-first"): "a terminal gets a chat anyway; -cnv goes on after PROMPT",
    ("--display-prompt",): "--echo prints a text that is continued",
    ("-sp", "--special"): "special tokens are never shown",
    ("-bf", "--binary-file"): "-f reads files that are text",
    ("--prompt-cache", "--prompt-cache-all", "--prompt-cache-ro"): "/save in a chat keeps what was said; Session.save "
    "in Python, what was read",
    ("--format",): "-j '{}' asks for JSON, -j SCHEMA for JSON of that schema",  # Ollama's, as the next
    ("--think",): "what the template knows does it: --chat-template-kwargs '{\"enable_thinking\": false}'",
    ("--hidethinking",): "single answers come without reasoning anyway",
    ("--image-min-tokens", "--image-max-tokens"): "the projector says how many tokens a picture has; "
    "--image-edge makes it smaller",
    ("--spm-infill",): "the file says in which order a text is filled in",
    ("--usage",): "--help shows all options",
    ("--version",): "'llamaq --version' tells it",
    ("--in-prefix", "--in-suffix", "--in-prefix-bos"): "a chat template frames messages: --chat-template-file",
}  # fmt: skip
"""Options of llama-cli and ``ollama run`` that cannot be honoured, beside those that no command can honour."""

_HARMLESS = {
    0: (
        "--insecure",
        "--verbose-prompt",
        "--show-timings",
        "--no-show-timings",
        "--mmproj-auto",
        "--no-mmproj-auto",
    ),
    1: ("--keepalive",),
}
"""Options of ``ollama run`` and llama-cli that have no use here, by the number of their values."""


def add_options(parser: Parser) -> None:
    """All of them, and the arguments."""
    add_model(parser)
    parser.add_argument("prompt", metavar="PROMPT", nargs="?", help="a message, or a text to continue")
    _add_chat(parser)
    _add_text(parser)
    add_sampling(parser)
    _add_machine(parser)
    refuse(parser, _REFUSED)
    add_llama_cpp_options(parser, harmless=_HARMLESS)


def model_and_prompt(args: argparse.Namespace) -> Found:
    """The model that the arguments name, or the bundled one; a first argument with a space in it is the prompt.

    Raises ``ModelError`` where the bundled model is wanted and missing, and what ``llamaq.hub.resolve`` does.
    """
    from llamaq.errors import ModelNotFoundError

    if args.model is not None and args.prompt is None and (args.model_option or _is_prompt(args.model)):
        args.model, args.prompt = None, args.model
    name = given_model(args)
    if name is None:
        return without_name()
    try:
        return located(name, args, download=True)
    except ModelNotFoundError as error:
        if name == args.model and not args.prompt and not args.prompt_option:
            raise ModelNotFoundError(f"{error}. For the prompt {name!r:.100} give it with -p") from None
        raise


def _is_prompt(argument: str) -> bool:
    """Whether it is what somebody says, rather than a model's name; the path of a file may have spaces, too."""
    spaced = not argument or any(map(str.isspace, argument))
    return spaced and not argument.endswith(".gguf") and not os.path.exists(argument)


def _add_chat(parser: Parser) -> None:
    group = parser.add_argument_group("chat")
    add = group.add_argument
    add(
        "-cnv",
        "--conversation",
        action="store_true",
        default=None,
        help="chat: refuse a model without a template, and go on chatting after PROMPT",
    )
    add("-no-cnv", "--no-conversation", dest="conversation", action="store_false", help="continue a text, do not chat")
    add("--continue", dest="resume", action="store_true", help="go on with the latest chat with this model")
    add(
        "--image",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="show the model a picture with the message (PNG, JPEG, WebP, GIF, BMP); may be repeated; needs --mmproj",
    )
    add("-st", "--single-turn", action="store_true", help="end the chat after one answer")
    add(
        "--nowordwrap",
        action="store_true",
        help="leave it to the terminal where the lines of an answer or a text break",
    )
    system = group.add_mutually_exclusive_group()
    system.add_argument("-sys", "--system-prompt", metavar="TEXT", help="a system message before the chat")
    system.add_argument("-sysf", "--system-prompt-file", metavar="FILE", help="the same from a file")
    add_template(group)


def _add_text(parser: Parser) -> None:
    add = parser.add_argument_group("text").add_argument
    add("-p", "--prompt", metavar="TEXT", dest="prompt_option", help="the prompt, as an option")
    add("-f", "--file", metavar="FILE", help="read the prompt from a file (- is stdin)")
    add(
        "-e",
        "--escape",
        action="store_true",
        default=True,
        help=r"take \n \t \r \\ \' \" \xHH in PROMPT, -p, -sys, --suffix and --stop for the characters (default)",
    )
    add("--no-escape", dest="escape", action="store_false", help="leave backslashes alone")
    add(
        "-n",
        "--predict",
        "--n-predict",
        metavar="N",
        type=at_least(-1),
        default=from_env("LLAMA_ARG_N_PREDICT", "-1"),
        help="generate at most N tokens; -1: until the text or the context ends (default -1, env LLAMA_ARG_N_PREDICT)",
    )
    add(
        "--stop",
        "-r",
        "--reverse-prompt",
        metavar="TEXT",
        action="append",
        default=[],
        help="end before this text; may be repeated",
    )
    add(
        "--context-shift",
        action="store_true",
        help="when the context is full, drop the older half of it and go on (what remains is read anew)",
    )
    add(
        "--keep",
        metavar="N",
        type=at_least(0),
        default=0,
        help="with --context-shift, never drop the first N tokens; BOS stays anyway (default 0)",
    )
    add(
        "--infill",
        action="store_true",
        help="fill in where the prompt has <FILL>, with a model of code that was trained for it; prints what is "
        "filled in alone (with --echo: the whole text)",
    )
    add("--suffix", metavar="TEXT", help="with --infill: what follows the gap, which then is at the prompt's end")
    add("--echo", action="store_true", help="print the text that is continued before what follows")
    add("--receipt", metavar="FILE", help="write what the answer was made of, for llamaq verify (docs/receipts.md)")
    add("-v", "--verbose", action="store_true", help="tell times, speeds and sizes on stderr at the end")


def _add_machine(parser: Parser) -> None:
    group = parser.add_argument_group("model and machine")
    add_context(group, "tokens of prompt and text together; 0: the model's own, or what memory allows")
    add_loading(group)
    add_cache_dir(group, "for chats the user's caches, env LLAMAQ_CACHE_DIR; else none")
    group.add_argument("--no-cache-dir", dest="cache_dir", action="store_const", const="", help="keep nothing on disk")
    add_speculation(group)
    add_projector(group)
