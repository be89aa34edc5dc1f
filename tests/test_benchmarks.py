"""The scripts of benchmarks/: what they draw and measure, without a peer and without a clock's opinion."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import llamaq
from llamaq.formats import format_by_name
from llamaq.gguf import TensorData, write_gguf

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TESTS = ("pp64", "tg8 x4 @ d32")
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts import one another by name."""
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])


def test_the_picture_has_a_bar_for_each_test() -> None:
    from chart import LEFT, RIGHT, WIDTH, Bar, Panel, svg

    bars = [Bar("pp512", 2.0, 1.5, 2.5, "200 / 100"), Bar("tg64 <&>", 0.5, 0.5, 0.5, "5 / 10")]
    tree = ElementTree.fromstring(svg("title", "caption", [Panel("a.gguf", bars), Panel("b.gguf", bars[:1])]))
    _, *drawn = [float(rect.get("width", "")) for rect in tree.iter(f"{SVG}rect")]
    scale = (WIDTH - LEFT - RIGHT) / 3
    assert drawn == pytest.approx([2 * scale, scale / 2, 2 * scale], abs=0.1)
    texts = [text.text for text in tree.iter(f"{SVG}text")]
    assert {"title", "caption", "a.gguf", "b.gguf", "tg64 <&>", "2.00×", "200 / 100"} <= set(texts)
    right = max(float(line.get("x2", "")) for line in tree.iter(f"{SVG}line"))
    assert right <= WIDTH - RIGHT + 1


