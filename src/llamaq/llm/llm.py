"""``LLM``: a loaded model behind one small class, for any number of texts and threads at once."""

from __future__ import annotations

import os
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Literal, overload

import numpy as np
from numpy.typing import NDArray

from llamaq.boundary.arguments import flag, function, instance, items, shown, texts, whole, wholes
from llamaq.boundary.progress import Progress
from llamaq.engine import bundled
from llamaq.engine.engine import Engine, Numerics
from llamaq.engine.kv_cache import CacheType
from llamaq.engine.loading import Parts, load_parts
from llamaq.errors import ClosedError, TokenizerError
from llamaq.gguf import GGUFFile, Value
from llamaq.llm.capture import CaptureKind, Forward, Inside
from llamaq.llm.embedding import Embedder, Pooling
from llamaq.llm.session import Session
from llamaq.llm.tensors import Tensors
from llamaq.plan.graph import Plan
from llamaq.sampling import Sampler, SamplingParams
from llamaq.serving.answer import Answer
from llamaq.serving.reading import Reading, Score, Scoring, async_wait, wait
from llamaq.serving.scheduler import Scheduler
from llamaq.serving.stream import Completion, Generation, Overflow, Stream, Usage, fitted

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from llamaq.chat import ChatCompletion, ChatStream
    from llamaq.chat.options import ChatOptions, Messages
    from llamaq.serving.stream import Options

__all__ = ["LLM", "Completion", "Prompt", "Stream", "Usage"]

Prompt = str | bytes | Sequence[int]
"""Text, or the ids of its tokens."""


