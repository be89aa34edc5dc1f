"""``LLM``: a loaded model, its tokenizer and its cache behind one small class."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType

import numpy as np

from llamaq.engine import Engine, Numerics, Progress
from llamaq.errors import ClosedError, ContextOverflowError, ModelError, TokenizerError
from llamaq.formats import decode
from llamaq.generate import Event, FinishReason, common_prefix, events, read_prompt
from llamaq.gguf import GGUFFile, Value
from llamaq.graph import Plan
from llamaq.kv_cache import CacheType, KVCache
from llamaq.memory import MemoryNeed, check_memory, fitting_context, memory_need
from llamaq.models import ROPE_FREQS, HParams, build_plan
from llamaq.sampling import Sampler, SamplingParams
from llamaq.tokenizer import Tokenizer, load_tokenizer
from llamaq.topology import default_threads

__all__ = ["LLM", "Completion", "Usage", "plan_of"]

logger = logging.getLogger("llamaq")


@dataclass(frozen=True)
class Usage:
    """Counts of tokens and seconds. ``cached_tokens`` of the prompt were in the cache already."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    prompt_seconds: float
    completion_seconds: float


@dataclass(frozen=True)
class Completion:
    """A whole answer; ``tokens`` without an end token, ``seed`` the one that was used."""

    text: str
    tokens: tuple[int, ...]
    finish_reason: FinishReason
    usage: Usage
    seed: int


def plan_of(file: GGUFFile) -> tuple[HParams, Plan]:
    """Hyperparameters and plan of a model file. Raises ``ModelError`` for what llamaq cannot run."""
    if not file.tensors:
        raise ModelError("the file has a vocabulary but no tensors; it can be tokenized with, not run")
    shapes = {name: info.shape for name, info in file.tensors.items()}
    info = file.tensors.get(ROPE_FREQS)
    freqs = None if info is None else decode(info.format, file.data(ROPE_FREQS)).ravel().tolist()
    return build_plan(file.metadata, shapes, rope_freqs=freqs)


