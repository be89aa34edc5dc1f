"""``llamaq info``: for people and as JSON, on models, vocabularies, split files and files that cannot be run."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from command import Command
from gguf_files import ARRAY, EVERY_TYPE, FLOAT32, STRING, UINT16, build
from llamaq import _core
from llamaq.engine.kv_cache import PAGE_TOKENS
from llamaq.engine.topology import default_threads
from llamaq.gguf import GGUFFile, TensorData, write_gguf
from llamaq.llm.llm import LLM
from nextn_models import with_block, written


@pytest.fixture
def command(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.delenv("LLAMA_ARG_CTX_SIZE", raising=False)
    return Command(capsysbinary, monkeypatch)


@pytest.fixture(scope="module")
def model(shared: Callable[[str], Path]) -> Path:
    return shared("models/stories260K-Q4_0.gguf")


def as_json(command: Command, *argv: object) -> dict[str, Any]:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    done = command("info", *argv, "--json")
    assert (done.code, done.err) == (0, "")
    found: dict[str, Any] = json.loads(done.out, parse_constant=refuse)
    return found


def row(out: str, first: str) -> list[str]:
    """The cells of the only line that begins with ``first``."""
    (line,) = [line for line in out.splitlines() if line.split()[:1] == [first]]
    return line.split()[1:]


def test_text_of_a_model(command: Command, model: Path) -> None:
    done = command("info", model)
    assert (done.code, done.err) == (0, "")
    out = done.out.decode()
    assert "260.03 thousand parameters, 7.01 bits per weight" in out
    assert "\n  architecture llama (Llama, Mistral and Mixtral)\n" in out
    assert row(out, "llama.context_length") == ["512"]
    assert row(out, "general.name") == ['"stories260K"']
    assert '512 x string: "<unk>", "<s>", "</s>", ' in out
    assert row(out, "Q4_0")[:1] == ["31"]
    assert row(out, "Q4_0")[3:] == ["50.4%", _core.kernel_name("", 2)]
    assert row(out, "F32")[-1] == "-"  # only norms are F32, so no matrix and no kernel is
    assert "memory for a context of 512 tokens" in out
    assert f"SIMD levels of this CPU: {', '.join(_core.isas())}; {_core.chosen_isa()} is in use" in out
    assert f"threads: {default_threads().threads} ({default_threads().reason})" in out
    assert all(line == line.rstrip() for line in out.splitlines())
    assert "every tensor" not in out


def test_every_tensor(command: Command, model: Path) -> None:
    out = command("info", model, "--tensors").out.decode()
    assert row(out, "blk.4.ffn_down.weight") == ["F16", "64", "x", "172", "21.50", "KiB"]


def test_json_has_everything(command: Command, model: Path) -> None:
    found = as_json(command, model)
    with GGUFFile.open(model) as file, LLM.load(model, threads=default_threads().threads) as llm:
        assert list(found["metadata"]) == list(file.metadata)
        assert found["metadata"]["tokenizer.ggml.tokens"] == file.metadata["tokenizer.ggml.tokens"].tolist()  # type: ignore[union-attr]
        assert [t["name"] for t in found["tensors"]] == list(file.tensors)
        assert found["memory"]["total"] == llm.memory.total
        assert found["memory"]["weights"] == llm.memory.weights
    assert found["runnable"] is True
    assert found["family"] == "Llama, Mistral and Mixtral"
    assert found["problem"] is None
    assert found["parameters"] == 260032
    assert found["bits_per_weight"] == pytest.approx(8 * sum(t["nbytes"] for t in found["tensors"]) / 260032)
    assert found["file_bytes"] == model.stat().st_size
    assert found["simd_level"] in found["simd_levels"] == _core.isas()
    assert {use["name"]: use["tensors"] for use in found["formats"]} == {"Q4_0": 31, "F16": 5, "F32": 11}


def test_memory_follows_the_context_and_the_cache(command: Command, model: Path) -> None:
    own, longer, wide = (
        as_json(command, model, *argv)["memory"] for argv in ([], ["-c", 4096], ["-c", 4096, "--cache-type", "f32"])
    )
    assert own["n_ctx"] == 512
    # Each cache has a page more than its context, for the copy of one that is shared.
    assert longer["cache"] * (512 + PAGE_TOKENS) == own["cache"] * (4096 + PAGE_TOKENS)
    assert wide["cache"] == 2 * longer["cache"]
    assert wide["weights"] == own["weights"]
    assert b"(does not fit)" in command("info", model, "-c", 10**9).out


def test_memory_without_packing(command: Command, model: Path) -> None:
    packed, mapped = (as_json(command, model, *argv)["memory"] for argv in ([], ["--no-pack"]))
    assert mapped["weights"] == 0 < packed["weights"]
    assert mapped["mapped"] > packed["mapped"] > 0
    assert mapped["total"] < packed["total"]


def test_a_block_that_guesses_is_told_of(command: Command) -> None:
    path = written(*with_block("qwen35"))
    need = as_json(command, path)["memory"]["nextn"]
    assert need > 0
    found = row(command("info", path).out.decode(), "guesses")
    assert " ".join(found).endswith("a block of the file that guesses further tokens (multi-token prediction)")


def test_every_vocabulary(command: Command, shared: Callable[[str], Path]) -> None:
    for path in sorted(shared("vocab").glob("*.gguf")):
        done = command("info", path)
        out = done.out.decode()
        assert (done.code, done.err) == (0, "")
        assert "cannot be run\n  the file has a vocabulary but no tensors" in out
        assert "memory for a context" not in out
        assert "bits per weight" not in out
        assert max(map(len, out.splitlines())) < 180


def test_an_architecture_that_llamaq_lacks(command: Command, shared: Callable[[str], Path]) -> None:
    path = shared("gguf-torture/mv_architecture_bnosucharch.gguf")
    done = command("info", path)
    assert done.code == 0
    assert (
        b"cannot be run\n  general.architecture is 'nosucharch'; llamaq runs Llama, Mistral and Mixtral, " in done.out
    )
    assert row(done.out.decode(), "F32")[0] == "47"
    found = as_json(command, path)
    assert (found["runnable"], found["memory"]) == (False, None)
    assert "nosucharch" in found["problem"]


def test_a_tokenizer_that_llamaq_lacks(command: Command, shared: Callable[[str], Path]) -> None:
    found = as_json(command, shared("gguf-torture/mv_ggml_model_bnosuch.gguf"))
    assert "unknown tokenizer 'nosuch'" in found["problem"]


def test_a_split_model(command: Command, model: Path, tmp_path: Path) -> None:
    with GGUFFile.open(model) as file:
        tensors = list(file.tensors.values())
        for part, chosen in enumerate([tensors[:20], tensors[20:]]):
            split = {"split.no": part, "split.count": 2, "split.tensors.count": len(tensors)}
            write_gguf(
                tmp_path / f"m-{part + 1:05}-of-00002.gguf",
                {**(dict(file.metadata) if part == 0 else {}), **split},
                [TensorData(t.name, t.format, t.shape, file.data(t.name)) for t in chosen],
            )
    found = as_json(command, tmp_path / "m-00002-of-00002.gguf")
    assert len(found["files"]) == 2
    assert found["parameters"] == 260032
    assert {t["file"] for t in found["tensors"]} == {0, 1}
    assert b" in 2 parts\n" in command("info", tmp_path / "m-00001-of-00002.gguf").out


def test_any_value_is_shown_on_one_line(command: Command, tmp_path: Path) -> None:
    nasty = [
        ("bell", STRING, "\x1b[31mred\x07\nnext\u202egnp.exe"),
        ("raw", ARRAY, (STRING, [b"\xff\xfe", "ok"])),
        ("nan", FLOAT32, float("nan")),
        ("infinities", ARRAY, (FLOAT32, [float("inf"), -float("inf"), 1.5])),
        ("empty", ARRAY, (UINT16, [])),
    ]
    path = tmp_path / "nasty.gguf"
    path.write_bytes(build([*EVERY_TYPE, *nasty]))
    done = command("info", path)
    out = done.out.decode()
    assert done.code == 0
    assert all(line.isprintable() for line in out.splitlines())
    assert row(out, "bell") == [r'"\u001b[31mred\u0007\nnext\u202egnp.exe"']
    assert row(out, "raw") == ["2", "x", "string:", r'"\udcff\udcfe",', '"ok"']
    assert row(out, "empty") == ["0", "x", "uint16"]
    assert row(out, "t.u64") == [str(2**64 - 1)]
    assert row(out, "t.true") == ["true"]
    found = as_json(command, path)["metadata"]
    assert found["nan"] is None
    assert found["infinities"] == [None, None, 1.5]
    assert found["t.u64"] == 2**64 - 1
    assert found["a.bytes"][1] == "\udcac"


def test_without_the_compiled_part(command: Command, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llamaq._core", None)
    monkeypatch.delattr("llamaq._core")
    out = command("info", model).out.decode()
    assert "cannot be run\n  llamaq's compiled part is not installed\n" in out
    assert row(out, "Q4_0")[-1] == "-"
    assert as_json(command, model)["simd_levels"] == []


def test_a_damaged_file_is_an_error(command: Command, shared: Callable[[str], Path]) -> None:
    done = command("info", shared("gguf-torture/trunc_24.gguf"))
    assert (done.code, done.out) == (1, b"")
    assert "trunc_24.gguf: byte 8: " in done.err


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("gemma3", [(6, "seeing the last 8 tokens"), (1, "seeing the whole text")]),
        ("lfm2", [(1, "seeing the whole text"), (3, "with a state of each text")]),
        ("llama4", [(3, "seeing 8192 tokens of positions at a time"), (1, "seeing the whole text")]),
        ("llama", []),
    ],
)
def test_parts_of_the_cache_are_told(
    command: Command, shared: Callable[[str], Path], name: str, parts: list[tuple[int, str]]
) -> None:
    path = shared(f"tiny-models/{name}.gguf")
    out = command("info", path).out.decode()
    lines = [line.split() for line in out.splitlines() if line.split()[:1] == ["layers:"]]
    assert [(int(words[1]), " ".join(words[4:])) for words in lines] == parts
    memory = as_json(command, path)["memory"]
    assert sum(group["nbytes"] for group in memory["groups"]) == memory["cache"]


def test_lines_of_memory_add_up_to_the_total(command: Command, model: Path) -> None:
    out = command("info", model).out.decode()
    units = {"KiB": 2**10, "MiB": 2**20}
    rows = re.findall(r"^  (weights|cache|scratch|texts|total) +([0-9.]+) (KiB|MiB)", out, re.MULTILINE)
    bytes_of = {name: float(number) * units[unit] for name, number, unit in rows}
    total = bytes_of.pop("total")
    assert len(bytes_of) == 4
    assert abs(sum(bytes_of.values()) - total) <= 5 * 0.005 * 2**20  # each of the five is rounded to 0.01 MiB at most
