"""The options that choose a chat template, and what they say."""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

from llamaq.cli.options import from_env
from llamaq.cli.prompt import file_text

__all__ = ["add_template", "template_kwargs", "template_of"]


def add_template(group: argparse._ActionsContainer) -> None:
    """``--chat-template``, ``--chat-template-file``, ``--chat-template-kwargs``."""
    template = group.add_mutually_exclusive_group()
    template.add_argument(
        "--chat-template",
        metavar="NAME",
        help="a template of the file's, or of llamaq's own: llama2, llama3, llama4, alpaca, vicuna, chatml, mistral, "
        "gemma, phi3, granite, command-r; or a template's Jinja text (default: the file's, env "
        "LLAMA_ARG_CHAT_TEMPLATE)",
    )
    template.add_argument(
        "--chat-template-file", metavar="FILE", help="a file with a Jinja template (env LLAMA_ARG_CHAT_TEMPLATE_FILE)"
    )
    group.add_argument(
        "--chat-template-kwargs",
        metavar="JSON",
        help='what else the template asks for, such as {"enable_thinking": false} (env LLAMA_ARG_CHAT_TEMPLATE_KWARGS)',
    )


def template_of(args: argparse.Namespace) -> str | None:
    """The template that is chosen, None for the file's."""
    template: str | None = args.chat_template
    file: str | None = args.chat_template_file
    if template is None and file is None:  # an option of either kind comes before both variables
        template = os.environ.get("LLAMA_ARG_CHAT_TEMPLATE") or None
        file = os.environ.get("LLAMA_ARG_CHAT_TEMPLATE_FILE") or None
    return template if file is None else file_text(file, exact=False)


def template_kwargs(args: argparse.Namespace) -> dict[str, Any]:
    """Its further variables."""
    try:
        found = json.loads(args.chat_template_kwargs or from_env("LLAMA_ARG_CHAT_TEMPLATE_KWARGS", "{}"))
    except (ValueError, RecursionError) as error:
        args.parser.error(f"--chat-template-kwargs: {error}")
    if not isinstance(found, dict):
        args.parser.error("--chat-template-kwargs: expected a JSON object")
    return dict(found)
