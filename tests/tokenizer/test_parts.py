"""The algorithms inside the tokenizers against plain ones: merging, Viterbi, normalization, matching."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from contextlib import suppress
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaq.errors import TokenizerError
from llamaq.tokenizer import PRETOKENIZERS, _rule_of, load_tokenizer
from llamaq.tokenizer.charsmap import Charsmap
from llamaq.tokenizer.merging import Memo, merge, word_pattern
from tokenizer_cases import CONTROL, NORMAL, UNKNOWN, USER_DEFINED, metadata, recorded, spm


def merge_plainly(symbols: list[bytes], ranks: dict[bytes, int]) -> list[bytes]:
    while True:
        pairs = [(ranks.get(a + b" " + b, 1000), i) for i, (a, b) in enumerate(pairwise(symbols))]
        rank, i = min(pairs, default=(1000, 0))
        if rank == 1000:
            return symbols
        symbols = [*symbols[:i], symbols[i] + symbols[i + 1], *symbols[i + 2 :]]


MERGES = st.lists(
    st.tuples(st.text("abc", min_size=1, max_size=4), st.text("abc", min_size=1, max_size=4)),
    max_size=25,
    unique=True,
)


@settings(max_examples=300)
@given(merges=MERGES, word=st.text("abc", max_size=24), copies=st.sampled_from([1, 12]))
def test_merging_short_and_long_words(merges: list[tuple[str, str]], word: str, copies: int) -> None:
    ranks = {f"{a} {b}".encode(): rank for rank, (a, b) in enumerate(merges)}
    symbols = [char.encode() for char in word * copies]
    assert merge(list(symbols), ranks, b" ") == merge_plainly(symbols, ranks)


SCORED = st.dictionaries(st.text("ab▁", min_size=2, max_size=4), st.integers(-3, 0), max_size=12)


@settings(max_examples=200)
@given(words=SCORED, text=st.text("ab ", max_size=60))
def test_sentencepiece_words_equal_the_whole(words: dict[str, int], text: str) -> None:
    """Cutting a text into words, with tokens that reach across spaces in play, changes no id."""
    singles = [(char, -10.0, NORMAL) for char in "ab▁"]
    tokenizer = load_tokenizer(spm(*singles, *((word, float(score), NORMAL) for word, score in words.items())))
    # Twelve equal scores at most: the plain algorithm below shares the rule for ties, leftmost first.
    ranks = {word.encode(): -score for word, score in words.items()}
    symbols = [char.encode() for char in "▁" + text.replace(" ", "▁")] if text else []
    expected = merge(symbols, ranks, b"")
    ids = tokenizer.encode(text, add_special=False)
    assert [tokenizer.vocab.tokens[id] for id in ids] == expected


UNIGRAMS = st.dictionaries(
    st.text("abc▁", min_size=1, max_size=4), st.floats(-20, -0.125, width=32), min_size=1, max_size=14
)


@settings(max_examples=300)
@given(words=UNIGRAMS, text=st.text("abcd ", max_size=9), merge_spaces=st.booleans())
def test_viterbi_equals_trying_every_way(words: dict[str, float], text: str, merge_spaces: bool) -> None:
    head = [("<pad>", 0.0, CONTROL), ("</s>", 0.0, CONTROL), ("<unk>", 0.0, UNKNOWN)]
    tokens = [*head, *((word, score, NORMAL) for word, score in words.items())]
    tokenizer = load_tokenizer(metadata("t5", tokens, add_space_prefix=True, remove_extra_whitespaces=merge_spaces))
    if merge_spaces:
        spelled = "".join("▁" + word for word in text.split(" ") if word)
    else:
        spelled = (" " + text if text.strip() else text).replace(" ", "▁")
    unknown = min(words.values()) - 10.0

    def ways(rest: str) -> Iterator[list[str]]:
        if not rest:
            yield []
        for end in range(1, len(rest) + 1):
            if rest[:end] in words or end == 1:
                for way in ways(rest[end:]):
                    yield [rest[:end], *way]

    def ids(way: list[str]) -> list[int | None]:
        each = [tokenizer.token_to_id(piece) if piece in words else tokenizer.unk_id for piece in way]
        return [id for id, run in groupby(each) for _ in ([0] if id == tokenizer.unk_id else run)]

    scored = [(sum(words.get(piece, unknown) for piece in way), way) for way in ways(spelled)]
    best = max(score for score, _ in scored)
    assert tokenizer.encode(text, add_special=False) in [
        ids(way) for score, way in scored if math.isclose(score, best, rel_tol=1e-12)
    ]


def compile_charsmap(rules: dict[bytes, bytes]) -> bytes:
    """The blob of a normalization: each node's children in a block of 256 units of their own."""
    replacements, places = bytearray(), {}
    for key, replacement in rules.items():
        places[key] = len(replacements)
        replacements += replacement + b"\0"
    prefixes = sorted({key[:n] for key in rules for n in range(len(key) + 1)})
    blocks = {prefix: 256 * (i + 1) for i, prefix in enumerate(prefixes)}
    units = [0] * (256 * (len(prefixes) + 1))
    for prefix in prefixes:
        place = blocks[prefix[:-1]] + prefix[-1] if prefix else 0
        label = prefix[-1] if prefix else 0
        units[place] = (place ^ blocks[prefix]) << 10 | (prefix in rules) << 8 | label
        if prefix in rules:
            units[blocks[prefix]] = 1 << 31 | places[prefix]
    table = struct.pack(f"<{len(units)}I", *units)
    return struct.pack("<I", len(table)) + table + bytes(replacements)


