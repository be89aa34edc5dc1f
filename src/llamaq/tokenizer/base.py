"""The tokenizer as the rest of llamaq sees it; one subclass per scheme fills in how text becomes tokens."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from llamaq.boundary import arguments
from llamaq.errors import TokenizerError

from .added import AddedTokens
from .decoding import PieceReader, StreamDecoder
from .metadata import Metadata, flag
from .special import read_special
from .vocab import TokenType, Vocab

__all__ = ["Settings", "Tokenizer"]

_SURROGATE = re.compile("[\ud800-\udfff]")
_SURROGATE_BUT_RAW_BYTE = re.compile("[\ud800-\udc7f\udd00-\udfff]")
_HIDDEN = frozenset((TokenType.CONTROL, TokenType.UNKNOWN))  # decode shows these only where asked
_SPELLED_OUT = frozenset((*_HIDDEN, TokenType.USER_DEFINED))  # these store their text as it is


@dataclass(frozen=True)
class Settings:
    """What a scheme does where the file's metadata leaves it open."""

    roles: dict[str, int]  # ids of special tokens, as `SpecialTokens` names them
    add_bos: bool = False
    add_eos: bool = False
    add_space_prefix: bool = False
    clean_spaces: bool = False


class Tokenizer(ABC):
    """Text to ids and back, as the model's GGUF file defines it.

    Attributes:
        vocab: texts, scores and types of all tokens.
        special: ids of the tokens with a role.
        add_bos, add_eos: whether encoding adds these tokens (in BERT's case [CLS] and [SEP]).
        add_space_prefix: whether encoding puts a space before a text, which decoding takes away again.
        clean_spaces: whether the model's authors decode with ``clean_spaces=True`` (see `decode`).

    Instances may be shared between threads.
    """

    keeps_raw_bytes: ClassVar[bool] = False  # whether bytes that are not UTF-8 have tokens of their own

    def __init__(self, metadata: Metadata, settings: Settings) -> None:
        self.vocab = Vocab(metadata)
        self.special = read_special(metadata, self.vocab, settings.roles)
        key = "tokenizer.ggml.add_{}_token"
        self.add_bos = flag(metadata, key.format("bos"), settings.add_bos and self.special.bos is not None)
        self.add_eos = flag(metadata, key.format("eos"), settings.add_eos and self.special.eos is not None)
        self.add_space_prefix = flag(metadata, "tokenizer.ggml.add_space_prefix", settings.add_space_prefix)
        self.clean_spaces = settings.clean_spaces
        self._prefix = self._affix("bos", self.add_bos)
        self._suffix = self._affix("eos", self.add_eos)
        self._between = self._separator(metadata)
        self._added = AddedTokens(metadata, self.vocab)
        self._types: list[int] = self.vocab.types.tolist()
        self._pieces: dict[int, bytes] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.n_vocab} tokens>"

    @property
    def n_vocab(self) -> int:
        """How many tokens there are; ids run from 0 to ``n_vocab - 1``."""
        return len(self.vocab)

    @property
    def bos_id(self) -> int | None:
        """The token that begins a text."""
        return self.special.bos

    @property
    def eos_id(self) -> int | None:
        """The token that ends a text."""
        return self.special.eos

    @property
    def unk_id(self) -> int | None:
        """The token for what the vocabulary cannot say."""
        return self.special.unk

    @property
    def eog_ids(self) -> frozenset[int]:
        """All tokens that end generation: of a text, of a turn, of a message."""
        return self.special.eog_ids

    def encode(
        self,
        text: str | bytes,
        *,
        add_special: bool = True,
        parse_special: bool = False,
        continuation: bool = False,
    ) -> list[int]:
        """Token ids of a text.

        Args:
            text: bytes need not be UTF-8: each byte that is not part of a character becomes its byte token
                in the ``llama`` scheme and counts as U+FFFD in the others. In a str, U+DC80 to U+DCFF stand
                for such bytes (PEP 383), and any other lone surrogate counts as U+FFFD.
            add_special: adds the tokens that the model expects around a text, e.g. BOS.
            parse_special: takes control tokens spelled out in the text, e.g. ``<|im_start|>``, for themselves.
                Leave it off for text from strangers. User-defined tokens are always recognized.
            continuation: the text goes on another, so neither BOS nor a space is put before it.
        """
        add_special = arguments.flag("add_special", add_special)
        continuation = arguments.flag("continuation", continuation)
        ids = list(self._prefix) if add_special and not continuation else []
        after_special = not continuation
        for fragment in self._added.split(self._as_text(text), arguments.flag("parse_special", parse_special)):
            if isinstance(fragment, int):
                ids.append(fragment)
            else:
                ids += self._encode_text(fragment, after_special)
            after_special = isinstance(fragment, int)
        return ids + list(self._suffix) if add_special else ids

    def encode_pair(self, first: str | bytes, second: str | bytes) -> list[int]:
        """Token ids of two texts as cross-encoders read them: [CLS] first [SEP] second [SEP], or as RoBERTa does,
        <s> first </s></s> second </s>. Special tokens spelled out in the texts are text."""
        own, other = (self.encode(text, add_special=False) for text in (first, second))
        return [*self._prefix, *own, *self._suffix, *self._between, *other, *self._suffix]

    def encode_filled(self, template: str, texts: Mapping[str, str | bytes]) -> list[int]:
        """Token ids of a template with control tokens, in which texts take the places of ``{name}``. Special tokens
        spelled out in the texts are text."""
        names = re.compile("|".join(re.escape(f"{{{name}}}") for name in texts))
        ids: list[int] = []
        for fragment in self._added.split(template, True):
            if isinstance(fragment, int):
                ids.append(fragment)
            else:
                filled = names.sub(lambda found: self._as_text(texts[found[0][1:-1]]), fragment)
                ids += self.encode(filled, add_special=False, continuation=bool(ids))
        return ids

    def decode(
        self,
        ids: Iterable[int],
        *,
        special: bool = False,
        continuation: bool = False,
        clean_spaces: bool = False,
    ) -> str:
        """Text of token ids; TokenizerError for an id outside the vocabulary.

        Args:
            ids: any integers.
            special: shows control tokens, which are left out otherwise.
            continuation: the ids go on a text, so a space that they begin with belongs to it.
            clean_spaces: removes spaces before ``.`` ``,`` ``?`` ``!`` and contractions, as some models'
                authors do. It loses information, so it is never done unasked.

        Bytes that are not UTF-8 become U+FFFD.
        """
        text = self.decode_bytes(ids, special=special, continuation=continuation).decode("utf-8", "replace")
        return _clean_spaces(text) if clean_spaces else text

    def decode_bytes(self, ids: Iterable[int], *, special: bool = False, continuation: bool = False) -> bytes:
        """The bytes of token ids, which may end or begin inside a character; else as `decode`."""
        read = self._reader(special, continuation).read
        return b"".join(read(id) for id in arguments.wholes("ids", ids, "token ids"))

    def stream(self, *, special: bool | Container[int] = False, continuation: bool = False) -> StreamDecoder:
        """A decoder for ids that come one at a time; the arguments are those of `decode`, but ``special`` may also be
        the control tokens that are shown."""
        return StreamDecoder(self._reader(special, continuation))

    def token_text(self, id: int) -> str:
        """The token's text as the vocabulary spells it, e.g. ``▁the`` or ``Ġthe``; TokenizerError if none."""
        return self.vocab.text(self._checked(id))

    def token_bytes(self, id: int, *, special: bool = False) -> bytes:
        """What this token adds to a text: nothing for a control token unless ``special``."""
        id = self._checked(id)
        if self._types[id] in _HIDDEN and not special:
            return b""
        piece = self._pieces.get(id)
        if piece is None:
            piece = self._pieces[id] = self._piece(id)
        return piece

    def token_to_id(self, text: str) -> int | None:
        """The id of a token spelled as in the vocabulary, None where there is none."""
        try:
            return self.vocab.ids.get(arguments.text("text", text).encode("utf-8", "surrogateescape"))
        except UnicodeEncodeError:  # this is a surrogate that stands for no byte
            return None

    @abstractmethod
    def _encode_text(self, text: str, after_special: bool) -> list[int]:
        """Ids of a text without added tokens; ``after_special``: it begins the text or follows such a token."""

    @abstractmethod
    def _spell(self, token: bytes) -> bytes:
        """The bytes that a normal token stands for."""

    def _reader(self, special: bool | Container[int], continuation: bool) -> PieceReader:
        if isinstance(special, str | bytes | bytearray) or not isinstance(special, bool | Container):
            raise TypeError(f"special must be true, false or a set of token ids, got {arguments.shown(special)}")

        def piece(id: int) -> bytes:
            return self.token_bytes(id, special=special if isinstance(special, bool) else id in special)

        def opens(id: int) -> bool:
            return self._types[id] != TokenType.CONTROL

        return PieceReader(piece, opens, self.add_space_prefix and not continuation)

    def _piece(self, id: int) -> bytes:
        """What a token stands for; nothing for unused tokens and those of no known type."""
        kind, token = self._types[id], self.vocab.tokens[id]
        if kind in _SPELLED_OUT:
            return token
        if kind == TokenType.NORMAL:
            return self._spell(token)
        return _byte(token) if kind == TokenType.BYTE else b""

    def _checked(self, id: int) -> int:
        id = arguments.whole("id", id)
        if 0 <= id < len(self.vocab):
            return id
        raise TokenizerError(
            f"token id {arguments.shown(id)} is outside the vocabulary, whose ids are 0 to {self.n_vocab - 1}"
        )

    def _affix(self, role: str, wanted: bool) -> tuple[int, ...]:
        if not wanted:
            return ()
        id: int | None = getattr(self.special, role)
        if id is None:
            key = f"tokenizer.ggml.{role}_token_id"
            raise TokenizerError(
                f"tokenizer.ggml.add_{role}_token is true, but {key} names no token of the vocabulary; "
                f"set {key}, or add_{role}_token to false"
            )
        return (id,)

    def _separator(self, metadata: Metadata) -> tuple[int, ...]:
        """What stands between two texts beside the end of the first; files say it since 2025."""
        sep = self.special.sep
        has_one = flag(metadata, "tokenizer.ggml.add_sep_token", self.add_eos) and self.add_eos
        return (sep,) if has_one and sep is not None else ()

    def _as_text(self, text: str | bytes) -> str:
        """A str in which bytes that are not UTF-8 are surrogates, or U+FFFD where the scheme has no use for them."""
        text = arguments.text_or_bytes("text", text)
        text = text if isinstance(text, str) else text.decode("utf-8", "surrogateescape")
        if text.isascii():
            return text
        return (_SURROGATE_BUT_RAW_BYTE if self.keeps_raw_bytes else _SURROGATE).sub("\ufffd", text)


def _byte(token: bytes) -> bytes:
    """The byte of a token ``<0x41>``; a byte token spelled otherwise stands for its own text."""
    found = re.fullmatch(rb"<0x([0-9A-Fa-f]{2})>", token)
    return bytes([int(found[1], 16)]) if found else token


def _clean_spaces(text: str) -> str:
    """The cleanup of HF's ``clean_up_tokenization_spaces``, in llama.cpp's variant."""
    text = re.sub(r" (?=[?!.,])", "", text)
    text = text.replace(" ' ", "'")
    return re.sub(r" (?='(?:[sm]|re|ve))", "", text)
