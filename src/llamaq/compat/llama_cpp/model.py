"""What every part of ``Llama`` stands on: the loaded file, its tokenizer, and what there is to ask of both."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, TypeVar

from llamaq.boundary.arguments import path_of, wholes
from llamaq.gguf import Value
from llamaq.llm.llm import LLM

from .constants import LLAMA_POOLING_TYPE_UNSPECIFIED
from .llama_tokenizer import BaseLlamaTokenizer, LlamaTokenizer
from .loading import loaded, pooling_of, text_of
from .parameters import read
from .settings import Seeds

__all__ = ["Model"]

_M = TypeVar("_M", bound="Model")


class Model:
    """A model as llama-cpp-python describes it; ``Llama`` adds what it answers."""

    def __init__(self, model_path: str, **parameters: Any) -> None:
        values = read(parameters)
        if not os.path.exists(path_of("model_path", model_path)):
            raise ValueError(f"Model path does not exist: {model_path}")
        self.model_path = str(model_path)
        self._parameters = {**parameters, "model_path": self.model_path}
        self.parts, self._llm = loaded(self.model_path, values)
        self.seeds = Seeds(values["seed"])
        self.context_params = SimpleNamespace(**values, embeddings=bool(values["embedding"]))
        self.model_params = self.context_params
        self.context_params.n_ctx = self.n_ctx()
        self.n_batch = self.context_params.n_batch = min(values["n_batch"], self.n_ctx())
        self.n_threads = self.n_threads_batch = self._llm.engine.threads if self._llm else 1
        self.last_n_tokens_size: int = values["last_n_tokens_size"]
        self.logits_all = bool(values["logits_all"])
        self.spm_infill, self.verbose = bool(values["spm_infill"]), bool(values["verbose"])
        self.tokenizer_: BaseLlamaTokenizer = values["tokenizer"] or LlamaTokenizer(self)
        self.chat_format: str | None = values["chat_format"]
        self.chat_handler = values["chat_handler"]
        self.draft_model = values["draft_model"]
        self.metadata = {key: text_of(value) for key, value in self.metadata_values.items()
                         if isinstance(value, bool | int | float | str)}  # fmt: skip

    def __enter__(self: _M) -> _M:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Frees the model."""
        if self._llm is not None:
            self._llm.close()

    @property
    def llm(self) -> LLM:
        """llamaq's own class. Raises ``ValueError`` where the vocabulary alone was loaded."""
        if self._llm is None:
            raise ValueError("the vocabulary alone was loaded (vocab_only=True); load the model for this")
        return self._llm

    @property
    def metadata_values(self) -> Mapping[str, Value]:
        """The file's metadata as they are; ``metadata`` has them as text, without lists."""
        return self.parts.file.metadata

    @property
    def model(self) -> Model:
        """A handle that the functions of the module take."""
        return self

    ctx = _model = _ctx = model

    # Text and tokens

    def tokenize(self, text: bytes, add_bos: bool = True, special: bool = False) -> list[int]:
        """Token ids of a text, as UTF-8; ``special`` understands the special tokens in it."""
        return self.tokenizer_.tokenize(text, add_bos, special)

    def detokenize(
        self, tokens: Sequence[int], prev_tokens: Sequence[int] | None = None, special: bool = False
    ) -> bytes:
        """The bytes of token ids; ``special`` shows control tokens."""
        return self.tokenizer_.detokenize(wholes("tokens", tokens, "token ids"), prev_tokens, special)

    def tokenizer(self) -> LlamaTokenizer:
        return LlamaTokenizer(self)

    def n_ctx(self) -> int:
        """Tokens that one text may have."""
        return self._llm.n_ctx if self._llm else self.parts.context_length

    def n_vocab(self) -> int:
        return self._llm.hparams.vocab_size if self._llm else self.parts.tokenizer.n_vocab

    def n_embd(self) -> int:
        """Numbers of an embedding."""
        return self.parts.width

    def token_bos(self) -> int:
        return _id(self.parts.tokenizer.bos_id)

    def token_eos(self) -> int:
        return _id(self.parts.tokenizer.eos_id)

    def token_nl(self) -> int:
        """The token of a line's end, as llama.cpp finds it; -1 where there is none."""
        ids = self.parts.tokenizer.encode("\n", add_special=False)
        return ids[-1] if ids else -1

    def pooling_type(self) -> int:
        """How the vectors of a text's tokens become one; 0: not at all."""
        given: int = self.context_params.pooling_type
        return pooling_of(self.metadata_values) if given == LLAMA_POOLING_TYPE_UNSPECIFIED else given


def _id(token: int | None) -> int:
    return -1 if token is None else token
