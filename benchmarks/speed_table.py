"""The table of README.md from results of ``compare_llama_cpp.py speed``.

python benchmarks/speed_table.py results/FOLDER/speed-*.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from report import Result

HEAD = """| shape | level | reading 512 tokens | writing | eight at once | of the limit: one | eight |
|---|---|---|---|---|---|---|"""

LEVELS = {"avx2": "AVX2", "avx512": "AVX-512"}
SHORT = {"bandwidth": "", "int8 peak": " of int8"}


def rows_of(paths: list[Path]) -> list[str]:
    """A line for each file and level, the levels of a file together."""
    found: dict[str, list[str]] = {}
    for path in paths:
        for result in json.loads(path.read_text(encoding="utf-8"))["files"]:
            found.setdefault(result["file"], []).append(row_of(result))
    return [row for rows in found.values() for row in rows]


def row_of(result: Result) -> str:
    shape, _, fmt = Path(result["file"]).stem.rpartition("-")
    reading, writing, eight = (figures_of(result, test) for test in result["speeds"])
    shares = []
    for test in list(result["speeds"])[1:]:
        percent = result["percent_of_limit"][test]
        shares.append(f"{percent['llamaq']:.0f} %{SHORT[percent['of']]}")
    cells = [f"{shape}, {fmt}", LEVELS[result["limits"]["level"]], reading, writing, eight, *shares]
    return f"| {' | '.join(cells)} |"


def figures_of(result: Result, test: str) -> str:
    """Both speeds, and the ratio with its spread."""
    ours, theirs = (result["speeds"][test][name]["median"] for name in ("llamaq", "llama.cpp"))
    ratio = result["ratio"][test]
    return f"{ours:.1f} / {theirs:.1f} = {ratio['median']:.2f} ({ratio['min']:.2f}–{ratio['max']:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description="The table of README.md from results of speed.")
    parser.add_argument("results", type=Path, nargs="+")
    print(HEAD, *rows_of(parser.parse_args().results), sep="\n")


if __name__ == "__main__":
    main()
