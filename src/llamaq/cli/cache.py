"""``llamaq cache``: lists and clears what is kept on disk of texts that were read."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llamaq.cli.command import Command
from llamaq.cli.options import Parser
from llamaq.cli.output import harmless, size, write

if TYPE_CHECKING:
    from llamaq.serving.disk_cache import Kept

__all__ = ["COMMAND"]

_ABOUT = """\
Lists what the cache on disk has: the beginnings of texts that chats (and whoever was given --cache-dir) have read, kept
so that they are not read again (docs/disk-cache.md). It may be cleared at any time, and while models run."""


def _add_options(parser: Parser) -> None:
    parser.add_argument(
        "--cache-dir", metavar="DIR", help="the folder (default: that of chats; env LLAMAQ_CACHE_DIR)", default=None
    )
    parser.add_argument("--clear", action="store_true", help="remove all of it")
    parser.add_argument("--json", action="store_true", help="print all that is known as JSON")


def cache(args: argparse.Namespace) -> int:
    """Runs the command."""
    from llamaq.serving.disk_cache import DiskCache, default_folder

    disk = DiskCache(Path(args.cache_dir) if args.cache_dir else default_folder())
    if args.clear:
        freed = disk.clear()
        write(f"removed {size(freed)} from {harmless(str(disk.folder))}\n")
    elif args.json:
        write(json.dumps([_as_json(kept) for kept in disk.kept()], indent=2) + "\n")
    else:
        write(_table(disk.kept(), disk))
    return 0


def _as_json(kept: Kept) -> dict[str, Any]:
    return {
        "folder": str(kept.folder), "about": kept.about, "blocks": kept.blocks, "bytes": kept.nbytes, "used": kept.used,
    }  # fmt: skip


def _table(found: list[Kept], disk: Any) -> str:
    total = sum(kept.nbytes for kept in found)
    lines = [f"{disk.folder}: {size(total)} of at most {size(disk.limit)}"]
    for kept in found:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(kept.used))
        name, cache_type = (str(kept.about.get(key, "?"))[:80] for key in ("name", "cache_type"))
        lines.append(f"{when}  {size(kept.nbytes):>11}  {kept.blocks:>5} blocks  {name}, cache {cache_type}")
    return "".join(f"{harmless(line)}\n".replace("\n", " ").rstrip() + "\n" for line in lines)


COMMAND = Command(
    help="list or clear what is kept on disk of texts that were read",
    usage="[--clear] [options]",
    about=_ABOUT,
    add_options=_add_options,
    run=cache,
)
