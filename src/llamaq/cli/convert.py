"""``llamaq convert``: a Hugging Face folder, of a model or an adapter, made into a GGUF file."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from llamaq.boundary.files import read_text
from llamaq.cli.command import Command
from llamaq.cli.model_names import located
from llamaq.cli.options import Parser
from llamaq.cli.output import size, write
from llamaq.cli.progress import Bar
from llamaq.errors import LlamaqError

__all__ = ["COMMAND"]

_ABOUT = """\
Writes a GGUF file from a Hugging Face folder with config.json, safetensors files and tokenizer.model or
tokenizer.json (or from one safetensors file beside them). docs/convert.md lists the families; another class is refused
with a list of them. A folder of PEFT (adapter_config.json, adapter_model.safetensors) becomes a LoRA adapter; --base
names the model that it was trained on, unless adapter_config.json names its folder. What a model sees images with
becomes a projector beside the file, mmproj-OUT.gguf; with --mmproj it is all that is written. The command needs the
packages of the extra: pip install 'llamaq[convert]'. Next: llamaq quantize."""


def _add_options(parser: Parser) -> None:
    add = parser.add_argument
    add("source", metavar="FOLDER", help="the folder, or a safetensors file in it")
    add("target", metavar="OUT.gguf", help="the file to write")
    add(
        "--outtype",
        metavar="TYPE",
        default="f16",
        help="format of the matrices: f32, f16, bf16 or q8_0 (default f16); vectors are always f32",
    )
    add(
        "--metadata",
        metavar="FILE",
        help='a JSON object of further metadata, such as {"general.name": "...", "general.license": "..."}',
    )
    add("--mmproj", action="store_true", help="write what the model sees images with alone, to OUT.gguf")
    add("--base", metavar="MODEL", help="the model of an adapter: a folder with config.json, or a GGUF file")
    add("--pre", metavar="NAME", help="use this pre-tokenizer instead of the one that tokenizer.json describes")


def convert(args: argparse.Namespace) -> int:
    """Runs the command."""
    from llamaq.convert import convert, convert_adapter, convert_projector, is_peft

    metadata = _metadata(Path(args.metadata)) if args.metadata else None
    outtype, told, written = args.outtype.lower(), "", [Path(args.target)]
    with Bar("converting", " weights") as progress:
        if args.base or is_peft(Path(args.source)):
            base = _base(args) if args.base else None
            convert_adapter(args.source, args.target, outtype, base=base, metadata=metadata, progress=progress)
        elif args.mmproj:
            convert_projector(args.source, args.target, outtype, metadata=metadata, progress=progress)
        else:
            compared = convert(args.source, args.target, outtype, pre=args.pre, metadata=metadata, progress=progress)
            told = f"tokenizer: {compared}\n"
            written += [] if compared.projector is None else [compared.projector]
    write("".join(f"{path}: {size(path.stat().st_size)}\n" for path in written) + told)
    return 0


def _base(args: argparse.Namespace) -> os.PathLike[str]:
    """A folder, or the file of a model."""
    if Path(args.base).is_dir():
        return Path(args.base)
    try:
        return located(args.base, args)
    except LlamaqError as error:
        error.args = (f"--base: {error}",)
        raise


def _metadata(path: Path) -> dict[str, str | list[str]]:
    """What the file holds: texts, and lists of texts. Raises ValueError for anything else."""
    try:
        found = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON: {error}") from None
    texts = found.values() if isinstance(found, dict) else [None]
    if not all(isinstance(x, str) or (isinstance(x, list) and all(isinstance(y, str) for y in x)) for x in texts):
        raise ValueError(f"{path}: expected a JSON object whose values are texts or lists of texts; quote the others")
    return dict(found)


COMMAND = Command(
    help="make a GGUF file from a Hugging Face folder",
    usage="FOLDER OUT.gguf [options]",
    about=_ABOUT,
    add_options=_add_options,
    run=convert,
)
