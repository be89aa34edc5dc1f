"""The picture of `llamaq compare`: divergence by position in the chunk, and error of the weights by block."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from llamaq.measure.divergence import Divergence
from llamaq.measure.text import scored_from
from llamaq.measure.weights import WeightError, relative_error

__all__ = ["picture"]

WIDTH, LEFT, RIGHT = 860, 70, 170  # pixels of the picture, of the scale and of the legend
PANEL, HEAD, FOOT = 220, 46, 40
INK, FAINT = "#222222", "#dddddd"
COLOURS = ("#1b6fb5", "#c03a2b", "#2e8b45", "#7d4fb0", "#c98200", "#14a0a0", "#555555", "#d0508f")
DASHES = ("", "7 4", "2 3", "9 3 2 3", "14 4")  # lines that lie on each other show all their colours
BUCKETS = 32  # points of the curves over positions, at most

Points = Sequence[tuple[float, float]]


def picture(title: str, found: Divergence, errors: Sequence[WeightError]) -> str:
    """An SVG. Where no matrix belongs to a block it has one panel."""
    value = found.summary()
    caption = (
        f"KL divergence: mean {value['kl_mean']:.5f}, median {value['kl_median']:.5f}, 99 % {value['kl_99']:.5f}; "
        f"same top token {value['same_top']:.2%}; perplexity {value['perplexity']:.4f} after "
        f"{value['base_perplexity']:.4f}"
    )
    panels = [_panel("KL divergence (nats) by position in the chunk", "position", _by_position(found))]
    by_block = _by_block(errors)
    if by_block:
        panels.append(_panel("error of the weights, relative to their size, by block", "block", by_block))
    parts, y = [_text(16, 28, title, size=17, weight="bold"), _text(16, 48, caption, size=12)], 62
    for panel in panels:
        parts.append(f'<g transform="translate(0 {y})">\n{panel}\n</g>')
        y += HEAD + PANEL + FOOT
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}">'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{y}" fill="#ffffff"/>', *parts, "</svg>"]) + "\n"


def _by_position(found: Divergence) -> dict[str, Points]:
    """Mean, median and 90 % of the positions' neighbourhoods, over all chunks."""
    first, scored = scored_from(found.base.n_ctx), found.kl.shape[1]
    curves: dict[str, list[tuple[float, float]]] = {"mean": [], "median": [], "90 %": []}
    for positions in np.array_split(np.arange(scored), min(BUCKETS, scored)):
        values, x = found.kl[:, positions], first + float(positions.mean())
        for name, y in zip(curves, (values.mean(), *np.quantile(values, (0.5, 0.9))), strict=True):
            curves[name].append((x, float(y)))
    return dict(curves)


def _by_block(errors: Sequence[WeightError]) -> dict[str, Points]:
    """A curve for each kind of matrix: (block, relative error), experts of one block together."""
    kinds: dict[str, dict[int, list[WeightError]]] = defaultdict(lambda: defaultdict(list))
    for error in errors:
        place = re.match(r"blk\.(\d+)\.(.+)\.weight", error.name)
        if place:
            kinds[place[2]][int(place[1])].append(error)
    return {
        kind: [(block, relative_error(of)) for block, of in sorted(blocks.items())] for kind, blocks in kinds.items()
    }


def _panel(title: str, axis: str, curves: Mapping[str, Points]) -> str:
    curves = dict(sorted(curves.items(), key=lambda curve: -curve[1][-1][1]))  # the legend is in the lines' order
    xs, ys = zip(*(point for points in curves.values() for point in points), strict=True)
    low, high = min(xs), max(max(xs), min(xs) + 1)
    top, step = _scale(max(ys))
    bottom = HEAD + PANEL

    def place(x: float, y: float) -> tuple[float, float]:
        return LEFT + (x - low) / (high - low) * (WIDTH - LEFT - RIGHT), bottom - y / top * PANEL

    parts = [_text(16, 20, title, size=13, weight="bold")]
    for i in range(round(top / step) + 1):
        _, y = place(low, i * step)
        parts.append(_line(LEFT, y, WIDTH - RIGHT, y, FAINT))
        parts.append(_text(LEFT - 8, y + 4, f"{i * step:.6g}", size=11, anchor="end"))
    for x in _marks(low, high):
        at, _ = place(x, 0)
        parts.append(_text(at, bottom + 16, str(x), size=11, anchor="middle"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, bottom + 32, axis, size=11, anchor="middle"))
    for i, (name, points) in enumerate(curves.items()):
        colour = COLOURS[i % len(COLOURS)]
        dash = DASHES[i % len(DASHES)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{_dashed(dash)}/>')
        if len(points) == 1:  # a line would not show it
            parts.append(f'<circle cx="{path.split(",")[0]}" cy="{path.split(",")[1]}" r="2.5" fill="{colour}"/>')
        y = HEAD + 8 + 18 * i
        parts.append(_line(WIDTH - RIGHT + 10, y, WIDTH - RIGHT + 38, y, colour, 2, dash))
        parts.append(_text(WIDTH - RIGHT + 44, y + 4, name, size=12))
    return "\n".join(parts)


def _scale(highest: float) -> tuple[float, float]:
    """Top of a scale that holds ``highest``, and the step of its marks: 1, 2 or 5 times a power of ten."""
    if not (0 < highest < math.inf):
        return 1.0, 0.25
    power = 10.0 ** math.floor(math.log10(highest / 5))
    step = next(factor * power for factor in (1, 2, 5, 10) if 5 * factor * power >= highest)
    return math.ceil(highest / step) * step, step


def _marks(low: float, high: float) -> range:
    """At most nine whole numbers in equal steps of 1, 2 or 5 times a power of ten."""
    steps = (factor * 10**power for power in range(20) for factor in (1, 2, 5))
    step = next(step for step in steps if high - low <= 8 * step)
    return range(math.ceil(low / step) * step, math.floor(high) + 1, step)


def _text(x: float, y: float, text: str, *, size: int, anchor: str = "start", weight: str = "normal") -> str:
    style = f'font-family="sans-serif" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" fill="{INK}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'


def _dashed(dash: str) -> str:
    return f' stroke-dasharray="{dash}"' if dash else ""


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1, dash: str = "") -> str:
    place = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {place} stroke="{colour}" stroke-width="{width}"{_dashed(dash)}/>'
