"""Quantizing files: what is written, what is refused, and that nothing is left of a run that fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import llamaq
from llamaq import LLM
from llamaq.errors import GGUFError, QuantizationError
from llamaq.formats import FORMATS, encode, format_by_name
from llamaq.gguf import GGUFFile, TensorData, imatrix, write_gguf
from llamaq.quantization import make_plan, write

F32 = format_by_name("F32")


@pytest.fixture
def model(shared: Callable[[str], Path]) -> Path:
    return shared("models/babyllama-tok361-pad256-F32.gguf")


def write_model(path: Path, tensors: dict[str, Any], **metadata: Any) -> Path:
    """A file of F32 tensors."""
    data = [TensorData(name, F32, np.shape(x), np.asarray(x, np.float32)) for name, x in tensors.items()]
    write_gguf(path, {"general.architecture": "llama", "llama.block_count": 1, **metadata}, data)
    return path


def matrix(rows: int, cols: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal((rows, cols)).astype(np.float32)


@pytest.mark.parametrize(
    "type", ["Q4_K_M", "Q6_K", "IQ4_XS", "Q8_0", "BF16", "F16", "F32", "MXFP4", "IQ3_M", "IQ2_XXS", "IQ1_M"]
)
def test_a_file_is_what_its_plan_said(model: Path, tmp_path: Path, type: str) -> None:
    path = llamaq.quantize(model, tmp_path / "out.gguf", type)
    with GGUFFile.open(model) as source, GGUFFile.open(path) as file:
        plan = make_plan(source, type)
        assert plan.file_type is not None
        assert {name: t.format for name, t in file.tensors.items()} == {t.info.name: t.format for t in plan.tensors}
        assert sum(t.nbytes for t in file.tensors.values()) == plan.nbytes
        assert list(file.tensors) == list(source.tensors)
        assert file.metadata["general.file_type"] == plan.file_type.number
        assert file.metadata["general.quantization_version"] == 2
        assert set(source.metadata) <= set(file.metadata)


def test_a_copy_is_the_same_model(model: Path, tmp_path: Path) -> None:
    path = llamaq.quantize(model, tmp_path / "out.gguf", "copy")
    with GGUFFile.open(model) as source, GGUFFile.open(path) as file:
        assert {k: str(v) for k, v in file.metadata.items()} == {k: str(v) for k, v in source.metadata.items()}
        for name in source.tensors:
            np.testing.assert_array_equal(file.data(name), source.data(name))


def test_a_name_is_found(tmp_path: Path) -> None:
    path = llamaq.quantize("demo", tmp_path / "out.gguf", "copy")
    with LLM.load("demo", threads=1, n_ctx=64) as llm, GGUFFile.open(path) as file:
        assert list(file.tensors) == list(llm.model.parts.file.tensors)
    with pytest.raises(ValueError, match=r"^demo is a model of another place .*: name the file to write, target$"):
        llamaq.quantize("demo", type="copy")


def test_the_default_name_lies_beside_the_source(tmp_path: Path) -> None:
    source = write_model(tmp_path / "a.gguf", {"x.weight": matrix(2, 32)})
    path = tmp_path / "ggml-model-Q4_0.gguf"
    assert llamaq.quantize(source, type="q4_0") == path
    path.write_bytes(b"mine")
    with pytest.raises(GGUFError, match=r"ggml-model-Q4_0\.gguf: is there already; name the file to write"):
        llamaq.quantize(source, type="q4_0")
    assert path.read_bytes() == b"mine"
    llamaq.quantize(source, path, type="q4_0")
    assert path.read_bytes() != b"mine"


@pytest.mark.parametrize("type", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_reference_bytes(tmp_path: Path, type: str) -> None:
    values = matrix(3, 64)
    source = write_model(tmp_path / "a.gguf", {"blk.0.ffn_up.weight": values})
    path = llamaq.quantize(source, tmp_path / "b.gguf", type, reference=True)
    with GGUFFile.open(path) as file:
        np.testing.assert_array_equal(file.data("blk.0.ffn_up.weight"), encode(format_by_name(type), values))


def test_pieces_do_not_show(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors cut into pieces give the bytes of whole ones."""
    whole = llamaq.quantize(model, tmp_path / "whole.gguf", "Q5_K_M").read_bytes()
    monkeypatch.setattr(write, "_PIECE", 1000)
    assert llamaq.quantize(model, tmp_path / "cut.gguf", "Q5_K_M", threads=3).read_bytes() == whole