def test_requests_at_once_are_timed(
    shared: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import at_once

    out = tmp_path / "out.json"
    model = str(shared("models/stories260K-Q4_0.gguf"))
    options = ["--requests", "3", "--prompt", "5", "--new", "4", "--rounds", "2", "--threads", "1", "--json", str(out)]
    monkeypatch.setattr(sys, "argv", ["at_once.py", model, *options])
    at_once.main()
    found = json.loads(out.read_text())
    assert len(found["ratios"]) == 2
    assert min(found["alone"], found["at once"], found["event_ms"]) > 0


def test_adapters_and_the_cache_on_disk_are_timed(
    shared: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import adapter_cost
    import disk_cache

    model, out = str(shared("models/stories260K-Q4_0.gguf")), tmp_path / "out.json"
    options = [model, "--rounds", "1", "--threads", "1", "--json", str(out)]
    monkeypatch.setattr(sys, "argv", ["adapter_cost.py", *options, "--rank", "3", "--prompt", "5", "--new", "3"])
    adapter_cost.main()
    found = json.loads(out.read_text())
    assert min(*found["with"]["token"], *found["without"]["read"]) > 0
    monkeypatch.setattr(sys, "argv", ["disk_cache.py", *options, "--prompt", "400"])
    disk_cache.main()
    found = json.loads(out.read_text())
    assert [found[kind]["cached"][0] for kind in ("without", "empty")] == [0, 0]
    assert found["filled"]["cached"][0] >= 256


def test_measure_times_llamaq(shared: Callable[[str], Path]) -> None:
    from measure import add_options, measure

    parser = argparse.ArgumentParser()
    add_options(parser)
    args = parser.parse_args(["-p", "20,5", "-n", "3", "-d", "0,40", "-npl", "1,2,4", "--batch", "16"])
    found = measure("llamaq", str(shared("models/stories260K-Q4_0.gguf")), args)
    names = ["pp20", "pp5", "tg3", "pp20 @ d40", "pp5 @ d40", "tg3 @ d40", "tg3 x2", "tg3 x4"]
    assert list(found["speeds"]) == names
    assert min(found["speeds"].values()) > 0
    assert list(found["limits"]) == names
    assert all(len(probes) == 2 and min(min(probe) for probe in probes) > 0 for probes in found["limits"].values())


def test_perplexities_side_by_side(shared: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    import compare_perplexity
    from llamaq.llm.llm import LLM
    from llamaq.measure import chunks_of, perplexity

    monkeypatch.setattr(compare_perplexity, "open_runtime", lambda name, *args: open_runtime("llamaq", *args))
    from runtimes import open_runtime

    path, text = shared("models/stories260K-Q8_0.gguf"), "Once upon a time there was a little girl. " * 20
    args = argparse.Namespace(batch=32, chunks=3, threads=1, cache_type="f16", flash_attention="auto")
    found, _ = compare_perplexity.compare_perplexity(path, text, args)
    with LLM.load(path, n_ctx=32, threads=1) as llm:
        expected = perplexity(llm, chunks_of(llm.tokenizer, text, 32, 3))
    assert found["llamaq"] == found["llama.cpp"] == pytest.approx(expected.value, rel=1e-12)
    assert (found["scored"], found["difference"]) == (expected.losses.size, 0)


def test_share_of_the_limit_that_binds(shared: Callable[[str], Path]) -> None:
    from compare_speed import Round, share

    args = argparse.Namespace(batch=512, cache_type="f16")
    path = shared("models/stories260K-Q4_0.gguf")

    def round_of(*probes: tuple[float, float]) -> Round:
        return Round({"llamaq": {"speeds": dict.fromkeys(TESTS, 100.0), "limits": dict.fromkeys(TESTS, probes)}}, [])

    slow = round_of((1e9, 1e9), (1e9, 1e9))
    found = share(path, "pp64", [slow], args)
    assert found["of"] == "int8 peak"
    fast = round_of((2e9, 1e9), (1e9, 2e9))  # the higher of both probes counts, and the median of the rounds
    assert share(path, "pp64", [slow, fast, fast], args)["llamaq"] == pytest.approx(found["llamaq"] / 2, rel=0.01)
    wide = round_of((1e5, 1e15), (1e6, 1e14))
    assert {share(path, test, [wide], args)["of"] for test in TESTS} == {"bandwidth"}


def test_rounds_in_which_the_machine_changed_are_repeated(
    shared: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import compare_speed
    from llamaq.measure.limits import MachineLimits

    bandwidths = iter([1.0, 1.0, 2.0, 1.0, 1.1, 1.1, 3.0, 1.0, 1.0, 2.0, 2.0, 2.0])
    speeds = iter([1.0, 1.0, 20.0, 10.0, 1.0, 1.0, 60.0, 20.0])
    monkeypatch.setattr(compare_speed, "probe", lambda threads: MachineLimits("scalar", 1, next(bandwidths), 1e9))
    monkeypatch.setattr(
        compare_speed,
        "measure_apart",
        lambda *_: {"speeds": {"tg8": next(speeds)}, "limits": {"tg8": [(1.0, 1e9)] * 2}, "runtime": {},
                    "load_seconds": 0, "peak_rss_mb": 0, "load_average_before": 0},
    )  # fmt: skip
    args = argparse.Namespace(rounds=2, threads=1, batch=512, cache_type="f16")
    found = compare_speed.compare(shared("models/stories260K-Q4_0.gguf"), args)
    assert found["rounds_tried"] == 4
    assert found["ratio"]["tg8"]["all"] == [2.0, 3.0]
    assert next(bandwidths, None) is next(speeds, None) is None


def test_quick_kernels_are_cases() -> None:
    from kernel_cases import FORMATS, QUICK, case, levels, weight_bytes

    assert {name for name, _ in QUICK} <= set(FORMATS)
    case(levels()[-1], "Q4_0", 3).run()
    assert weight_bytes("Q8_0") == 1024 * 4096 * 34 // 32


def test_errors_of_quantized_rows_are_relative(shared: Callable[[str], Path], tmp_path: Path) -> None:
    from compare_quantize import METADATA, relative_error, rows_of

    rows = rows_of(shared("models/babyllama-tok361-pad256-F32.gguf"))
    assert {kind for kind, _ in rows.values()} == {"trained", "gauss", "student-t 3"}
    tensors = [TensorData(name, format_by_name("F32"), x.shape, x) for name, (_, x) in rows.items()]
    write_gguf(tmp_path / "rows.gguf", METADATA, tensors)
    path = llamaq.quantize(tmp_path / "rows.gguf", tmp_path / "out.gguf", "Q8_0")
    errors = [relative_error(path, "Q8_0", name, x, np.ones(x.shape[1])) for name, (_, x) in rows.items()]
    assert 0 < min(errors) < max(errors) < 2e-4


def test_every_setting_of_sampling_is_measured() -> None:
    from sampling import SETTINGS, measure

    got = measure(vocabulary=600, rounds=1)
    assert list(got) == list(SETTINGS)
    assert all(kinds["peaked"] >= 0 and kinds["flat"] >= 0 for kinds in got.values())


@pytest.mark.parametrize("folder", sorted((BENCHMARKS / "results").iterdir()), ids=lambda folder: folder.name)
def test_results_are_of_one_machine_and_in_the_readme(folder: Path) -> None:
    text = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    section = text.partition(f"`results/{folder.name}/`")[2].partition("`results/")[0]
    machines = set()
    for path in folder.iterdir():
        endings = [path.name, path.name.removeprefix(path.name.split("-")[0]), path.suffix]
        assert any(f"`{ending}`" in section for ending in endings), f"{path.name} is not in benchmarks/README.md"
        if path.suffix == ".json":
            machines.add(json.loads(path.read_text(encoding="utf-8")).get("machine", {}).get("cpu"))
    assert len(machines - {None}) == 1


@pytest.mark.parametrize("folder", sorted({path.parent for path in (BENCHMARKS / "results").glob("*/speed-*.json")}))
def test_the_table_of_speeds_is_that_of_the_results(folder: Path) -> None:
    from speed_table import rows_of

    text = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    rows = rows_of(sorted(folder.glob("speed-*.json")))
    assert rows
    assert "\n".join(rows) in text
