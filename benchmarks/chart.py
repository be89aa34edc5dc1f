"""A bar chart of ratios as SVG: one row a test, the bar as long as llamaq is times as fast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil

__all__ = ["Bar", "Panel", "line", "svg", "text"]

WIDTH, LEFT, RIGHT = 860, 150, 230  # pixels of the picture, of the names and of the figures
ROW, BAR, HEAD = 24, 14, 46
OURS, EVEN, INK, FAINT = "#2a78b8", "#b0483a", "#222222", "#dddddd"


@dataclass(frozen=True)
class Bar:
    """A test: its name, the ratio with least and greatest, and the figures written beside it."""

    name: str
    ratio: float
    least: float
    greatest: float
    figures: str


@dataclass(frozen=True)
class Panel:
    """The tests of a file."""

    title: str
    bars: Sequence[Bar]


def svg(title: str, caption: str, panels: Sequence[Panel]) -> str:
    """The picture. All panels share one scale from 0; the line at 1 is where both are equally fast."""
    top = max([1.0, *(bar.greatest for panel in panels for bar in panel.bars)])
    scale, every = (WIDTH - LEFT - RIGHT) / ceil(top), ceil(ceil(top) / 8)
    parts, y = [text(16, 28, title, size=17, weight="bold"), text(16, 48, caption, size=12)], 62
    for panel in panels:
        height = HEAD + ROW * len(panel.bars)
        parts.append(text(16, y + 20, panel.title, size=13, weight="bold"))
        for mark in range(0, ceil(top) + 1, every):
            x = LEFT + mark * scale
            parts.append(line(x, y + HEAD - 8, x, y + height - 4, FAINT))
            parts.append(text(x, y + HEAD - 12, f"{mark}×", size=11, anchor="middle"))
        for i, bar in enumerate(panel.bars):
            parts += _row(bar, y + HEAD + ROW * i, scale)
        parts.append(line(LEFT + scale, y + HEAD - 8, LEFT + scale, y + height - 4, EVEN))
        y += height + 8
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}">'
    paper = f'<rect width="{WIDTH}" height="{y}" fill="#ffffff"/>'
    return "\n".join([head, paper, *parts, "</svg>"]) + "\n"


def _row(bar: Bar, y: float, scale: float) -> list[str]:
    middle = y + BAR / 2
    least, greatest = LEFT + bar.least * scale, LEFT + bar.greatest * scale
    return [
        text(LEFT - 8, middle + 4, bar.name, size=12, anchor="end"),
        f'<rect x="{LEFT}" y="{y:.1f}" width="{bar.ratio * scale:.1f}" height="{BAR}" fill="{OURS}"/>',
        line(least, middle, greatest, middle, INK),
        line(least, middle - 3, least, middle + 3, INK),
        line(greatest, middle - 3, greatest, middle + 3, INK),
        text(WIDTH - RIGHT + 12, middle + 4, f"{bar.ratio:.2f}×", size=12, weight="bold"),
        text(WIDTH - RIGHT + 66, middle + 4, bar.figures, size=12),
    ]


def text(x: float, y: float, shown: str, *, size: int, anchor: str = "start", weight: str = "normal") -> str:
    """An SVG text at a place in pixels."""
    style = f'font-family="sans-serif" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" fill="{INK}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(shown)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    """An SVG line between two places."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'
