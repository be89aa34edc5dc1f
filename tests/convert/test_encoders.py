"""Vocabularies of encoders beside the library ``tokenizers``: BERT's WordPiece, XLM-RoBERTa's Unigram."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

from hf_llama import save, tiny
from llamaq.convert import Comparison, convert
from llamaq.convert.texts import texts
from llamaq.errors import ModelError, TokenizerError
from llamaq.gguf import GGUFFile
from llamaq.tokenizer import Tokenizer, load_tokenizer

LINES = [line for line in texts() if line.strip()]
WORDPIECE = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SETTINGS = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), WORDPIECE, strict=True))
UNIGRAM = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def wordpiece(**normalizer: Any) -> dict[str, Any]:
    made: Any = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(**normalizer)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.train_from_iterator(
        LINES, trainers.WordPieceTrainer(vocab_size=900, special_tokens=WORDPIECE, show_progress=False)
    )
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    found: dict[str, Any] = json.loads(made.to_str())
    return found


def unigram() -> dict[str, Any]:
    made: Any = tokenizers.Tokenizer(models.Unigram())
    spaces = normalizers.Replace(tokenizers.Regex(" {2,}"), "▁")
    made.normalizer = normalizers.Sequence([normalizers.Strip(left=False), spaces])
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=900, special_tokens=UNIGRAM, unk_token="<unk>", show_progress=False)
    made.train_from_iterator(LINES, trainer)
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    found: dict[str, Any] = json.loads(made.to_str())
    return found


def converted(described: dict[str, Any], settings: dict[str, str], tmp_path: Path) -> tuple[Comparison, Tokenizer]:
    config, tensors = tiny(vocab_size=1300, tie_word_embeddings=True, type_vocab_size=2)
    folder = save(tmp_path / "model", config, tensors, tokenizer=described, tokenizer_config=settings)
    compared = convert(folder, tmp_path / "out.gguf")
    with GGUFFile.open(tmp_path / "out.gguf") as file:
        assert file.metadata["tokenizer.ggml.token_type_count"] == 2
        return compared, load_tokenizer(file.metadata)


@pytest.mark.parametrize(
    "normalizer", [{"lowercase": True}, {"lowercase": False, "strip_accents": False}, {"lowercase": False}], ids=str
)
def test_wordpiece(normalizer: dict[str, Any], tmp_path: Path) -> None:
    described = wordpiece(**normalizer)
    compared, tokenizer = converted(described, SETTINGS, tmp_path)
    assert compared.alike > 0.85 * compared.total
    own = tokenizers.Tokenizer.from_str(json.dumps(described))
    # GGUF's readers strip all marks with the accents and know no syllables made of letters; U+0085 is a space.
    stripped = normalizer.get("strip_accents", normalizer["lowercase"])
    lines = [line for line in LINES if not stripped or {*map(unicodedata.category, line)}.isdisjoint({"Mc"})]
    lines = [line for line in lines if not stripped or not any("가" <= char <= "힣" for char in line)]
    assert len(lines) > 0.8 * len(LINES)
    for line in lines:
        if "\x85" not in line:
            assert tokenizer.encode(line) == own.encode(line).ids, line
    for first, second in zip(lines[::7], lines[3::7], strict=False):
        if "\x85" not in first + second:
            assert tokenizer.encode_pair(first, second) == own.encode(first, second).ids
    special = tokenizer.special
    assert (special.pad, special.unk, special.bos, special.sep, special.mask) == (0, 1, 2, 3, 4)


def is_same(char: str) -> bool:
    """Whether both libraries take a character for the same: each knows Unicode of another year; the rest as above."""
    category = unicodedata.category(char)
    old = category != "Cn" and category == unicodedata.ucd_3_2_0.category(char)
    syllable = "\uac00" <= char <= "\ud7a3"
    return old and not syllable and category not in ("Cs", "Mc", "Me") and char not in "\v\f\x85\u166d\u2581"


@pytest.mark.parametrize("lowercase", [True, False])
def test_wordpiece_on_any_text(lowercase: bool, tmp_path: Path) -> None:
    described = wordpiece(lowercase=lowercase)
    _, tokenizer = converted(described, SETTINGS, tmp_path)
    own = tokenizers.Tokenizer.from_str(json.dumps(described))
    letters = sorted({char for text in described["model"]["vocab"] for char in text if is_same(char)})
    characters = st.characters(max_codepoint=0x1FFFF).filter(is_same)

    @settings(max_examples=300, deadline=None)
    @given(st.text(st.one_of(characters, st.sampled_from([*letters, " ", "\t", "é", "Å", "中", "!"])), max_size=40))
    def alike(text: str) -> None:
        assert tokenizer.encode(text) == own.encode(text).ids

    alike()


def test_unigram(tmp_path: Path) -> None:
    described = unigram()
    names = ("bos_token", "pad_token", "eos_token", "unk_token", "mask_token")
    settings = dict(zip(names, UNIGRAM, strict=True)) | {"sep_token": "</s>"}
    compared, tokenizer = converted(described, settings, tmp_path)
    assert compared.alike > 0.8 * compared.total
    own = tokenizers.Tokenizer.from_str(json.dumps(described))
    scores = [score for _, score in described["model"]["vocab"]]
    for line in map(str.strip, LINES):  # the libraries choose differently among cuts that are equally likely
        found, expected = tokenizer.encode(line), own.encode(line).ids
        assert found == expected or sum(scores[id] for id in found) == pytest.approx(
            sum(scores[id] for id in expected), abs=1e-4
        ), line
    assert (tokenizer.special.bos, tokenizer.special.eos, tokenizer.special.mask) == (0, 2, 4)
    pair = ("the dog", "ran home")
    assert tokenizer.encode_pair(*pair) == own.encode(*pair).ids


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"normalizer": {"type": "Lowercase"}}, TokenizerError, "expected WordPiece with BERT's normalizer"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, TokenizerError, "expected WordPiece with BERT's normalizer"),
        ({"model": {"type": "WordPiece", "vocab": {"a": -1}}}, ModelError, "expected an id from 0"),
        ({"model": {"type": "WordPiece", "vocab": []}}, ModelError, "expected an object"),
        ({"model": {"type": "Unigram", "vocab": [["a"]]}}, ModelError, r"model\.vocab\[0\]: expected a text and a"),
        ({"model": {"type": "Unigram", "vocab": [["a", -1.0]]}}, TokenizerError, "expected one that spells spaces"),
        ({"model": {"type": "WordLevel", "vocab": {}}}, TokenizerError, "expected BPE with a vocabulary and merges"),
    ],
    ids=str,
)
def test_vocabularies_that_are_refused(
    change: dict[str, Any], kind: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=message):
        converted(wordpiece() | change, {}, tmp_path)
    assert not (tmp_path / "out.gguf").exists()


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"type": "Precompiled", "precompiled_charsmap": "*"}, "expected base64"),
        ({"type": "Lowercase"}, "GGUF's t5 cannot say 'Lowercase'"),
    ],
    ids=str,
)
def test_normalizers_of_unigram_that_are_refused(step: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises((ModelError, TokenizerError), match=message):
        converted(unigram() | {"normalizer": step}, {}, tmp_path)
