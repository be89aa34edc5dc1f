"""Files that say strange things: what is refused, what is repaired, and what the messages tell."""

from __future__ import annotations

import json
import logging
from contextlib import nullcontext, suppress
from typing import Any

import pytest

from llamaq.errors import LlamaqError, TokenizerError
from llamaq.gguf import GGUFFile
from llamaq.tokenizer import TokenType, load_tokenizer
from shared_files import shared_path
from tokenizer_cases import BYTE, CONTROL, NORMAL, UNKNOWN, USER_DEFINED, metadata, recorded, spm

LETTERS = [(char, -1.0, NORMAL) for char in "▁abc"]


def test_damaged_files_are_refused_or_repaired() -> None:
    manifest = json.loads(shared_path("gguf-torture/manifest.json").read_text())
    names = [name for name in manifest if "tok" in name or name.startswith(("ok_", "mv_ggml"))]
    assert len(names) >= 8
    for name in names:
        expect: dict[str, Any] = {
            "accept": nullcontext(),
            "reject": pytest.raises(LlamaqError),
            "either": suppress(LlamaqError),
        }
        with (
            expect[manifest[name]["expect"]],
            GGUFFile.open(shared_path(f"gguf-torture/{name}.gguf")) as file,
        ):
            tokenizer = load_tokenizer(file.metadata)
            ids = tokenizer.encode("Hello wörld\0 <0x-1>", parse_special=True)
            tokenizer.decode(ids, special=True)
            for id in range(tokenizer.n_vocab):
                tokenizer.token_bytes(id, special=True)


def test_unknown_schemes_are_named_with_those_that_exist() -> None:
    for model in ("rwkv", "plamo2", "nosuch"):
        with pytest.raises(TokenizerError, match=rf"'{model}'.*bert, gemma4, gpt2, llama, t5"):
            load_tokenizer({"tokenizer.ggml.model": model})
    for keys in ({}, {"tokenizer.ggml.model": "none"}, {"tokenizer.ggml.model": "no_vocab"}):
        with pytest.raises(TokenizerError, match="no tokenizer"):
            load_tokenizer(keys)


def test_unknown_pretokenizers_are_never_guessed() -> None:
    keys = metadata("gpt2", [("a", 0.0, NORMAL), ("b", 0.0, NORMAL), ("ab", 0.0, NORMAL)], merges=["a b"])
    with pytest.raises(TokenizerError, match=r"names no pre-tokenizer.*by pre .*llama-bpe.*qwen2"):
        load_tokenizer(keys)
    keys["tokenizer.ggml.pre"] = "nosuch"
    with pytest.raises(TokenizerError, match=r"'nosuch'.*by pre .*gpt-2"):
        load_tokenizer(keys)
    assert load_tokenizer(keys, pre="gpt-2").encode("abb") == [2, 1]
    with pytest.raises(TokenizerError, match="'other'"):
        load_tokenizer(keys, pre="other")
    with pytest.raises(TokenizerError, match=r"^pre chooses among .*'llama'; leave 'gpt-2' out"):
        load_tokenizer(spm(), pre="gpt-2")


def test_the_override_beats_the_file() -> None:
    with GGUFFile.open(shared_path("vocab/ggml-vocab-gpt-2.gguf")) as file:
        tokenizer = load_tokenizer(file.metadata, pre="qwen2")
    assert len(tokenizer.encode("1234")) == 4 > len(recorded("gpt-2").encode("1234"))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model", 7, "should be a string, but is 7"),
        ("tokens", [], "tokens is empty"),
        ("tokens", "abc", "should be an array of strings"),
        ("tokens", [1, 2], "should be an array of strings"),
        ("tokens", None, "tokens is missing"),
        ("scores", [0.0], r"scores has 1 elements for 263 tokens"),
        ("scores", ["x"] * 263, "should be an array of numbers"),
        ("scores", None, "scores is missing"),
        ("token_type", [1, 1], r"token_type has 2 elements for 263 tokens"),
        ("add_bos_token", "yes", "should be a boolean, but is 'yes'"),
        ("bos_token_id", 1.5, "should be a token id, but is 1.5"),
        ("bos_token_id", True, "should be a token id, but is True"),
    ],
)
def test_inconsistent_metadata_is_refused(key: str, value: object, message: str) -> None:
    keys = spm(*LETTERS)
    keys[f"tokenizer.ggml.{key}"] = value
    with pytest.raises(TokenizerError, match=message) as error:
        load_tokenizer(keys)
    assert f"tokenizer.ggml.{key}" in str(error.value)


def test_missing_merges_are_refused() -> None:
    for model, pre in (("gpt2", "gpt-2"), ("gemma4", None)):
        with pytest.raises(TokenizerError, match=r"tokenizer\.ggml\.merges is missing"):
            load_tokenizer(metadata(model, LETTERS), pre=pre)


