"""A picture of a terminal, for docs/images: ``tmux capture-pane -e -p | python tools/terminal_to_svg.py OUT.svg``."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text


def picture(screen: str, title: str = "llamaq") -> str:
    """SVG of a screen with its colours."""
    lines = screen.rstrip("\n").split("\n")
    texts = [Text.from_ansi(line) for line in lines]
    width = max([80, *(text.cell_len for text in texts)])
    console = Console(width=width, record=True, file=io.StringIO(), color_system="truecolor", force_terminal=True)
    for text in texts:
        console.print(text, overflow="crop", no_wrap=True)
    # Comments and fonts from afar are left out.
    return re.sub(r"@font-face \{.*?\}|<!--.*?-->", "", console.export_svg(title=title), flags=re.DOTALL)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(picture(sys.stdin.read()), encoding="utf-8")
