"""``tokenizer.model``: SentencePiece's model as a protocol buffer, with the settings that its library does not tell.

The numbers are those of sentencepiece_model.proto; types of pieces have the same numbers as in GGUF.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llamaq.convert.checkpoint import package
from llamaq.convert.files import read_bytes
from llamaq.convert.tokens import expect_rows
from llamaq.errors import ModelError
from llamaq.tokenizer import TokenType

__all__ = ["BPE", "UNIGRAM", "SentencePieceModel", "read_sentencepiece", "with_prefix"]

UNIGRAM, BPE = 1, 2
_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
_TIKTOKEN = re.compile(rb"[A-Za-z0-9+/]+=* \d+\r?\n")  # a token in base64 and its rank


@dataclass(frozen=True)
class SentencePieceModel:
    """``pieces`` are text, score and type by id; ``charsmap`` is the compiled normalization, named ``normalizer``."""

    data: bytes
    pieces: list[tuple[str, float, TokenType]]
    type: int
    whitespace_as_suffix: bool
    normalizer: str
    charsmap: bytes
    add_dummy_prefix: bool
    remove_extra_whitespaces: bool
    escape_whitespaces: bool


def read_sentencepiece(path: Path, rows: int) -> SentencePieceModel | None:
    """The model; None where there is no such file, or one of tiktoken, which tokenizer.json describes better.

    Raises ModelError for what is no such model, and for more pieces than the embedding table has ``rows``.
    """
    data = read_bytes(path)
    if data is None or _TIKTOKEN.match(data):
        return None
    library = package("sentencepiece")
    try:
        expect_rows(sum(number == _PIECES for number, _ in _fields(data)), rows)
        found = _parsed(data)
        library.SentencePieceProcessor(model_proto=data)  # the library knows more ways to be damaged
        return found
    except (ValueError, IndexError, struct.error, RuntimeError, OSError) as error:
        raise ModelError(f"{path}: cannot be read as a SentencePiece model: {error}; download it again") from None


def with_prefix(data: bytes, prefix: bool) -> bytes:
    """The same model, which puts a space before a text or none: of a field that stands twice, the last counts."""
    return data + bytes([_NORMALIZER << 3 | 2, 2, 3 << 3, prefix])


def _parsed(data: bytes) -> SentencePieceModel:
    pieces = []
    trainer: dict[int, int | bytes] = {}
    normalizer: dict[int, int | bytes] = {}
    for number, value in _fields(data):
        if number == _PIECES:
            piece = dict(_fields(_message(value)))
            score = struct.unpack("<f", _message(piece.get(2, bytes(4))))[0]
            pieces.append((_message(piece.get(1, b"")).decode(), score, TokenType(int(piece.get(3, TokenType.NORMAL)))))
        elif number == _TRAINER:
            trainer |= dict(_fields(_message(value)))
        elif number == _NORMALIZER:
            normalizer |= dict(_fields(_message(value)))
    if not pieces:
        raise ValueError("it has no pieces")
    return SentencePieceModel(
        data,
        pieces,
        int(trainer.get(3, UNIGRAM)),
        bool(trainer.get(24, 0)),
        _message(normalizer.get(1, b"")).decode(),
        _message(normalizer.get(2, b"")),
        bool(normalizer.get(3, 1)),
        bool(normalizer.get(4, 1)),
        bool(normalizer.get(5, 1)),
    )


def _message(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError(f"a number, {value}, stands where bytes should")
    return value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and values of a message's fields; values of fixed size come as their bytes."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        kind = key & 7
        if kind == 0:
            value, position = _varint(data, position)
            yield key >> 3, value
            continue
        if kind == 2:
            size, position = _varint(data, position)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field of the unknown kind {kind}")
        if position + size > len(data):
            raise ValueError("it ends too early")
        yield key >> 3, data[position : position + size]
        position += size


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise ValueError("a number of more than ten bytes")
