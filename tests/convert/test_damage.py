"""Damaged Hugging Face folders: every one is converted or refused by a LlamaqError, and leaves no file behind."""

from __future__ import annotations

import copy
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from hf_damage import CONFIG, FILES, SPLIT, TENSORS, VALUES, places
from hf_llama import save
from llamaq.convert import convert
from llamaq.convert.section import Section, read_json
from llamaq.errors import LlamaqError, ModelError

PLACES = [(name, *path) for name, content in FILES.items() for path in places(content)]


def changed(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """The files, with another value at one place."""
    files = copy.deepcopy(FILES)
    holder: Any = files
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    return files


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("damage") / "model", CONFIG, TENSORS)


def converts(folder: Path, **files: Any) -> bool:
    """Whether the folder is converted; any error but a LlamaqError goes on to the test."""
    for name, content in {**FILES, **files}.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    target = folder.parent / "out.gguf"
    target.unlink(missing_ok=True)
    try:
        convert(folder, target)
    except LlamaqError:
        assert not target.exists()
        return False
    return True


def test_the_files_are_sound(folder: Path) -> None:
    assert converts(folder)


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(PLACES), value=st.sampled_from(VALUES))
def test_any_value_at_any_place(path: tuple[Any, ...], value: Any, folder: Path) -> None:
    converts(folder, **changed(path, value))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("config",), [1], r"config\.json: expected a JSON object, got a list of 1"),
        (("config", "architectures"), 3, r"config\.json: architectures: expected a list, got 3"),
        (("config", "rope_scaling"), "llama", r"rope_scaling: expected an object, got 'llama'"),
        (
            ("config", "rope_scaling", "factor"),
            [],
            r"rope_scaling\.factor: expected a positive number, got a list of 0",
        ),
        (("config", "rope_scaling", "high_freq_factor"), 1.0, r"high_freq_factor: expected more than low_freq_factor"),
        (
            ("config", "head_dim"),
            300_000_000,
            r"head_dim: expected the rows of .* 64, divided by the 4 heads, got 3000",
        ),
        (("config", "hidden_size"), 2**31, r"hidden_size: expected an integer up to 2147483647, got 2147483648"),
        (("config", "intermediate_size"), 1, r"config\.json .*feed_forward_length is 1; expected 96, the rows of"),
        (("config", "rms_norm_eps"), 1e308, r"rms_norm_eps: expected a positive number, got 1e\+308"),
        (("config", "eos_token_id"), "4", r"eos_token_id: expected an integer or a list of integers, got '4'"),
        (("tokenizer", "model"), 64, r"tokenizer\.json: model: expected an object, got 64"),
        (("tokenizer", "model", "vocab"), "Split", r"model\.vocab: expected an object, got 'Split'"),
        (("tokenizer", "model", "vocab", "b"), 2 * 10**9, r"token 'b': expected an id from 0 to 49, .*got 2000000000"),
        (("tokenizer", "model", "vocab", "b"), -1, r"token 'b': expected an id from 0 to 49, .*got -1"),
        (("tokenizer", "model", "vocab", "\ud800"), 3, r"token 3: expected a text, got '\\ud800'"),
        (("tokenizer", "model", "merges", 0), "a b c", r"model\.merges\[0\]: expected a pair of texts, got 'a b c'"),
        (("tokenizer", "model", "merges", 0), 7, r"model\.merges\[0\]: expected a pair of texts, got 7"),
        (
            ("tokenizer", "model", "merges", 0),
            ["a", 1],
            r"model\.merges\[0\]: expected a pair of texts, got a list of 2",
        ),
        (("tokenizer", "pre_tokenizer"), 0.5, r"pre_tokenizer: expected an object, got 0\.5"),
        (("tokenizer", "pre_tokenizer", "pretokenizers"), {"a": 1}, r"pretokenizers: expected a list, got an object"),
        (("tokenizer", "pre_tokenizer", "pretokenizers", 0), SPLIT | {"pattern": []}, r"pattern: expected an object"),
        (("tokenizer", "added_tokens", 0), None, r"added_tokens: expected a list of objects, got a list of 2"),
        (("tokenizer", "added_tokens", 0, "id"), 0.5, r"added_tokens\[0\]\.id: expected an integer"),
        (("tokenizer", "added_tokens", 0, "id"), -5, r"added_tokens\[0\]\.id: expected a number from 0 on, got -5"),
        (("tokenizer", "added_tokens", 1, "content"), [], r"added_tokens\[1\]\.content: expected a text"),
        (("tokenizer", "post_processor", "single"), 2, r"post_processor\.single: expected a list, got 2"),
        (("tokenizer_config", "added_tokens_decoder", "3"), -1, r"added_tokens_decoder\.3: expected an object, got -1"),
        (("tokenizer_config", "added_tokens_decoder", "x"), {}, r"expected ids as keys, got 'x'"),
        (("tokenizer_config", "eos_token"), [None], r"eos_token: expected a text, got a list of 1"),
        (("tokenizer_config", "chat_template", 0, "template"), "\ud800", r"template: expected a text, got '\\ud800'"),
        (("tokenizer_config", "chat_template", 0, "name"), None, r"chat_template\[0\]\.name: expected a text"),
    ],
    ids=str,
)
def test_refusals_name_file_key_and_value(path: tuple[Any, ...], value: Any, message: str, folder: Path) -> None:
    for name, content in changed(path, value).items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match=message):
        convert(folder, folder.parent / "out.gguf")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "expected JSON"),
        (b"\xff\xfe{}", "expected JSON"),
        (b"\x80", "expected JSON"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
        (b"", "expected JSON"),
    ],
    ids=lambda value: str(value[:20]),
)
def test_files_that_hold_no_object(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(data)
    with pytest.raises(ModelError, match=message):
        read_json(tmp_path / "config.json")
    (tmp_path / "config.json").write_bytes(b" " * 99)
    with pytest.raises(ModelError, match="expected up to 0 MiB"):
        read_json(tmp_path / "config.json", 98)
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").mkdir()
    with pytest.raises(ModelError, match="expected a regular file"):
        read_json(tmp_path / "config.json")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_encodings(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes('{"ß": "é"}'.encode(encoding))
    assert read_json(tmp_path / "x.json").values == {"ß": "é"}


def test_sections_within_sections_end_somewhere() -> None:
    values: dict[str, Any] = {}
    for _ in range(100):
        values = {"a": values}

    def deepest(section: Section) -> Section:
        return deepest(section.section("a")) if section else section

    with pytest.raises(ModelError, match="nested too deeply"):
        deepest(Section(values, "x.json"))


def test_patterns_that_take_for_ever(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llamaq.convert.steps._SECONDS", 0.1)
    place = ("tokenizer", "pre_tokenizer", "pretokenizers", 0)
    for pattern, message in (
        (r"(?:(?:.|\s)(?:.|\s)?)+(?<=\x00)", "it takes too long"),
        ("a" * 20_000, "a pattern of 20000 characters"),
        ("(", "cannot be understood"),
    ):
        files = changed(place, SPLIT | {"pattern": {"Regex": pattern}})
        (folder / "tokenizer.json").write_text(json.dumps(files["tokenizer"]))
        for name in ("config", "tokenizer_config", "generation_config", "added_tokens"):
            (folder / f"{name}.json").write_text(json.dumps(FILES[name]))
        with pytest.raises(LlamaqError, match=message):
            convert(folder, folder.parent / "out.gguf")


def header(data: bytes, **change: Any) -> bytes:
    """A safetensors file with another description of its first tensor."""
    size = struct.unpack("<Q", data[:8])[0]
    content = json.loads(data[8 : 8 + size])
    content[next(name for name in content if name != "__metadata__")] |= change
    text = json.dumps(content).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + size :]


def test_weights_that_are_damaged(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", CONFIG, TENSORS, **{k: v for k, v in FILES.items() if k != "config"})
    file = folder / "model.safetensors"
    sound = file.read_bytes()
    size = struct.unpack("<Q", sound[:8])[0]
    damaged = [b"", sound[:7], sound[:200], sound[:-1], sound + b"x"]
    damaged += [struct.pack("<Q", n) + sound[8:] for n in (0, 1, size + 1, 2**31, 2**63, 2**64 - 1)]
    shapes: list[Any] = [[], [0, 64], [64], [50, 64, 1], [2**40, 2**40], [2**63, 0], [-1], "x", None]
    damaged += [header(sound, shape=shape) for shape in shapes]
    damaged += [header(sound, dtype=dtype) for dtype in ("F64", "I64", "", 3)]
    damaged += [header(sound, data_offsets=offsets) for offsets in ([0, 1], [1, 0], [2**62, 2**63], "x")]
    for data in damaged:
        file.write_bytes(data)
        with pytest.raises(LlamaqError):
            convert(folder, tmp_path / "out.gguf")
        assert not (tmp_path / "out.gguf").exists()
    file.unlink()
    save_file(TENSORS | {"model.layers.0.mlp.up_proj.bias": np.zeros((0, 2), np.float32)}, file)
    with pytest.raises(ModelError, match=r"up_proj\.bias': expected weights, got the shape \(0, 2\)"):
        convert(folder, tmp_path / "out.gguf")
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(ModelError, match=r"model\.safetensors: expected the file itself.*git lfs pull"):
        convert(folder, tmp_path / "out.gguf")


@pytest.mark.parametrize(("outtype", "most"), [("f16", 7e4), ("q8_0", 1e7), ("bf16", 3.4e38)])
def test_weights_that_a_format_cannot_hold(outtype: str, most: float, tmp_path: Path) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    tensors = TENSORS | {name: TENSORS[name].copy()}
    tensors[name][3, 5] = most
    folder = save(tmp_path / "model", CONFIG, tensors, **{k: v for k, v in FILES.items() if k != "config"})
    with pytest.raises(ModelError, match=rf"{name}.*the most that {outtype.upper()} holds.*choose outtype"):
        convert(folder, tmp_path / "out.gguf", outtype)
    assert not (tmp_path / "out.gguf").exists()
