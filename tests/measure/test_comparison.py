"""Two files compared: numbers by hand, weights against NumPy's decoder, the picture, the metadata, the command."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from command import Command
from llamaq import _core
from llamaq.cli.compare import verdict
from llamaq.errors import ModelError
from llamaq.formats import can_decode, can_encode, decode, encode, format_by_name
from llamaq.formats.table import FORMATS
from llamaq.gguf import GGUFFile
from llamaq.measure import Report, compare, picture, store_report, weight_errors
from llamaq.measure.divergence import compare_logits
from llamaq.measure.picture import _marks


@pytest.fixture
def command(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(capsysbinary, monkeypatch)


@pytest.fixture(scope="module")
def base(shared: Callable[[str], Path]) -> Path:
    return shared("models/babyllama-tok361-pad256-F32.gguf")


@pytest.fixture(scope="module")
def quantized(shared: Callable[[str], Path]) -> Path:
    return shared("models/babyllama-tok361-pad256-Q4_K.gguf")


@pytest.fixture(scope="module")
def text(shared: Callable[[str], Path]) -> bytes:
    return shared("text/tinystories-valid-excerpt.txt").read_bytes()[:3000]


@pytest.fixture(scope="module")
def report(base: Path, quantized: Path, text: bytes) -> Report:
    return compare(base, quantized, text, text_name="stories", n_ctx=64, limit=6, threads=1)


def test_names_are_found(text: bytes) -> None:
    found = compare("demo", "demo", text, text_name="stories", n_ctx=64, limit=1, threads=1)
    assert not found.divergence.kl.any()


@settings(max_examples=30)
@given(st.integers(1, 20), st.integers(2, 300), st.floats(0, 30), st.floats(0, 3), st.integers(0, 2**32 - 1))
def test_divergence_by_hand(rows: int, vocabulary: int, spread: float, noise: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    b = (rng.normal(size=(rows, vocabulary)) * spread).astype(np.float32)
    q = b + (rng.normal(size=b.shape) * noise).astype(np.float32)
    following = rng.integers(0, vocabulary, rows).astype(np.int32)
    kl, same_top, losses = compare_logits(b, q, following)
    logs = []
    for x in (b.astype(np.float64), q.astype(np.float64)):
        top = x.max(axis=1, keepdims=True)
        logs.append(x - top - np.log(np.exp(x - top).sum(axis=1, keepdims=True)))
    np.testing.assert_allclose(kl, (np.exp(logs[0]) * (logs[0] - logs[1])).sum(axis=1), rtol=1e-5, atol=1e-6)
    assert (kl >= 0).all()
    np.testing.assert_array_equal(same_top, b.argmax(axis=1) == q.argmax(axis=1))
    np.testing.assert_allclose(losses, [-x[np.arange(rows), following] for x in logs], rtol=1e-6, atol=1e-6)


def test_a_model_does_not_differ_from_itself(base: Path, text: bytes) -> None:
    found = compare(base, base, text, n_ctx=64, limit=2, threads=1).summary()
    same = {"same_top": 1.0, "perplexity": found["base_perplexity"], "perplexity_error": found["base_perplexity_error"]}
    expected = dict.fromkeys(found, 0.0) | {key: found[key] for key in found if key.startswith("base")} | same
    assert found == expected


def test_the_summary(report: Report) -> None:
    found, value = report.divergence, report.summary()
    assert found.kl.shape == found.change.shape == found.same_top.shape == (6, 31)
    assert value["perplexity"] == pytest.approx(np.exp(found.other.losses.mean()))
    assert value["kl_mean"] == pytest.approx(found.kl.mean())
    assert 0 < value["kl_median"] < value["kl_mean"] < value["kl_99"] < value["kl_99_9"] < value["kl_max"]
    assert value["rms_probability_change"] == pytest.approx(np.sqrt((found.change**2).mean()))
    np.testing.assert_allclose(found.change, np.exp(-found.other.losses) - np.exp(-found.base.losses))
    assert 0.5 < value["same_top"] < 1
    assert 0.01 < value["weight_error"] < 0.1


def test_files_of_other_models_are_refused(base: Path, shared: Callable[[str], Path], text: bytes) -> None:
    other = shared("models/stories260K-Q8_0.gguf")
    with pytest.raises(ModelError, match="one vocabulary"):
        compare(base, other, text, n_ctx=32, limit=1, threads=1)
    with GGUFFile.open(base) as one, GGUFFile.open(other) as two, pytest.raises(ModelError, match="expected the shape"):
        weight_errors(one, two)


def test_weight_errors_are_those_of_the_decoder(base: Path, quantized: Path) -> None:
    with GGUFFile.open(base) as one, GGUFFile.open(quantized) as two:
        found = weight_errors(one, two, threads=1)
        assert found == weight_errors(one, two, threads=3)
        assert [error.name for error in found] == [name for name, info in two.tensors.items() if len(info.shape) == 2]
        for error in found:
            x, y = (decode(f.tensors[error.name].format, f.data(error.name)).astype(np.float64) for f in (one, two))
            assert error.relative == pytest.approx(np.sqrt(((x - y) ** 2).sum() / (x**2).sum()), rel=1e-9)
            assert error.weights == x.size


@pytest.mark.parametrize("name", [f.name for f in FORMATS.values() if can_encode(f) and can_decode(f)])
@pytest.mark.parametrize("rows", [1, 3, 71])
def test_weight_errors_of_every_format(name: str, rows: int) -> None:
    rng, f32, format = np.random.default_rng(0), format_by_name("F32"), format_by_name(name)
    x = rng.normal(size=(rows, 256)).astype(np.float32)
    data = encode(format, x)
    team = _core.ThreadTeam(2)
    squares, errors = _core.weight_error(team, f32.id, x.view(np.uint8).ravel(), format.id, data.ravel())
    assert squares == pytest.approx((x.astype(np.float64) ** 2).sum())
    assert errors == pytest.approx(((decode(format, data) - x.astype(np.float64)) ** 2).sum(), rel=1e-9, abs=1e-12)


def test_the_picture(report: Report) -> None:
    drawn = ET.fromstring(picture("a & b", report.divergence, report.weights))
    name = "{http://www.w3.org/2000/svg}"
    texts = [element.text for element in drawn.iter(f"{name}text")]
    assert "a & b" in texts
    assert {"mean", "median", "90 %", "attn_q", "ffn_down"} <= set(texts)
    lines = [element.get("points") for element in drawn.iter(f"{name}polyline")]
    assert len(lines) == 3 + 7
    assert "nan" not in "".join(filter(None, lines))
    looks = [(line.get("stroke"), line.get("stroke-dasharray")) for line in drawn.iter(f"{name}polyline")]
    assert len(set(looks[3:])) == 7


@pytest.mark.parametrize(
    ("kl", "ratio", "words"),
    [
        (
            0.0,
            0.0,
            "Verdict: no loss. OTHER puts another token first at 0.0 of 100 places, and foretells the text as well",
        ),
        (0.0005, 0.0, "a loss that nobody will notice"),
        (0.02, 0.005, "as of good files with four bits"),
        (0.02, 0.1, "and foretells it worse (perplexity +10.5 %)."),
        (0.02, -0.1, "and foretells it better (perplexity -9.5 %)."),
        (0.1, 0.1, "a clear loss"),
        (3.0, 1000.0, "OTHER is hardly the same model any more."),
        (float("nan"), 0.0, "numbers are missing"),
        (0.0, float("inf"), "numbers are missing"),
    ],
)
def test_the_verdict(kl: float, ratio: float, words: str) -> None:
    value = {"kl_mean": kl, "same_top": 1.0, "log_perplexity_ratio": ratio, "log_perplexity_ratio_error": 0.01}
    assert words in verdict(value, 5000)
    assert "longer text" not in verdict(value, 5000)
    assert ("from 500 tokens; a longer text tells more" in verdict(value, 500)) == math.isfinite(kl + ratio)


@pytest.mark.parametrize(
    ("low", "high", "marks"),
    [(260, 507, range(300, 501, 50)), (0, 4, range(5)), (0, 1, range(2)), (31.5, 62.2, range(35, 61, 5)),
     (0, 79, range(0, 71, 10)), (2048, 4095, range(2500, 4001, 500))],
)  # fmt: skip
def test_marks_stand_evenly(low: float, high: float, marks: range) -> None:
    assert _marks(low, high) == marks
    assert 2 <= len(marks) <= 9


def test_a_report_in_the_metadata(report: Report, quantized: Path, tmp_path: Path) -> None:
    path = tmp_path / "q.gguf"
    path.write_bytes(quantized.read_bytes())
    for _ in range(2):  # the second takes the place of the first
        store_report(path, report)
    with GGUFFile.open(path) as file, GGUFFile.open(quantized) as before:
        added = {key: value for key, value in file.metadata.items() if key not in before.metadata}
        assert {key: file.metadata_types[key] for key in before.metadata} == dict(before.metadata_types)
        assert all((file.data(name) == before.data(name)).all() for name in before.tensors)
    assert set(added) == set(report.metadata())
    assert added["llamaq.report.kl_mean"] == np.float32(report.summary()["kl_mean"])
    assert (added["llamaq.report.base"], added["llamaq.report.text"]) == (report.base, "stories")
    assert added["llamaq.report.tokens_scored"] == 6 * 31


def test_the_command(
    command: Command, base: Path, quantized: Path, text: bytes, report: Report, tmp_path: Path
) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(text)
    argv = ["compare", base, quantized, "-f", path, "-c", 64, "--chunks", 6, "-t", 1, "-b", 64]
    done = command(*argv, "--picture", tmp_path / "p.svg")
    assert (done.code, done.err) == (0, "")
    lines = done.out.decode().splitlines()
    value = report.summary()
    assert f"Mean KLD                 {value['kl_mean']:.6f} +/- {value['kl_mean_error']:.6f}" in lines
    assert "186 tokens scored, in 6 chunks of 64" in lines
    assert any(line.startswith("Q4_K             35") for line in lines)
    assert ET.parse(tmp_path / "p.svg")
    assert done.out.decode().splitlines()[-1].startswith("Verdict: ")
    found = json.loads(command(*argv, "--json").out)
    assert found["verdict"].startswith("a ")
    assert {key: found[key] for key in value} == value
    assert len(found["weights"]) == len(report.weights)
    assert "blk.0.attn_q.weight" in command(*argv, "--tensors").out.decode()
    assert command("compare", base, quantized).code == 2


def test_quantize_keeps_a_report(command: Command, base: Path, text: bytes, tmp_path: Path) -> None:
    path, out = tmp_path / "text.txt", tmp_path / "q.gguf"
    path.write_bytes(text)
    done = command("quantize", "--report", path, base, out, "Q4_0")
    assert (done.code, done.err) == (0, "")
    with GGUFFile.open(out) as file:
        value = file.metadata["llamaq.report.kl_mean"]
        assert isinstance(value, float)
        assert f"Mean KLD                 {value:.5f}" in done.out.decode()
        assert file.metadata["llamaq.report.text"] == "text.txt"
