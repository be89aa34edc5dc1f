"""A converted tokenizer beside the library that the source's own was written for."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from llamaq.convert.checkpoint import Checkpoint
from llamaq.convert.sentencepiece_model import SentencePieceModel, read_sentencepiece, with_prefix
from llamaq.convert.texts import texts
from llamaq.tokenizer import Tokenizer, TokenType

__all__ = ["Comparison", "compare"]

logger = logging.getLogger("llamaq")

Encode = Callable[[str], list[int]]
_SECONDS = 60.0  # seconds of processor time; honest tokenizers need less than one
_MOST_SPECIAL = 12  # special tokens of each type
_SHOWN = 6  # tokens around the first difference


@dataclass(frozen=True)
class Comparison:
    """``alike`` of ``total`` texts became the same ids by ``library``. Where ``total`` is 0, ``reason`` says why.
    ``projector`` is the file with the part of the model that sees images, where one was written."""

    library: str
    total: int = 0
    alike: int = 0
    reason: str = ""
    projector: Path | None = None

    def __str__(self) -> str:
        if not self.total:
            return f"nothing was compared: {self.reason}"
        return f"{self.alike} of {self.total} texts tokenize alike (compared with {self.library})"


def compare(checkpoint: Checkpoint, tokenizer: Tokenizer) -> Comparison:
    """Encodes some hundred texts with both; a warning shows the first that differs. Raises nothing of its own.

    The library ``tokenizers`` counts first, as transformers uses it and tokenizer.json has the added tokens.
    """
    model = read_sentencepiece(checkpoint.folder / "tokenizer.model", tokenizer.n_vocab)
    described = bool(checkpoint.json("tokenizer.json"))
    if model is not None and "add_prefix_space" in checkpoint.json("tokenizer_config.json"):
        described = False  # transformers, too, makes the tokenizer of tokenizer.model then
    wanted = ["tokenizers"] * described + ["sentencepiece"] * (model is not None)
    for library in wanted:
        try:
            package = import_module(library)
            break
        except ImportError:
            continue
    else:
        return Comparison(wanted[0], reason=f"the package {wanted[0]} is not installed; pip install {wanted[0]}")
    try:
        if library == "tokenizers":
            return _compared(library, tokenizer, _by_tokenizers(package, checkpoint), _special(tokenizer))
        assert model is not None
        encode = _by_sentencepiece(package, model, tokenizer.add_space_prefix)
        own, others = _user_defined(model, tokenizer)
        return _compared(library, tokenizer, encode, own[:_MOST_SPECIAL], others)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # both report damage by errors of any class, Rust's panics are no Exceptions
        reason = f"{library} cannot use the tokenizer: {str(error)[:200]}"
        logger.warning("the tokenizer was not compared: %s", reason)
        return Comparison(library, reason=reason)


def _by_tokenizers(package: Any, checkpoint: Checkpoint) -> Encode:
    own = package.Tokenizer.from_file(str(checkpoint.folder / "tokenizer.json"))
    own.no_truncation()
    own.no_padding()

    def encode(text: str) -> list[int]:
        ids: list[int] = own.encode(text, add_special_tokens=False).ids
        return ids

    return encode


def _by_sentencepiece(package: Any, model: SentencePieceModel, prefix: bool) -> Encode:
    data = model.data if prefix == model.add_dummy_prefix else with_prefix(model.data, prefix)
    encode: Encode = package.SentencePieceProcessor(model_proto=data).encode
    return encode


def _special(tokenizer: Tokenizer) -> list[str]:
    """Some tokens that stand for themselves in a text."""
    kinds = (TokenType.USER_DEFINED, TokenType.CONTROL)
    return [tokenizer.vocab.text(id) for kind in kinds for id in tokenizer.vocab.of_type(kind)[:_MOST_SPECIAL]]


def _user_defined(model: SentencePieceModel, tokenizer: Tokenizer) -> tuple[list[str], list[str]]:
    """Texts of tokens that stand for themselves: the model's own, and those added to it, which its library does not
    know."""
    own: list[str] = []
    others: list[str] = []
    for id in tokenizer.vocab.of_type(TokenType.USER_DEFINED):
        text = tokenizer.vocab.text(id)
        known = id < len(model.pieces) and model.pieces[id][0] == text
        (own if known else others).append(text)
    return own, others


def _compared(
    library: str, tokenizer: Tokenizer, encode: Encode, special: Sequence[str], without: Sequence[str] = ()
) -> Comparison:
    total = alike = 0
    first = ""
    end = time.process_time() + _SECONDS
    for text in texts(special):
        if any(token in text for token in without):
            continue
        expected = encode(text)
        found = tokenizer.encode(text, add_special=False, parse_special=library == "tokenizers")
        total, alike = total + 1, alike + (found == expected)
        if found != expected and not first:
            first = f"{text!r} becomes {_near(tokenizer, found, expected)}, there {_near(tokenizer, expected, found)}"
        if time.process_time() > end:
            break
    if first:
        logger.warning("%d of %d texts tokenize otherwise than with %s: %s", total - alike, total, library, first)
    return Comparison(library, total, alike)


def _near(tokenizer: Tokenizer, ids: list[int], others: list[int]) -> str:
    """The tokens from just before the place where two lists part."""
    parting = next((i for i, (a, b) in enumerate(zip(ids, others, strict=False)) if a != b), min(len(ids), len(others)))
    start = max(0, parting - 1)
    shown = [tokenizer.token_text(id) if id < tokenizer.n_vocab else id for id in ids[start : start + _SHOWN]]
    more = "..." if len(ids) > start + _SHOWN else ""
    return f"{'...' if start else ''}{shown}{more}"
