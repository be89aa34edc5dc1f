"""Laws that hold for any text and any ids, on the real vocabularies."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaq.tokenizer import PRETOKENIZERS
from tokenizer_cases import RECORDED, recorded

# Texts have pieces that tokenizers treat specially, among arbitrary characters.
PIECES = st.one_of(
    st.text(max_size=6),
    st.sampled_from([" ", "  ", "\n", "\r\n", "\t", "'s", "'LL", "12345", "½", "中", "가", "é", "e\u0301", "😀"]),
    st.sampled_from(["</s>", "<|endoftext|>", "<|eot_id|>", "<0x41>", "\x00", "\ufffd", "the", "HTTPServer"]),
)
TEXTS = st.lists(PIECES, max_size=8).map("".join)
BYTES = st.lists(st.one_of(st.binary(max_size=5), TEXTS.map(str.encode)), max_size=4).map(b"".join)


# Falcon's and StarCoder's vocabularies lack the tokens of some bytes.
@pytest.mark.parametrize("name", ["gpt-2", "llama-bpe", "qwen2", "deepseek-llm", "mpt"])
@settings(max_examples=150)
@given(text=TEXTS)
def test_byte_level_texts_come_back(name: str, text: str) -> None:
    tokenizer = recorded(name)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    shown = tokenizer.decode(tokenizer.encode(text, add_special=False, parse_special=True), special=True)
    assert shown == text


@pytest.mark.parametrize("name", ["llama-spm", "phi-3", "gemma-4"])
@settings(max_examples=150)
@given(text=TEXTS)
def test_sentencepiece_texts_come_back(name: str, text: str) -> None:
    text = text.replace("▁", "_").replace("</s>", "")  # a space, and a user-defined token in phi-3
    assert recorded(name).decode(recorded(name).encode(text)) == text


@settings(max_examples=150)
@given(data=BYTES)
def test_any_bytes_come_back_from_byte_tokens(data: bytes) -> None:
    data = data.replace("▁".encode(), b"_")
    tokenizer = recorded("llama-spm")
    ids = tokenizer.encode(data)
    assert tokenizer.decode_bytes(ids) == data
    assert tokenizer.encode(data.decode("utf-8", "surrogateescape")) == ids


@settings(max_examples=150)
@given(data=BYTES)
def test_byte_level_replaces_each_byte_that_is_not_utf_8(data: bytes) -> None:
    raw = data.decode("utf-8", "surrogateescape")
    text = "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in raw)
    assert recorded("gpt-2").encode(data) == recorded("gpt-2").encode(text)


@pytest.mark.parametrize("name", RECORDED)
@settings(max_examples=60)
@given(data=BYTES, ids=st.lists(st.integers(0, 30_000), max_size=30), flags=st.tuples(*[st.booleans()] * 2))
def test_pushes_joined_equal_decode(name: str, data: bytes, ids: list[int], flags: tuple[bool, bool]) -> None:
    tokenizer = recorded(name)
    special, continuation = flags
    for sequence in (ids, tokenizer.encode(data), [*ids, *tokenizer.encode(data, parse_special=True)]):
        stream = tokenizer.stream(special=special, continuation=continuation)
        pushed = [stream.push(id) for id in sequence]
        whole = tokenizer.decode(sequence, special=special, continuation=continuation)
        assert "".join(pushed) + stream.flush() == whole
        assert is_utf_8(pushed)


@pytest.mark.parametrize("name", RECORDED)
@settings(max_examples=60)
@given(text=st.text(st.characters(exclude_categories=())), flags=st.tuples(*[st.booleans()] * 2))
def test_any_str_can_be_encoded(name: str, text: str, flags: tuple[bool, bool]) -> None:
    tokenizer = recorded(name)
    ids = tokenizer.encode(text, add_special=flags[0], parse_special=flags[1])
    assert all(0 <= id < tokenizer.n_vocab for id in ids)
    assert is_utf_8([tokenizer.decode(ids, special=True)])


@settings(max_examples=100)
@given(text=TEXTS)
def test_words_joined_are_the_text(text: str) -> None:
    for name, rule in PRETOKENIZERS.items():
        words = rule.split(text)
        assert "".join(words) == text, name
        assert all(words) or not text, name


def is_utf_8(texts: Iterable[str]) -> bool:
    return all(text.encode() is not None for text in texts)