def test_progress_ends_with_everything(model: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    llamaq.quantize(model, tmp_path / "out.gguf", "Q8_0", progress=lambda done, total: calls.append((done, total)))
    assert calls[-1][0] == calls[-1][1] > 0
    assert calls == sorted(calls)


def test_metadata_can_be_replaced(tmp_path: Path) -> None:
    source = write_model(tmp_path / "a.gguf", {"x.weight": matrix(2, 32)})
    changes: dict[str, int | float | bool | str] = {"general.name": "b", "llama.block_count": 7, "x": True}
    path = llamaq.quantize(source, tmp_path / "b.gguf", "Q8_0", override_kv=changes)
    with GGUFFile.open(path) as file:
        assert {key: file.metadata[key] for key in changes} == changes


def split_model(folder: Path) -> Path:
    for number, name in enumerate(["a.weight", "b.weight"]):
        metadata: dict[str, Any] = {"general.architecture": "llama", "llama.block_count": 1} if number == 0 else {}
        metadata |= {"split.no": np.uint16(number), "split.count": np.uint16(2), "split.tensors.count": np.int32(2)}
        data = TensorData(name, F32, (2, 64), matrix(2, 64, number))
        write_gguf(folder / f"m-{number + 1:05}-of-00002.gguf", metadata, [data])
    return folder / "m-00001-of-00002.gguf"


@pytest.mark.parametrize("keep", [False, True])
def test_split_models(tmp_path: Path, keep: bool) -> None:
    path = llamaq.quantize(split_model(tmp_path), tmp_path / "q.gguf", "Q8_0", keep_split=keep, reference=True)
    with GGUFFile.open(path) as file:
        assert len(file.paths) == (2 if keep else 1)
        assert ("split.count" in file.metadata) is keep
        for number, name in enumerate(["a.weight", "b.weight"]):
            np.testing.assert_array_equal(file.data(name), encode(format_by_name("Q8_0"), matrix(2, 64, number)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("type", ["Q4_0", "Q4_K_S", "F16", "BF16"])
def test_weights_that_are_no_numbers_are_named(tmp_path: Path, value: float, type: str) -> None:
    values = matrix(40, 256)
    values[33, 77] = values[35, 0] = value
    source = write_model(tmp_path / "a.gguf", {"blk.0.ffn_up.weight": values})
    with pytest.raises(QuantizationError, match=r"'blk\.0\.ffn_up\.weight', row 33: expected finite"):
        llamaq.quantize(source, tmp_path / "b.gguf", type)
    assert os.listdir(tmp_path) == ["a.gguf"]


def test_quantized_weights_are_refused_unless_allowed(shared: Callable[[str], Path], tmp_path: Path) -> None:
    source = shared("models/stories260K-Q8_0.gguf")
    with pytest.raises(QuantizationError, match=r"got Q8_0, which was quantized before.*choose allow_requantize"):
        llamaq.quantize(source, tmp_path / "b.gguf", "Q4_0")
    llamaq.quantize(source, tmp_path / "b.gguf", "Q4_0", allow_requantize=True)


def test_the_source_is_not_overwritten(tmp_path: Path) -> None:
    source = write_model(tmp_path / "a.gguf", {"x.weight": matrix(2, 32)})
    before = source.read_bytes()
    with pytest.raises(GGUFError, match="is the file that is read"):
        llamaq.quantize(source, source, "Q8_0")
    assert source.read_bytes() == before


def test_a_source_that_shrinks_is_an_error(tmp_path: Path) -> None:
    source = write_model(tmp_path / "a.gguf", {"x.weight": matrix(200, 320)})
    with GGUFFile.open(source) as file:
        plan = make_plan(file, "Q8_0")
        os.truncate(source, source.stat().st_size - 4096)
        with pytest.raises(GGUFError, match=r"'x\.weight': cannot be read: the file has become shorter"):
            write.run_plan(plan, tmp_path / "b.gguf")
    assert os.listdir(tmp_path) == ["a.gguf"]


def test_importance_of_another_model_is_refused(tmp_path: Path) -> None:
    source = write_model(tmp_path / "a.gguf", {"x.weight": matrix(2, 32)})
    with pytest.raises(QuantizationError, match="importance for 32 columns of 1 matrices"):
        llamaq.quantize(source, tmp_path / "b.gguf", "Q8_0", imatrix={"x.weight": np.ones(64, np.float32)})


STUCK = """
import signal, sys
from llamaq.quantization import write
write._Stream.pieces = lambda *args: iter(lambda: (print("writing", flush=True), signal.pause()), None)
write.quantize(sys.argv[1], sys.argv[2], "Q8_0")
"""


@pytest.mark.subprocess
@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="files without a name are Linux's")
def test_a_killed_run_leaves_nothing(tmp_path: Path) -> None:
    source = write_model(tmp_path / "a.gguf", {"x.weight": matrix(2, 32)})
    command = [sys.executable, "-c", STUCK, str(source), str(tmp_path / "b.gguf")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        process.send_signal(signal.SIGKILL)
    assert os.listdir(tmp_path) == ["a.gguf"]


FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
import llamaq
from llamaq.gguf import imatrix
try:
    llamaq.quantize(sys.argv[1], sys.argv[2], "Q8_0")
except llamaq.LlamaqError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.subprocess
@pytest.mark.skipif(os.name != "posix", reason="limits on file sizes are POSIX")
def test_a_disk_that_takes_no_more_is_an_error(tmp_path: Path) -> None:
    source = write_model(tmp_path / "a.gguf", {"x.weight": matrix(200, 320)})
    out = subprocess.check_output([sys.executable, "-c", FULL, str(source), str(tmp_path / "b.gguf")], text=True)
    assert out.startswith(f"GGUFError {tmp_path / 'b.gguf'}: cannot be written: File too large; raise the limit")
    assert os.listdir(tmp_path) == ["a.gguf"]


def test_every_target_can_be_decoded(model: Path, tmp_path: Path) -> None:
    with GGUFFile.open(llamaq.quantize(model, tmp_path / "out.gguf", "Q2_K")) as file:
        assert {t.format.id for t in file.tensors.values()} <= set(FORMATS)


def test_the_file_says_which_importance_was_used(tmp_path: Path) -> None:
    source = write_model(tmp_path / "a.gguf", {"x.weight": matrix(2, 32)})
    entry = imatrix.Squares(np.ones((1, 32), np.float32), np.ones(1, np.float32))
    imatrix.save(tmp_path / "i.gguf", imatrix.Imatrix({"x.weight": entry}, ("text.txt",), 3, 512))
    path = llamaq.quantize(source, tmp_path / "b.gguf", "Q8_0", imatrix=tmp_path / "i.gguf")
    with GGUFFile.open(path) as file:
        found = {key: value for key, value in file.metadata.items() if key.startswith("quantize.imatrix")}
    assert found == {
        "quantize.imatrix.file": str(tmp_path / "i.gguf"),
        "quantize.imatrix.dataset": "text.txt",
        "quantize.imatrix.entries_count": 1,
        "quantize.imatrix.chunks_count": 3,
    }
