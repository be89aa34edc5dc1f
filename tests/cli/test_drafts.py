"""``--model-draft``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from command import Command


def test_a_draft_model(
    capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch, shared: Callable[[str], Path]
) -> None:
    command, model = Command(capsysbinary, monkeypatch), shared("models/stories260K-F32.gguf")
    draft = model.with_name("stories260K-Q8_0.gguf")
    options = ("-p", "Lily went", "-n", 20, "--temp", 0, "-t", 1)
    done = command("run", model, *options, "--verbose", "-md", draft, "--draft-max", 8, "-ngld", 0)
    assert done.code == 0
    assert done.out == command("run", model, *options).out
    assert ", draft model " in done.err
    assert "--draft-max, -ngld change nothing here" in done.err
    assert "--no-speculation wants none" in command("run", model, *options, "-md", draft, "--no-speculation").err
