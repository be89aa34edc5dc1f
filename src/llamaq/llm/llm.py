"""``LLM``: a loaded model behind one small class, for any number of texts and threads at once."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from llamaq.boundary.arguments import flag, items, shown, text_or_bytes, whole, wholes
from llamaq.boundary.progress import Progress
from llamaq.engine.engine import Numerics
from llamaq.engine.kv_cache import CacheType
from llamaq.engine.loading import LoadedModel, clean_arguments
from llamaq.gguf import GGUFFile
from llamaq.llm.adapting import Adapting, PathsOfAdapters
from llamaq.llm.calls import public
from llamaq.llm.capture import CaptureKind, CapturePlan, Forward
from llamaq.llm.drafts import DraftChoice, draft_of
from llamaq.llm.embedding import Embedder, Pooling
from llamaq.llm.habits import HabitsOfLLMs
from llamaq.llm.infill import InfillOrder, infill_ids, with_stops
from llamaq.llm.latest import Latest
from llamaq.llm.named import pretrained, with_encoder
from llamaq.llm.ranking import Ranker
from llamaq.llm.scoring import Scoring
from llamaq.llm.session import Session
from llamaq.llm.shown import Shown
from llamaq.sampling import SamplingParams
from llamaq.serving.adaptation import AdapterChoice
from llamaq.serving.defaults import Defaults
from llamaq.serving.disk_cache import DEFAULT_LIMIT
from llamaq.serving.model import Model, Prompt
from llamaq.serving.reading import PromptRequest, async_wait, wait
from llamaq.serving.stream import Completion, Stream, Usage

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from llamaq.chat import ChatCompletion, ChatRequest, ChatStream
    from llamaq.chat.options import ChatOptions, Messages, PromptOptions
    from llamaq.serving.stream import Options
    from llamaq.vision.encoder import Encoder

__all__ = ["LLM", "Completion", "Prompt", "Stream", "Usage"]


@public
class LLM(Shown, Adapting, Scoring, Latest, HabitsOfLLMs):
    """A model that is ready to run; get one with ``LLM.load``. Use it as a context manager, or ``close`` it.

    Any thread may call its methods. What they ask for runs together, and each has the bits that it would have alone.
    ``tokenizer``, ``hparams``, ``plan``, ``metadata``, ``memory`` and ``n_ctx`` (tokens that one text may have) may
    be read.
    """

    def __init__(
        self, parts: LoadedModel | None = None, defaults: Defaults | None = None, encoder: Encoder | None = None, *,
        speculation: bool = True, **other: object,
    ) -> None:  # fmt: skip
        if not isinstance(parts, LoadedModel) or other:
            raise TypeError('LLM.load makes an LLM: LLM.load("model.gguf"), with the arguments that it shows')
        self.model = Model(parts, defaults, encoder, speculation=speculation)

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
        speculation: bool = True,
        draft: DraftChoice = None,
        pre: str | None = None,
        adapters: PathsOfAdapters = (),
        cache_dir: str | os.PathLike[str] | None = None,
        cache_limit: int = DEFAULT_LIMIT,
        mmproj: str | os.PathLike[str] | None = None,
        image_edge: int | None = None,
        progress: Progress | None = None,
    ) -> LLM:
        """Loads a GGUF file, by its path or by a name that ``llamaq list`` shows (docs/models-by-name.md); one that is
        open already is the model's from then on; None is the bundled model.

        ``n_ctx`` None takes the model's own context, shortened with a warning where memory is short; ``n_cache`` is the
        tokens of all texts that the cache has room for, None: ``n_ctx``; ``threads`` None takes one for each physical
        performance core that this process may use; ``n_batch`` is the tokens read at once; without ``pack`` the weights
        stay in the file's mapping, slower and without a second copy; ``numerics`` "fast" reads prompts as bfloat16
        where the CPU has AMX (``engine.numerics`` tells), "exact" has the same bits everywhere; ``speculation`` guesses
        tokens to be quicker (docs/speculation.md), and ``draft`` is a smaller model (a path or a name, or an ``LLM``)
        that guesses, too, in the place of a block for that in the file; ``pre`` overrides the file's pre-tokenizer;
        ``adapters`` are LoRA files and control vectors (paths, ``AdapterFile``, or a mapping of paths to scales) for
        whatever asks for no other; in ``cache_dir`` what is read of long prompts is kept for later runs
        (docs/disk-cache.md), in ``cache_limit`` bytes at most;
        ``mmproj`` is the projector file for pictures, ``image_edge`` pixels of their longer side (docs/images.md);
        ``progress`` gets bytes done and in total. Raises ``GGUFError``, ``ModelError``, ``TokenizerError``,
        ``ModelNotFoundError``, ``AmbiguousModelError``, and ``InsufficientMemoryError`` before anything is allocated.
        """
        speculation = flag("speculation", speculation)
        options = clean_arguments(
            n_ctx=n_ctx, n_cache=n_cache, threads=threads, n_batch=n_batch, cache_type=cache_type, pack=pack,
            numerics=numerics, pre=pre, progress=progress,
        )  # fmt: skip
        with ExitStack() as opened:  # what is closed where something goes wrong
            guessing = draft_of(draft if speculation else None, **options)
            opened.callback(guessing.close)
            parts = with_encoder(
                path, mmproj, image_edge, draft=guessing.need, speculation=speculation,
                nextn=speculation and draft is None, **options,
            )  # fmt: skip
            llm = cls(*parts, speculation=speculation)._with_adapters(adapters)
            opened.callback(llm.close)
            guessing.attach(llm.model)
            if cache_dir is not None:
                llm.model.keep_on_disk(cache_dir, cache_limit)
            opened.pop_all()
        return llm

    @classmethod
    def from_pretrained(
        cls, repo: str, filename: str | None = None, revision: str | None = None, **options: Any
    ) -> LLM:
        """Loads a model of the Hugging Face hub, ``user/repo`` or ``user/repo:Q4_K_M``, downloaded where it is not
        there; ``filename`` may have * in it, ``options`` are those of ``load``. Raises ``DownloadError`` as well.
        """
        return cls.load(pretrained(repo, filename, revision, options.get("progress")), **options)

    def __enter__(self) -> LLM:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<LLM {self.model}>"

    def close(self) -> None:
        """Ends what runs and frees weights and cache at once; what needs them then raises ``ClosedError``."""
        self.model.close()

    def cancel(self) -> None:
        """Ends everything that runs now, from any thread: answers as "cancelled", the rest with ``CancelledError``."""
        self.model.scheduler.cancel_all()

    def tokenize(self, text: str, *, add_special: bool = False, parse_special: bool = True) -> list[int]:
        """Token ids of a text; ``add_special`` adds BOS and the like, ``parse_special`` sees special tokens in it."""
        return self.tokenizer.encode(text, add_special=add_special, parse_special=parse_special)

    def detokenize(self, tokens: Sequence[int], *, special: bool = False) -> str:
        """Text of token ids; ``special`` shows special tokens. Raises ``TokenizerError`` for an unknown id."""
        return self.tokenizer.decode(wholes("tokens", tokens, "token ids"), special=special)

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """The tokens that a prompt is for the model: those of a text with the file's special ones, ids as they are, BOS
        alone for an empty one. Raises ``TokenizerError``."""
        return self.model.prompt_ids(prompt)

    def stream(self, prompt: Prompt, *, progress: Progress | None = None, **options: Unpack[Options]) -> Stream:
        """The answer piece by piece, for ``for`` or ``async for``; the last event has the finish reason.

        ``options`` are those of ``Options``; ``progress`` gets the prompt tokens read and in total. What the cache
        holds of the prompt already is not read again. Raises ``TokenizerError`` for a prompt that cannot be one,
        ``ContextOverflowError`` for one that is too long, ``ValueError`` for settings that cannot be, ``ClosedError``.
        """
        self._latest = self.model.start(self.model.prompt_ids(prompt), progress=progress, **options)
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
        with self.model.together(prompts, samplings, options) as streams:
            return [stream.result() for stream in streams]

    async def abatch(
        self, prompts: Sequence[Prompt], *, samplings: Sequence[SamplingParams] | None = None,
        **options: Unpack[Options],
    ) -> list[Completion]:  # fmt: skip
        """``batch`` for coroutines."""
        with self.model.together(prompts, samplings, options) as streams:
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

        answer = ChatStream.start(self.model, messages, options)
        self._latest = answer.text
        return answer if stream else answer.result()

    def render_chat(self, messages: Messages, **options: Unpack[PromptOptions]) -> ChatRequest:
        """The prompt of a conversation, without asking for an answer: its text as ``prompt``, its tokens as ``ids``.

        Arguments and errors are those of ``chat``.
        """
        from llamaq.chat import ChatStream

        return ChatStream.render(self.model, messages, options)

    async def achat(self, messages: Messages, **options: Unpack[ChatOptions]) -> ChatCompletion:
        """``chat`` for coroutines."""
        return await self.chat(messages, **options, stream=True).aresult()

    @overload
    def infill(
        self, prefix: str | bytes, suffix: str | bytes, *, stream: Literal[False] = False,
        order: InfillOrder | None = None, progress: Progress | None = None, **options: Unpack[Options],
    ) -> Completion: ...  # fmt: skip

    @overload
    def infill(
        self, prefix: str | bytes, suffix: str | bytes, *, stream: Literal[True], order: InfillOrder | None = None,
        progress: Progress | None = None, **options: Unpack[Options],
    ) -> Stream: ...  # fmt: skip

    def infill(
        self, prefix: str | bytes, suffix: str | bytes, *, stream: bool = False, order: InfillOrder | None = None,
        progress: Progress | None = None, **options: Unpack[Options],
    ) -> Completion | Stream:  # fmt: skip
        """What stands between two pieces of a text, from a model that was trained to fill in; with ``stream`` its
        events as they come.

        ``order`` "spm" puts the suffix before the prefix, None takes the model's own; ``options`` are those of
        ``stream`` but ``overflow``, for no part of the prompt can be left out. Raises ``TokenizerError`` for a model
        without the marks, ``ValueError``, and what ``stream`` raises.
        """
        if options.get("overflow", "error") != "error":
            raise ValueError(f"overflow must be 'error' for infill, got {shown(options['overflow'])}")
        ids = infill_ids(self.tokenizer, prefix, suffix, order)
        answer = self.stream(ids, progress=progress, **with_stops(self.tokenizer, options))
        return answer if stream else answer.result()

    async def ainfill(
        self, prefix: str | bytes, suffix: str | bytes, *, order: InfillOrder | None = None, **options: Unpack[Options]
    ) -> Completion:
        """``infill`` for coroutines."""
        return await self.infill(prefix, suffix, order=order, stream=True, **options).aresult()

    def session(self, *, adapter: AdapterChoice = None) -> Session:
        """An empty text that can be gone on with, forked, cut, saved and loaded; all of it goes through ``adapter``.
        Raises ``ModelError`` for an encoder."""
        self.model.check_writes()
        return Session(self.model, adaptation=self.model.adapters.of(adapter))

    def logits(self, tokens: Prompt, *, first: int = 0, adapter: AdapterChoice = None) -> NDArray[np.float32]:
        """Logits after each token from number ``first`` on, float32 (tokens - first, vocabulary), read from an empty
        context.

        Raises ``ContextOverflowError`` where they exceed the context, ``ModelError`` where they are not numbers.
        """
        self.model.check_writes()
        ids = self._reading_ids(tokens, "tokens")
        reading = PromptRequest(ids, whole("first", first, 0, len(ids)), adaptation=self.model.adapters.of(adapter))
        logits: NDArray[np.float32] = wait(self.model.scheduler, [reading])[0]
        return logits

    def forward(
        self, text: Prompt, *, capture: Collection[CaptureKind] = (), layers: Sequence[int] | None = None
    ) -> Forward:
        """Reads a text in an empty context: its logits, and as ``capture`` asks the "hidden" states after each layer
        and the "attention" probabilities (of ``layers``, None: all).

        Attention takes 4 bytes for each layer, head and pair of tokens. Raises ``ContextOverflowError``,
        ``ModelError`` where logits are not numbers, ``ValueError`` for an unknown capture or layer.
        """
        self.model.check_writes()
        inside = CapturePlan(self.plan, self.tensors, self.model.parts.cache.cache_type, capture, layers)
        ids = self._reading_ids(text, "text")
        return inside.forward(ids, wait(self.model.scheduler, [inside.request(ids)])[0])

    def embed(
        self, texts: str | Sequence[Prompt], *, pooling: Pooling | None = None, normalize: bool = True
    ) -> NDArray[np.float32]:
        """One vector for each text, float32 (texts, width): of the last layer's normed states the "mean", the "last"
        token's or the first's ("cls"); ``pooling`` None takes what the file names, or else the mean.

        Vectors have length 1 where ``normalize``. Raises ``ContextOverflowError``, ``ValueError``, and ``ModelError``
        for vectors that are not numbers.
        """
        embedder, requests = self._embedding(texts, pooling, normalize)
        return embedder.pooled(wait(self.model.scheduler, requests))

    async def aembed(
        self, texts: str | Sequence[Prompt], *, pooling: Pooling | None = None, normalize: bool = True
    ) -> NDArray[np.float32]:
        """``embed`` for coroutines."""
        embedder, requests = self._embedding(texts, pooling, normalize)
        return embedder.pooled(await async_wait(self.model.scheduler, requests))

    def rerank(self, query: str | bytes, documents: Sequence[str | bytes]) -> NDArray[np.float32]:
        """How well each document answers a query, by a model made for it: float32 (documents,), greater is better. Of
        an encoder they are the head's own numbers, of which the logistic function makes probabilities; of a decoder
        that says yes or no (Qwen3-Reranker), the probability of yes.

        Raises ``ModelError`` for other models, ``ContextOverflowError`` where query and document exceed the context.
        """
        ranker, requests = self._ranking(query, documents)
        return ranker.scores(wait(self.model.scheduler, requests))

    async def arerank(self, query: str | bytes, documents: Sequence[str | bytes]) -> NDArray[np.float32]:
        """``rerank`` for coroutines."""
        ranker, requests = self._ranking(query, documents)
        return ranker.scores(await async_wait(self.model.scheduler, requests))

    def _reading_ids(self, text: Prompt, name: str) -> list[int]:
        return self.model.fitting(self.model.prompt_ids(text, name))

    def _embedding(
        self, texts: str | Sequence[Prompt], pooling: Pooling | None, normalize: bool
    ) -> tuple[Embedder, list[PromptRequest]]:
        parts = self.model.parts
        embedder = Embedder(parts.file, parts.engine.plan, pooling, flag("normalize", normalize))
        texts = [texts] if isinstance(texts, str | bytes) else items("texts", texts, "texts")
        return embedder, [embedder.request(self._reading_ids(text, "each of texts")) for text in texts]

    def _ranking(self, query: str | bytes, documents: Sequence[str | bytes]) -> tuple[Ranker, list[PromptRequest]]:
        ranker = Ranker(self.model.parts.file, self.plan, self.tokenizer)
        query = text_or_bytes("query", query)
        pairs = [
            ranker.ids(query, text_or_bytes("each of documents", document))
            for document in items("documents", documents, "texts")
        ]
        return ranker, [ranker.request(self.model.fitting(ids)) for ids in pairs]
