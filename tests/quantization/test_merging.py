"""Adapters merged into a file: the bytes of the formula, formats kept or chosen, stacks, tables, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from adapters import random_factors, write_adapter
from command import Command
from llamaq.errors import GGUFError, LlamaqError, ModelError, QuantizationError
from llamaq.formats import decode, encode, format_by_name
from llamaq.gguf import GGUFFile, TensorData, write_gguf
from llamaq.gguf.split import split_gguf
from llamaq.quantization import merge_adapters

F32 = NDArray[np.float32]
SHAPES: dict[str, tuple[int, ...]] = {
    "token_embd.weight": (50, 64), "blk.0.attn_q.weight": (48, 64), "blk.0.ffn_up_exps.weight": (3, 40, 64),
    "blk.0.attn_norm.weight": (64,),
}  # fmt: skip


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model.gguf", "F32")


def write_model(path: Path, format: str) -> Path:
    rng, tensors = np.random.default_rng(1), []
    for name, shape in SHAPES.items():
        fmt = format_by_name("F32" if len(shape) == 1 else format)
        tensors.append(TensorData(name, fmt, shape, encode(fmt, rng.standard_normal(shape, np.float32))))
    write_gguf(path, {"general.architecture": "llama", "x.key": "kept"}, tensors)
    return path


def tensors_of(path: Path) -> dict[str, F32]:
    with GGUFFile.open(path) as file:
        return {name: decode(info.format, np.array(file.data(name))) for name, info in file.tensors.items()}


def factors(seed: int, *names: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in names:
        *outer, rows, cols = SHAPES["token_embd.weight" if name == "output.weight" else name]
        pairs = [random_factors(f"{name}{i}", rows, cols, 3, seed) for i in range(*outer or [1])]
        a, b = (np.stack(each) if outer else each[0] for each in zip(*pairs, strict=True))
        found[name] = (b, a.T) if name == "token_embd.weight" else (a, b)
    return found


def product(name: str, pair: Any, scale: float) -> F32:
    """One product after the other, in binary32, as the file's bytes are defined."""
    a, b = pair
    left, right = (a, b.T) if name == "token_embd.weight" else (b, a)
    return sum_of((left.astype(np.float64) * scale).astype(np.float32), right)


def sum_of(left: F32, right: F32) -> F32:
    return np.stack([left[..., k, None] * right[..., k, None, :] for k in range(left.shape[-1])])


ALL = ("token_embd.weight", "blk.0.attn_q.weight", "blk.0.ffn_up_exps.weight", "output.weight")


def test_the_bytes_are_those_of_the_formula(model: Path, tmp_path: Path) -> None:
    """Two adapters, in the order given; the head parts from the embeddings, which one of both changes."""
    one, two = factors(1, *ALL), factors(2, "blk.0.attn_q.weight")
    adapters: dict[Any, float] = {
        write_adapter(tmp_path / "1.gguf", one, alpha=6.0): 0.5,
        write_adapter(tmp_path / "2.gguf", two, alpha=0.0): -1.0,
    }
    ticks: list[tuple[int, int]] = []
    merge_adapters(model, tmp_path / "out.gguf", adapters, threads=1, progress=lambda *t: ticks.append(t))
    before, after = tensors_of(model), tensors_of(tmp_path / "out.gguf")
    assert [*after] == [*before, "output.weight"]
    before["output.weight"] = before["token_embd.weight"]
    for name in before:
        want = before[name].copy()
        for pairs, scale in ((one, 6.0 / 3 * 0.5), (two, -1.0)):
            for part in product(name, pairs[name], scale) if name in pairs else ():
                want += part
        np.testing.assert_array_equal(after[name], want)
    assert ticks[-1][0] == ticks[-1][1]
    with GGUFFile.open(tmp_path / "out.gguf") as file:
        assert file.metadata["x.key"] == "kept"


