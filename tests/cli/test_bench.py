"""``llamaq bench``: options as llama-bench has them, tables, JSON and CSV, and Ctrl-C."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from command import Command
from llamaq import _core
from llamaq.measure import speed as bench
from llamaq.measure.speed import Workload

FIELDS = [
    *("build_commit", "cpu_info", "backends", "level", "numerics", "model_filename"),
    *("model_type", "model_size", "model_n_params"),
    *("n_batch", "n_ubatch", "n_threads", "type_k", "type_v", "use_mmap", "n_prompt", "n_gen", "n_depth", "n_parallel"),
    *("test_time", "avg_ns", "stddev_ns", "avg_ts", "stddev_ts"),
    *("read_bandwidth_gbps", "read_bandwidth_median_gbps", "read_bandwidth_min_gbps", "percent_of_bandwidth"),
    *("int8_peak_gops", "int8_peak_median_gops", "int8_peak_min_gops", "percent_of_int8_peak", "remark"),
    *("samples_ns", "samples_ts"),
]


@pytest.fixture
def command(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Command:
    for name in ("LLAMA_ARG_MODEL", "LLAMA_ARG_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(_core, "probe", lambda team, size, level: (10e9, 500e9))
    return Command(capsysbinary, monkeypatch)


@pytest.fixture(scope="module")
def model(shared: Callable[[str], Path]) -> Path:
    return shared("models/stories260K-Q4_0.gguf")


def records(command: Command, *argv: object) -> list[dict[str, Any]]:
    done = command("bench", *argv, "-o", "json")
    assert (done.code, done.err) == (0, "")
    found: list[dict[str, Any]] = json.loads(done.out)
    return found


def workloads_of(found: list[dict[str, Any]]) -> list[str]:
    return [str(Workload(r["n_prompt"], r["n_gen"], r["n_depth"], r["n_parallel"])) for r in found]


def test_json_has_the_fields_of_llama_bench_and_shares_of_the_limits(command: Command, model: Path) -> None:
    (record,) = records(command, model, "-p", 16, "-n", 0, "-t", 2, "-r", 3)
    assert list(record) == FIELDS
    assert record["model_type"] == "llama 260.03K Q4_0"
    assert (record["level"], record["n_threads"], record["type_k"]) == (_core.chosen_isa(), 2, "f16")
    assert len(record["samples_ns"]) == len(record["samples_ts"]) == 3
    assert record["avg_ns"] == pytest.approx(sum(record["samples_ns"]) / 3, abs=1)
    assert record["samples_ts"][0] == pytest.approx(16e9 / record["samples_ns"][0], rel=1e-3)
    assert (record["read_bandwidth_gbps"], record["int8_peak_gops"]) == (10.0, 500.0)
    assert 0 < record["percent_of_int8_peak"] < 100


def test_plain_numbers_have_no_share_of_the_int8_peak(command: Command, model: Path) -> None:
    (record,) = records(command, model.with_name("stories260K-F32.gguf"), "-p", 4, "-n", 0, "-r", 1)
    assert record["percent_of_int8_peak"] is None
    assert record["stddev_ns"] == 0


def test_lists_and_ranges_make_every_combination(command: Command, model: Path) -> None:
    found = records(command, model, "-p", "4,8", "-p", "16-24+8", "-n", 2, "-d", "0,32", "-npl", "1-4*2", "-r", 1)
    written = ["tg2", "tg2 x2", "tg2 x4"]
    tests = ["pp4", "pp8", "pp16", "pp24", *written]
    assert workloads_of(found) == [*tests, *(f"{test} @ d32" for test in tests)]
    found = records(command, "-m", model, "-p", 0, "-n", 1, "-pg", "4,2", "-t", "1-2", "-b", 8, "-ub", "4,16", "-r", 1)
    assert workloads_of(found) == ["tg1", "pp4+tg2"] * 4
    assert [(r["n_threads"], r["n_batch"], r["n_ubatch"]) for r in found[::2]] == [
        (1, 8, 4), (1, 8, 16), (2, 8, 4), (2, 8, 16),
    ]  # fmt: skip


def test_the_usual_tests(command: Command, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def instant(*args: object, **options: object) -> Iterator[float]:
        yield from (0.25, 0.5, 0.5, 0.5, 0.25, 0.5)

    monkeypatch.setattr(bench, "seconds", instant)
    found = records(command, model)
    shallow = ["pp512", "pp128", "tg64"]
    assert workloads_of(found) == [
        *shallow,
        *(f"{name} @ d4096" for name in shallow),
        *(f"tg64 x{n}" for n in (2, 4, 8, 16)),
    ]
    assert found[0]["samples_ns"] == [250000000, 500000000, 500000000, 500000000, 250000000]
    assert found[2]["samples_ts"] == [256, 128, 128, 128, 256]


def test_a_table_of_markdown(command: Command, model: Path) -> None:
    done = command("bench", model, "-p", 8, "-n", 2, "-npl", 2, "-r", 2, "-ub", 4)
    assert (done.code, done.err) == (0, "")
    head, rule, *rows, blank, limits, version = done.out.decode().splitlines()
    names = ["model", "size", "params", "backend", "threads", "n_ubatch", "test", "t/s", "GB/s", "% bandwidth"]
    names += ["% int8 peak"]
    assert [cell.strip() for cell in head.strip("|").split("|")] == names
    assert len(rule) == len(head)
    assert [row.split("|")[7].strip() for row in rows] == ["pp8", "tg2 x2"]
    assert " ± " in rows[0]
    assert blank == ""
    assert limits.endswith("threads: reads 10.0 GB/s, int8 peak 500 GOP/s")
    assert version.startswith("llamaq ")


def test_the_machine_is_probed_between_the_runs(command: Command, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What others leave of it changes: the range is told, and percentages are of the highest."""

    def probe(team: object, size: int, level: str) -> tuple[float, float]:
        order.append("probe")
        return next(bandwidths) * 1e9, 400e9

    def timed(*args: object, **options: object) -> Iterator[float]:
        while True:
            order.append("run")
            yield 0.001

    order: list[str] = []
    bandwidths = iter((32.0, 63.0, 40.0, 35.0, 30.0))
    monkeypatch.setattr(_core, "probe", probe)
    monkeypatch.setattr(bench, "seconds", timed)
    first, second = records(command, model, "-p", "0", "-n", "1,2", "-r", 2)
    assert order == ["probe", *["run", "probe"] * 4]
    names = ("read_bandwidth_gbps", "read_bandwidth_median_gbps", "read_bandwidth_min_gbps")
    assert [first[name] for name in names] == [63, 40, 32]
    assert [second[name] for name in names] == [40, 35, 30]
    assert second["percent_of_bandwidth"] / first["percent_of_bandwidth"] == pytest.approx(2 * 63 / 40, rel=0.05)
    bandwidths = iter((32.0, 63.0, 40.0, 35.0, 30.0))
    table = command("bench", model, "-p", 0, "-n", "1,2", "-r", 2).out.decode()
    cells = [line.split("|")[8].strip() for line in table.splitlines() if line.startswith("|")]
    assert cells[2:] == ["32.0-63.0", "30.0-40.0"]
    assert "threads: reads 30.0-63.0 GB/s, int8 peak 400 GOP/s" in table