class LLM:
    """A model that is ready to run; get one with ``LLM.load``. Use it as a context manager, or ``close`` it.

    Any thread may call its methods. What they ask for runs together, and each has the bits that it would have alone.
    ``tokenizer``, ``hparams``, ``plan``, ``metadata``, ``memory`` and ``n_ctx`` (tokens that one text may have) may
    be read.
    """

    def __init__(self, parts: Parts) -> None:
        self.tokenizer = parts.tokenizer
        self.hparams = parts.hparams
        self.memory = parts.memory
        self.scheduler = Scheduler(parts.engine, parts.cache, parts.memory.n_ctx)
        self._parts: Parts | None = parts
        self._latest: Stream | None = None

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str] | GGUFFile | None = None,
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
        """Loads a GGUF file; one that is open already is the model's from then on; None is the bundled model.

        ``n_ctx`` None takes the model's own context, shortened (with a warning in the log) where memory does not allow
        it; ``n_cache`` is the tokens of all texts together that the cache has room for, None: ``n_ctx``;
        ``threads`` None takes one for each physical performance core that this process may use; ``n_batch`` is the
        number of tokens read at once; without ``pack`` the weights stay in the file's mapping, which is slower
        but takes no second copy; ``numerics`` "fast" reads prompts as bfloat16 where the CPU has AMX
        (``engine.numerics`` tells), "exact" has the same bits everywhere; ``pre`` overrides the file's pre-tokenizer.
        ``progress`` gets bytes done and in total. Raises ``GGUFError``, ``ModelError``, ``TokenizerError`` for files
        that cannot be used, ``InsufficientMemoryError`` before anything is allocated.
        """
        return cls(
            load_parts(
                bundled.path() if path is None else path, n_ctx=n_ctx, n_cache=n_cache,
                threads=threads, n_batch=n_batch, cache_type=cache_type, pack=pack,
                numerics=numerics, pre=pre, progress=progress,
            )
        )  # fmt: skip

    def __enter__(self) -> LLM:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends what runs and frees weights and cache at once; what needs them then raises ``ClosedError``."""
        self.scheduler.close()
        if self._parts is not None:
            for part in (self._parts.engine, self._parts.cache, self._parts.file):
                part.close()
        self._parts = None

    def cancel(self) -> None:
        """Ends everything that runs now, from any thread: answers as "cancelled", the rest with ``CancelledError``."""
        self.scheduler.cancel_all()

    @property
    def parts(self) -> Parts:
        if self._parts is None:
            raise ClosedError("the model is closed; load it again")
        return self._parts

    @property
    def engine(self) -> Engine:
        return self.parts.engine

    @property
    def plan(self) -> Plan:
        return self.parts.engine.plan

    @property
    def metadata(self) -> Mapping[str, Value]:
        return self.parts.file.metadata

    @property
    def tensors(self) -> Tensors:
        """The file's tensors by name, raw and as numbers, without copies where the format allows."""
        return Tensors(self.parts.file)

    @property
    def n_ctx(self) -> int:
        return self.parts.memory.n_ctx

    @property
    def usage(self) -> Usage:
        """That of the latest answer; with several threads ask the ``Stream`` or the ``Completion``."""
        return self._latest.usage if self._latest else Usage(0, 0, 0, 0.0, 0.0)

    @property
    def seed(self) -> int:
        """That of the latest answer."""
        return self._latest.seed if self._latest else 0

    def tokenize(self, text: str, *, add_special: bool = False, parse_special: bool = True) -> list[int]:
        """Token ids of a text; ``add_special`` adds BOS and the like, ``parse_special`` sees special tokens in it."""
        return self.tokenizer.encode(text, add_special=add_special, parse_special=parse_special)

    def detokenize(self, tokens: Sequence[int], *, special: bool = False) -> str:
        """Text of token ids; ``special`` shows special tokens. Raises ``TokenizerError`` for an unknown id."""
        return self.tokenizer.decode(wholes("tokens", tokens, "token ids"), special=special)

    def prompt_ids(self, prompt: Prompt, name: str = "prompt") -> list[int]:
        """Tokens of a prompt: text gets the file's special tokens (BOS) and its own special ones are understood;
        ids are taken as they are; an empty prompt is BOS alone.

        Raises ``TokenizerError`` for an id outside the vocabulary, ``TypeError`` (about ``name``) for what is neither.
        """
        ids = self.text_ids(prompt, name)
        if not ids:
            if self.tokenizer.bos_id is None:
                raise TokenizerError("the prompt is empty and the model has no BOS token to start from; give a prompt")
            ids = [self.tokenizer.bos_id]
        if min(ids) < 0 or max(ids) >= self.hparams.vocab_size:
            raise TokenizerError(
                f"token ids are 0 to {self.hparams.vocab_size - 1}, got {shown(min(ids))} to {shown(max(ids))}"
            )
        return ids

    def text_ids(self, text: Prompt, name: str = "text", *, continuation: bool = False) -> list[int]:
        """Tokens of a text, which may go on another one; as ``prompt_ids`` but for what that does with an empty one."""
        if isinstance(text, str | bytes):
            return self.tokenizer.encode(text, parse_special=True, continuation=continuation)
        return wholes(name, text, "token ids, or text")

    def stream(self, prompt: Prompt, *, progress: Progress | None = None, **options: Unpack[Options]) -> Stream:
        """The answer piece by piece, for ``for`` or ``async for``; the last event has the finish reason.

        ``options`` are those of ``Options``; ``progress`` gets the prompt tokens read and in total. What the cache
        holds of the prompt already is not read again. Raises ``TokenizerError`` for a prompt that cannot be one,
        ``ContextOverflowError`` for one that is too long, ``ValueError`` for settings that cannot be, ``ClosedError``.
        """
        self._latest = self.start(self.prompt_ids(prompt), progress=progress, **options)
        return self._latest

    def generate(self, prompt: Prompt, **options: Unpack[Options]) -> Completion:
        """The whole answer at once; arguments and errors as in ``stream``."""
        return self.stream(prompt, **options).result()

    async def agenerate(self, prompt: Prompt, **options: Unpack[Options]) -> Completion:
        """``generate`` for coroutines."""
        return await self.stream(prompt, **options).aresult()

    def batch(
        self, prompts: Sequence[Prompt], *, samplings: Sequence[SamplingParams] | None = None,
        **options: Unpack[Options],
    ) -> list[Completion]:  # fmt: skip
        """The answers to many prompts, generated together; each is what ``generate`` gives alone.

        ``samplings`` has settings for each prompt, in the place of one ``sampling`` for all.
        """
        with self._batch(prompts, samplings, options) as streams:
            return [stream.result() for stream in streams]

    async def abatch(
        self, prompts: Sequence[Prompt], *, samplings: Sequence[SamplingParams] | None = None,
        **options: Unpack[Options],
    ) -> list[Completion]:  # fmt: skip
        """``batch`` for coroutines."""
        with self._batch(prompts, samplings, options) as streams:
            return [await stream.aresult() for stream in streams]

    @overload
    def chat(
        self, messages: Messages, *, stream: Literal[False] = False, **options: Unpack[ChatOptions]
    ) -> ChatCompletion: ...

    @overload
    def chat(self, messages: Messages, *, stream: Literal[True], **options: Unpack[ChatOptions]) -> ChatStream: ...

    def chat(
        self, messages: Messages, *, stream: bool = False, **options: Unpack[ChatOptions]
    ) -> ChatCompletion | ChatStream:
        """The model's answer to a conversation; with ``stream`` its events as they come.

        ``messages`` are ``ChatMessage`` or dicts in OpenAI's shape; ``options`` those of ``ChatOptions``. Raises
        ``ChatTemplateError``, ``ValueError`` for messages and tools that are none, and what ``stream`` raises.
        """
        from llamaq.chat import ChatStream

        answer = ChatStream.start(self, messages, options)
        return answer if stream else answer.result()

    async def achat(self, messages: Messages, **options: Unpack[ChatOptions]) -> ChatCompletion:
        """``chat`` for coroutines."""
        return await self.chat(messages, **options, stream=True).aresult()

    def session(self) -> Session:
        """An empty text that can be gone on with, forked, cut, saved and loaded."""
        return Session(self)

    def logits(self, tokens: Prompt, *, first: int = 0) -> NDArray[np.float32]:
        """Logits after each token from number ``first`` on, float32 (tokens - first, vocabulary), read from an empty
        context.

        Raises ``ContextOverflowError`` where they exceed the context, ``ModelError`` where they are not numbers.
        """
        ids = self._fitting(self.prompt_ids(tokens, "tokens"))
        reading = Reading(ids, whole("first", first, 0, len(ids)))
        logits: NDArray[np.float32] = wait(self.scheduler, [reading])[0]
        return logits

    def forward(
        self, text: Prompt, *, capture: Collection[CaptureKind] = (), layers: Sequence[int] | None = None
    ) -> Forward:
        """Reads a text in an empty context: its logits, and as ``capture`` asks the "hidden" states after each layer
        and the "attention" probabilities (of ``layers``, None: all).

        Attention takes 4 bytes for each layer, head and pair of tokens. Raises ``ContextOverflowError``,
        ``ModelError`` where logits are not numbers, ``ValueError`` for an unknown capture or layer.
        """
        inside = Inside(self.plan, self.parts.cache.cache_type, capture, layers)
        ids = self._fitting(self.prompt_ids(text, "text"))
        return inside.forward(ids, wait(self.scheduler, [inside.request(ids)])[0])

    def score(self, text: Prompt, *, prompt: Prompt = "") -> Score:
        """How likely the model finds a text after a prompt: the log-probability of each of its tokens.

        Without a prompt the text begins after BOS, or with its own first token, which then has no probability.
        Raises ``ContextOverflowError`` where both exceed the context, ``ModelError`` for logits that are not numbers.
        """
        score: Score = wait(self.scheduler, [self._scoring(text, prompt)])[0]
        return score

    async def ascore(self, text: Prompt, *, prompt: Prompt = "") -> Score:
        """``score`` for coroutines."""
        score: Score = (await async_wait(self.scheduler, [self._scoring(text, prompt)]))[0]
        return score

    def embed(
        self, texts: str | Sequence[Prompt], *, pooling: Pooling | None = None, normalize: bool = True
    ) -> NDArray[np.float32]:
        """One vector for each text, float32 (texts, width): of the last layer's normed states the "mean", the "last"
        token's or the first's ("cls"); ``pooling`` None takes what the file names, or else the mean.

        Vectors have length 1 where ``normalize``. Raises ``ContextOverflowError``, ``ValueError``, and ``ModelError``
        for vectors that are not numbers.
        """
        embedder, requests = self._embedding(texts, pooling, normalize)
        return embedder.pooled(wait(self.scheduler, requests))

    async def aembed(
        self, texts: str | Sequence[Prompt], *, pooling: Pooling | None = None, normalize: bool = True
    ) -> NDArray[np.float32]:
        """``embed`` for coroutines."""
        embedder, requests = self._embedding(texts, pooling, normalize)
        return embedder.pooled(await async_wait(self.scheduler, requests))

    def start(self, ids: list[int], *, progress: Progress | None = None, expected: int = 0,
              **options: Unpack[Options]) -> Stream:  # fmt: skip
        """``stream`` for token ids that are a prompt already; ``expected`` of them were in the cache last time."""
        stream = self._stream(ids, progress=progress, expected=expected, **options)
        Stream.begin(stream)
        return stream

    def _stream(
        self, ids: list[int], *, max_tokens: int | None = None, sampling: SamplingParams | None = None,
        stop: Sequence[str] = (), special: bool | Container[int] = False, overflow: Overflow = "error", keep: int = 0,
        timeout: float | None = None, progress: Progress | None = None, expected: int = 0,
    ) -> Stream:  # fmt: skip
        max_tokens = None if max_tokens is None else whole("max_tokens", max_tokens, 0)
        progress = None if progress is None else function("progress", progress)
        stop = texts("stop", stop)
        keep = whole("keep", keep)
        keep = max(keep, ids[0] == self.tokenizer.bos_id) if keep >= 0 else keep
        ids, dropped = fitted(ids, self.n_ctx, overflow, keep, max_tokens)
        sampling = SamplingParams() if sampling is None else instance("sampling", sampling, SamplingParams)
        sampling.check_vocabulary(self.hparams.vocab_size)
        sampler = Sampler(sampling, self.tokenizer)
        answer = Answer(self.tokenizer, sampler, ids, max_tokens=max_tokens, stop=stop, special=special)
        request = Generation(
            answer, ids, self.n_ctx, shift=overflow == "shift", keep=keep, dropped=dropped,
            progress=progress is not None,
        )  # fmt: skip
        request.expected = expected if dropped == 0 else 0
        return Stream(self.scheduler, request, progress=progress, timeout=timeout)

    @contextmanager
    def _batch(
        self, prompts: Sequence[Prompt], samplings: Sequence[SamplingParams] | None, options: Options
    ) -> Iterator[list[Stream]]:
        prompts = items("prompts", prompts, "texts")
        if samplings is not None:
            samplings = [
                instance("each of samplings", each, SamplingParams)
                for each in items("samplings", samplings, "SamplingParams")
            ]
        if samplings is not None and len(samplings) != len(prompts):
            raise ValueError(f"samplings must be as many as prompts: got {len(samplings)} for {len(prompts)}")
        ids = [self._fitting(self.prompt_ids(p, "each of prompts"), options.get("overflow", "error")) for p in prompts]
        streams = []
        for i, prompt in enumerate(ids):
            own: Options = options if samplings is None else {**options, "sampling": samplings[i]}
            streams.append(self._stream(prompt, **own))
            streams[-1].gather()
        Stream.begin(*streams)
        try:
            yield streams
        finally:  # Ctrl-C, or an error of one of them, ends them all
            for stream in streams:
                stream.cancel()

    def _fitting(self, ids: list[int], overflow: Overflow = "error") -> list[int]:
        if overflow == "error":
            fitted(ids, self.n_ctx, "error", 0, None)
        return ids

    def _scoring(self, text: Prompt, prompt: Prompt) -> Scoring:
        size = self.hparams.vocab_size
        prompt = prompt if isinstance(prompt, str | bytes) else wholes("prompt", prompt, "token ids, or text")
        if not prompt:
            return Scoring(self._fitting(self.prompt_ids(text, "text")), 1, size)
        before = self.prompt_ids(prompt)
        ids = self.text_ids(text, "text", continuation=True)
        return Scoring(self._fitting(self.prompt_ids([*before, *ids])), len(before), size)

    def _embedding(
        self, texts: str | Sequence[Prompt], pooling: Pooling | None, normalize: bool
    ) -> tuple[Embedder, list[Reading]]:
        parts = self.parts
        embedder = Embedder(parts.file, parts.engine.plan, pooling, flag("normalize", normalize))
        texts = [texts] if isinstance(texts, str | bytes) else items("texts", texts, "texts")
        return embedder, [embedder.request(self._fitting(self.prompt_ids(text, "each of texts"))) for text in texts]