RULES = st.dictionaries(
    st.text("abé中 ", min_size=1, max_size=3).map(str.encode),
    st.text("xyé ", max_size=3).map(str.encode),
    min_size=1,
    max_size=8,
)


@settings(max_examples=200)
@given(rules=RULES, text=st.text("abcé中 😀", max_size=20))
def test_normalization_replaces_the_longest_prefix(rules: dict[bytes, bytes], text: str) -> None:
    data, expected = text.encode(), b""
    while data:
        key = next((data[:n] for n in range(len(data), 0, -1) if data[:n] in rules), None)
        taken = len(key) if key else len(data.decode()[0].encode())
        expected += rules[key] if key else data[:taken]
        data = data[taken:]
    blob = compile_charsmap(rules)
    assert Charsmap(blob).normalize(text) == expected.decode()
    tokens = [("<pad>", 0.0, CONTROL), ("</s>", 0.0, CONTROL), ("<unk>", 0.0, UNKNOWN), ("▁", -1.0, NORMAL)]
    tokens += [(char, -2.0, NORMAL) for char in "abcé中😀xy"]
    tokenizer = load_tokenizer(
        metadata("t5", tokens, precompiled_charsmap=np.frombuffer(blob, np.int8), add_space_prefix=False)
    )
    assert tokenizer.decode(tokenizer.encode(text)) == expected.decode()


def test_raw_bytes_normalize_to_the_replacement_character() -> None:
    assert Charsmap(b"").normalize(b"a\xe2\x96b\xff".decode("utf-8", "surrogateescape")) == "a\ufffd\ufffdb\ufffd"


@pytest.mark.parametrize("blob", [b"\0", b"\4\0\0\0", b"\xff" * 20, b"\4\0\0\0" + b"\0" * 4, b"\3\0\0\0abcd\0"])
def test_a_damaged_charsmap_is_refused(blob: bytes) -> None:
    with pytest.raises(TokenizerError, match="precompiled_charsmap"):
        Charsmap(blob)


