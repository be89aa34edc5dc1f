"""A model's vocabulary as llguidance wants it, made once for each tokenizer."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary, ref

from llamaq.boundary.locks import ForkLock
from llamaq.errors import StructureError
from llamaq.tokenizer import Tokenizer, TokenType

from .engine import cleaned, limits, llguidance, on_a_deep_stack
from .kinds import Structure

__all__ = ["Vocabulary", "mark_id", "vocabulary_of"]

_KEPT = 16  # structures that stay compiled


class Vocabulary:
    """What llguidance made of a vocabulary, and of structures for it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        if not tokenizer.eog_ids:
            raise StructureError("structured output needs an end token, and the model's vocabulary has none")
        first = tokenizer.eos_id if tokenizer.eos_id in tokenizer.eog_ids else min(tokenizer.eog_ids)
        self.end: int = first if first is not None else 0
        self._tokenizer = ref(tokenizer)
        others = sorted(tokenizer.eog_ids - {self.end})
        wrapper = llguidance().TokenizerWrapper(_Tokens(tokenizer, self.end))
        self._engine = llguidance().LLTokenizer(wrapper, eos_token=[self.end, *others])
        self._matchers: OrderedDict[Structure, Any] = OrderedDict()
        self._lock = ForkLock()

    def matcher(self, structure: Structure) -> Any:
        """A new ``LLMatcher``. Raises ``StructureError`` where the structure does not fit the vocabulary."""
        with self._lock:
            if structure not in self._matchers:
                self._matchers[structure] = self._compiled(structure)
            self._matchers.move_to_end(structure)
            if len(self._matchers) > _KEPT:
                self._matchers.popitem(last=False)
            return self._matchers[structure].deep_copy()

    def _compiled(self, structure: Structure) -> Any:
        tokenizer = self._tokenizer()
        assert tokenizer is not None
        grammar = structure.compiled(tokenizer.token_to_id)
        make = llguidance().LLMatcher
        matcher: Any = on_a_deep_stack(
            lambda: make(self._engine, grammar, log_level=0, limits=limits(schema=structure.has_schema))
        )
        if matcher.is_error() or matcher.get_grammar_warnings():
            wrong = matcher.get_error() or "; ".join(matcher.get_grammar_warnings())
            raise StructureError(f"{structure.kind}: {cleaned(wrong)}")
        return matcher


class _Tokens:
    """What llguidance reads. It keeps this object, so this must not keep the tokenizer."""

    def __init__(self, tokenizer: Tokenizer, end: int) -> None:
        self.eos_token_id = end
        self.bos_token_id = tokenizer.bos_id
        self.tokens: Sequence[bytes] = [tokenizer.token_bytes(id, special=True) for id in range(tokenizer.n_vocab)]
        self.special_token_ids = [id for id, text in enumerate(self.tokens) if _is_mark(tokenizer, id, text)]
        self._tokenizer = ref(tokenizer)

    def __call__(self, text: bytes) -> list[int]:
        tokenizer = self._tokenizer()
        return [] if tokenizer is None else tokenizer.encode(text, add_special=False, continuation=True)


def mark_id(tokenizer: Tokenizer, text: str) -> int | None:
    """The token that a grammar must name by its id, for it makes no text there; None where the text is spelled out."""
    id = tokenizer.token_to_id(text)
    return id if id is not None and _is_mark(tokenizer, id, text.encode()) else None


def _is_mark(tokenizer: Tokenizer, id: int, text: bytes) -> bool:
    kind = tokenizer.vocab.types[id]
    if kind == TokenType.USER_DEFINED:
        return text[:1] == b"<" and text[-1:] == b">"
    return bool(kind in (TokenType.CONTROL, TokenType.UNKNOWN))


_vocabularies: WeakKeyDictionary[Tokenizer, Vocabulary] = WeakKeyDictionary()
_lock = ForkLock()


def vocabulary_of(tokenizer: Tokenizer) -> Vocabulary:
    """The vocabulary of a tokenizer; the first call takes up to seconds for a large one."""
    with _lock:
        if tokenizer not in _vocabularies:
            _vocabularies[tokenizer] = Vocabulary(tokenizer)
        return _vocabularies[tokenizer]
