"""The options that choose a chat template, and what they say."""

from __future__ import annotations

import argparse
import json
from typing import Any

from llamaq.cli.prompt import file_text

__all__ = ["add_template", "template_kwargs", "template_of"]


def add_template(group: argparse._ActionsContainer) -> None:
    """``--chat-template``, ``--chat-template-file``, ``--chat-template-kwargs``."""
    template = group.add_mutually_exclusive_group()
    template.add_argument(
        "--chat-template",
        metavar="NAME",
        help="a template of the file's, or of llamaq's own: llama2, llama3, llama4, alpaca, vicuna, chatml, mistral, "
        "gemma, phi3, granite, command-r; or a template's Jinja text (default: the file's)",
    )
    template.add_argument("--chat-template-file", metavar="FILE", help="a file with a Jinja template")
    group.add_argument(
        "--chat-template-kwargs",
        metavar="JSON",
        help='what else the template asks for, such as {"enable_thinking": false}',
    )


def template_of(args: argparse.Namespace) -> str | None:
    """The template that is chosen, None for the file's."""
    template: str | None = args.chat_template
    return template if args.chat_template_file is None else file_text(args.chat_template_file, exact=False)


def template_kwargs(args: argparse.Namespace) -> dict[str, Any]:
    """Its further variables."""
    try:
        found = json.loads(args.chat_template_kwargs or "{}")
    except (ValueError, RecursionError) as error:
        args.parser.error(f"--chat-template-kwargs: {error}")
    if not isinstance(found, dict):
        args.parser.error("--chat-template-kwargs: expected a JSON object")
    return dict(found)