def test_no_percentage_above_100_without_its_reason(
    command: Command, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (model, "-p", 0, "-n", 8, "-r", 1)
    assert records(command, *options)[0]["remark"] is None
    assert "*" not in command("bench", *options).out.decode()
    monkeypatch.setattr(_core, "probe", lambda team, size, level: (1e3, 500e9))
    (record,) = records(command, *options)
    assert record["percent_of_bandwidth"] > 100
    assert record["remark"].startswith("above 100 %: a CPU cache holds what is read, or the machine was slower")
    table = command("bench", *options).out.decode().splitlines()
    assert table[2].split("|")[9].strip().endswith("*")
    assert f"* {record['remark']}" in table


def test_json_lines_and_csv(command: Command, model: Path) -> None:
    options = (model, "-p", "2,4", "-n", 0, "-r", 1, "-o")
    lines = [json.loads(line) for line in command("bench", *options, "jsonl").out.splitlines()]
    assert [list(line) for line in lines] == [FIELDS, FIELDS]
    rows = list(csv.DictReader(io.StringIO(command("bench", *options, "csv").out.decode())))
    assert [list(row) for row in rows] == [FIELDS[:-2]] * 2
    assert [row["n_prompt"] for row in rows] == ["2", "4"]


@pytest.mark.parametrize("form", ["md", "json", "jsonl", "csv"])
def test_ctrl_c_keeps_what_was_measured(
    command: Command, model: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    def interrupted(engine: object, test: Workload, *args: object, **options: object) -> Iterator[float]:
        yield 0.5
        if test.n_gen:
            raise KeyboardInterrupt
        yield 0.5

    monkeypatch.setattr(bench, "seconds", interrupted)
    done = command("bench", model, "-p", 7, "-n", 3, "-d", "0,32", "-r", 2, "-o", form)
    assert (done.code, done.err) == (130, "")
    text = done.out.decode()
    if form == "json":
        assert workloads_of(json.loads(text)) == ["pp7", "tg3"]
        assert json.loads(text)[1]["samples_ns"] == [500000000]
    else:
        assert len(text.splitlines()) == {"md": 7, "jsonl": 2, "csv": 3}[form]


def test_nothing_measured_is_still_json(command: Command, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "available_memory", lambda: 0)
    done = command("bench", model, "-p", 7, "-n", 0, "-o", "json")
    assert (done.code, json.loads(done.out)) == (0, [])
    assert done.err.startswith("llamaq: left out: pp7 needs a cache of ")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["-ngl", 99], "-ngl cannot be honoured: llamaq runs on CPUs alone"),
        (["--flash-attn"], "--flash-attn cannot be honoured: llamaq has one kind"),
        (["-p", "1-"], "expected integers of at least 0, such as 1,2 or 1-9+2 or 1-16*2, got '1-'"),
        (["-p", "1-8*1"], "got '1-8*1'"),
        (["-d", "5-4"], "got '5-4'"),
        (["-npl", "0"], "expected integers of at least 1"),
        (["-pg", "3"], "expected two counts such as 512,128, got '3'"),
        (["-ctk", "f16", "-ctv", "f32"], "the cache has one type of numbers, not f16 and f32"),
        (["-ctk", "q9"], "-ctk and -ctv: expected one of f16, f32"),
        (["-p", 0, "-n", 0], "-p 0 and -n 0 leave nothing to measure"),
        (["-o", "sql"], "invalid choice: 'sql'"),
    ],
)
def test_wrong_usage(command: Command, argv: list[object], message: str) -> None:
    done = command("bench", "model.gguf", *argv)
    assert (done.code, done.out) == (2, b"")
    assert message in done.err
    assert len(done.err.splitlines()) == 1


def test_a_model_that_is_not_there(command: Command) -> None:
    assert command("bench", "absent.gguf").err == "llamaq: error: absent.gguf: no such file; check the path\n"
