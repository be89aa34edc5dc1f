"""The options of sampling and of structured output."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from command import Command
from llamaq.cli.options import Parser
from llamaq.cli.sampling_options import add_sampling, sampling_params
from llamaq.sampling import SamplingParams
from llamaq.structure import gbnf, json_object, json_schema, lark


@pytest.fixture
def command(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(capsysbinary, monkeypatch)


def parsed(*argv: str) -> SamplingParams:
    parser = Parser()
    add_sampling(parser)
    return sampling_params(parser.parse_args([*argv], argparse.Namespace(escape=True)))


def test_without_options_all_is_as_in_the_library() -> None:
    assert parsed() == SamplingParams()


@pytest.mark.parametrize(
    ("argv", "changed"),
    [
        (["--temp", "0.5"], {"temperature": 0.5}),
        (["--top-k", "7"], {"top_k": 7}),
        (["--top-p", "0.5"], {"top_p": 0.5}),
        (["--min-p", "0.5"], {"min_p": 0.5}),
        (["--typical", "0.5"], {"typical_p": 0.5}),
        (["--top-nsigma", "2"], {"top_n_sigma": 2.0}),
        (["--xtc-probability", "0.5", "--xtc-threshold", "0.2"], {"xtc_probability": 0.5, "xtc_threshold": 0.2}),
        (["--repeat-penalty", "1.1", "--repeat-last-n", "-1"], {"repeat_penalty": 1.1, "repeat_last_n": -1}),
        (["--presence-penalty", "1", "--frequency-penalty", "-1"], {"presence_penalty": 1, "frequency_penalty": -1}),
        (["--dry-multiplier", "0.8", "--dry-base", "2", "--dry-allowed-length", "3", "--dry-penalty-last-n", "-1"],
         {"dry_multiplier": 0.8, "dry_base": 2.0, "dry_allowed_length": 3, "dry_penalty_last_n": -1}),
        (["--dry-sequence-breaker", r"\n", "--dry-sequence-breaker", "x"], {"dry_sequence_breakers": ("\n", "x")}),
        (["--dry-sequence-breaker", "none"], {"dry_sequence_breakers": ()}),
        (["--dynatemp-range", "0.5", "--dynatemp-exp", "2"], {"dynatemp_range": 0.5, "dynatemp_exponent": 2.0}),
        (["--mirostat", "2", "--mirostat-lr", "0.2", "--mirostat-ent", "3"],
         {"mirostat": 2, "mirostat_eta": 0.2, "mirostat_tau": 3.0}),
        (["--adaptive-target", "0.5", "--adaptive-decay", "0.8"], {"adaptive_target": 0.5, "adaptive_decay": 0.8}),
        (["--samplers", "top_k;temperature"], {"samplers": ("top_k", "temperature")}),
        (["--sampler-seq", "tk"], {"samplers": ("temperature", "top_k")}),
        (["-l", "5+1.5", "--logit-bias", "6-inf"], {"logit_bias": {5: 1.5, 6: float("-inf")}}),
        (["--ignore-eos"], {"ignore_eos": True}),
        (["-s", "7"], {"seed": 7}),
        (["--grammar", 'root ::= "a"'], {"structure": gbnf('root ::= "a"')}),
        (["--grammar", '%llguidance {}\nstart: "a"\n'], {"structure": lark('%llguidance {}\nstart: "a"\n')}),
        (["-j", '{"type": "null"}'], {"structure": json_schema('{"type": "null"}')}),
        (["--json-schema", "{}"], {"structure": json_object()}),
    ],
)  # fmt: skip
def test_each_option_changes_its_setting(argv: list[str], changed: dict[str, Any]) -> None:
    assert parsed(*argv) == dataclasses.replace(SamplingParams(), **changed)


def test_structures_from_files(tmp_path: Path) -> None:
    (tmp_path / "a.gbnf").write_text('root ::= "é"\n', encoding="utf-8")
    (tmp_path / "a.json").write_text('{"const": 1}', encoding="utf-8")
    assert parsed("--grammar-file", str(tmp_path / "a.gbnf")).structure == gbnf('root ::= "é"\n')
    assert parsed("-jf", str(tmp_path / "a.json")).structure == json_schema('{"const": 1}')
    (tmp_path / "a.gbnf").write_bytes('root ::= "é"\r\n'.encode("utf-16"))
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"const": 1}')
    assert parsed("--grammar-file", str(tmp_path / "a.gbnf")).structure == gbnf('root ::= "é"\n')
    assert parsed("-jf", str(tmp_path / "a.json")).structure == json_schema('{"const": 1}')


def test_the_text_follows_the_structure(command: Command, shared: Callable[[str], Path], tmp_path: Path) -> None:
    model = shared("models/stories260K-Q8_0.gguf")
    schema = '{"properties": {"age": {"type": "integer", "maximum": 99}}, "required": ["age"], "type": "object"}'
    for argv, check in [
        (["-j", schema], lambda text: json.loads(text)["age"] <= 99),
        (["--grammar", 'root ::= "yes" | "no"'], lambda text: re.fullmatch("(yes|no)\n", text)),
    ]:
        done = command("run", model, "Once", "-no-cnv", "-s", 1, "-n", 60, "-t", 1, *argv)
        assert (done.code, done.err) == (0, "")
        assert check(done.out.decode())


def test_errors_are_one_line(command: Command, shared: Callable[[str], Path], tmp_path: Path) -> None:
    model = shared("models/stories260K-Q8_0.gguf")
    cases: list[tuple[list[Any], int, str]] = [
        (["--grammar", "root ::= x"], 1, "grammar, line 1, rule root: there is no rule called x"),
        (["-j", '{"type": "foo"}'], 1, r"JSON schema: $: "),
        (["--grammar", "%llguidance {}\nstart: foo"], 1, 'unknown name: "foo"'),
        (["-j", '{"type": "string", "pattern": "("}'], 1, "unclosed group"),
        (["-jf", tmp_path / "none"], 1, "none"),
        (["-j", "{}", "--grammar", "x"], 2, "not allowed with argument"),
        (["--samplers", "foo"], 1, "no sampler 'foo'"),
        (["--sampler-seq", "kz"], 1, "no sampler 'z'"),
        (["-l", "x"], 2, "expected a token id and a bias"),
        (["--mirostat", "3"], 1, "--mirostat must be a whole number from 0 to 2, got 3"),
    ]
    for argv, code, message in cases:
        done = command("run", model, "Once", "-n", 3, *argv)
        assert done.code == code
        assert message in done.err
        assert done.err.count("\n") == 1
        assert done.out == b""
