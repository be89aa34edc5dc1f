"""``llamaq run --infill``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from command import Command
from gguf_files import copy_with
from llamaq.llm.llm import LLM
from llamaq.sampling import SamplingParams


@pytest.fixture
def command(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(capsysbinary, monkeypatch)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["run", "m.gguf", "a", "--suffix", "b"], "--suffix is for --infill"),
        (["run", "m.gguf", "a", "--infill"], "--infill: put one <FILL> in the prompt where the model is to write; or"),
        (["run", "m.gguf", "<FILL>a<FILL>", "--infill"], "write; the prompt has 2 of them"),
        (["run", "m.gguf", "a<FILL>", "--infill", "--suffix", "b"], "with --suffix, not both"),
        (["run", "m.gguf", "a<FILL>", "--infill", "-cnv"], "--conversation is for chats, and --infill is given"),
        (["run", "m.gguf", "a<FILL>", "--infill", "--context-shift"], "--context-shift would drop parts"),
    ],
)
def test_wrong_usage_is_told(command: Command, argv: list[str], message: str) -> None:
    done = command(*argv)
    assert (done.code, done.out) == (2, b"")
    assert message in done.err


def test_a_gap_is_filled_in(command: Command, shared: Callable[[str], Path], tmp_path: Path) -> None:
    model = shared("models/stories260K-F32.gguf")
    marks = {f"tokenizer.ggml.{role}_token_id": 500 + i for i, role in enumerate(("prefix", "suffix", "middle"))}
    path, code = tmp_path / "infill.gguf", tmp_path / "code.txt"
    copy_with({**marks, "tokenizer.chat_template": "{{ messages[0].content }}"}, model, path)
    with LLM.load(path, threads=1) as llm:
        expected = llm.infill("Tom\n", "home.", max_tokens=8, sampling=SamplingParams(temperature=0)).text
    code.write_text("Tom\n<FILL>home.\n", encoding="utf-8")
    options = ("--infill", "--temp", 0, "-n", 8, "-t", 1)
    for argv in (["Tom\\n<FILL>home."], ["-f", code], ["Tom\\n", "--suffix", "home."]):
        done = command("run", path, *argv, *options)
        assert (done.code, done.out.decode(), done.err) == (0, f"{expected}\n", "")
    echoed = command("run", path, "-f", code, *options, "--echo")
    assert echoed.out.decode() == f"Tom\n{expected}home.\n"
    refused = command("run", model, "a<FILL>b", "--infill", "-t", 1)
    assert (refused.code, refused.out) == (1, b"")
    assert "the model cannot fill in: its vocabulary has no marks" in refused.err
