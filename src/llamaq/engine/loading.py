"""From a file to the parts of a model that is ready to run."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from llamaq.boundary.arguments import INT32, MOST_THREADS, flag, function, one_of, shown, text, whole
from llamaq.boundary.progress import Progress
from llamaq.engine.adapter_file import is_adapter
from llamaq.engine.control_vector import is_control_vector
from llamaq.engine.engine import Engine, Numerics
from llamaq.engine.kv_cache import CACHE_TYPES, CacheType, KVCache
from llamaq.engine.memory import MemoryNeed, cache_tokens, check_memory, fitting_context, memory_need, step_rows
from llamaq.engine.nextn import NextN, nextn_of
from llamaq.engine.topology import default_threads
from llamaq.errors import ModelError, TokenizerError
from llamaq.formats import decode
from llamaq.gguf import GGUFFile
from llamaq.models import MAX_HEAD_DIM, HParams, build_plan, constants
from llamaq.plan.graph import Plan
from llamaq.tokenizer import Tokenizer, load_tokenizer

__all__ = ["DraftNeed", "LoadedModel", "check_same_tokens", "clean_arguments", "load_parts", "needed_memory", "plan_of"]

logger = logging.getLogger("llamaq")

_OTHER_PARTS = ("v.", "a.", "mm.", "mtp.", "resampler.")  # vision, audio and drafting have these
_PADDING = 128  # tokens by which the vocabularies of one family differ
_OF_PICTURES = tuple(f".cross_attn_{part}.weight" for part in ("k_proj", "v_proj", "k_norm"))  # the encoder's
_SHOWN = 6  # names of tensors in a warning


@dataclass(frozen=True)
class LoadedModel:
    """What a model is made of."""

    file: GGUFFile
    tokenizer: Tokenizer
    hparams: HParams
    engine: Engine
    cache: KVCache
    memory: MemoryNeed
    nextn: NextN | None = None
    """Its block that guesses further tokens, where the file has one and it is wanted."""

    def close(self) -> None:
        """Ends the threads and frees weights and caches at once."""
        for part in (self.nextn, self.engine, self.cache, self.file):
            if part is not None:
                part.close()

    @cached_property
    def sha256(self) -> str:
        """Of the model file; read once, when it is first asked for. Raises what ``GGUFFile.sha256`` does."""
        return self.file.sha256()


@dataclass(frozen=True)
class DraftNeed:
    """A draft model that is loaded after this one: its tokenizer, and bytes that it takes with a context of so many."""

    tokenizer: Tokenizer
    need: Callable[[int], int]


def plan_of(file: GGUFFile, n_ctx: int | None = None) -> tuple[HParams, Plan]:
    """Hyperparameters and plan of a model file for a context (None: the model's own). Raises ``ModelError`` for what
    llamaq cannot run."""
    if is_adapter(file) or is_control_vector(file):
        what, option = ("a control vector", "--control-vector") if is_control_vector(file) else ("an adapter", "--lora")
        raise ModelError(
            f"the file is {what}, which is loaded beside its model: llamaq run MODEL {option} FILE, or "
            "LLM.load(model, adapters=file)"
        )
    if not file.tensors:
        raise ModelError("the file has a vocabulary but no tensors; it can be tokenized with, not run")
    shapes = {name: info.shape for name, info in file.tensors.items()}
    vectors: dict[str, list[float]] = {}
    for name in constants(file.tensors):
        info = file.tensors[name]
        fits = info.n_elements <= MAX_HEAD_DIM // 2  # one too long for any head is refused unread
        vectors[name] = decode(info.format, file.data(name)).ravel().tolist() if fits else []
    hparams, plan = build_plan(file.metadata, shapes, vectors=vectors, n_ctx=n_ctx)
    _warn_of_unread(file, hparams, plan)
    return hparams, plan


def _warn_of_unread(file: GGUFFile, hparams: HParams, plan: Plan) -> None:
    """Says which tensors the architecture has no use for: a model that was trained with them will not do without."""
    read = {*plan.tensors, *constants(file.tensors)}
    unread = [name for name in file.tensors if name not in read and not name.startswith(_OTHER_PARTS)]
    unread = [name for name in unread if not _drafts(name, hparams.layers) and not name.endswith(_OF_PICTURES)]
    if unread:
        more = f" and {len(unread) - _SHOWN} more" if len(unread) > _SHOWN else ""
        logger.warning(
            "%s: the architecture %s does not read %s%s; the model may be of another kind, and answer badly",
            file.path, file.metadata["general.architecture"], ", ".join(unread[:_SHOWN]), more,
        )  # fmt: skip


def _drafts(name: str, layers: int) -> bool:
    """Whether a tensor is of a block behind the last layer, which guesses further tokens."""
    parts = name.split(".")
    return parts[0] == "blk" and parts[1].isdecimal() and int(parts[1]) >= layers


def needed_memory(
    path: str | os.PathLike[str], *, n_ctx: int | None = None, n_cache: int | None = None, threads: int | None = None,
    n_batch: int = 512, cache_type: CacheType = "f16", pack: bool = True, draft: object = None,
    speculation: bool = True, **others: object,
) -> MemoryNeed:  # fmt: skip
    """What ``LLM.load`` takes with these options of it, with the model's own context where none is given. Raises
    ``GGUFError``, ``ModelError``."""
    beside = 0
    if isinstance(draft, str | os.PathLike) and os.path.isfile(draft):
        beside = needed_memory(draft, n_ctx=n_ctx, n_cache=n_cache, threads=threads, n_batch=n_batch,
                               cache_type=cache_type, pack=pack, speculation=False).total  # fmt: skip
    with GGUFFile.open(path) as file:
        hparams, plan = plan_of(file, n_ctx or None)
        return memory_need(
            plan, file.tensors, n_ctx or hparams.context_length, n_cache=n_cache, cache_type=cache_type,
            max_rows=min(n_batch, n_ctx or n_batch), threads=threads or default_threads().threads,
            pack=pack or not file.mapped, draft=beside, speculation=speculation,
            nextn=nextn_of(file, hparams) if draft is None else None,
        )  # fmt: skip


def clean_arguments(
    *, n_ctx: Any, n_cache: Any, threads: Any, n_batch: Any, cache_type: Any, pack: Any, numerics: Any, pre: Any,
    progress: Any,
) -> dict[str, Any]:  # fmt: skip
    """The arguments of ``load_parts``, each of its kind. Raises ``TypeError`` and ``ValueError`` of llamaq's tree."""
    counts = {"n_ctx": (n_ctx, INT32), "n_cache": (n_cache, INT32), "threads": (threads, MOST_THREADS)}
    return {
        **{name: None if value is None else whole(name, value, 0, most) for name, (value, most) in counts.items()},
        "n_batch": whole("n_batch", n_batch, 1, INT32),
        "cache_type": one_of("cache_type", cache_type, CACHE_TYPES),
        "numerics": one_of("numerics", numerics, ("exact", "fast")),
        "progress": None if progress is None else function("progress", progress),
        "pre": None if pre is None else text("pre", pre),
        "pack": flag("pack", pack),
    }


def load_parts(
    path: str | os.PathLike[str] | GGUFFile,
    *,
    n_ctx: int | None,
    n_cache: int | None,
    threads: int | None,
    n_batch: int,
    cache_type: CacheType,
    pack: bool,
    numerics: Numerics,
    pre: str | None,
    progress: Progress | None,
    projector: int = 0,
    draft: DraftNeed | None = None,
    speculation: bool = True,
    nextn: bool = False,
) -> LoadedModel:
    """See ``LLM.load``; ``projector`` bytes, a ``draft`` model and, where it is wanted, the file's own block that
    guesses (``nextn``) are loaded besides. The arguments are clean."""
    file = path if isinstance(path, GGUFFile) else GGUFFile.open(path)
    pack = pack or not file.mapped
    try:
        hparams, plan = plan_of(file, n_ctx or None)
        tokenizer, tensors = _tokenizer(file, hparams, pre), file.tensors
        if draft is not None:
            check_same_tokens(tokenizer, draft.tokenizer)
        block = nextn_of(file, hparams) if nextn else None
        threads = threads or default_threads().threads
        n_batch = min(n_batch, n_ctx or n_batch)

        def need(n_ctx: int) -> MemoryNeed:
            return memory_need(plan, tensors, n_ctx, n_cache=n_cache, cache_type=cache_type, max_rows=n_batch,
                               threads=threads or 1, pack=pack, projector=projector, speculation=speculation,
                               draft=0 if draft is None else draft.need(n_ctx), nextn=block)  # fmt: skip

        memory = _checked_need(n_ctx, hparams.context_length, need)
        if memory.n_ctx != (n_ctx or hparams.context_length):
            _, plan = plan_of(file, memory.n_ctx)
        n_ctx = memory.n_ctx
        max_rows = step_rows(plan, n_ctx, n_batch)
        cache = KVCache(plan, cache_tokens(n_ctx, n_cache), cache_type, max_rows=max_rows)
        engine = Engine(plan, file, threads=threads, max_rows=max_rows, pack=pack, numerics=numerics, progress=progress)
        guessing = None
        if block is not None:
            own = KVCache(block, cache_tokens(n_ctx, n_cache), cache_type, max_rows=max_rows)
            guessing = NextN(block, engine, file, hparams.layers, own, pack)
    except (ModelError, TokenizerError) as error:
        file.close()
        error.args = (f"{file.path}: {error}",)
        raise
    except BaseException:
        file.close()
        raise
    return LoadedModel(file, tokenizer, hparams, engine, cache, memory, guessing)


def _tokenizer(file: GGUFFile, hparams: HParams, pre: str | None) -> Tokenizer:
    tokenizer = load_tokenizer(_with_rows(file, hparams.vocab_size), pre=pre)
    if tokenizer.n_vocab > hparams.vocab_size:
        raise TokenizerError(
            f"the tokenizer has {tokenizer.n_vocab} tokens, the embedding table {hparams.vocab_size}; "
            "the file mixes two models"
        )
    return tokenizer


def _with_rows(file: GGUFFile, rows: int) -> Mapping[str, Any]:
    """The metadata, without what ollama's converter left at the end of Gemma 3's tokens: one that stands for pictures,
    and has no row in the table."""
    key = "tokenizer.ggml.tokens"
    tokens = file.metadata.get(key)
    if file.metadata.get("general.architecture") == "gemma3" and isinstance(tokens, Sequence) and len(tokens) > rows:
        return {**file.metadata, key: tokens[:rows]}
    return file.metadata


def check_same_tokens(own: Tokenizer, drafts: Tokenizer) -> None:
    """Raises ``ModelError`` where a draft model has other tokens: its guesses would mean something else. Some more at
    the end, which fill up tables, do no harm."""
    remedy = "a draft model has the tokens of the model that it guesses for; choose a smaller one of the same family"
    if abs(own.n_vocab - drafts.n_vocab) > _PADDING:
        raise ModelError(f"the draft model has {drafts.n_vocab} tokens, the model {own.n_vocab}; {remedy}")
    for id, (mine, theirs) in enumerate(zip(own.vocab.tokens, drafts.vocab.tokens, strict=False)):
        if mine != theirs:
            texts = shown(drafts.vocab.text(id)), shown(own.vocab.text(id))
            raise ModelError("token {} is {} in the draft model and {} in the model; {}".format(id, *texts, remedy))


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
    check_memory(need(fits))
    if fits < models:
        logger.warning("the context is %d tokens instead of the model's %d, to fit the memory", fits, models)
    return need(fits)
