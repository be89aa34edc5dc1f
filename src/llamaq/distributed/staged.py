"""A model whose stages run elsewhere, as an ``LLM``: this process keeps the tree of prefixes and knows which pages are
whose, the stages have the pages."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from llamaq.boundary.progress import Progress
from llamaq.chat import ChatCompletion, ChatStream
from llamaq.chat.options import ChatOptions, PromptOptions
from llamaq.distributed.stages import Passed, Stage, StageJob, Work
from llamaq.engine.engine import Captures, Engine, StopFlag
from llamaq.engine.kv_cache import CacheLost, KVCache
from llamaq.engine.loading import LoadedModel, plan_of
from llamaq.engine.memory import memory_need
from llamaq.engine.page_pool import PagePool, StatePool
from llamaq.errors import LlamaqError, ModelError
from llamaq.gguf import GGUFFile
from llamaq.llm.llm import LLM, Completion, Prompt, Stream
from llamaq.plan.adapter import Directions, LowRank
from llamaq.plan.plan import Plan
from llamaq.plan.step import Step
from llamaq.sampling import SamplingParams
from llamaq.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from llamaq.chat.options import Messages
    from llamaq.serving.stream import Options

__all__ = ["Chain", "LocalChain", "StageLost", "StagedModel", "open_lane"]

_LOSSES = 8


class StageLost(Exception):
    """A stage is gone, or is not the one that it was."""


class Chain(Protocol):
    """Stages in a row, wherever they run. Several threads may have work in it, each for a lane of its own."""

    threads: int

    def run(self, work: Work, births: Sequence[str]) -> Passed:
        """What the last stage gives. Raises ``StageLost`` where one is not that of this ``Stage.birth``."""

    def births(self) -> Sequence[str]:
        """Waits until all stages are there."""


class LocalChain:
    """Stages in this process."""

    def __init__(self, stages: Sequence[Stage], threads: int = 1) -> None:
        self.threads = threads
        self.stages = list(stages)
        self._locks = [threading.Lock() for _ in stages]

    def run(self, work: Work, births: Sequence[str]) -> Passed:
        passed: Passed | None = None
        for i, lock in enumerate(self._locks):
            with lock:
                if self.stages[i].birth != births[i]:
                    raise StageLost(f"stage {i} was started anew")
                passed = self.stages[i].run(work, passed)
        assert passed is not None
        return passed

    def births(self) -> Sequence[str]:
        return [stage.birth for stage in self.stages]


class _FarPages(PagePool):
    """Pages whose memory is in the stages. ``copies`` are those that these have not made yet."""

    def __init__(self, sizes: Sequence[int], n_pages: int, window: int, chunk: int) -> None:
        super().__init__([0] * len(sizes), n_pages, window, chunk)
        self.copies: list[tuple[int, int]] = []

    def copy(self, page: int) -> int:
        own = self.take()
        self.copies.append((page, own))
        return own

    def read(self, pages: Sequence[int]) -> NDArray[np.uint8]:
        raise ModelError("what a model in stages has read lies in its stages: it cannot be saved, nor kept on disk")

    def write(self, pages: Sequence[int], data: NDArray[np.uint8]) -> None:
        self.read(pages)


class _FarStates(StatePool, _FarPages):
    """The same for states."""


class _Ledger(KVCache):
    """A cache whose memory is in the stages."""

    PAGES = _FarPages
    STATES = _FarStates

    def copies(self) -> list[list[tuple[int, int]]]:
        """The copies of each pool since the last time."""
        found = []
        for pool in self.pools:
            assert isinstance(pool, _FarPages)
            found.append(pool.copies)
            pool.copies = []
        return found


class _FarEngine(Engine):
    """A plan that the stages run, for one lane."""

    def __init__(self, plan: Plan, chain: Chain, lane: int, max_rows: int) -> None:
        self.plan, self.numerics, self.max_rows = plan, "exact", max_rows
        self._chain, self._lane = chain, lane
        self._births: Sequence[str] = chain.births()
        self._losses = 0
        self._executor: Any = chain
        self._check = lambda: None

    def close(self) -> None:
        self._executor = None

    @property
    def isa(self) -> str:
        return "stages"

    @property
    def threads(self) -> int:
        return self._chain.threads

    @property
    def scratch_bytes(self) -> int:
        return 0

    def attach(self, adapter: LowRank, directions: Directions | None = None) -> object:
        raise ModelError("a model in stages takes no adapters; merge them into its file (llamaq merge)")

    def collect_squares(self, on: bool = True) -> None:
        raise ModelError("a model in stages collects nothing; load it in one piece")

    def _run(
        self, step: Step, cache: KVCache, stop: StopFlag | None, captures: Captures | None, progress: Progress | None
    ) -> NDArray[np.float32]:
        if not self._births:  # they were lost
            self._births = self._chain.births()
            raise CacheLost
        assert isinstance(cache, _Ledger)
        sequences = [*step.spans]
        slots = cache.state_slots(step)
        tables = [table for _, table in cache.tables(sequences)]
        asked = [(*place, array.shape[1]) for place, array in (captures or {}).items()]
        work = Work(self._lane, step, cache.copies(), tables, None if slots is None else slots[1:], asked)
        try:
            passed = self._chain.run(work, self._births)
        except StageLost as error:
            self._births = ()
            self._losses += 1
            if self._losses % _LOSSES == 0:
                raise LlamaqError(f"stages were lost {_LOSSES} times in a row; the last time: {error}") from error
            raise CacheLost from error
        self._losses = 0
        for place, array in (captures or {}).items():
            array[:] = passed.seen[place]
        return passed.rows


def open_lane(chain: Chain, job: StageJob, lane: int) -> LLM:
    """The whole model of which ``job`` is any stage, run by a chain of all, with the cache number ``lane`` of each.
    Raises what ``LLM.load`` does for the file."""
    file = GGUFFile.open(job.model)
    try:
        hparams, plan = plan_of(file, job.n_ctx)
        if plan.encodes:
            raise ModelError("an encoder reads whole texts, and cannot be cut into stages: load it in one piece")
        tokenizer = load_tokenizer(file.metadata)
        cache = _Ledger(plan, job.n_cache, job.cache_type, max_rows=job.n_batch)
        need = memory_need(plan, file.tensors, job.n_ctx, n_cache=job.n_cache, cache_type=job.cache_type,
                           max_rows=job.n_batch, threads=1, pack=job.pack)  # fmt: skip
        engine = _FarEngine(plan, chain, lane, job.n_batch)
    except BaseException:
        file.close()
        raise
    return LLM(LoadedModel(file, tokenizer, hparams, engine, cache, need))


@dataclass(frozen=True)
class StagedModel:
    """A model in stages. ``cuts`` are the layers with which they begin, and the number of all; ``lanes`` the model as
    many times as steps can be on their way: each an ``LLM`` with a cache of its own in every stage."""

    cuts: tuple[int, ...]
    lanes: tuple[LLM, ...]

    def lane(self, prompt: Prompt = "") -> LLM:
        """The lane for a text: whose cache knows most of its beginning, of several the one with the least to do."""
        ids = self.lanes[0].prompt_ids(prompt)

        def worth(llm: LLM) -> tuple[int, int]:
            return -llm.model.scheduler.known(ids), llm.occupancy.running + llm.occupancy.waiting

        return min(self.lanes, key=worth)

    def stream(self, prompt: Prompt, **options: Unpack[Options]) -> Stream:
        """``LLM.stream`` in a lane for the prompt."""
        return self.lane(prompt).stream(prompt, **options)

    def generate(self, prompt: Prompt, **options: Unpack[Options]) -> Completion:
        """``LLM.generate`` in a lane for the prompt."""
        return self.lane(prompt).generate(prompt, **options)

    def batch(
        self, prompts: Sequence[Prompt], *, samplings: Sequence[SamplingParams] | None = None,
        **options: Unpack[Options],
    ) -> list[Completion]:  # fmt: skip
        """``LLM.batch``, spread over the lanes; with its errors, and ``LlamaqError`` where stages are lost again and
        again."""
        found: list[Any] = [None] * len(prompts)
        count = len(self.lanes)
        with ExitStack() as stack:
            for i, llm in enumerate(self.lanes):
                own = None if samplings is None else samplings[i::count]
                found[i::count] = stack.enter_context(llm.model.together(prompts[i::count], own, options))
            return [stream.result() for stream in found]

    @overload
    def chat(
        self, messages: Messages, *, stream: Literal[False] = False, **options: Unpack[ChatOptions]
    ) -> ChatCompletion: ...

    @overload
    def chat(self, messages: Messages, *, stream: Literal[True], **options: Unpack[ChatOptions]) -> ChatStream: ...

    def chat(
        self, messages: Messages, *, stream: bool = False, **options: Unpack[ChatOptions]
    ) -> ChatCompletion | ChatStream:
        """``LLM.chat`` in a lane for the conversation."""
        llm = self._for_chat(messages, options)
        return llm.chat(messages, stream=True, **options) if stream else llm.chat(messages, **options)

    async def achat(self, messages: Messages, **options: Unpack[ChatOptions]) -> ChatCompletion:
        """``chat`` for coroutines: many at once go through the stages together."""
        return await self._for_chat(messages, options).achat(messages, **options)

    def _for_chat(self, messages: Messages, options: ChatOptions) -> LLM:
        own: Any = {name: value for name, value in options.items() if name in PromptOptions.__annotations__}
        return self.lane(self.lanes[0].render_chat(messages, **own).ids)
