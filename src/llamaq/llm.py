"""``LLM``: a loaded model, its tokenizer and its cache behind one small class."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from llamaq.engine import Engine, Numerics, Progress
from llamaq.errors import ClosedError, ModelError, TokenizerError
from llamaq.formats import decode
from llamaq.generate import Answer
from llamaq.gguf import GGUFFile, Value
from llamaq.graph import Plan
from llamaq.kv_cache import PAGE_TOKENS, CacheType, KVCache
from llamaq.memory import MemoryNeed, check_memory, fitting_context, memory_need
from llamaq.models import ROPE_FREQS, HParams, build_plan
from llamaq.reading import read_logits
from llamaq.sampling import Sampler, SamplingParams
from llamaq.scheduler import Scheduler
from llamaq.stream import Completion, Generation, Overflow, Stream, Usage, fitted
from llamaq.tokenizer import Tokenizer, load_tokenizer
from llamaq.topology import default_threads

if TYPE_CHECKING:
    from llamaq.chat import ChatCompletion, ChatMessage, ChatStream

__all__ = ["LLM", "Completion", "Stream", "Usage", "plan_of"]

logger = logging.getLogger("llamaq")


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
                 memory: MemoryNeed, n_ctx: int) -> None:  # fmt: skip
        self.tokenizer = tokenizer
        self.hparams = hparams
        self.memory = memory
        self.scheduler = Scheduler(engine, cache, n_ctx)
        self._file: GGUFFile | None = file
        self._engine: Engine | None = engine
        self._cache: KVCache | None = cache
        self._latest: Stream | None = None

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str] | GGUFFile,
        *,
        n_ctx: int | None = None,
        n_cache: int | None = None,
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
        it; ``n_cache`` is for how many tokens of all sequences together there is room in the cache, None: ``n_ctx``;
        ``threads`` None takes one for each physical performance core that this process may use; ``n_batch`` is the
        number of prompt tokens read at once; without ``pack`` the weights stay in the file's mapping, which is slower
        but takes no second copy; ``numerics`` "fast" reads prompts as bfloat16 where the CPU has AMX
        (``engine.numerics`` tells), "exact" has the same bits everywhere; ``pre`` overrides the file's pre-tokenizer.
        ``progress`` gets bytes done and in total. Raises ``GGUFError``, ``ModelError``, ``TokenizerError`` for files
        that cannot be used, ``InsufficientMemoryError`` before anything is allocated.
        """
        if min(n_ctx or 0, n_cache or 0, threads or 0, n_batch - 1) < 0:
            given = f"n_ctx ({n_ctx}), n_cache ({n_cache}), threads ({threads}) and n_batch ({n_batch})"
            raise ValueError(f"{given} must be positive")
        file = path if isinstance(path, GGUFFile) else GGUFFile.open(path)
        pack = pack or not file.mapped
        try:
            hparams, plan = plan_of(file)
            tokenizer, tensors = load_tokenizer(file.metadata, pre=pre), file.tensors
            if tokenizer.n_vocab > hparams.vocab_size:
                raise TokenizerError(
                    f"the tokenizer has {tokenizer.n_vocab} tokens, the embedding table {hparams.vocab_size}; "
                    "the file mixes two models"
                )
            threads = threads or default_threads().threads
            n_batch = min(n_batch, n_ctx or n_batch)

            def need(n_ctx: int) -> MemoryNeed:
                found = memory_need(plan, tensors, cache_tokens(n_ctx, n_cache), cache_type=cache_type,
                                    max_rows=n_batch, threads=threads or 1, pack=pack)  # fmt: skip
                return replace(found, n_ctx=n_ctx)

            memory = _checked_need(n_ctx, hparams.context_length, need)
            n_ctx = memory.n_ctx
            cache = KVCache(plan, cache_tokens(n_ctx, n_cache), cache_type)
            engine = Engine(plan, file, threads=threads, max_rows=n_batch, pack=pack, numerics=numerics,
                            progress=progress)  # fmt: skip
        except (ModelError, TokenizerError) as error:
            file.close()
            error.args = (f"{file.path}: {error}",)
            raise
        except BaseException:
            file.close()
            raise
        return cls(file, tokenizer, hparams, engine, cache, memory, n_ctx)

    def __enter__(self) -> LLM:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the threads and frees weights and cache at once; what needs them then raises ``ClosedError``."""
        self.scheduler.close()
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
    def plan(self) -> Plan:
        return self.engine.plan

    @property
    def metadata(self) -> Mapping[str, Value]:
        if self._file is None:
            raise ClosedError("the model is closed; load it again")
        return self._file.metadata

    @property
    def n_ctx(self) -> int:
        """Tokens that one text may have."""
        if self.scheduler.closed:
            raise ClosedError("the model is closed; load it again")
        return self.scheduler.n_ctx

    @property
    def usage(self) -> Usage:
        """That of the latest answer; with several threads ask the ``Stream`` or the ``Completion``."""
        return self._latest.usage if self._latest else Usage(0, 0, 0, 0.0, 0.0)

    @property
    def seed(self) -> int:
        """That of the latest answer."""
        return self._latest.seed if self._latest else 0

    def prompt_ids(self, prompt: str | bytes | Sequence[int]) -> list[int]:
        """Tokens of a prompt: text gets the file's special tokens (BOS) and its own special ones are understood;
        ids are taken as they are; an empty prompt is BOS alone.

        Raises ``TokenizerError`` for an id outside the vocabulary.
        """
        ids = self.tokenizer.encode(prompt, parse_special=True) if isinstance(prompt, str | bytes) else list(prompt)
        if not ids:
            if self.tokenizer.bos_id is None:
                raise TokenizerError("the prompt is empty and the model has no BOS token to start from; give a prompt")
            ids = [self.tokenizer.bos_id]
        if min(ids) < 0 or max(ids) >= self.hparams.vocab_size:
            raise TokenizerError(f"token ids are 0 to {self.hparams.vocab_size - 1}, got {min(ids)} to {max(ids)}")
        return ids

    def stream(
        self,
        prompt: str | bytes | Sequence[int],
        *,
        max_tokens: int | None = None,
        sampling: SamplingParams | None = None,
        stop: Sequence[str] = (),
        special: bool | Container[int] = False,
        overflow: Overflow = "error",
        keep: int = 0,
        timeout: float | None = None,
        progress: Progress | None = None,
    ) -> Stream:
        """The answer piece by piece, for ``for`` or ``async for``; the last event has the finish reason.

        ``max_tokens`` None means until an end token, a stop string or the end of the context. ``special`` shows
        control tokens in the text: all, or these. ``overflow`` says what becomes of tokens that the context has no room
        for: "error" raises ``ContextOverflowError`` for such a prompt, "truncate_left" drops its oldest tokens, after
        the first ``keep``, and "shift" does so while the answer grows, too; ``usage.dropped_tokens`` counts them.
        After ``timeout`` seconds the answer ends as "cancelled". ``progress`` gets the prompt tokens read and in
        total. What the cache holds of the prompt already is not read again. Raises what ``prompt_ids`` raises,
        ``ValueError`` and ``ClosedError``.
        """
        if max_tokens is not None and max_tokens < 0:
            raise ValueError(f"max_tokens must be at least 0, or None for no limit, got {max_tokens}")
        ids = self.prompt_ids(prompt)
        keep = max(keep, ids[0] == self.tokenizer.bos_id)
        ids, dropped = fitted(ids, self.n_ctx, overflow, keep, max_tokens)
        sampler = Sampler(sampling or SamplingParams(), self.tokenizer)
        answer = Answer(self.tokenizer, sampler, ids, max_tokens=max_tokens, stop=stop, special=special)
        request = Generation(
            answer, ids, self.n_ctx, shift=overflow == "shift", keep=keep, dropped=dropped,
            progress=progress is not None,
        )  # fmt: skip
        self._latest = Stream(self.scheduler, request, progress=progress, timeout=timeout)
        return self._latest

    def generate(
        self,
        prompt: str | bytes | Sequence[int],
        *,
        max_tokens: int | None = None,
        sampling: SamplingParams | None = None,
        stop: Sequence[str] = (),
        overflow: Overflow = "error",
        keep: int = 0,
        timeout: float | None = None,
    ) -> Completion:
        """The whole answer at once; arguments and errors as in ``stream``."""
        stream = self.stream(prompt, max_tokens=max_tokens, sampling=sampling, stop=stop, overflow=overflow,
                             keep=keep, timeout=timeout)  # fmt: skip
        return stream.result()

    @overload
    def chat(
        self, messages: Sequence[ChatMessage | Mapping[str, Any]], *, stream: Literal[False] = False, **options: Any
    ) -> ChatCompletion: ...

    @overload
    def chat(
        self, messages: Sequence[ChatMessage | Mapping[str, Any]], *, stream: Literal[True], **options: Any
    ) -> ChatStream: ...

    def chat(
        self,
        messages: Sequence[ChatMessage | Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        template: str | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
        tool_format: str | None = None,
        stop: Sequence[str] = (),
        stream: bool = False,
        **options: Any,
    ) -> ChatCompletion | ChatStream:
        """The model's answer to a conversation; with ``stream`` its events as they come.

        ``messages`` are ``ChatMessage`` or dicts in OpenAI's shape, ``tools`` definitions in that shape. The prompt
        comes from the file's chat template, or from ``template``: a name of the file's or of
        ``llamaq.chat.NAMED_TEMPLATES``, or a template's text; ``template_kwargs`` are further variables of it, such
        as ``enable_thinking``. ``tool_format`` names one of ``llamaq.chat.TOOL_FORMATS`` where the template does not
        tell. ``options`` are those of ``stream``. Raises ``ChatTemplateError``, ``ValueError`` for messages and tools
        that are none, and what ``stream`` raises.
        """
        from llamaq.chat import ChatStream, chat_request

        request = chat_request(
            self.metadata, self.tokenizer, messages, tools=tools, template=template, template_kwargs=template_kwargs,
            tool_format=tool_format,
        )  # fmt: skip
        text = self.stream(request.ids, stop=(*request.stop, *stop), special=request.shown, **options)
        answer = ChatStream(request, text)
        return answer if stream else answer.result()

    def logits(self, tokens: Sequence[int], *, first: int = 0) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        """Logits after each token from number ``first`` on, float32 (tokens - first, vocabulary), read from an empty
        context.

        Raises ``ContextOverflowError`` where they exceed the context.
        """
        ids, _ = fitted(self.prompt_ids(tokens), self.n_ctx, "error", 0, None)
        return read_logits(self.scheduler, ids, first)


def cache_tokens(n_ctx: int, n_cache: int | None) -> int:
    """Tokens that the cache is made for: a page more than asked for, which the copy of a shared page may take."""
    return max(n_ctx, n_cache or 0) + PAGE_TOKENS


def _checked_need(wanted: int | None, models: int, need: Callable[[int], MemoryNeed]) -> MemoryNeed:
    """The need of the context that was asked for, or else of the model's, or of the longest that fits the memory."""
    if wanted:
        check_memory(need(wanted))
        if wanted > models:
            logger.warning(
                "the context of %d tokens exceeds the %d that the model was made for; beyond them text degrades",
                wanted, models,
            )  # fmt: skip
        return need(wanted)
    fits = fitting_context(models, need)
    if fits < models:
        logger.warning("the context is %d tokens instead of the model's %d, to fit the memory", fits, models)
    check_memory(need(fits))
    return need(fits)
