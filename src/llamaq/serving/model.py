"""``Model``: a loaded model that answers token ids. ``LLM``, sessions and chats stand on it."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from llamaq.boundary.arguments import flag, function, instance, items, one_of, path_of, shown, texts, whole, wholes
from llamaq.boundary.progress import Progress
from llamaq.engine.loading import LoadedModel
from llamaq.errors import (
    ClosedError,
    ContextOverflowError,
    LlamaqError,
    ModelError,
    ReceiptError,
    TokenizerError,
    naming,
)
from llamaq.gguf import Value
from llamaq.plan.inserted import Inserted, LookedAt
from llamaq.sampling import Sampler, SamplingParams
from llamaq.sampling.turns import is_inside
from llamaq.serving.adaptation import AdapterChoice, Adapters
from llamaq.serving.answer import Answer
from llamaq.serving.defaults import Defaults
from llamaq.serving.disk_cache import DEFAULT_LIMIT, DiskCache
from llamaq.serving.disk_prefixes import DiskPrefixes
from llamaq.serving.drafter import Drafter
from llamaq.serving.generation import DraftFunction, Generation
from llamaq.serving.last_states import LastStates, StatesRoom
from llamaq.serving.lookup import Lookup
from llamaq.serving.nextn_drafter import NextNDrafter
from llamaq.serving.recording import Recording
from llamaq.serving.request import ASKER
from llamaq.serving.scheduler import Scheduler
from llamaq.serving.stream import Overflow, Stream
from llamaq.serving.texts import KeptTexts

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from llamaq.serving.stream import Options
    from llamaq.vision.encoder import Encoder

__all__ = ["Model", "Prompt", "fitted", "token_ids"]

Prompt: TypeAlias = str | bytes | Sequence[int]
"""Text, or the ids of its tokens."""

_SAMPLING = "a SamplingParams, such as SamplingParams(temperature=0)"


class Model:
    """The parts of a model and the scheduler of what is asked of it. Any thread may use it."""

    def __init__(
        self, parts: LoadedModel, defaults: Defaults | None = None, encoder: Encoder | None = None, *,
        speculation: bool = True,
    ) -> None:  # fmt: skip
        self.defaults = defaults or Defaults()
        self.tokenizer = parts.tokenizer
        self.hparams = parts.hparams
        self.speculation = speculation
        self.memory = parts.memory
        self.adapters = Adapters(parts.engine, parts.file)
        self.scheduler = Scheduler(parts.engine, parts.cache, parts.memory.n_ctx, self.adapters)
        self.encoder = encoder
        """Makes rows of pictures, where there is a projector."""
        self._parts: LoadedModel | None = parts
        self._disk: DiskPrefixes | None = None
        self.draft_function: DraftFunction | None = None
        """Guesses what comes next in an answer's text."""
        self._texts = KeptTexts()
        self._states = StatesRoom()
        self._owned: Model | None = None
        if parts.nextn is not None:
            self.scheduler.speculation.drafter = NextNDrafter(parts.nextn)

    def __str__(self) -> str:
        """What it is, for people."""
        if self._parts is None:
            return "(closed)"
        name = self.metadata.get("general.name") or self.parts.file.path.name
        return f"{shown(name)}: {self.metadata['general.architecture']}, a context of {self.n_ctx} tokens"

    @property
    def parts(self) -> LoadedModel:
        """Raises ``ClosedError`` once the model is closed."""
        if self._parts is None:
            raise ClosedError("the model is closed; load it again")
        return self._parts

    @property
    def metadata(self) -> Mapping[str, Value]:
        return self.parts.file.metadata

    @property
    def n_ctx(self) -> int:
        """Tokens that one text may have."""
        return self.parts.memory.n_ctx

    def close(self) -> None:
        """Ends what runs and frees weights and cache at once."""
        self.scheduler.close()
        if self._disk is not None:
            self._disk.close()
        if self._parts is not None:
            self._parts.close()
        if self.encoder is not None:
            self.encoder.close()
        if self._owned is not None:
            self._owned.close()
        self._parts = None

    def draft_with(self, model: Model, *, owned: bool = False) -> None:
        """Lets another model, which has the same tokens, guess what comes next; one that is ``owned`` is closed with
        this one."""
        own, other = (parts.memory.weights + parts.memory.mapped for parts in (self.parts, model.parts))
        self.scheduler.speculation.drafter = Drafter(
            model.scheduler, min(self.hparams.vocab_size, model.hparams.vocab_size), other / max(1, own)
        )
        self._owned = model if owned else None

    def keep_on_disk(self, folder: str | os.PathLike[str], limit: int = DEFAULT_LIMIT) -> None:
        """Keeps what is read of long prompts in a folder, in so many bytes at most, and takes it from there."""
        cache = DiskCache(path_of("cache_dir", folder), whole("cache_limit", limit, 0))
        if self.parts.cache.pools:  # an encoder keeps nothing
            self._disk = self.scheduler.room.beyond = DiskPrefixes(cache, self.parts, self.scheduler)

    def check_writes(self) -> None:
        """Raises ``ModelError`` for an encoder, which has no logits, and for a decoder with a head that ranks."""
        if self.parts.engine.plan.encodes:
            raise ModelError(
                "the model is an encoder: it makes vectors of texts (LLM.embed) or ranks them (LLM.rerank), and writes "
                "none; choose another model to write"
            )

        if "cls.output.weight" in self.parts.engine.plan.tensors:
            raise ModelError("the model ranks documents (LLM.rerank), and writes none; choose another model to write")

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
        return self._known(ids)

    def text_ids(self, text: Prompt, name: str = "text", *, continuation: bool = False) -> list[int]:
        """Tokens of a text, which may go on another one; as ``prompt_ids`` but for what that does with an empty one."""
        if isinstance(text, str | bytes):
            return self.tokenizer.encode(text, parse_special=True, continuation=continuation)
        return token_ids(name, text)

    def _known(self, ids: list[int]) -> list[int]:
        """These ids. Raises ``TokenizerError`` for one outside the vocabulary."""
        if ids and (min(ids) < 0 or max(ids) >= self.hparams.vocab_size):
            raise TokenizerError(
                f"token ids are 0 to {self.hparams.vocab_size - 1}, got {shown(min(ids))} to {shown(max(ids))}"
            )
        return ids

    def fitting(self, ids: list[int]) -> list[int]:
        """These ids. Raises ``ContextOverflowError`` where they exceed the context."""
        return fitted(ids, self.n_ctx, "error", 0, None)[0]

    def start(
        self, ids: list[int], *, progress: Progress | None = None, expected: int = 0, **options: Unpack[Options]
    ) -> Stream:
        """The answer to a prompt of token ids, which begins now.

        ``progress`` gets the prompt tokens read and in total; ``expected`` of them were in the cache last time.
        Raises ``ContextOverflowError`` for too long a prompt, ``ValueError`` and ``TypeError`` for settings that cannot
        be, ``ClosedError``.
        """
        stream = self.prepare(ids, progress=progress, expected=expected, **options)
        Stream.begin(stream)
        return stream

    def prepare(
        self, ids: list[int], *, max_tokens: int | None = None, sampling: SamplingParams | None = None,
        stop: Sequence[str] = (), special: bool | Container[int] = False, overflow: Overflow = "error", keep: int = 0,
        timeout: float | None = None, adapter: AdapterChoice = None, prediction: Prompt | None = None,
        receipt: bool = False, progress: Progress | None = None, expected: int = 0,
        inserted: tuple[Inserted | LookedAt, ...] = (),
    ) -> Stream:  # fmt: skip
        """Does what ``start`` does, but the answer begins with ``Stream.begin``, which takes several. ``inserted`` are
        the rows whose ids stand among ``ids``; no part of such a prompt can be left out."""
        self.check_writes()
        max_tokens = self.defaults.max_tokens if max_tokens is None else _most(max_tokens)
        progress = None if progress is None else function("progress", progress)
        stop = (*self.defaults.stop, *texts("stop", stop))
        keep = whole("keep", keep)
        keep = max(keep, ids[0] == self.tokenizer.bos_id) if keep >= 0 else keep
        if inserted and overflow != "error":
            raise naming(
                ValueError(f"overflow must be 'error' for a prompt with pictures, got {overflow!r}"), "overflow"
            )
        ids, dropped = fitted(ids, self.n_ctx, overflow, keep, max_tokens)
        given = None if sampling is None else instance("sampling", sampling, SamplingParams, _SAMPLING)
        sampling = given or self.defaults.sampling
        sampling.check_vocabulary(self.hparams.vocab_size)
        if any(map(is_inside, sampling.logit_processors)):
            raise LlamaqError("a logit processor asks for an answer that it would take part in itself")
        sampler = Sampler(sampling, self.tokenizer)
        if receipt and inserted:
            raise ReceiptError("a receipt cannot tell what a picture shows; leave out the receipt, or the pictures")
        tokens = [id for id in ids if id < self.hparams.vocab_size] if inserted else ids
        recording = Recording(self._parts_later(), ids, sampler) if flag("receipt", receipt) else None
        answer = Answer(
            self.tokenizer, sampler, tokens, max_tokens=max_tokens, stop=stop, special=special, recording=recording
        )
        predicted = self._known(
            self.text_ids("" if prediction is None else prediction, "prediction", continuation=True)
        )
        guesses, nextn = self.speculation and not inserted, self.parts.nextn
        states = None if nextn is None else LastStates(nextn.seen, self._states, nextn.engine.max_rows)
        request = Generation(
            answer, ids, self.n_ctx, shift=overflow == "shift", keep=keep, dropped=dropped,
            progress=progress is not None, lookup=Lookup(ids, predicted) if guesses else None,
            texts=self._texts.of(ASKER.get()) if guesses else None,
            function=self.draft_function if guesses else None,
            states=states if guesses else None,
        )  # fmt: skip
        request.adaptation = self.adapters.of(adapter)
        request.expected = expected if dropped == 0 else 0
        request.inserted = inserted
        return Stream(self.scheduler, request, progress=progress, timeout=timeout)

    def _parts_later(self) -> Callable[[], LoadedModel]:
        """What gives the parts as long as the model is there, which it does not keep alive."""
        reference = weakref.ref(self)

        def parts() -> LoadedModel:
            model = reference()
            if model is None:
                raise ClosedError("the model is closed; load it again")
            return model.parts

        return parts

    @contextmanager
    def together(
        self, prompts: Sequence[Prompt], samplings: Sequence[SamplingParams] | None, options: Options
    ) -> Iterator[list[Stream]]:
        """The answers to many prompts, begun together and wanted whole; the end of the context ends them all.

        ``samplings`` has settings for each prompt, in the place of one ``sampling`` for all.
        """
        prompts = items("prompts", prompts, "texts")
        if samplings is not None:
            samplings = [
                instance("each of samplings", each, SamplingParams, _SAMPLING)
                for each in items("samplings", samplings, "SamplingParams")
            ]
        if samplings is not None and len(samplings) != len(prompts):
            raise ValueError(f"samplings must be as many as prompts: got {len(samplings)} for {len(prompts)}")
        streams = []
        for i, prompt in enumerate([self.prompt_ids(prompt, "each of prompts") for prompt in prompts]):
            own: Options = options if samplings is None else {**options, "sampling": samplings[i]}
            streams.append(self.prepare(prompt, **own))
            streams[-1].gather()
        Stream.begin(*streams)
        try:
            yield streams
        finally:  # Ctrl-C or an error of one of them ends them all
            for stream in streams:
                stream.cancel()


