"""What loading says about a file before it runs: tensors that nothing reads, tables that fit no head."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llamaq.engine.loading import plan_of
from llamaq.errors import ModelError
from llamaq.formats import format_by_name
from llamaq.gguf import GGUFFile, TensorData, write_gguf
from llamaq.models import MAX_HEAD_DIM, ROPE_FREQS
from tiny_llama import tiny_llama


def model_with(path: Path, **shapes: tuple[int, ...]) -> Path:
    """The tiny model with further tensors of zeros, named with "__" for the dots."""
    metadata, tensors = tiny_llama(layers=1)
    tensors |= {name.replace("__", "."): np.zeros(shape, np.float32) for name, shape in shapes.items()}
    f32 = format_by_name("F32")
    write_gguf(path, metadata, [TensorData(name, f32, x.shape, x) for name, x in tensors.items()])
    return path


def test_tensors_that_no_op_reads_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    more = {f"blk__0__other_{i}__weight": (4,) for i in range(8)}
    with GGUFFile.open(model_with(tmp_path / "m.gguf", blk__0__attn_q_norm__weight=(16,), **more)) as file:
        plan_of(file)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "does not read blk.0.attn_q_norm.weight, blk.0.other_0.weight" in record.message
    assert "blk.0.other_4.weight and 3 more;" in record.message


def test_parts_beside_the_language_model_are_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = model_with(tmp_path / "m.gguf", v__blk__0__ln1__weight=(4,), mm__0__weight=(4, 4), mtp__fc__weight=(4, 4))
    with GGUFFile.open(path) as file:
        plan_of(file)
    assert caplog.records == []


def test_a_rope_table_that_fits_no_head_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llamaq.engine.loading.decode", lambda *_: pytest.fail("the table was decoded"))
    path = model_with(tmp_path / "m.gguf", **{ROPE_FREQS.replace(".", "__"): (MAX_HEAD_DIM // 2 + 1,)})
    with GGUFFile.open(path) as file, pytest.raises(ModelError, match="expected 8 positive numbers"):
        plan_of(file)
