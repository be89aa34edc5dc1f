"""Pages of docs/ that say what the code says."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from llamaq import _core
from llamaq.errors import LlamaqError
from llamaq.formats import FORMATS, Format
from llamaq.quantization.types import FILE_TYPES
from llamaq.server.fields import table_of
from llamaq.server.openai.protocol import CHAT, COMPLETION, EMBEDDING
from llamaq.server.openai.responses_fields import RESPONSE

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")])


def test_the_reference_of_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT / "tools"), *sys.path])
    monkeypatch.setenv("LLAMA_ARG_N_PREDICT", "7")
    from make_cli_reference import PAGE, reference

    assert PAGE.read_text(encoding="utf-8") == reference(), "run python tools/make_cli_reference.py"


def runs(format: Format) -> str:
    try:
        _core.kernel_name("scalar", format.id)
    except LlamaqError:
        return "no"
    return "yes"


def format_table() -> str:
    """The table of docs/formats.md."""
    written = {type.format.name for type in FILE_TYPES.values()}
    rows = ["| format | number | weights in a block | bytes | bits | runs | written |", "|---|---|---|---|---|---|---|"]
    for f in FORMATS.values():
        bits = f"{8 * f.block_bytes / f.block:.4g}"
        cells = (f.name, f.id, f.block, f.block_bytes, bits, runs(f), "yes" if f.name in written else "no")
        rows.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(rows)


def test_the_table_of_formats() -> None:
    assert format_table() in (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")


def test_the_table_of_the_servers_fields() -> None:
    page = (ROOT / "docs" / "server.md").read_text(encoding="utf-8")
    assert table_of({"chat": CHAT, "completions": COMPLETION, "embeddings": EMBEDDING}) in page
    assert table_of({"responses": RESPONSE}) in page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    assert [target for target in targets if target and not (page.parent / target).exists()] == []


def test_every_page_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [page.name for page in (ROOT / "docs").glob("*.md") if f"docs/{page.name}" not in readme]
    assert missing == []


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "decisions").iterdir()), ids=lambda page: page.stem)
def test_a_decision_is_a_page_of_context_decision_and_consequence(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 50
    assert re.findall(r"^\*\*(\w+)\.\*\*", text, re.MULTILINE) == ["Context", "Decision", "Consequence"]


def test_the_map_of_the_architecture_has_every_place() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    places = [
        path for folder in ("csrc", "src/llamaq") for path in (ROOT / folder).iterdir() if path.name[0] not in "_."
    ]
    names = {path.name for path in places if path.suffix == ".py" or (path.is_dir() and path.name != "data")}
    assert {name for name in names if not re.search(rf"[`/]{name}[`/]", text)} == set()