@given(table=st.binary(min_size=4, max_size=64), text=st.text(max_size=8))
def test_a_random_charsmap_neither_crashes_nor_hangs(table: bytes, text: str) -> None:
    table = table[: len(table) // 4 * 4]
    charsmap = Charsmap(struct.pack("<I", len(table)) + table + b"x\0")
    with suppress(TokenizerError):
        charsmap.normalize(text)


def test_the_longest_of_the_leftmost_added_tokens_counts() -> None:
    words = [("<a>", 0.0, USER_DEFINED), ("<a><b>", 0.0, USER_DEFINED), ("<b>", 0.0, CONTROL)]
    words += [("!", 0.0, USER_DEFINED), ("!!!", 0.0, USER_DEFINED)]
    tokenizer = load_tokenizer(spm(*words, add_space_prefix=False))

    def texts(text: str, parse_special: bool) -> list[str]:
        ids = tokenizer.encode(text, add_special=False, parse_special=parse_special)
        return [tokenizer.token_text(id) for id in ids]

    assert texts("<a><b>", False) == ["<a><b>"]
    assert texts("<a><a><b><b>", True) == ["<a>", "<a><b>", "<b>"]
    assert texts("<b>", False) == ["<0x3C>", "<0x62>", "<0x3E>"]
    assert texts("!!!!!", False) == ["!!!", "!", "!"]


def test_a_memo_is_bounded_and_right_beyond_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Memo, "_WORDS", 4)
    monkeypatch.setattr(Memo, "_LONGEST", 3)
    calls: list[str] = []

    def length(word: str) -> int:
        calls.append(word)
        return len(word)

    memo = Memo(length)
    words = ["a", "bb", "a", "dddd", "a", "dddd"]
    assert memo.map(words) == [1, 2, 1, 4, 1, 4]
    assert sorted(calls) == ["a", "bb", "dddd"]
    memo.map(["bb", "dddd"])
    assert sorted(calls) == ["a", "bb", "dddd", "dddd"]  # dddd is too long to be kept
    assert memo.map([str(i) for i in range(20)]) == [len(str(i)) for i in range(20)]
    assert len(memo._known) <= 4


def test_words_end_where_no_token_spans() -> None:
    assert word_pattern("").findall("▁a▁b▁▁c\n▁d") == ["▁a", "▁b", "▁", "▁c\n", "▁d"]
    assert word_pattern("▁>").findall("▁a>▁b▁▁c") == ["▁a>▁b", "▁▁c"]
    assert word_pattern("▁", lines=True).findall("a▁b\n\n▁c") == ["a", "▁b", "\n\n", "▁c"]


SPLITS: list[tuple[str, str, str]] = [  # name, text, words; the same as HF's tokenizers and llama.cpp give
    ("gpt-2", "I'll see  it's 1234 é\n\n x!?", "I|'ll| see| | it|'s| 1234| é|\n\n| x|!?"),
    ("llama-bpe", "I'LL see  12345 a!?\n\n x\t", "I|'LL| see| | |123|45| a|!?\n\n| x|\t"),
    ("qwen2", "x12 's", "x|1|2| '|s"),
    ("qwen35", "e\u0301a\u0301 1", "e\u0301a\u0301| |1"),
    ("gpt-4o", "HTTPServer's camelCase 1234/\n", "HTTPServer's| camel|Case| |123|4|/\n"),
    ("tekken", "HTTPServer's 12", "HTTPServer|'s| |1|2"),
    ("deepseek-v3", "a123456 .b中文x", "a|123|456| .|b|中文|x"),
    ("deepseek-coder", "a 12, b\n中文", "a| |1|2|,| b|\n|中文"),
    ("falcon", "a$b 12345 don't", "a|$|b| |123|45| don|'|t"),
    ("starcoder", "x 12 y", "x| |1|2| y"),
    ("kimi-k2", "中文abc 12", "中文|abc| |12"),
    ("bloom", "a,b c", "a|,|b| c"),
    ("tiny_aya", "1234567 12a", "1|234|567| |12|a"),
    ("afmoe", "a1234 中b", "a|1|234| |中|b"),
    ("exaone-moe", "a bc 1\n\n!", "a bc| |1|\n\n|!"),
    ("superbpe", "by the way 1234567", "by the way |1|234|567"),
]


@pytest.mark.parametrize(("name", "text", "words"), SPLITS)
def test_pretokenizers_cut_as_they_should(name: str, text: str, words: str) -> None:
    assert PRETOKENIZERS[name].split(text) == words.split("|")


