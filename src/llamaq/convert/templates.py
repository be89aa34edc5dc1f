"""Chat templates: in files of their own (newer folders), or in tokenizer_config.json, alone or in a list."""

from __future__ import annotations

import re
from typing import Any

from llamaq.convert.checkpoint import Checkpoint
from llamaq.convert.files import read_text
from llamaq.convert.section import Section

__all__ = ["chat_templates"]

_KEY = "tokenizer.chat_template"
_FURTHER = "additional_chat_templates"


def chat_templates(checkpoint: Checkpoint, settings: Section) -> dict[str, Any]:
    """The keys: "default" is the one for plain conversations, others such as "tool_use" have keys with their names.

    A file counts before tokenizer_config.json (``settings``), and that before chat_template.json. Raises ModelError
    for what is no template.
    """
    found = _listed(checkpoint.json("chat_template.json")) | _listed(settings)
    folder = checkpoint.folder
    files = sorted((folder / _FURTHER).glob("*.jinja"))
    for name, file in [*((file.stem, file) for file in files), ("default", folder / "chat_template.jinja")]:
        text = read_text(file)
        if text is not None:
            found[name] = text
    # Readers take names of these characters only, as llama.cpp writes them.
    found = {re.sub("[^A-Za-z0-9]", "_", name): text for name, text in found.items()}
    others = sorted(found.keys() - {"default"})
    keys: dict[str, Any] = {f"{_KEY}.{name}": found[name] for name in others}
    if others:
        keys[f"{_KEY}s"] = others
    if "default" in found:
        keys[_KEY] = found["default"]
    return keys


def _listed(values: Section) -> dict[str, str]:
    """Templates by name: ``chat_template`` is a text, or a list of names and texts."""
    if not isinstance(values.values.get("chat_template"), list):
        text = values.text("chat_template")
        return {"default": text} if text else {}
    found = {}
    for entry in values.sections("chat_template"):
        if not entry.text("name") or not entry.text("template"):
            raise entry.error("template" if entry.text("name") else "name", "a text")
        found[entry.text("name")] = entry.text("template")
    return found
