"""Converted tokenizers beside the libraries of their sources: what is carried over, refused or warned of by name."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers

from command import Command
from hf_llama import LLAMA_3_PATTERN, save, tiny, tokenizer_json, tokenizer_model
from llamaq.convert import Comparison, convert
from llamaq.convert.sentencepiece_model import read_sentencepiece
from llamaq.convert.texts import texts
from llamaq.errors import ModelError, TokenizerError
from llamaq.gguf import GGUFFile
from llamaq.tokenizer import Tokenizer, load_tokenizer

LINES = [line for line in texts() if line.strip()]
ROWS = 1100
CONFIG = {"bos_token_id": 1, "eos_token_id": 2}


@pytest.fixture
def command(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(capsysbinary, monkeypatch)


def sentencepiece_model(**options: Any) -> bytes:
    """A model trained on a few lines."""
    written = io.BytesIO()
    usual: dict[str, Any] = {
        "vocab_size": ROWS,
        "model_type": "bpe",
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "character_coverage": 0.98,
        "minloglevel": 2,
    }
    trainer = sentencepiece.SentencePieceTrainer
    trainer.train(sentence_iterator=iter(LINES * 3), model_writer=written, **usual | options)
    return written.getvalue()


def byte_level(*, ignore_merges: bool = True, **parts: Any) -> Any:
    """A tokenizer of the library ``tokenizers``, with Llama 3's rule, trained on a few lines."""
    made: Any = tokenizers.Tokenizer(models.BPE(ignore_merges=ignore_merges))
    rule = pre_tokenizers.Split(Regex(LLAMA_3_PATTERN), "isolated")
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [rule, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    made.decoder = decoders.ByteLevel()
    for name, part in parts.items():
        setattr(made, name, part)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(LINES, trainer)
    made.add_special_tokens(["<s>", "</s>", "<|turn|>"])
    return made


def folder_with(path: Path, source: bytes | Any, rows: int = ROWS, **files: Any) -> Path:
    """A folder with a tokenizer.model (bytes), or with a tokenizer.json (a tokenizer, or what it says)."""
    config, tensors = tiny(**{"vocab_size": rows, "hidden_size": 32, "tie_word_embeddings": True} | CONFIG)
    save(path, config, tensors, **files)
    if isinstance(source, bytes):
        (path / "tokenizer.model").write_bytes(source)
    else:
        content = source if isinstance(source, dict) else json.loads(source.to_str())
        (path / "tokenizer.json").write_text(json.dumps(content))
    return path


def converted(folder: Path) -> tuple[Comparison, Tokenizer]:
    target = folder.parent / "out.gguf"
    compared = convert(folder, target)
    with GGUFFile.open(target) as file:
        return compared, load_tokenizer(file.metadata)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_the_texts_are_many_and_small() -> None:
    found = list(texts(["<a>"]))
    assert len(set(found)) == len(found) > 200
    assert sum(len(text.encode()) for text in found) < 20_000


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"add_dummy_prefix": False},
        {"model_type": "unigram"},
        {"model_type": "unigram", "add_dummy_prefix": False, "byte_fallback": False, "vocab_size": 800},
        {"model_type": "unigram", "normalization_rule_name": "nmt_nfkc_cf", "remove_extra_whitespaces": True},
        {"model_type": "unigram", "normalization_rule_name": "nfkc", "remove_extra_whitespaces": True},
    ],
    ids=str,
)
def test_sentencepiece(options: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = sentencepiece_model(**options)
    compared, tokenizer = converted(folder_with(tmp_path / "model", data))
    own = sentencepiece.SentencePieceProcessor(model_proto=data)
    # GGUF's t5 puts no space before a text of nothing but spaces.
    blank = [text for text in texts() if not text.strip(" ") and tokenizer.encode(text) != [1, *own.encode(text)]]
    assert len(blank) == (3 if options == {"model_type": "unigram"} else 0)
    alike = compared.total - len(blank)
    assert str(compared) == f"{alike} of {compared.total} texts tokenize alike (compared with sentencepiece)"
    assert compared.total > 200
    assert len(warnings(caplog)) == bool(blank)
    for line in LINES:
        assert tokenizer.encode(line) == [1, *own.encode(line)], line


@pytest.mark.parametrize("rule", ["nfkc", "identity", "nmt_nfkc"])
@pytest.mark.parametrize("merges", [True, False])
def test_marks_of_spaces_in_texts(rule: str, merges: bool, tmp_path: Path) -> None:
    """U+2581 in a text is a space to SentencePiece here and there."""
    data = sentencepiece_model(model_type="unigram", normalization_rule_name=rule, remove_extra_whitespaces=merges)
    _, tokenizer = converted(folder_with(tmp_path / "model", data))
    own = sentencepiece.SentencePieceProcessor(model_proto=data)
    for n in range(6):
        for pieces in itertools.product(("▁", " ", "a"), repeat=n):
            text = "".join(pieces)
            if own.normalize(text).strip("▁"):  # GGUF's t5 puts no space before a text of nothing but spaces
                assert tokenizer.encode(text, add_special=False) == own.encode(text), text
            elif merges:
                assert tokenizer.encode(text, add_special=False) == own.encode(text) == [], text


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_user_defined_symbols_are_compared_too(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Readers of GGUF cut them out of a text before a space is put in front of it, SentencePiece after that."""
    data = sentencepiece_model(model_type=kind, user_defined_symbols=["ick", "<x>"])
    own = sentencepiece.SentencePieceProcessor(model_proto=data)
    compared, tokenizer = converted(folder_with(tmp_path / "model", data))
    alike = {text: tokenizer.encode(text) == [1, *own.encode(text)] for text in texts(["ick", "<x>"])}
    assert (compared.total, compared.alike) == (len(alike), sum(alike.values()))
    assert not alike["<x>"]
    (line,) = warnings(caplog)
    assert line.startswith(f"{compared.total - compared.alike} of {compared.total} texts tokenize otherwise")


def test_a_prefix_that_the_configuration_denies(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "model", sentencepiece_model(), tokenizer_config={"add_prefix_space": False})
    compared, tokenizer = converted(folder)
    assert not tokenizer.add_space_prefix
    assert compared.alike == compared.total > 200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"treat_whitespace_as_suffix": True}, "treat_whitespace_as_suffix, which GGUF cannot say"),
        ({"model_type": "char", "byte_fallback": False, "vocab_size": 1100, "hard_vocab_limit": False}, "model_type 4"),
        ({"escape_whitespaces": False}, "escape_whitespaces: false"),
    ],
    ids=str,
)
def test_sentencepiece_that_is_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    data = sentencepiece_model(**{k: v for k, v in options.items() if k != "escape_whitespaces"})
    data += b"\x1a\x02\x28\x00" if "escape_whitespaces" in options else b""
    with pytest.raises(TokenizerError, match=message):
        converted(folder_with(tmp_path / "model", data))
    assert not (tmp_path / "out.gguf").exists()


def test_normalizers_of_sentencepiece_bpe_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = sentencepiece_model(normalization_rule_name="nmt_nfkc", remove_extra_whitespaces=True)
    compared, _ = converted(folder_with(tmp_path / "model", data))
    normalizer, spaces, first = warnings(caplog)
    assert "the normalizer nmt_nfkc is left out" in normalizer
    assert "remove_extra_whitespaces is left out" in spaces
    assert f"{compared.total - compared.alike} of {compared.total} texts tokenize otherwise" in first
    assert compared.alike < compared.total


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it has no pieces"),
        (b"\x0a", "cannot be read as a SentencePiece model"),
        (b"\x0a\x05ab", "it ends too early"),
        (b"\x0f", "unknown kind 7"),
        (b"\x08\x01\x0a\x02\x18\x63", "cannot be read as a SentencePiece model"),
        (b"\xff" * 30, "more than ten bytes"),
        (b"\x0a\x00" * 1101, "the vocabulary has 1101 tokens, the embedding table 1100 rows"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"aGk= 0\naG8= 1\n", "got one of tiktoken"),
    ],
    ids=lambda value: str(value[:12]),
)
def test_tokenizer_models_that_are_damaged(data: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        converted(folder_with(tmp_path / "model", data))


@settings(max_examples=200)
@given(data=st.binary(max_size=40), place=st.integers(0, 60), byte=st.integers(0, 255))
def test_random_tokenizer_models(data: bytes, place: int, byte: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "tokenizer.model"
    sound = bytearray(b"\x0a\x09\x0a\x02ab\x15\0\0\x80\x3f" * 5 + b"\x12\x02\x18\x02\x1a\x02\x18\x00")
    sound[place % len(sound)] = byte
    for content in (data, bytes(sound)):
        path.write_bytes(content)
        with contextlib.suppress(ModelError):
            read_sentencepiece(path, 20)


def test_tiktoken_beside_tokenizer_json(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "model", byte_level())
    (folder / "tokenizer.model").write_bytes(b"aGk= 0\naG8= 1\n")
    compared, _ = converted(folder)
    assert (compared.library, compared.alike) == ("tokenizers", compared.total)


def test_byte_level_bpe(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = byte_level()
    made.enable_truncation(4)
    made.enable_padding(length=8)
    compared, _ = converted(folder_with(tmp_path / "model", made))
    assert str(compared).endswith("texts tokenize alike (compared with tokenizers)")
    assert compared.alike == compared.total > 200
    assert warnings(caplog) == []


@pytest.mark.slow
def test_recorded_vocabularies_tokenize_alike(shared: Callable[[str], Path], tmp_path: Path) -> None:
    with GGUFFile.open(shared("vocab/ggml-vocab-llama-spm.gguf")) as file:
        model, described = tokenizer_model(file), tokenizer_json(file)
        rows = len(file.metadata["tokenizer.ggml.tokens"])
    vocab = {token["content"]: token["id"] for token in described["added_tokens"]} | described["model"]["vocab"]
    described["model"] |= {"vocab": vocab, "fuse_unk": True}
    for token in described["added_tokens"]:
        token |= {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False}
    described |= {"version": "1.0", "truncation": None, "padding": None, "pre_tokenizer": None, "decoder": None}
    described["post_processor"] = None
    for name, source in (("a", model), ("b", described)):
        compared, _ = converted(folder_with(tmp_path / name, source, rows))
        assert compared.alike == compared.total > 200
    (tmp_path / "b" / "tokenizer.model").write_bytes(model)  # tokenizer.json beside it has the special tokens
    compared, _ = converted(tmp_path / "b")
    assert (compared.library, compared.alike) == ("tokenizers", compared.total)
    (tmp_path / "b" / "tokenizer_config.json").write_text('{"add_prefix_space": false}')
    compared, tokenizer = converted(tmp_path / "b")
    assert (compared.library, compared.alike) == ("sentencepiece", compared.total)
    assert not tokenizer.add_space_prefix


@pytest.mark.parametrize("name", ["NFC", "NFKC"])
def test_normalizers_that_change_little(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    compared, _ = converted(folder_with(tmp_path / "model", byte_level(normalizer=getattr(normalizers, name)())))
    said, first = warnings(caplog)
    assert said.startswith(f"tokenizer.json: the normalizer {name} is left out")
    assert "'Decomposed: e\u0301t" in first or name != "NFC"
    assert 0 < compared.total - compared.alike < compared.total


@pytest.mark.parametrize(
    "normalizer",
    [normalizers.Lowercase(), normalizers.NFD(), normalizers.Sequence([normalizers.Prepend("▁")])],
    ids=["Lowercase", "NFD", "Prepend"],
)
def test_normalizers_that_change_much(normalizer: Any, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    with pytest.raises(TokenizerError, match=rf"got '{request.node.callspec.id}', which changes texts"):
        converted(folder_with(tmp_path / "model", byte_level(normalizer=normalizer)))


def test_a_prefix_of_byte_level_bpe(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    prefix = pre_tokenizers.ByteLevel(add_prefix_space=True)
    folder = folder_with(tmp_path / "model", byte_level(ignore_merges=False, pre_tokenizer=prefix))
    compared, _ = converted(folder)
    assert "add_prefix_space is left out" in warnings(caplog)[0]
    assert compared.alike < compared.total
    caplog.clear()
    (folder / "tokenizer_config.json").write_text('{"add_prefix_space": false}')
    converted(folder)
    assert not any("add_prefix_space" in said for said in warnings(caplog))


def test_split_behaviors_are_not_mistaken(tmp_path: Path) -> None:
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for behavior, invert, known in (("removed", True, True), ("merged_with_next", False, False)):
        rule = pre_tokenizers.Split(Regex(LLAMA_3_PATTERN), behavior, invert)
        made = byte_level(pre_tokenizer=pre_tokenizers.Sequence([rule, bytes_]))
        folder = folder_with(tmp_path / behavior, made)
        if known:
            compared, _ = converted(folder)
            assert compared.alike == compared.total
        else:
            with pytest.raises(TokenizerError, match="got 'Split' of behavior 'MergedWithNext'; name"):
                converted(folder)


def test_habits_of_added_tokens(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = byte_level()
    made.add_tokens([AddedToken("<tool>", rstrip=True), AddedToken("<m>", lstrip=True), "<plain>"])
    made.add_tokens([AddedToken("foo", single_word=True)])
    converted(folder_with(tmp_path / "model", made))
    assert set(warnings(caplog)[:3]) == {
        "rstrip of added tokens is left out, as GGUF cannot say it: '<tool>'",
        "lstrip of added tokens is left out, as GGUF cannot say it: '<m>'",
        "single_word of added tokens is left out, as GGUF cannot say it: 'foo'",
    }
    assert "texts tokenize otherwise than with tokenizers: 'a <tool> b' becomes" in warnings(caplog)[3]
    caplog.clear()  # readers know that Phi-3's tokens swallow what follows
    made = byte_level()
    made.add_tokens([AddedToken("<tool>", rstrip=True)])
    converted(folder_with(tmp_path / "phi-3-mini", made))
    assert not any("rstrip" in said for said in warnings(caplog))


def test_characters_need_spaces_that_are_spelled(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    vocab = {f"<0x{byte:02X}>": byte for byte in range(256)} | {"▁": 256, "a": 257, "▁a": 258, "<unk>": 259}
    model = {"type": "BPE", "vocab": vocab, "merges": ["▁ a"], "byte_fallback": True, "unk_token": "<unk>"}
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": False}
    described: dict[str, Any] = {"version": "1.0", "model": model, "added_tokens": []}
    compared, tokenizer = converted(folder_with(tmp_path / "a", described | {"pre_tokenizer": metaspace}))
    assert tokenizer.add_space_prefix
    said, first = warnings(caplog)
    assert "cannot say the pre_tokenizer Metaspace with prepend_scheme 'always'" in said
    assert f"{compared.total - compared.alike} of {compared.total} texts" in first
    caplog.clear()
    metaspace["prepend_scheme"] = "never"
    compared, tokenizer = converted(folder_with(tmp_path / "n", described | {"pre_tokenizer": metaspace}))
    assert (tokenizer.add_space_prefix, compared.alike) == (False, compared.total)
    assert warnings(caplog) == []
    digits = {"type": "Digits", "individual_digits": True}
    both = {"type": "Sequence", "pretokenizers": [metaspace, digits]}
    converted(folder_with(tmp_path / "b", described | {"pre_tokenizer": both}))
    assert warnings(caplog) == ["tokenizer.json: the pre_tokenizer Digits is left out, as GGUF's llama has none"]
    with pytest.raises(TokenizerError, match="expected one that spells spaces ▁, got none"):
        converted(folder_with(tmp_path / "c", described))


def test_what_the_command_says(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_with(tmp_path / "model", byte_level())
    done = command("convert", folder, tmp_path / "out.gguf")
    assert (done.code, done.err) == (0, "")
    assert done.out.decode().splitlines()[1].endswith("texts tokenize alike (compared with tokenizers)")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    done = command("convert", folder, tmp_path / "out.gguf")
    expected = "tokenizer: nothing was compared: the package tokenizers is not installed; pip install tokenizers"
    assert (done.code, done.out.decode().splitlines()[1], done.err) == (0, expected, "")


def test_a_source_that_its_own_library_refuses(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    described = json.loads(byte_level().to_str())
    described["model"]["merges"].append(["a", "no such token"])
    compared, _ = converted(folder_with(tmp_path / "model", described))
    assert str(compared).startswith("nothing was compared: tokenizers cannot use the tokenizer")
    assert len(warnings(caplog)) == 1
