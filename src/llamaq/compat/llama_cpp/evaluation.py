"""The text that ``Llama.eval`` reads step by step, its logits, and tokens drawn from them."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamaq.boundary.arguments import wholes
from llamaq.llm.session import Session
from llamaq.sampling import Sampler
from llamaq.serving.reading import PromptRequest, wait

from .model import Model
from .processors import LlamaState
from .settings import check_room, plain_seed, sampling_of

__all__ = ["Evaluation"]


class Evaluation:
    """Belongs to one thread, unlike the rest of ``Llama``. ``input_ids`` (n_ctx,) are the tokens so far, ``n_tokens``
    their number; ``scores`` (n_ctx or n_batch, vocabulary) is filled where the model was made with ``logits_all``."""

    def __init__(self, llama: Model) -> None:
        self._llama = llama
        self.n_tokens = 0
        self.input_ids: NDArray[np.intc] = np.zeros(llama.n_ctx(), np.intc)
        self._latest: NDArray[np.float32] | None = None

    @cached_property
    def scores(self) -> NDArray[np.float32]:
        rows = self._llama.n_ctx() if self._llama.logits_all else self._llama.n_batch
        return np.zeros((rows, self._llama.n_vocab()), np.float32)

    @property
    def ids(self) -> list[int]:
        found: list[int] = self.input_ids[: self.n_tokens].tolist()
        return found

    def reset(self) -> None:
        self.forget(0)

    def forget(self, count: int) -> None:
        """All tokens but the first ``count``."""
        if count != self.n_tokens:
            self.n_tokens = min(count, self.n_tokens)
            self._latest = None

    def eval(self, tokens: Sequence[int]) -> None:
        """Goes on with tokens. Raises ``ValueError`` where the context has no room for them."""
        llama = self._llama
        new = wholes("tokens", tokens, "token ids", 0, llama.n_vocab() - 1)
        if not new:
            return
        ids = self.ids + new
        check_room(len(ids) - 1, llama.n_ctx())
        first = self.n_tokens if llama.logits_all else len(ids) - 1
        rows = wait(llama.llm.model.scheduler, [PromptRequest(ids, first, share=True)])[0]
        self.input_ids[self.n_tokens : len(ids)] = new
        if llama.logits_all:
            self.scores[first : len(ids)] = rows
        self.n_tokens = len(ids)
        self._latest = rows[-1]

    def sample(self, values: dict[str, Any]) -> int:
        """A token after ``idx`` (a row of ``scores``), or after the latest one. Raises ``RuntimeError`` where nothing
        has been read."""
        return self._new_sampler(values).sample(self._logits(values["idx"]))

    def generate(self, values: dict[str, Any]) -> Generator[int, Sequence[int] | None, None]:
        """Tokens after ``tokens``, without an end; what is sent in comes after the latest one."""
        tokens = wholes("tokens", values["tokens"], "token ids")
        if values["reset"]:
            self.reset()
        self.eval(tokens)
        criteria = values["stopping_criteria"]
        sampler = self._new_sampler(values)
        while True:
            logits = self._logits(None)
            if criteria is not None and criteria(self.input_ids[: self.n_tokens], logits):
                return
            token = sampler.sample(logits)
            more = yield token
            new = [token, *(more or ())]
            for id in new:
                sampler.accept(id)
            self.eval(new)

    def save(self) -> LlamaState:
        """Tokens, logits, and keys and values as ``Session.save`` writes them."""
        with _file() as path:
            Session(self._llama.llm.model, self.ids).save(path)
            state = path.read_bytes()
        scores = self.scores[: self.n_tokens].copy()
        return LlamaState(self.input_ids.copy(), scores, self.n_tokens, state, len(state), self._llama.seeds.seed)

    def load(self, state: LlamaState) -> None:
        """Goes on from a state. Raises ``SessionError`` for one of another model."""
        with _file() as path:
            path.write_bytes(state.llama_state)
            Session(self._llama.llm.model).load(path)
        self.n_tokens = state.n_tokens
        self.input_ids = state.input_ids.copy()
        self.scores[: len(state.scores)] = state.scores
        self._latest = None

    def _logits(self, idx: int | None) -> NDArray[np.float32]:
        if not self.n_tokens:
            raise RuntimeError("nothing has been read yet; call eval before sample")
        if idx is not None and idx != self.n_tokens - 1:
            if not self._llama.logits_all:
                raise RuntimeError("logits of earlier tokens need a model that was made with logits_all=True")
            row: NDArray[np.float32] = self.scores[idx]
            return row
        if self._latest is None:  # a state was loaded, and what it has read last is read again for its logits
            last = PromptRequest(self.ids, self.n_tokens - 1, share=True)
            self._latest = wait(self._llama.llm.model.scheduler, [last])[0][-1]
        return self._latest

    def _new_sampler(self, values: dict[str, Any]) -> Sampler:
        llama = self._llama
        sampling = sampling_of(values, seed=plain_seed(llama.seeds.seed), last_n=llama.last_n_tokens_size)
        sampler = Sampler(sampling, llama.parts.tokenizer)
        sampler.feed(self.ids)
        return sampler


@contextmanager
def _file() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="llamaq-") as folder:
        yield Path(folder) / "state"