@pytest.mark.parametrize("format", ["F16", "BF16", "Q8_0", "Q4_0"])
def test_formats_are_kept_or_chosen(format: str, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model.gguf", format)
    adapter = write_adapter(tmp_path / "a.gguf", factors(1, "blk.0.attn_q.weight"), alpha=3.0)
    merge_adapters(model, tmp_path / "own.gguf", {adapter: 0.1})
    merge_adapters(model, tmp_path / "f32.gguf", {adapter: 0.1}, type="f32")
    with GGUFFile.open(model) as source, GGUFFile.open(tmp_path / "own.gguf") as file:
        assert {name: t.format for name, t in file.tensors.items()} == {
            name: t.format for name, t in source.tensors.items()
        }
        same = [name for name in file.tensors if np.array_equal(file.data(name), source.data(name))]
        assert same == [name for name in SHAPES if name != "blk.0.attn_q.weight"]
    own, exact = (tensors_of(tmp_path / f"{name}.gguf")["blk.0.attn_q.weight"] for name in ("own", "f32"))
    step = {"F16": 2**-11, "BF16": 2**-8, "Q8_0": 1 / 127, "Q4_0": 1 / 7}[format]  # parts of the largest in a block
    assert 0 < np.abs(own - exact).max() <= step * np.abs(exact).max()


def test_a_split_model_and_threads(model: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "a.gguf", factors(1, *ALL[:3]))
    parts = split_gguf(model, tmp_path / "part", max_tensors=2)
    merge_adapters(parts[1], tmp_path / "a", {adapter: 1.0}, threads=2, type="q4_0")
    merge_adapters(model, tmp_path / "b", {adapter: 1.0}, threads=1, type="Q4_0")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_what_does_not_fit_leaves_the_target_as_it_was(model: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.gguf"
    target.write_text("old")
    good = factors(1, "blk.0.attn_q.weight")
    a, b = good["blk.0.attn_q.weight"]
    nan = a.copy()
    nan[0, 0] = np.nan
    cases: list[tuple[dict[str, Any], dict[str, Any], type[LlamaqError], str]] = [
        ({"blk.0.attn_q.weight": (a[:, 1:], b)}, {}, ModelError, r"bad\.gguf: .*lora_a.*expected shape \(3, 64\)"),
        ({"blk.0.attn_q.weight": (a, b[1:])}, {}, ModelError, r"lora_b.*expected shape \(48, 3\)"),
        ({"blk.9.attn_q.weight": (a, b)}, {}, ModelError, "no tensor of that name"),
        ({"blk.0.attn_norm.weight": (a, b)}, {}, ModelError, "no matrix"),
        ({"blk.0.attn_q.weight": (nan, b)}, {}, QuantizationError, "expected finite weights"),
        (good, {"type": "q4_k"}, QuantizationError, "rows of 64 are no blocks of Q4_K; choose another type"),
    ]
    for pairs, options, error, message in cases:
        adapter = write_adapter(tmp_path / "bad.gguf", pairs)
        with pytest.raises(error, match=message):
            merge_adapters(model, target, {adapter: 1.0}, **{"type": "f16", **options})
        assert target.read_text() == "old"
    adapter = write_adapter(tmp_path / "good.gguf", good)
    for path in (model, adapter):
        size = path.stat().st_size
        with pytest.raises(GGUFError, match="is a file that is read"):
            merge_adapters(model, path, {adapter: 1.0})
        assert path.stat().st_size == size
    with pytest.raises(ValueError, match="type: "):
        merge_adapters(model, target, {adapter: 1.0}, type="q9")


def test_the_command(
    shared: Callable[[str], Path], tmp_path: Path, capsysbinary: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, model = Command(capsysbinary, monkeypatch), shared("models/stories260K-F32.gguf")
    for name in "ab":
        write_adapter(tmp_path / f"{name}.gguf", {"blk.1.attn_v.weight": random_factors(name, 32, 64, 4)})
    a, b, out = (tmp_path / f"{name}.gguf" for name in ("a", "b", "out"))
    done = command("merge", model, out, "--lora", a, "--lora-scaled", b, "0.5", "-t", 1)
    assert (done.code, done.out.decode().startswith(f"{out}: ")) == (0, True)
    merge_adapters(model, tmp_path / "want.gguf", {a: 1.0, b: 0.5})
    assert out.read_bytes() == (tmp_path / "want.gguf").read_bytes()
    assert command("merge", model, "--lora", a, out, "--type", "f16").code == 0
    assert command("merge", model, out, "--type", "f16").code == 2
