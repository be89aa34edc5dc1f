"""A scatter of names over two scales as SVG, the upper one logarithmic: what a file costs, and what it loses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from chart import FAINT, INK, OURS, WIDTH, line, text

__all__ = ["scatter"]

LEFT, RIGHT, TOP, HEIGHT, FOOT = 70, 30, 84, 420, 48  # pixels around the points
THEIRS = "#b0483a"
Points = Sequence[tuple[str, float, float]]  # name, x, y


def scatter(title: str, caption: str, axes: tuple[str, str], series: Mapping[str, Points]) -> str:
    """The picture: the first series filled and named, the second hollow. Every y is above 0."""
    xs, ys = zip(*((x, y) for points in series.values() for _, x, y in points), strict=True)
    low, high = math.floor(min(xs)), math.ceil(max(xs))
    bottom, top = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)))

    def place(x: float, y: float) -> tuple[float, float]:
        right = (x - low) / (high - low) * (WIDTH - LEFT - RIGHT)
        return LEFT + right, TOP + HEIGHT * (1 - (math.log10(y) - bottom) / (top - bottom))

    parts = [text(16, 28, title, size=17, weight="bold"), text(16, 48, caption, size=12)]
    for power in range(bottom, top + 1):
        _, y = place(low, 10.0**power)
        parts += [
            line(LEFT, y, WIDTH - RIGHT, y, FAINT),
            text(LEFT - 8, y + 4, f"{10.0**power:g}", size=11, anchor="end"),
        ]
    for x in range(low, high + 1):
        at, _ = place(x, 10.0**bottom)
        parts += [line(at, TOP, at, TOP + HEIGHT, FAINT), text(at, TOP + HEIGHT + 16, str(x), size=11, anchor="middle")]
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, TOP + HEIGHT + 36, axes[0], size=12, anchor="middle"))
    parts.append(text(LEFT, TOP - 10, axes[1], size=12))
    for i, (name, points) in enumerate(series.items()):
        colour, fill = (OURS, OURS) if i == 0 else (THEIRS, "none")
        for label, *point in points:
            at, up = place(*point)
            parts.append(
                f'<circle cx="{at:.1f}" cy="{up:.1f}" r="4" fill="{fill}" stroke="{colour}" stroke-width="1.5"/>'
            )
            if i == 0:
                parts.append(text(at + 7, up - 5, label, size=10))
        x = WIDTH - RIGHT - 150
        parts.append(
            f'<circle cx="{x}" cy="{TOP + 14 + 20 * i}" r="4" fill="{fill}" stroke="{colour}" stroke-width="1.5"/>'
        )
        parts.append(text(x + 12, TOP + 18 + 20 * i, name, size=12))
    y = TOP + HEIGHT + FOOT
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}">'
    border = f'<rect x="{LEFT}" y="{TOP}" width="{WIDTH - LEFT - RIGHT}" height="{HEIGHT}" fill="none" stroke="{INK}"/>'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{y}" fill="#ffffff"/>', *parts, border, "</svg>"]) + "\n"
