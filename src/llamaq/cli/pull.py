"""``llamaq pull``: fetches a model from the Hugging Face hub."""

from __future__ import annotations

import argparse
import re
import sys

from llamaq.cli.command import Command
from llamaq.cli.model_names import Announced
from llamaq.cli.options import Parser
from llamaq.cli.output import write
from llamaq.cli.progress import Bar
from llamaq.errors import GGUFError, ModelNotFoundError

__all__ = ["COMMAND"]

_ABOUT = """\
Fetches a model from the Hugging Face hub into its cache, where llamaq, llama.cpp and others find it, and prints the
path. NAME is hf:user/repo, or user/repo, with :QUANT or /file.gguf and @revision where need be, or the URL of a page of
the hub. Without a QUANT it is Q4_K_M where there is one, else Q8_0, else the first file, as llama.cpp chooses. Private
and gated repositories need HF_TOKEN, or 'hf auth login'. It needs pip install 'llamaq[hub]'.

Another https URL, of a GGUF file, comes into llamaq's folder."""


def _add_options(parser: Parser) -> None:
    parser.add_argument("name", metavar="NAME", help="hf:user/repo[:QUANT|/file.gguf][@revision], or a URL")


def pull(args: argparse.Namespace) -> int:
    """Runs the command."""
    from llamaq.gguf import GGUFFile
    from llamaq.hub import resolve
    from llamaq.hub.address import address_of, is_url
    from llamaq.hub.download import fetch

    name: str = args.name
    if re.match(r"[\w.-]+/", name) and address_of(name) is None and not is_url(name):
        name = f"hf:{name}"
    address = address_of(name)
    if address is None and not is_url(name):
        raise ModelNotFoundError(
            f"{name:.200} is no address on the Hugging Face hub, such as hf:user/repo:Q4_K_M. What 'ollama pull' and "
            "LM Studio bring, llamaq finds by its name"
        )
    with Bar("downloading", "B", binary=True, rate=True) as bar:
        announced = Announced(str(address or name), bar)
        found = resolve(name, download=True, progress=announced) if address is None else fetch(address, announced)
    try:
        GGUFFile.open(found.path).close()
    except GGUFError as error:
        raise GGUFError(f"what was fetched is no model: {error}") from None
    print(f"llamaq: to run it: llamaq run {found.name}", file=sys.stderr)
    write(f"{found.path}\n")
    return 0


COMMAND = Command(
    help="fetch a model from the Hugging Face hub",
    usage="NAME",
    about=_ABOUT,
    add_options=_add_options,
    run=pull,
)