def test_an_id_outside_the_vocabulary_counts_as_absent(caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = load_tokenizer(spm(*LETTERS, eos_token_id=4294967295, padding_token_id=-1))
    assert tokenizer.eos_id == 2  # the scheme's own id counts, as if the key were not there
    assert tokenizer.special.pad is None
    assert "eos_token_id is 4294967295, outside the vocabulary of 263 tokens" in caplog.text


def test_a_missing_token_type_means_normal_text(caplog: pytest.LogCaptureFixture) -> None:
    keys = spm(*LETTERS)
    del keys["tokenizer.ggml.token_type"]
    tokenizer = load_tokenizer(keys)
    assert tokenizer.decode(tokenizer.encode("abc", add_special=False)) == "abc"
    assert caplog.records[0].levelno == logging.WARNING


def test_bos_and_eos_are_added_as_the_file_says() -> None:
    def ids(**keys: object) -> list[int]:
        tokenizer = load_tokenizer(spm(("▁a", 0.0, NORMAL), *LETTERS, **keys))
        assert tokenizer.encode("a", add_special=False) == [259]
        return tokenizer.encode("a")

    assert ids() == [1, 259]
    assert ids(add_eos_token=True) == [1, 259, 2]
    assert ids(add_bos_token=False) == [259]
    assert ids(add_bos_token=True, bos_token_id=2) == [2, 259]
    tokens = [("a", 0.0, NORMAL)]
    keys = metadata("gpt2", tokens, pre="gpt-2", merges=[], add_bos_token=True)
    with pytest.raises(TokenizerError, match=r"add_bos_token is true, but tokenizer\.ggml\.bos_token_id"):
        load_tokenizer(keys)
    # llama3's rule adds BOS unless the file says otherwise, and there is none to add.
    assert load_tokenizer(metadata("gpt2", tokens, pre="llama3", merges=[])).encode("a") == [0]


def test_the_space_prefix_goes_and_comes_back() -> None:
    tokenizer = load_tokenizer(spm(*LETTERS, ("<x>", 0.0, USER_DEFINED)))
    texts = [tokenizer.token_text(id) for id in tokenizer.encode("a<x>b")]
    assert texts == ["<s>", "▁", "a", "<x>", "▁", "b"]
    ids = tokenizer.encode(" a b")
    assert tokenizer.decode(ids) == " a b"
    assert tokenizer.decode(ids, special=True) == "<s> a b"
    assert tokenizer.decode(ids[1:], continuation=True) == "  a b"
    assert tokenizer.stream(continuation=True).push(ids[1]) == " "
    without = load_tokenizer(spm(*LETTERS, add_space_prefix=False))
    assert without.decode(without.encode("a")) == "a"
    assert without.decode(without.encode(" a")) == " a"


def test_an_incomplete_character_is_held_back() -> None:
    tokenizer = load_tokenizer(spm(add_space_prefix=False))
    stream = tokenizer.stream()
    euro = tokenizer.encode("€", add_special=False)
    assert [stream.push(id) for id in (*euro, *euro[:2], *euro)] == ["", "", "€", "", "", "\ufffd", "", "€"]
    assert [stream.push(euro[0]), stream.flush()] == ["", "\ufffd"]
    assert tokenizer.decode(euro[:2]) == "\ufffd"
    assert tokenizer.decode_bytes(euro[:2]) == b"\xe2\x82"


def test_ids_outside_the_vocabulary_are_refused() -> None:
    tokenizer = load_tokenizer(spm(*LETTERS))
    for id in (-1, 263, 1 << 40):
        with pytest.raises(TokenizerError, match=rf"token id {id} is outside.*0 to 262"):
            tokenizer.decode([id])
        with pytest.raises(TokenizerError):
            tokenizer.stream().push(id)
        with pytest.raises(TokenizerError):
            tokenizer.token_text(id)


def test_control_tokens_show_only_when_asked_for() -> None:
    tokenizer = load_tokenizer(spm(*LETTERS))
    ids = [1, 260, 0, 2, 261]
    assert tokenizer.decode(ids) == "ab"
    assert tokenizer.decode(ids, special=True) == "<s>a<unk></s>b"
    assert tokenizer.token_bytes(1) == b""
    assert tokenizer.token_to_id("</s>") == 2
    assert tokenizer.token_to_id("nosuch") is None


def test_clean_spaces_only_when_asked_for() -> None:
    text = "a 's b ' c . d , e"
    tokenizer = recorded("llama-bpe")
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(ids, clean_spaces=True) == "a's b'c. d, e"


def test_a_vocabulary_that_cannot_say_a_byte() -> None:
    tokens = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL), *LETTERS]
    tokenizer = load_tokenizer(metadata("llama", tokens))
    assert tokenizer.encode("axb", add_special=False) == [3, 4, 0, 5]
    without = load_tokenizer(metadata("llama", [("▁", 0.0, NORMAL)], add_bos_token=False))
    assert without.unk_id == 0  # the scheme's default counts, here a normal token
    bad_byte = load_tokenizer(spm(("<0x-1>", 0.0, BYTE)))
    assert bad_byte.decode([259]) == "<0x-1>"


def test_texts_decide_what_ends_a_turn() -> None:
    words = [("<|im_end|>", 0.0, NORMAL), ("<|eom_id|>", 0.0, CONTROL), ("<|fim_prefix|>", 0.0, USER_DEFINED)]
    tokenizer = load_tokenizer(spm(*words))
    assert tokenizer.eog_ids == {2, 259, 260}
    assert (tokenizer.special.eot, tokenizer.special.eom, tokenizer.special.fim_pre) == (259, 260, 261)
    assert tokenizer.vocab.types[259] == TokenType.CONTROL
    assert tokenizer.encode("<|im_end|>", parse_special=True) == [1, 259]
    assert len(tokenizer.encode("<|im_end|>")) > 2
    harmony = [(text, 0.0, CONTROL) for text in ("<|return|>", "<|call|>", "<|end|>", "<|channel|>")]
    tokenizer = load_tokenizer(spm(*harmony))
    assert tokenizer.eog_ids == {2, 259, 260}
    assert tokenizer.decode([261, 262]) == "<|end|><|channel|>"


def test_empty_texts() -> None:
    tokenizer = recorded("llama-spm")
    assert tokenizer.encode("") == [1]
    assert tokenizer.encode(b"", add_special=False) == []
    assert tokenizer.decode([]) == ""
    assert tokenizer.stream().flush() == ""