def token_ids(name: str, value: Any) -> list[int]:
    """The ids of a prompt that is no text. ``TypeError`` for what is none, and says who takes that."""
    first = next(iter(value), None) if isinstance(value, Sequence | Mapping) else None
    if isinstance(value, Mapping) or isinstance(first, str | bytes | Mapping):
        who = "LLM.chat takes messages" if isinstance(first, Mapping) or "role" in value else "LLM.batch takes several"
        raise naming(
            TypeError(f"{name} must be one text, or its token ids, got {shown(value)}; {who}"), *name.split()[-1:]
        )
    return wholes(name, value, "token ids, or text")


def _most(max_tokens: int) -> int:
    if isinstance(max_tokens, int) and max_tokens < 0:  # elsewhere -1 means no limit
        wrong = f"max_tokens must be a whole number of at least 0, or None for as many as fit; got {max_tokens}"
        raise naming(ValueError(wrong), "max_tokens")
    return whole("max_tokens", max_tokens, 0)


def fitted(ids: list[int], n_ctx: int, overflow: Overflow, keep: int, max_tokens: int | None) -> tuple[list[int], int]:
    """A prompt that fits the context, and how many tokens were dropped after the first ``keep`` to make it so.

    Where it must be cut, it leaves room for ``max_tokens`` of answer, though at most for half the context. Raises
    ``ContextOverflowError`` where ``overflow`` says "error", or where ``keep`` leaves no room.
    """
    one_of("overflow", overflow, ("error", "truncate_left", "shift"))
    if keep < 0 or (overflow != "error" and keep >= n_ctx - 1):
        message = f"keep must be 0 or more, and leave room in a context of {n_ctx} tokens; got {shown(keep)}"
        raise naming(ValueError(message), "keep")
    if len(ids) <= n_ctx:
        return ids, 0
    half = n_ctx // 2
    size = n_ctx - (half if max_tokens is None else min(max_tokens, half))
    if overflow == "error" or keep >= size:
        kept = f", of which {keep} are to be kept" if overflow != "error" else ""
        message = f"the prompt has {len(ids)} tokens{kept}, the context {n_ctx}; shorten it or raise n_ctx"
        raise naming(ContextOverflowError(message, needed=len(ids), available=n_ctx), "n_ctx")
    dropped = len(ids) - size
    return ids[:keep] + ids[keep + dropped :], dropped
