"""``llamaq quantize``: llama-quantize's arguments, what it prints, what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from command import Command
from llamaq.gguf import GGUFFile


@pytest.fixture
def command(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(capsysbinary, monkeypatch)


@pytest.fixture
def model(shared: Callable[[str], Path]) -> Path:
    return shared("models/stories260K-F32.gguf")


def test_writes_a_file_and_says_what_it_did(command: Command, model: Path, tmp_path: Path) -> None:
    done = command("quantize", "--leave-output-tensor", model, tmp_path / "out.gguf", "q4_k", 2)
    text = done.out.decode()
    assert (done.code, done.err) == (0, "")
    assert "(rows of 64 are no blocks of Q4_K)" in text
    assert "tensors needed another format than the one asked for" in text
    assert "bits per weight) -> " in text
    assert f"{tmp_path / 'out.gguf'}: written in " in text
    with GGUFFile.open(tmp_path / "out.gguf") as file:
        assert file.metadata["general.file_type"] == 15


def test_what_is_done_is_a_table(command: Command, model: Path) -> None:
    done = command("quantize", "--dry-run", model, "Q4_0")
    lines = [line.split() for line in done.out.decode().splitlines()]
    assert lines[0] == ["tensors", "from", "to", "size", "which"]
    assert ["11", "F32", "as", "it", "is"] in [line[:5] for line in lines]
    assert len(lines) < 8
    assert sum(int(line[0]) for line in lines[1:] if line[0].isdecimal() and line[1] == "F32") == 47
    assert any({"attn_q,", "ffn_up"} <= set(line) for line in lines)
    every = command("quantize", "--dry-run", "-v", model, "Q4_0").out.decode().splitlines()
    assert len([line for line in every if line.startswith("[")]) == 47
    assert every[-1] == done.out.decode().splitlines()[-1]


def test_what_is_hardly_of_use_is_told_before_it_starts(
    command: Command, shared: Callable[[str], Path], tmp_path: Path
) -> None:
    wide = shared("models/babyllama-tok361-pad256-F32.gguf")
    for type, says in (
        ("IQ2_XS", "IQ2_XS without importance (imatrix) is hardly of use: "),
        ("Q2_K", ""),
        ("IQ3_S", ""),
    ):
        err = command("quantize", "--dry-run", wide, type).err
        assert (says in err) if says else not err
    command("imatrix", wide, "-f", __file__, "--chunks", 1, "-c", 64, "-o", tmp_path / "i.gguf")
    assert "importance" not in command("quantize", "--dry-run", "--imatrix", tmp_path / "i.gguf", wide, "IQ2_XS").err


def test_a_log_gets_lines_of_progress(
    command: Command, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(range(0, 10**6, 6))
    monkeypatch.setattr("llamaq.cli.progress._clock", lambda: float(next(now)))
    lines = command("quantize", model, tmp_path / "o.gguf", "Q4_0").err.splitlines()
    assert lines
    assert all(line.startswith("llamaq: quantizing: ") and line.endswith(" %") for line in lines)
    assert [int(line.split()[2]) for line in lines] == sorted(int(line.split()[2]) for line in lines)


def test_a_dry_run_writes_nothing(command: Command, model: Path, tmp_path: Path) -> None:
    done = command("quantize", "--dry-run", model, tmp_path / "out.gguf", "Q8_0")
    assert done.code == 0
    assert list(tmp_path.iterdir()) == []
    real = command("quantize", model, tmp_path / "out.gguf", "Q8_0").out.decode()
    assert real.startswith(done.out.decode())


def test_a_file_that_was_not_named_is_told_first_and_never_replaced(
    command: Command, model: Path, tmp_path: Path
) -> None:
    source, path = tmp_path / "in.gguf", tmp_path / "ggml-model-Q8_0.gguf"
    source.write_bytes(model.read_bytes())
    done = command("quantize", source, "Q8_0").out.decode().splitlines()
    assert done[0] == f"{path}: to be written"
    assert done[-1].startswith(f"{path}: written in")
    path.write_bytes(b"mine")
    assert command("quantize", "--dry-run", source, "Q8_0").code == 0
    again = command("quantize", source, "Q8_0")
    assert (again.code, path.read_bytes()) == (1, b"mine")
    assert f"{path}: is there already; name the file to write" in again.err
    assert command("quantize", source, path, "Q8_0").code == 0


def test_options_reach_the_file(command: Command, model: Path, tmp_path: Path) -> None:
    options = ["--pure", "--tensor-type", r"blk\.0\.=q8_0", "--token-embedding-type", "q5_1"]
    done = command("quantize", *options, "--override-kv", "general.name=str:x", model, tmp_path / "o.gguf", "Q4_0")
    assert (done.code, done.err) == (0, "")
    with GGUFFile.open(tmp_path / "o.gguf") as file:
        formats = {name: info.format.name for name, info in file.tensors.items()}
        assert file.metadata["general.name"] == "x"
    assert formats["blk.0.attn_q.weight"] == "Q8_0"
    assert formats["blk.1.attn_q.weight"] == "Q4_0"
    assert formats["token_embd.weight"] == "Q5_1"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "expected IN.gguf [OUT.gguf] TYPE [NTHREADS], got 0 arguments"),
        (["MODEL"], 2, "got 1 arguments"),
        (["MODEL", "Q4_0", "2", "3"], 2, "expected IN.gguf"),
        (["MODEL", "Q4_0", "x"], 2, "expected a number of threads from 1 to 1024, got 'x'"),
        (["MODEL", "out.gguf", "Q9"], 1, "unknown quantization type 'Q9'; expected one of F32"),
        (["MODEL", "Q4_0", "--tensor-type", "q8_0"], 2, "expected REGEX=TYPE"),
        (["MODEL", "Q4_0", "--tensor-type", "(=q8_0"], 1, "'(' is no regular expression"),
        (["MODEL", "Q4_0", "--output-tensor-type", "x"], 1, "unknown format 'x'"),
        (["MODEL", "Q4_0", "--override-kv", "a=int:x"], 2, "expected KEY=int:1"),
        (["missing.gguf", "Q4_0"], 1, "no such file"),
    ],
)
def test_refusals(
    command: Command,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = command("quantize", *(model if word == "MODEL" else word for word in words))
    assert done.code == code
    assert message in done.err
    assert done.err.count("\n") == 1


def test_help_lists_types(command: Command) -> None:
    done = command("quantize", "--help")
    assert done.code == 0
    assert b"15 Q4_K_M" in done.out


@pytest.mark.parametrize("how", [["q4_k_m"], ["--target-bpw", "12"]], ids=["type", "budget"])
def test_patterns_that_change_nothing_are_named(command: Command, model: Path, tmp_path: Path, how: list[str]) -> None:
    patterns = ["atn_v=q8_0", "ffn_up=q8_0", r"blk\.0\.ffn_up=q5_0", "_norm=q8_0", "token_embd=q8_0"]
    options = [word for pattern in patterns for word in ("--tensor-type", pattern)]
    options += ["--token-embedding-type", "q8_0", "--dry-run"]
    done = command("quantize", *options, *how[:-1], *how[-1:] * (len(how) > 1), model, *how[:1] * (len(how) == 1))
    assert done.code == 0
    unmatched, taken = (
        "no weight matrix of the file has a name that matches",
        "all that match have a format by an earlier",
    )
    assert [line.removeprefix("llamaq: warning: the tensor type ") for line in done.err.splitlines()] == [
        f"atn_v=Q8_0 changes nothing: {unmatched}",
        rf"blk\.0\.ffn_up=Q5_0 changes nothing: {taken} pattern or option",
        f"_norm=Q8_0 changes nothing: {unmatched}",
        f"token_embd=Q8_0 changes nothing: {taken} pattern or option",
    ]


def test_a_type_that_treats_all_matrices_alike_says_so(command: Command, model: Path) -> None:
    for type in ("F16", "COPY"):
        done = command("quantize", "--tensor-type", "ffn=q8_0", "--dry-run", model, type)
        assert done.err == (
            f"llamaq: warning: the tensor type ffn=Q8_0 changes nothing: type {type} treats all matrices alike\n"
        )
