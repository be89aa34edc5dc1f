"""``Llama``: llama-cpp-python's class on a model of llamaq."""

from __future__ import annotations

import inspect
import os
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llamaq.boundary.arguments import path_of, wholes
from llamaq.gguf import Value
from llamaq.llm.llm import LLM

from . import completions, embeddings
from .calls import CALLS, bound, signature_of
from .constants import LLAMA_POOLING_TYPE_UNSPECIFIED
from .evaluation import Evaluation
from .llama_cache import BaseLlamaCache
from .llama_chat_format import handler_of
from .llama_grammar import LlamaGrammar
from .llama_tokenizer import BaseLlamaTokenizer, LlamaTokenizer
from .loading import loaded, pooling_of, text_of
from .parameters import read, signature
from .processors import (
    LlamaState,
    LogitsProcessor,
    LogitsProcessorList,
    MinTokensLogitsProcessor,
    StoppingCriteria,
    StoppingCriteriaList,
)
from .settings import Seeds

__all__ = [
    "Llama",
    "LlamaGrammar",
    "LlamaState",
    "LogitsProcessor",
    "LogitsProcessorList",
    "MinTokensLogitsProcessor",
    "StoppingCriteria",
    "StoppingCriteriaList",
]


class Llama:
    """A model. docs/llama-cpp-python.md has what each parameter does here.

    Completions, chats and embeddings may be asked for by any thread at once; ``eval``, ``sample``, ``generate`` and
    the states belong to one. ``llm`` is llamaq's own ``LLM`` behind it. Raises ``ValueError`` for a path that is none
    and for parameters that llamaq cannot honour, ``LoadError`` for files that it cannot run.
    """

    __signature__ = signature()

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
        self.cache: BaseLlamaCache | None = None
        self.metadata = {key: text_of(value) for key, value in self.metadata_values.items()
                         if isinstance(value, bool | int | float | str)}  # fmt: skip
        self._evaluation = Evaluation(self)

    def __enter__(self) -> Llama:
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
    def model(self) -> Llama:
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

    # Answers

    def create_completion(self, *args: Any, **kwargs: Any) -> Any:
        """The text that goes on with ``prompt`` (text, or token ids), as a dict in OpenAI's shape; with ``stream``
        dicts as it comes. Raises ``ValueError`` where the prompt leaves no room."""
        return completions.complete(self, bound("create_completion", args, kwargs))

    __call__ = create_completion

    def create_chat_completion(self, *args: Any, **kwargs: Any) -> Any:
        """The answer to ``messages``, as ``create_completion`` gives its own."""
        values = bound("create_chat_completion", args, kwargs)
        handler = self.chat_handler or handler_of(self)
        return handler(llama=self, **values)

    def create_chat_completion_openai_v1(self, *args: Any, **kwargs: Any) -> Any:
        """The same in the classes of the package openai, which it needs."""
        from openai.types.chat import ChatCompletion, ChatCompletionChunk

        found = self.create_chat_completion(*args, **kwargs)
        if kwargs.get("stream"):
            return (ChatCompletionChunk(**each) for each in found)
        return ChatCompletion(**found)

    def create_embedding(self, input: str | Sequence[str], model: str | None = None) -> dict[str, Any]:
        """Vectors of texts, in OpenAI's shape; as ``embed``."""
        return embeddings.create_embedding(self, input, model)

    def embed(
        self, input: str | Sequence[str], normalize: bool = False, truncate: bool = True, return_count: bool = False
    ) -> Any:
        """A vector of a text, or one for each of several; where nothing pools them, one for each token of a text.

        Texts are cut to ``n_batch`` tokens where ``truncate``. Raises ``RuntimeError`` without ``embedding=True``.
        """
        texts = [input] if isinstance(input, str) else list(input)
        vectors, count = embeddings.embed(self, texts, normalize=normalize, truncate=truncate)
        found = vectors[0] if isinstance(input, str) else vectors
        return (found, count) if return_count else found

    # Step by step

    @property
    def n_tokens(self) -> int:
        """Tokens that ``eval`` has read."""
        return self._evaluation.n_tokens

    @n_tokens.setter
    def n_tokens(self, count: int) -> None:
        self._evaluation.forget(count)

    @property
    def input_ids(self) -> NDArray[np.intc]:
        """int32 (n_ctx,): they, and zeros."""
        return self._evaluation.input_ids

    @property
    def scores(self) -> NDArray[np.float32]:
        """float32 (n_ctx, vocabulary): the logits after each, with ``logits_all``."""
        return self._evaluation.scores

    @property
    def _input_ids(self) -> NDArray[np.intc]:
        return self.input_ids[: self.n_tokens]

    @property
    def _scores(self) -> NDArray[np.float32]:
        return self.scores[: self.n_tokens]

    @property
    def eval_tokens(self) -> deque[int]:
        return deque(self._evaluation.ids, maxlen=self.n_ctx())

    @property
    def eval_logits(self) -> deque[list[float]]:
        return deque(self._scores.tolist(), maxlen=self.n_ctx() if self.logits_all else 1)

    def reset(self) -> None:
        """Forgets what ``eval`` has read."""
        self._evaluation.reset()

    def eval(self, tokens: Sequence[int]) -> None:
        """Reads tokens after those before. Raises ``ValueError`` where the context has no room for them."""
        self._evaluation.eval(tokens)

    def sample(self, *args: Any, **kwargs: Any) -> int:
        """A token after those that were read."""
        return self._evaluation.sample(bound("sample", args, kwargs))

    def generate(self, *args: Any, **kwargs: Any) -> Generator[int, Sequence[int] | None, None]:
        """Tokens after ``tokens``, for as long as they are asked for."""
        return self._evaluation.generate(bound("generate", args, kwargs))

    def save_state(self) -> LlamaState:
        """What ``eval`` has read, with its keys and values."""
        return self._evaluation.save()

    def load_state(self, state: LlamaState) -> None:
        """Goes on from a state. Raises ``SessionError`` for one of another model."""
        self._evaluation.load(state)

    def set_cache(self, cache: BaseLlamaCache | None) -> None:
        """Takes the call: llamaq keeps the beginnings of texts by itself."""
        self.cache = cache

    def set_seed(self, seed: int) -> None:
        """Begins the sequence of seeds anew."""
        self.seeds = Seeds(seed)

    # The rest

    def __getstate__(self) -> dict[str, Any]:
        return {**self._parameters, "chat_format": self.chat_format, "chat_handler": self.chat_handler}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @staticmethod
    def logits_to_logprobs(logits: ArrayLike, axis: int = -1) -> NDArray[np.float32]:
        """Log-probabilities of logits, along an axis."""
        values = np.asarray(logits, np.float32)
        shifted = values - values.max(axis=axis, keepdims=True)
        found: NDArray[np.float32] = shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))
        return found

    @staticmethod
    def longest_token_prefix(a: Sequence[int], b: Sequence[int]) -> int:
        """How many tokens two texts have in common at their beginning."""
        return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))

    @classmethod
    def from_pretrained(
        cls, repo_id: str, filename: str, additional_files: Sequence[str] | None = None, local_dir: Any = None,
        local_dir_use_symlinks: Any = "auto", cache_dir: Any = None, **kwargs: Any,
    ) -> Llama:  # fmt: skip
        """A model of the Hugging Face hub: the one file of ``repo_id`` that the pattern ``filename`` fits.

        ``additional_files`` are patterns of further ones, ``local_dir`` and ``cache_dir`` say where they lie; the rest
        are parameters of ``Llama``. Needs the package huggingface_hub. Raises ``ValueError`` where no file or several
        fit.
        """
        from .hub import downloaded

        path = downloaded(repo_id, filename, additional_files or (), local_dir=local_dir, cache_dir=cache_dir)
        return cls(model_path=path, **kwargs)


for _name, _table in CALLS.items():  # for help
    getattr(Llama, _name).__signature__ = signature_of({"self": inspect.Parameter.empty, **_table})


def _id(token: int | None) -> int:
    return -1 if token is None else token
