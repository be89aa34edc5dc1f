"""What a Hugging Face folder holds beside the model: other layouts, adapters, pointers, templates, end tokens."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from hf_llama import LETTERS, save, tiny
from llamaq.chat import ChatMessage
from llamaq.chat.templates import choose_template, file_templates
from llamaq.convert import convert
from llamaq.convert.checkpoint import Checkpoint
from llamaq.convert.vocabulary import vocabulary
from llamaq.errors import ModelError
from llamaq.gguf import GGUFFile
from llamaq.tokenizer import load_tokenizer

CONFIG, TENSORS = tiny(num_hidden_layers=1)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 4976698672\n"


def folder_with(path: Path, *, shards: int = 1, config: dict[str, Any] | None = None, **files: Any) -> Path:
    return save(path, CONFIG | (config or {}), TENSORS, shards=shards, **{"tokenizer": LETTERS, **files})


def added(*texts: str, first: int = 3) -> dict[str, Any]:
    """tokenizer.json with control tokens from id ``first`` on."""
    tokens = [{"id": first + i, "content": text, "special": True} for i, text in enumerate(texts)]
    return LETTERS | {"added_tokens": tokens}


def keys_of(folder: Path) -> dict[str, Any]:
    return vocabulary(Checkpoint(folder), 50)


@pytest.mark.parametrize(
    ("config", "generation", "known"),
    [
        ([3, 4], None, {3, 4}),
        (3, [4, 3], {3, 4}),
        ([3, 4, 5], [6], {3, 4, 5, 6}),
        (None, [5, 4], {4, 5, 6}),
        ([4, 3], 5, {3, 4, 5}),
    ],
)
def test_all_end_tokens_are_kept(config: Any, generation: Any, known: set[int], tmp_path: Path) -> None:
    tokenizer = added("<end>", "<turn>", "<call>", "<|eot_id|>")  # the last is known by its text
    files: dict[str, Any] = {} if generation is None else {"generation_config": {"eos_token_id": generation}}
    keys = keys_of(folder_with(tmp_path / "m", config={"eos_token_id": config}, tokenizer=tokenizer, **files))
    stated = config if config is not None else generation
    assert keys["tokenizer.ggml.eos_token_id"] == (stated[0] if isinstance(stated, list) else stated)
    assert load_tokenizer(keys).eog_ids == known | {6}


def test_the_named_end_token_comes_first(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = added("<end>", "<turn>", "<call>", "<more>")
    settings = {"eos_token": "<turn>"}
    folder = folder_with(
        tmp_path / "m", config={"eos_token_id": [3, 4, 5, 6]}, tokenizer=tokenizer, tokenizer_config=settings
    )
    keys = keys_of(folder)
    assert [keys[f"tokenizer.ggml.{role}_token_id"] for role in ("eos", "eot", "eom")] == [4, 3, 5]
    assert caplog.messages == ["eos_token_id: a GGUF file can name no more end tokens; left out is 6 '<more>'"]


def test_tokens_beyond_the_embedding_table(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = added("<pad>", "<x>", first=50)
    settings = {"pad_token": "<pad>", "added_tokens_decoder": {"2000000000": {"content": "<far>"}}}
    folder = folder_with(tmp_path / "m", config={"pad_token_id": 50}, tokenizer=tokenizer, tokenizer_config=settings)
    convert(folder, tmp_path / "out.gguf")
    expected = "tokens beyond the 50 rows of the embedding table are left out: 50 '<pad>', 51 '<x>', 2000000000 '<far>'"
    assert caplog.messages[0] == expected
    with GGUFFile.open(tmp_path / "out.gguf") as file:
        assert len(file.metadata["tokenizer.ggml.tokens"]) == 50
        assert "tokenizer.ggml.padding_token_id" not in file.metadata


def test_every_template_is_kept(tmp_path: Path) -> None:
    listed = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}]
    folder = folder_with(tmp_path / "m", tokenizer_config={"chat_template": listed})
    keys = keys_of(folder)
    assert file_templates(keys) == {"default": "plain", "tool_use": "tools"}
    assert keys["tokenizer.chat_templates"] == ["tool_use"]
    messages: list[ChatMessage] = [{"role": "user", "content": "hi"}]
    assert choose_template(keys, tools=True).render(messages) == "tools"
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "long-form.jinja").write_text("long")
    (folder / "additional_chat_templates" / "tool_use.jinja").write_bytes("﻿newer".encode())
    (folder / "chat_template.jinja").write_bytes("ünïcode".encode("utf-16"))
    keys = keys_of(folder)
    assert file_templates(keys) == {"default": "ünïcode", "tool_use": "newer", "long_form": "long"}
    assert keys["tokenizer.chat_templates"] == ["long_form", "tool_use"]
    (folder / "chat_template.jinja").write_bytes(b"\x80")
    with pytest.raises(ModelError, match=r"chat_template\.jinja: expected text in UTF-8"):
        keys_of(folder)


def test_the_template_of_an_older_processor(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "m", chat_template={"chat_template": "from chat_template.json"})
    assert file_templates(keys_of(folder)) == {"default": "from chat_template.json"}
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "the tokenizer's"}))
    assert file_templates(keys_of(folder)) == {"default": "the tokenizer's"}


def other_layout(path: Path) -> None:
    save_file({"layers.0.attention.wq.weight": np.zeros((4, 4), np.float32)}, path)


@pytest.mark.parametrize("shards", [1, 2])
def test_files_of_another_layout_beside_the_model(shards: int, tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "m", shards=shards)
    other_layout(folder / "consolidated.safetensors")
    other_layout(folder / "consolidated.00.safetensors")
    other_layout(folder / "extra.safetensors")
    convert(folder, tmp_path / "out.gguf")
    for file in folder.glob("model*"):
        file.unlink()
    (folder / "extra.safetensors").unlink()
    with pytest.raises(ModelError, match=r"got consolidated\.00\.safetensors alone; that is the authors' own layout"):
        convert(folder, tmp_path / "out.gguf")


def test_adapters(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = folder_with(tmp_path / "m")
    (folder / "adapter_config.json").write_text("{}")
    other_layout(folder / "adapter_model.safetensors")
    convert(folder, tmp_path / "out.gguf")
    assert "the adapter beside the model is left out" in caplog.messages[0]
    with pytest.raises(ModelError, match="got an adapter"):
        convert(folder / "adapter_model.safetensors", tmp_path / "out.gguf")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"got adapter_model\.safetensors alone; convert it by itself"):
        convert(folder, tmp_path / "out.gguf")
    (folder / "config.json").unlink()
    with pytest.raises(
        ModelError, match=r"expected a model, got an adapter \(LoRA\) without one; convert it by itself"
    ):
        convert(folder, tmp_path / "out.gguf")


@pytest.mark.parametrize(
    "name",
    [
        *("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "added_tokens.json"),
        *("model.safetensors", "model.safetensors.index.json", "tokenizer.model", "chat_template.jinja"),
    ],
)
def test_pointers_of_git_lfs(name: str, tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "m")
    (folder / name).write_bytes(POINTER)
    with pytest.raises(ModelError, match=rf"{name}: expected the file itself, got its Git LFS pointer.*git lfs pull"):
        convert(folder, tmp_path / "out.gguf")


def test_an_index_that_names_what_is_not_there(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "m", shards=2)
    index = folder / "model.safetensors.index.json"
    for file, message in (
        ("../../etc/passwd", "passwd is missing, which"),
        ("x" * 5000, "x is missing, which"),
        (3, "weight_map.a: expected a text, got 3"),
    ):
        index.write_text(json.dumps({"weight_map": {"a": file}}))
        with pytest.raises(ModelError, match=message):
            convert(folder, tmp_path / "out.gguf")
    index.unlink()
    (folder / "model-00003-of-00002.safetensors").write_bytes(
        (folder / "model-00001-of-00002.safetensors").read_bytes()
    )
    with pytest.raises(ModelError, match="stands in another file, too"):
        convert(folder, tmp_path / "out.gguf")


def test_the_library_is_silent_by_default(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("llamaq").setLevel(logging.NOTSET)
    convert(folder_with(tmp_path / "m"), tmp_path / "out.gguf")
    assert capfd.readouterr() == ("", "")
