"""``--lora``, ``--control-vector`` and their scaled twins, and what is told of a file that is an adapter."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from adapters import random_factors, write_adapter
from command import Command
from llamaq import LLM, SamplingParams
from llamaq.cli.adapters import adapters_of, add_adapters, add_control_vectors, with_scales
from llamaq.engine.adapters import AdapterFile

PROMPT = "Once upon a time there was a little girl"


@pytest.fixture
def command(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(capsysbinary, monkeypatch)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [
        write_adapter(tmp_path / f"{name}.gguf", {"blk.1.attn_v.weight": random_factors(name, 32, 64, 4)})
        for name in "ab"
    ]


def test_texts_go_through_them(command: Command, stories: Path, files: list[Path]) -> None:
    a, b = files
    sampling = SamplingParams(seed=3)
    with LLM.load(stories, threads=1, n_ctx=128, adapters=files) as llm:
        want = {
            scales: llm.generate(
                PROMPT, max_tokens=12, sampling=sampling, adapter=dict(zip("ab", scales, strict=True))
            ).text
            for scales in ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0))
        }
    assert len(set(want.values())) == 4
    for options, scales in (
        ([], (0.0, 0.0)),
        (["--lora", a], (1.0, 0.0)),
        (["--lora", a, "--lora", b], (1.0, 1.0)),
        (["--lora", f"{b},{a}"], (1.0, 1.0)),
        (["--lora-scaled", f"{a}:0.5", "--lora", b], (0.5, 1.0)),
        (["--lora-scaled", a, "0.5", "--lora", b], (0.5, 1.0)),
        (["--lora-scaled", f"{a}:.5,{b}:1"], (0.5, 1.0)),
    ):
        done = command("run", "-m", stories, *options, "-p", PROMPT, "-n", 12, "-s", 3, "-c", 128, "-t", 1, "-no-cnv")
        assert (done.code, done.out.decode()) == (0, want[scales] + "\n"), options


def test_a_scale_belongs_to_its_file_alone() -> None:
    for given, want in (
        ("--lora-scaled f 0.5 x", "--lora-scaled f:0.5 x"),
        ("--lora-scaled f:0.5 7", "--lora-scaled f:0.5 7"),
        ("--lora-scaled C:/f -2e-1", "--lora-scaled C:/f:-2e-1"),
        ("--lora f 0.5", "--lora f 0.5"),
        ("--lora-scaled f", "--lora-scaled f"),
        ("--control-vector-scaled f -0.5 x", "--control-vector-scaled f:-0.5 x"),
    ):
        assert with_scales(given.split()) == want.split()


def test_options_say_name_file_scale_and_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parser = argparse.ArgumentParser()
    parser.set_defaults(parser=parser)
    add_adapters(parser)
    add_control_vectors(parser)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x=y").touch()

    def parsed(*args: str) -> list[AdapterFile]:
        return adapters_of(parser.parse_args([*args]))

    assert parsed("--lora", "a,pirate=dir/b.gguf,x=y,dir/c=d") == [
        AdapterFile("a"), AdapterFile("dir/b.gguf", 1.0, "pirate"), AdapterFile("x=y"), AdapterFile("dir/c=d"),
    ]  # fmt: skip
    assert parsed("--lora-scaled", "p=b:0.5", "--control-vector-scaled", "v:-2,w=u:1") == [
        AdapterFile("b", 0.5, "p"), AdapterFile("v", -2.0), AdapterFile("u", 1.0, "w"),
    ]  # fmt: skip
    got = parsed("--control-vector", "v", "--control-vector-layer-range", "2", "9", "--lora", "a")
    assert got == [AdapterFile("a"), AdapterFile("v", layers=(2, 9))]
    with pytest.raises(SystemExit):
        parsed("--control-vector-layer-range", "2", "9")


def test_what_cannot_be_is_told(command: Command, stories: Path, files: list[Path]) -> None:
    done = command("run", stories, "--lora", stories, "-p", PROMPT)
    assert (done.code, "expected an adapter" in done.err) == (1, True)
    done = command("run", stories, "--lora-scaled", "f:x", "-p", PROMPT)
    assert (done.code, "expected FILE:SCALE, got 'f:x'" in done.err) == (2, True)
    done = command("run", files[0], "-p", PROMPT)
    assert (done.code, "the file is an adapter" in done.err, "--lora FILE" in done.err) == (1, True, True)
    done = command("info", files[0])
    assert (done.code, b"the file is an adapter" in done.out) == (0, True)
