"""``llamaq tokenize``: text to ids and back, on vocabularies and on a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from command import Command


@pytest.fixture
def command(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(capsysbinary, monkeypatch)


@pytest.fixture(scope="module")
def llama3(shared: Callable[[str], Path]) -> Path:
    return shared("vocab/ggml-vocab-llama-bpe.gguf")


@pytest.fixture(scope="module")
def llama2(shared: Callable[[str], Path]) -> Path:
    return shared("vocab/ggml-vocab-llama-spm.gguf")


def printed(command: Command, *argv: object, stdin: bytes = b"") -> bytes:
    done = command("tokenize", *argv, stdin=stdin)
    assert (done.code, done.err) == (0, "")
    return done.out


@pytest.mark.parametrize("name", ["llama-spm", "llama-bpe", "bert-bge"])
def test_llama_cpps_cases(command: Command, shared: Callable[[str], Path], name: str) -> None:
    path = shared(f"vocab/ggml-vocab-{name}.gguf")
    texts = Path(f"{path}.inp").read_bytes().split(b"\n__ggml_vocab_test__\n")
    lines = Path(f"{path}.out").read_text(encoding="ascii").splitlines()
    for text, expected in list(zip(texts, lines, strict=False))[-2:]:  # the last one is long and has everything
        assert printed(command, path, "--no-special", stdin=text).decode() == expected.strip() + "\n"


def test_special_tokens(command: Command, llama3: Path) -> None:
    text = "<|eot_id|>x"
    assert printed(command, llama3, text) == b"128000 128009 87\n"
    assert printed(command, llama3, "x", "--no-special") == b"87\n"
    plain = printed(command, llama3, "--no-special", text).split()
    assert b"128009" not in plain
    assert len(plain) > 2


def test_json(command: Command, llama3: Path) -> None:
    assert json.loads(printed(command, llama3, "Hello ü", "--json")) == {
        "ids": [128000, 9906, 10709],
        "tokens": ["<|begin_of_text|>", "Hello", "ĠÃ¼"],
    }


def test_stdin_is_taken_to_the_last_byte(command: Command, llama2: Path) -> None:
    assert printed(command, llama2, "--no-special", stdin=b"a\n") == b"263 13\n"
    assert printed(command, llama2, "--no-special", stdin=b"a") == b"263\n"
    assert printed(command, llama2, "--no-special", stdin=b"\xff").split()[-1] == b"258"  # <0xFF>
    assert printed(command, llama2, "--no-special", stdin=b"") == b"\n"
    assert printed(command, llama2, "", stdin=b"not read") == b"1\n"
    assert printed(command, llama2, r"a\n") != printed(command, llama2, "a\n")


@pytest.mark.parametrize(
    "argv", [["1 263 13"], ["1,263,13"], ["[1, 263, 13]"], ["1", "263", "13"], ["1,", "263", "13"]]
)
def test_ids_may_be_written_in_many_ways(command: Command, llama2: Path, argv: list[str]) -> None:
    assert printed(command, llama2, "--detokenize", *argv) == b"a\n"
    assert printed(command, llama2, "--detokenize", stdin=" ".join(argv).encode() + b"\n") == b"a\n"


@pytest.mark.parametrize("name", ["llama-spm", "gpt-2", "phi-3"])
@pytest.mark.parametrize("special", [[], ["--no-special"]])
def test_there_and_back(command: Command, shared: Callable[[str], Path], name: str, special: list[str]) -> None:
    path = shared(f"vocab/ggml-vocab-{name}.gguf")
    for text in [b"Hello, world!\n", "  grüße 😀\t\r\n\n".encode(), b"", b"a <|im_end|></s> b"]:
        ids = printed(command, path, *special, stdin=text)
        back = printed(command, path, "--detokenize", *special, stdin=ids)
        # SentencePiece takes the space after a special token for its own.
        assert back == text or (name in ("llama-spm", "phi-3") and b"</s>" in text and not special)


def test_detokenizing_shows_special_tokens_that_tokenizing_would_not_add(command: Command, llama3: Path) -> None:
    ids = "128000 128000 87 128009"
    assert printed(command, llama3, "--detokenize", ids) == b"<|begin_of_text|>x<|eot_id|>"
    assert printed(command, llama3, "--detokenize", "--no-special", ids) == b"x"
    assert json.loads(printed(command, llama3, "--detokenize", "--json", ids)) == {
        "ids": [128000, 128000, 87, 128009],
        "tokens": ["<|begin_of_text|>", "<|begin_of_text|>", "x", "<|eot_id|>"],
        "text": "<|begin_of_text|>x<|eot_id|>",
    }


def test_bert_puts_a_frame_around_a_text(command: Command, shared: Callable[[str], Path]) -> None:
    path = shared("vocab/ggml-vocab-bert-bge.gguf")
    assert printed(command, path, "hello") == b"101 7592 102\n"
    assert printed(command, path, "--detokenize", "101 7592 102") == b" hello"


def test_part_of_a_character_comes_out_as_its_bytes(command: Command, llama2: Path) -> None:
    assert printed(command, llama2, "--detokenize", "1 263 243 162") == b"a\xf0\x9f"
    assert json.loads(printed(command, llama2, "--detokenize", "--json", "1 263 243 162"))["text"] == "a�"


def test_errors(command: Command, llama2: Path, llama3: Path) -> None:
    for argv, message in [
        ([llama2, "--detokenize", "1 x"], "--detokenize expects token ids"),
        ([llama2, "--detokenize", "99999999"], "99999999 is outside the vocabulary"),
        ([llama2, "--detokenize", "--", "-1"], "-1 is outside the vocabulary"),
        ([llama2, "--detokenize", "--json", "--", "-1"], "-1 is outside the vocabulary"),
        ([llama3, "--pre", "nosuch", "x"], "nosuch"),
    ]:
        done = command("tokenize", *argv)
        assert (done.code, done.out) == (1, b"")
        assert message in done.err
        assert done.err.count("\n") == 1


def test_pre_overrides_the_files_pretokenizer(command: Command, llama3: Path) -> None:
    assert printed(command, llama3, "12345", "--pre", "gpt-2") != printed(command, llama3, "12345")
