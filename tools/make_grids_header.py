"""Writes the IQ codebooks as C++ tables: make_grids_header.py src/llamaq/formats/grids.py OUTPUT.

The build runs it with any Python. The grids file is executed by itself: neither llamaq nor NumPy is needed.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path


def header(grids_file: Path) -> str:
    """The text of iq_grids.inc: one int8_t table per grid, named kIQ2XXS for "IQ2_XXS"."""
    lines = [f"// Written by {Path(__file__).name} from {grids_file.name}."]
    for name, grid in runpy.run_path(str(grids_file))["GRIDS"].items():
        rows = [f"{{{', '.join(map(str, row))}}}" for row in grid.rows()]
        lines.append(f"static const int8_t k{name.replace('_', '')}[{len(rows)}][{grid.dims}] = {{")
        lines += [f"    {row}," for row in rows]
        lines.append("};")
    return "\n".join(lines) + "\n"


def main() -> None:
    source, target = map(Path, sys.argv[1:])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(header(source), encoding="utf-8")


if __name__ == "__main__":
    main()
