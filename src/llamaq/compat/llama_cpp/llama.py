"""``Llama``: llama-cpp-python's class on a model of llamaq."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import completions, embeddings
from .calls import CALLS, bound, signature_of
from .evaluation import Evaluation
from .llama_cache import BaseLlamaCache
from .llama_chat_format import handler_of
from .llama_grammar import LlamaGrammar
from .model import Model
from .parameters import signature
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


class Llama(Model):
    """A model. docs/llama-cpp-python.md has what each parameter does here.

    Completions, chats and embeddings may be asked for by any thread at once; ``eval``, ``sample``, ``generate`` and
    the states belong to one. ``llm`` is llamaq's own ``LLM`` behind it. Raises ``ValueError`` for a path that is none
    and for parameters that llamaq cannot honour, ``LoadError`` for files that it cannot run.
    """

    __signature__ = signature()

    def __init__(self, model_path: str, **parameters: Any) -> None:
        super().__init__(model_path, **parameters)
        self.cache: BaseLlamaCache | None = None
        self._evaluation = Evaluation(self)

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


for _name, _table in CALLS.items():  # help() shows what these have
    getattr(Llama, _name).__signature__ = signature_of({"self": inspect.Parameter.empty, **_table})
