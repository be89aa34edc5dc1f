"""Formats under a budget: sizes that hold, more bytes never more loss, divergences that are kept, refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import llamaq
from command import Command
from llamaq.errors import QuantizationError
from llamaq.formats import format_by_name
from llamaq.gguf import GGUFFile, TensorInfo
from llamaq.gguf.split import split_gguf
from llamaq.measure import compare, weight_errors
from llamaq.quantization import Budget, Importance, Options, fit, make_plan
from llamaq.quantization import ladder as ladders_of
from llamaq.quantization.budget import parse_size
from llamaq.quantization.encode import Search
from llamaq.quantization.ladder import Ladder, Rung, least_loss, least_size, loss_of
from llamaq.quantization.plan import TensorPlan

TENSOR = TensorPlan(TensorInfo("x", format_by_name("F16"), (1, 1), 2, 0), format_by_name("F16"))


@pytest.fixture
def command(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(capsysbinary, monkeypatch)


@pytest.fixture(scope="module")
def model(shared: Callable[[str], Path]) -> Path:
    return shared("models/babyllama-tok361-pad256-F32.gguf")


@pytest.fixture(scope="module")
def text(shared: Callable[[str], Path]) -> str:
    return shared("text/tinystories-valid-excerpt.txt").read_text()[:1500]


@pytest.mark.parametrize("name", ["babyllama-tok361-pad256-F32", "stories260K-F16", "stories260K-BF16"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.45, 0.9])
def test_a_file_is_within_its_size_and_close_to_it(
    shared: Callable[[str], Path], tmp_path: Path, name: str, share: float
) -> None:
    source = shared(f"models/{name}.gguf")
    with GGUFFile.open(source) as file:
        with pytest.raises(QuantizationError) as refused:
            fit(file, Budget(nbytes=1))
        smallest = int(str(refused.value).split("at least ")[1].split(" bytes")[0])
    target = round(smallest + share * (source.stat().st_size - smallest))
    path = llamaq.quantize(source, tmp_path / "out.gguf", target_size=target)
    assert target * 0.97 <= path.stat().st_size <= target


@pytest.mark.parametrize("bits", [3.0, 4.6, 8.0])
def test_bits_per_weight(model: Path, tmp_path: Path, bits: float) -> None:
    path = llamaq.quantize(model, tmp_path / "out.gguf", target_bpw=bits)
    with GGUFFile.open(path) as file:
        weights = sum(info.n_elements for info in file.tensors.values())
        assert 0.97 * bits <= 8 * sum(info.nbytes for info in file.tensors.values()) / weights <= bits


def test_the_loss_falls_with_the_size(model: Path) -> None:
    with GGUFFile.open(model) as file:
        found = [fit(file, Budget(bits_per_weight=bits)).predicted for bits in np.arange(3, 9, 0.5)]
    assert found == sorted(found, reverse=True)
    assert len(set(found)) > 8


@st.composite
def some_ladders(draw: st.DrawFn) -> list[Ladder]:
    points = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 1000)), min_size=1, max_size=7)
    return [
        Ladder("g", ladders_of._hull([Rung(TENSOR, nbytes, float(error)) for nbytes, error in draw(points)]))
        for _ in range(draw(st.integers(1, 8)))
    ]


@settings(max_examples=100)
@given(some_ladders(), st.integers(0, 200), st.integers(0, 50))
def test_more_bytes_never_give_more_loss(ladders: list[Ladder], spare: int, more: int) -> None:
    weight = {"g": 1.0}
    least = sum(ladder.rungs[0].nbytes for ladder in ladders)
    choices = [least_loss(ladders, weight, least + n) for n in (spare, spare + more)]
    sizes = [sum(x.rungs[i].nbytes for x, i in zip(ladders, chosen, strict=True)) for chosen in choices]
    assert sizes[0] <= least + spare
    losses = [loss_of(ladders, chosen, weight) for chosen in choices]
    assert losses[1] <= losses[0]
    again = least_size(ladders, weight, losses[0])
    assert loss_of(ladders, again, weight) <= losses[0]


@settings(max_examples=100)
@given(some_ladders())
def test_steps_gain_less_and_less(ladders: list[Ladder]) -> None:
    for ladder in ladders:
        gains = [ladders_of._gain(a, b) for a, b in zip(ladder.rungs, ladder.rungs[1:], strict=False)]
        assert gains == sorted(gains, reverse=True)
        assert all(gain > 0 for gain in gains)


@pytest.mark.parametrize("weighted", [False, True])
def test_errors_are_those_of_the_file(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weighted: bool
) -> None:
    """Errors of whole matrices are exact, and nearly so from a sample."""
    importance = {"blk.0.ffn_up.weight": np.ones(256, np.float32)} if weighted else None
    path = llamaq.quantize(model, tmp_path / "out.gguf", "Q6_K", pure=True, imatrix=importance)
    with GGUFFile.open(model) as file, GGUFFile.open(path) as other:
        expected = {error.name: error.relative**2 for error in weight_errors(file, other)}["blk.0.ffn_up.weight"]
        plan = next(t for t in make_plan(file, "Q6_K", Options(pure=True)).tensors if "0.ffn_up" in t.info.name)
        for sample, tolerance in ((1 << 18, 1e-6), (1 << 14, 0.1)):
            monkeypatch.setattr(ladders_of, "_SAMPLE", sample)
            search = Search(1)
            found = ladders_of.ladder_of(file, plan, "g", 1, search, Importance(importance or {}))
            (error,) = (rung.error for rung in found.rungs if rung.tensor.format.name == "Q6_K")
            assert error == pytest.approx(expected, rel=tolerance)


def test_runs_of_rows_stay_in_their_matrix() -> None:
    format = format_by_name("F16")
    plan = TensorPlan(TensorInfo("x", format, (300, 7, 1024), 2 * 300 * 7 * 1024, 0), format)
    runs = ladders_of._runs(plan)
    assert len(runs) == 16
    assert all(first // 7 == (first + rows - 1) // 7 < 300 for first, rows in runs)


def test_the_text_tells_what_counts(model: Path, text: str, tmp_path: Path) -> None:
    """A choice has at most the divergence of llama.cpp's mixture of the same size."""
    mixture = llamaq.quantize(model, tmp_path / "mixture.gguf", "Q4_K_M")
    size = mixture.stat().st_size
    with GGUFFile.open(model) as file:
        found = fit(file, Budget(nbytes=size, text=text), threads=1)
    assert found.measured is not None
    chosen = llamaq.quantize(model, tmp_path / "chosen.gguf", target_size=size, text=text, threads=1)
    assert chosen.stat().st_size <= size
    divergence = [compare(model, path, text, threads=1).summary()["kl_mean"] for path in (chosen, mixture)]
    assert divergence[0] < divergence[1]


