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
from llamaq.server.anthropic.protocol import COUNT, MESSAGES
from llamaq.server.fields import table_of
from llamaq.server.native import protocol as native
from llamaq.server.ollama import protocol as ollama
from llamaq.server.openai.protocol import CHAT, COMPLETION, EMBEDDING, SAMPLING
from llamaq.server.openai.responses_fields import RESPONSE

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")])


def test_the_reference_of_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT / "tools"), *sys.path])
    monkeypatch.setenv("LLAMA_ARG_N_PREDICT", "7")
    from make_cli_reference import MAN_PAGE, PAGE, man_page, reference

    assert PAGE.read_text(encoding="utf-8") == reference(), "run python tools/make_cli_reference.py"
    assert MAN_PAGE.read_text(encoding="utf-8") == man_page(), "run python tools/make_cli_reference.py"
    lines = man_page().splitlines()
    requests = {line.partition(" ")[0] for line in lines if line[:1] == "."}
    assert requests <= {".TH", ".SH", ".SS", ".B", ".TP", ".PP", ".nf", ".fi"}
    assert r"\fB\-n, \-\-predict, \-\-n\-predict N\fR" in lines


def test_extras_are_added_to_the_llamaq_that_is_installed() -> None:
    """By name, from any folder; only who installs llamaq itself is in a checkout of it."""
    for page in PAGES:
        for line in page.read_text(encoding="utf-8").splitlines():
            assert "'.[" not in line or "checkout" in line or "[test]" in line, f"{page.name}: {line}"


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


_OLLAMA = ("generate", "chat", "embed", "embeddings", "show", "pull")
_NATIVE = ("completion", "infill", "tokenize", "detokenize", "embedding", "rerank")


def test_the_table_of_the_servers_fields() -> None:
    page = (ROOT / "docs" / "server.md").read_text(encoding="utf-8")
    assert table_of({"chat": CHAT, "completions": COMPLETION, "embeddings": EMBEDDING}) in page
    assert table_of({"responses": RESPONSE}) in page
    own = [field for field in MESSAGES if field not in SAMPLING]
    assert table_of({"messages": own, "count_tokens": COUNT}) in page
    for protocol, names in ((native, _NATIVE), (ollama, _OLLAMA), (ollama, ("options",))):
        tables = {name: getattr(protocol, name.upper()) for name in names}
        assert table_of({name: [f for f in table if f not in SAMPLING] for name, table in tables.items()}) in page


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