@pytest.mark.parametrize("name", sorted(PRETOKENIZERS))
def test_long_runs_take_linear_time(name: str) -> None:
    """A pattern that looks ahead from each character of a run would take minutes here."""
    for run in ("a", "1", " ", "A", "中", "!", "\n", "a ", " \u3000"):
        text = run * (60_000 // len(run)) + "é"
        assert "".join(PRETOKENIZERS[name].split(text)) == text


@pytest.mark.parametrize("name", ["gpt-2", "llama-spm", "gemma-4", "nomic-bert-moe", "bert-bge"])
def test_long_runs_can_be_encoded(name: str) -> None:
    tokenizer = recorded(name)
    for run in ("a", " ", "\n", "😀", "ab"):
        text = run * 20_000
        decoded = tokenizer.decode(tokenizer.encode(text))
        assert name in ("nomic-bert-moe", "bert-bge") or decoded == text


def test_wordpiece_options() -> None:
    words = [("[UNK]", 0.0, CONTROL), ("[CLS]", 0.0, CONTROL), ("[SEP]", 0.0, CONTROL)]
    words += [(text, 0.0, NORMAL) for text in ("▁é", "▁É", "▁e", "e", "▁!", "▁中")]
    ids: dict[str, Any] = {"unknown_token_id": 0, "cls_token_id": 1, "seperator_token_id": 2}

    def texts(text: str, **options: bool) -> list[str]:
        keys = {f"normalizer.{name}": value for name, value in options.items()}
        tokenizer = load_tokenizer(metadata("bert", words, **ids, **keys))
        return [tokenizer.token_text(id) for id in tokenizer.encode(text)]

    assert texts("É") == ["[CLS]", "▁e", "[SEP]"]
    assert texts("É", lowercase=False) == ["[CLS]", "▁É", "[SEP]"]
    assert texts("É", strip_accents=False) == ["[CLS]", "▁é", "[SEP]"]
    assert texts("ee!中\u200dx\x07") == ["[CLS]", "▁e", "e", "▁!", "▁中", "[UNK]", "[SEP]"]
    assert texts(" \u3000\n") == ["[CLS]", "[SEP]"]


@pytest.mark.parametrize(
    ("architecture", "named", "expected"),
    [
        ("gptoss", None, "gpt-4o"), ("gptoss", "default", "gpt-4o"), ("lfm2", "default", "lfm2"),
        ("mistral3", None, "tekken"), ("gptoss", "qwen2", "qwen2"), ("glm4moelite", None, "glm4"),
        ("gemma4", None, "gemma4"), ("llama", "default", "default"), ("llama", None, None),
    ],
)  # fmt: skip
def test_files_of_ollamas_converter_do_not_name_their_pretokenizer(
    architecture: str, named: str | None, expected: str | None
) -> None:
    keys = {"general.architecture": architecture} | ({} if named is None else {"tokenizer.ggml.pre": named})
    assert _rule_of(keys) == expected


def test_old_files_of_llama_3_do_not_either() -> None:
    tokens = [*map(str, range(128009)), "<|eot_id|>"]
    for named in (None, "default", "gpt-2"):
        keys = {"tokenizer.ggml.tokens": tokens} | ({} if named is None else {"tokenizer.ggml.pre": named})
        assert _rule_of(keys) == ("gpt-2" if named == "gpt-2" else "llama-bpe")


def test_gemma_4_has_its_own_scheme_and_bos_whatever_a_file_calls_them() -> None:
    """Ollama's converter named the scheme of earlier Gemmas, and some files say that no BOS begins a text."""
    words = [("<unk>", 0.0, UNKNOWN), ("<bos>", 0.0, CONTROL)]
    words += [(word, 0.0, NORMAL) for word in ("▁", "a", "b", "▁ab", "ab")]
    keys: dict[str, Any] = {"merges": ["a b", "▁ ab"], "bos_token_id": 1, "pre": "gemma4", "add_space_prefix": False}
    for named, more in (("gemma4", {}), ("llama", {}), ("gemma4", {"add_bos_token": False})):
        tokenizer = load_tokenizer(metadata(named, words, **keys, **more))
        assert tokenizer.encode("ab ab") == [1, 6, 5]  # without a space before the text
        assert tokenizer.encode("b a", add_special=False) == [4, 2, 3]