@pytest.mark.parametrize("bound", [0.05, 0.004])
def test_a_divergence_is_kept(model: Path, text: str, tmp_path: Path, bound: float) -> None:
    with GGUFFile.open(model) as file:
        found = fit(file, Budget(max_kl=bound, text=text), threads=1)
    path = llamaq.quantize(model, tmp_path / "out.gguf", max_kl=bound, text=text, threads=1)
    assert path.stat().st_size == found.plan.file_nbytes()
    assert found.measured == pytest.approx(compare(model, path, text, threads=1).summary()["kl_mean"], rel=1e-6)
    assert found.measured is not None
    assert 0.7 * bound < found.measured <= bound


def test_what_the_user_chose_stays(model: Path, tmp_path: Path) -> None:
    path = llamaq.quantize(
        model, tmp_path / "out.gguf", target_bpw=4, tensor_types={r"blk\.0\.ffn": "Q8_0"}, token_embedding_type="Q5_0"
    )
    with GGUFFile.open(path) as file:
        formats = {name: info.format.name for name, info in file.tensors.items()}
    assert formats["token_embd.weight"] == "Q5_0"
    assert {formats[f"blk.0.ffn_{x}.weight"] for x in ("up", "gate", "down")} == {"Q8_0"}


@pytest.mark.parametrize(
    ("text", "size"),
    [("4.5GiB", 9 << 29), ("700MiB", 700 << 20), ("4G", 4 * 10**9), ("1.5kb", 1500), ("123", 123), ("8 B", 8)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_size": 1000}, r"1000 bytes are too few: expected at least \d+ bytes \(and at most \d+ bytes"),
        ({"target_bpw": 1.5}, r"1\.500 bits per weight are too few: expected at least \d\.\d+ bits"),
        ({"target_size": "much"}, "target_size must be a size such as 4.5GiB"),
        (
            {"target_size": 10**6, "target_bpw": 4},
            "expected one positive limit.*got target_size of 1000000 and target_bpw of 4",
        ),
        ({"target_bpw": -1}, "expected one positive limit"),
        ({"target_bpw": float("nan")}, "target_bpw must be a number, got nan"),
        ({"max_kl": 0.1}, "text is missing: max_kl is measured over one"),
        ({"text": "a"}, "a text is for a budget"),
        ({"target_bpw": 4, "pure": True}, "one format for all"),
        ({"target_bpw": 4, "type": "Q4_0"}, "a budget or a type"),
        ({"target_bpw": 4, "tensor_types": {".": "Q4_0"}}, "no matrix is left"),
        ({"target_bpw": 4, "text": "short"}, "the text has .* tokens, one chunk needs 256"),
    ],
)
def test_refusals(model: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises((QuantizationError, ValueError), match=message):
        llamaq.quantize(model, tmp_path / "out.gguf", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_divergence_that_cannot_be_kept(model: Path, text: str) -> None:
    with (
        GGUFFile.open(model) as file,
        pytest.raises(QuantizationError, match=r"no choice has a mean divergence of at most 0\.001; the best of \d"),
    ):
        fit(file, Budget(max_kl=0.001, text=text), Options(tensor_types=[("ffn", "Q2_K")]), threads=1)


def test_the_command_prints_the_choice(command: Command, model: Path, tmp_path: Path) -> None:
    done = command("quantize", "--target-size", "1.5MiB", model, tmp_path / "out.gguf", 1)
    assert (done.code, done.err) == (0, "")
    table = done.out.decode()
    size = (tmp_path / "out.gguf").stat().st_size
    assert size <= 3 << 19
    assert f"{size} bytes, " in table
    assert "ffn_down 3/3" in table
    assert "token_embd " in table


def test_the_command_names_a_file_by_its_bits(
    command: Command, model: Path, shared: Callable[[str], Path], tmp_path: Path
) -> None:
    source = tmp_path / "in.gguf"
    source.write_bytes(model.read_bytes())
    story = shared("text/tinystories-valid-excerpt.txt")
    done = command("quantize", "--max-kl", "0.05", "--text", story, source, 1)
    assert (done.code, done.err) == (0, "")
    assert "mean KLD predicted 0.0" in done.out.decode()
    (path,) = tmp_path.glob("ggml-model-*bpw.gguf")
    assert command("quantize", "--dry-run", "--target-bpw", 4, source).code == 0
    assert set(tmp_path.iterdir()) == {source, path}


@pytest.mark.parametrize("words", [[], ["MODEL", "Q4_K_M"], ["MODEL", "a.gguf", "Q4_K_M", "2"]])
def test_the_command_takes_no_type_with_a_budget(command: Command, model: Path, words: list[str]) -> None:
    done = command("quantize", "--target-bpw", 4, *(model if word == "MODEL" else word for word in words))
    assert done.code == 2
    assert "expected IN.gguf [OUT.gguf] [NTHREADS] with a budget" in done.err


@pytest.mark.parametrize("keep", [False, True])
def test_the_size_is_that_of_all_parts(model: Path, tmp_path: Path, keep: bool) -> None:
    first = split_gguf(model, tmp_path / "in", max_tensors=20)[0]
    (tmp_path / "out").mkdir()
    llamaq.quantize(first, tmp_path / "out" / "q.gguf", target_size=2_000_000, keep_split=keep)
    sizes = [path.stat().st_size for path in (tmp_path / "out").iterdir()]
    assert len(sizes) == (3 if keep else 1)
    assert 1_980_000 < sum(sizes) <= 2_000_000


def test_threads_do_not_change_the_choice(model: Path, text: str) -> None:
    with GGUFFile.open(model) as file:
        one, two = (fit(file, Budget(bits_per_weight=4.6, text=text), threads=threads) for threads in (1, 2))
    assert (one.chosen, one.sensitivity, one.measured) == (two.chosen, two.sensitivity, two.measured)


def test_a_model_that_cannot_be_measured_says_so_in_words_of_the_command(
    command: Command, model: Path, tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not "lower n_ctx", which is no option of it."""
    monkeypatch.setattr("llamaq.engine.memory.available_memory", lambda: 4096)
    (tmp_path / "text").write_text(text)
    done = command("quantize", "--target-size", "1.5MiB", "--text", tmp_path / "text", model, tmp_path / "out.gguf", 1)
    assert (done.code, (tmp_path / "out.gguf").exists()) == (1, False)
    assert "but 4096 are available; leave out --text, or free memory\n" in done.err
    assert "n_ctx" not in done.err

    def weigh(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("llamaq.quantization.budget.ladder_of", weigh)
    done = command("quantize", "--target-size", "1.5MiB", model, tmp_path / "out.gguf", 1)
    assert (done.code, done.err) == (1, "llamaq: error: out of memory; choose a smaller model, or free memory\n")
