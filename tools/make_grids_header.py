"""Writes the IQ codebooks as C++ tables: make_grids_header.py src/llamaq/formats/grids.py OUTPUT.

The build runs it with any Python. The grids file is executed by itself: neither llamaq nor NumPy is needed.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path


def header(grids_file: Path) -> str:
    """The text of iq_grids.inc: for each grid an int8_t table, named kIQ2XXS for "IQ2_XXS", and its codes."""
    lines = [f"// Written by {Path(__file__).name} from {grids_file.name}."]
    for name, grid in runpy.run_path(str(grids_file))["GRIDS"].items():
        rows = [f"{{{', '.join(map(str, row))}}}" for row in grid.rows()]
        lines.append(f"static const int8_t k{name.replace('_', '')}[{len(rows)}][{grid.dims}] = {{")
        lines += [f"    {row}," for row in rows]
        lines.append("};")
        codes = ", ".join(map(hex, codes_of(list(grid.rows()))))
        lines.append(f"static const uint32_t k{name.replace('_', '')}Codes[{len(rows)}] = {{{codes}}};")
    return "\n".join(lines) + "\n"


def codes_of(rows: list[Sequence[int]]) -> list[int]:
    """A word for each vector: in byte b the number of its level b (low nibble) and that of its level 4 + b (high)."""
    levels = sorted({level for row in rows for level in row})
    return [sum(levels.index(level) << (8 * (b % 4) + 4 * (b // 4)) for b, level in enumerate(row)) for row in rows]


def main() -> None:
    source, target = map(Path, sys.argv[1:])
    target.parent.mkdir(parents=True, exist_ok=True)
    text = header(source)
    if not target.exists() or target.read_text(encoding="utf-8") != text:  # a newer file compiles every kernel anew
        target.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