class LLM:
    """A model that is ready to run; get one with ``LLM.load``. Use it as a context manager, or ``close`` it.

    ``tokenizer``, ``hparams``, ``plan``, ``metadata``, ``memory`` and ``n_ctx`` (the context in tokens) may be
    read; ``usage`` is that of the latest generation. One generation runs at a time.
    """

    def __init__(self, file: GGUFFile, tokenizer: Tokenizer, hparams: HParams, engine: Engine, cache: KVCache,
                 memory: MemoryNeed) -> None:  # fmt: skip
        self.tokenizer = tokenizer
        self.hparams = hparams
        self.memory = memory
        self.usage = Usage(0, 0, 0, 0.0, 0.0)
        self.seed = 0
        self._file: GGUFFile | None = file
        self._engine: Engine | None = engine
        self._cache: KVCache | None = cache
        self._ids: list[int] = []

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str] | GGUFFile,
        *,
        n_ctx: int | None = None,
        threads: int | None = None,
        n_batch: int = 512,
        cache_type: CacheType = "f16",
        pack: bool = True,
        numerics: Numerics = "exact",
        pre: str | None = None,
        progress: Progress | None = None,
    ) -> LLM:
        """Loads a GGUF file; one that is open already is the model's from then on.

        ``n_ctx`` None takes the model's own context, shortened (with a warning in the log) where memory does not allow
        it; ``threads`` None takes one for each physical performance core that this process may use; ``n_batch`` is the
        number of prompt tokens read at once; without ``pack`` the weights stay in the file's mapping, which is slower
        but takes no second copy; ``numerics`` "fast" reads prompts as bfloat16 where the CPU has AMX
        (``engine.numerics`` tells), "exact" has the same bits everywhere; ``pre`` overrides the file's pre-tokenizer.
        ``progress`` gets bytes done and in total. Raises ``GGUFError``, ``ModelError``, ``TokenizerError`` for files
        that cannot be used, ``InsufficientMemoryError`` before anything is allocated.
        """
        if min(n_ctx or 0, threads or 0, n_batch - 1) < 0:
            raise ValueError(f"n_ctx ({n_ctx}), threads ({threads}) and n_batch ({n_batch}) must be positive")
        file = path if isinstance(path, GGUFFile) else GGUFFile.open(path)
        pack = pack or not file.mapped
        try:
            hparams, plan = plan_of(file)
            tokenizer = load_tokenizer(file.metadata, pre=pre)
            if tokenizer.n_vocab > hparams.vocab_size:
                raise TokenizerError(
                    f"the tokenizer has {tokenizer.n_vocab} tokens, the embedding table {hparams.vocab_size}; "
                    "the file mixes two models"
                )
            threads = threads or default_threads().threads
            n_batch = min(n_batch, n_ctx or n_batch)
            need = partial(
                memory_need, plan, file.tensors, cache_type=cache_type, max_rows=n_batch, threads=threads, pack=pack
            )
            n_ctx = n_ctx or _default_context(hparams, need)
            memory = need(n_ctx)
            check_memory(memory)
            if n_ctx > hparams.context_length:
                logger.warning(
                    "the context of %d tokens exceeds the %d that the model was made for; beyond them text degrades",
                    n_ctx, hparams.context_length,
                )  # fmt: skip
            cache = KVCache(plan, n_ctx, cache_type)
            engine = Engine(plan, file, threads=threads, max_rows=n_batch, pack=pack, numerics=numerics,
                            progress=progress)  # fmt: skip
        except (ModelError, TokenizerError) as error:
            file.close()
            error.args = (f"{file.path}: {error}",)
            raise
        except BaseException:
            file.close()
            raise
        return cls(file, tokenizer, hparams, engine, cache, memory)

    def __enter__(self) -> LLM:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the threads and frees weights and cache at once; what needs them then raises ``ClosedError``."""
        for part in (self._engine, self._cache, self._file):
            if part is not None:
                part.close()
        self._engine = self._cache = self._file = None

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            raise ClosedError("the model is closed; load it again")
        return self._engine

    @property
    def cache(self) -> KVCache:
        if self._cache is None:
            raise ClosedError("the model is closed; load it again")
        return self._cache

    @property
    def plan(self) -> Plan:
        return self.engine.plan

    @property
    def metadata(self) -> Mapping[str, Value]:
        if self._file is None:
            raise ClosedError("the model is closed; load it again")
        return self._file.metadata

    @property
    def n_ctx(self) -> int:
        return self.cache.n_ctx

    def prompt_ids(self, prompt: str | bytes | Sequence[int]) -> list[int]:
        """Tokens of a prompt: text gets the file's special tokens (BOS) and its own special ones are understood;
        ids are taken as they are; an empty prompt is BOS alone.

        Raises ``ContextOverflowError`` for a prompt longer than the context.
        """
        ids = self.tokenizer.encode(prompt, parse_special=True) if isinstance(prompt, str | bytes) else list(prompt)
        if not ids:
            if self.tokenizer.bos_id is None:
                raise TokenizerError("the prompt is empty and the model has no BOS token to start from; give a prompt")
            ids = [self.tokenizer.bos_id]
        if len(ids) > self.n_ctx:
            raise ContextOverflowError(
                f"the prompt has {len(ids)} tokens, the context {self.n_ctx}; shorten it or raise the context (-c)",
                needed=len(ids), available=self.n_ctx,
            )  # fmt: skip
        return ids

    def stream(
        self,
        prompt: str | bytes | Sequence[int],
        *,
        max_tokens: int | None = None,
        sampling: SamplingParams | None = None,
        stop: Sequence[str] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[Event]:
        """Yields the answer piece by piece; the last event has the finish reason.

        ``max_tokens`` None means until an end token, a stop string or the end of the context. ``progress``
        gets the prompt tokens read and in total. What the cache holds of the prompt already is not read
        again. Raises what ``prompt_ids`` raises, before the first event.
        """
        if max_tokens is not None and max_tokens < 0:
            raise ValueError(f"max_tokens must be at least 0, or None for no limit, got {max_tokens}")
        ids = self.prompt_ids(prompt)
        return self._stream(ids, max_tokens, Sampler(sampling or SamplingParams(), self.tokenizer), stop, progress)

    def _stream(
        self,
        ids: list[int],
        max_tokens: int | None,
        sampler: Sampler,
        stop: Sequence[str],
        progress: Callable[[int, int], None] | None,
    ) -> Iterator[Event]:
        self.seed = sampler.seed
        cached = min(common_prefix(ids, self._ids), len(ids) - 1)  # the last token's logits are always needed
        began = time.perf_counter()
        self._ids = ids[:cached]
        logits = read_prompt(self.engine, self.cache, ids, cached, progress)
        prompt_tokens = len(ids)
        self._ids = ids
        read = time.perf_counter()
        made = 0
        for event in events(
            self.engine, self.cache, self.tokenizer, ids, logits, sampler, max_tokens=max_tokens, stop=stop
        ):
            made += event.token is not None and event.token not in self.tokenizer.eog_ids
            now = time.perf_counter()
            self.usage = Usage(prompt_tokens, cached, made, read - began, now - read)
            yield event

    def generate(
        self,
        prompt: str | bytes | Sequence[int],
        *,
        max_tokens: int | None = None,
        sampling: SamplingParams | None = None,
        stop: Sequence[str] = (),
    ) -> Completion:
        """The whole answer at once; arguments and errors as in ``stream``."""
        parts: list[str] = []
        tokens: list[int] = []
        reason: FinishReason | None = None
        for event in self.stream(prompt, max_tokens=max_tokens, sampling=sampling, stop=stop):
            parts.append(event.text)
            if event.token is not None and event.token not in self.tokenizer.eog_ids:
                tokens.append(event.token)
            reason = event.finish_reason
        assert reason is not None
        return Completion("".join(parts), tuple(tokens), reason, self.usage, self.seed)

    def logits(self, tokens: Sequence[int], *, first: int = 0) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        """Logits after each token from number ``first`` on, float32 (tokens - first, vocabulary), read from an empty
        context.

        Raises ``ContextOverflowError`` where they exceed the context.
        """
        from llamaq.step import Step

        ids = self.prompt_ids(tokens)
        self._ids = []
        size = self.engine.max_rows
        parts = []
        for i in range(0, len(ids), size):
            step = Step.of(ids[i : i + size], start=i, wanted="all")
            step.wanted[: max(0, first - i)] = False
            parts.append(self.engine.forward(step, self.cache))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _default_context(hparams: HParams, need: Callable[[int], MemoryNeed]) -> int:
    """The model's context, or the longest that fits the memory."""
    fits = fitting_context(hparams.context_length, need)
    if fits < hparams.context_length:
        logger.warning(
            "the context is %d tokens instead of the model's %d, to fit the memory", fits, hparams.context_length
        )
    return fits
