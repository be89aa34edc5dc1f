"""How much a model's answers change with the error of its weights: measured with some tensors quantized at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from llamaq.boundary.progress import Progress
from llamaq.engine.loading import plan_of
from llamaq.errors import InsufficientMemoryError, naming
from llamaq.gguf import GGUFFile, TensorInfo
from llamaq.llm.llm import LLM
from llamaq.measure.divergence import compare_logits
from llamaq.measure.text import chunks_of, scored_from
from llamaq.quantization.encode import Search
from llamaq.quantization.importance import Importance
from llamaq.quantization.ladder import Ladder, Rung
from llamaq.quantization.plan import TensorPlan

__all__ = ["Meter", "sensitivities"]

_TOKENS = 2048  # tokens of the text, in chunks spread over it; the second half of each is scored

_PROBE_BITS = 4.0  # the format with which a group is measured: the first of at least so many bits


class Meter:
    """Mean divergence (Kullback-Leibler, nats) of a file's model from itself with other formats, over a text.

    The text is read in chunks of the model's context, at most 512 tokens, and scored as by `llamaq.measure.divergence`.
    The model's own logits are kept, so that one model is in memory at a time.
    """

    def __init__(
        self,
        file: GGUFFile,
        text: str | bytes,
        search: Search,
        importance: Importance,
        threads: int | None,
    ) -> None:
        self._file, self._search, self._importance = file, search, importance
        n_ctx = min(512, plan_of(file)[0].context_length)
        self._options = {"n_ctx": n_ctx, "n_batch": n_ctx, "threads": threads}
        self._first = scored_from(n_ctx)
        with self._loaded({}) as llm:
            chunks = chunks_of(llm.tokenizer, text, n_ctx)
            count = min(len(chunks), max(1, _TOKENS // n_ctx))
            self._chunks = chunks[np.linspace(0, len(chunks) - 1, count).round().astype(int)]
            self._base = [self._logits(llm, chunk) for chunk in self._chunks]

    def kl(self, tensors: Iterable[TensorPlan]) -> float:
        """The divergence with these tensors in the formats of their plans."""
        plans = {tensor.info.name: tensor for tensor in tensors if not tensor.copied}
        with self._loaded(plans) as llm:
            found = [
                compare_logits(base, self._logits(llm, chunk), chunk[self._first + 1 :])[0]
                for base, chunk in zip(self._base, self._chunks, strict=True)
            ]
        return float(np.mean(found))

    def _loaded(self, plans: Mapping[str, TensorPlan]) -> LLM:
        """The model with these tensors in other formats. Raises ``InsufficientMemoryError``."""
        file = _Requantized(self._file, plans, self._search, self._importance)
        try:
            return LLM.load(file, **self._options)  # type: ignore[arg-type]
        except InsufficientMemoryError as error:  # whose advice is about options of another command
            message = (
                f"measuring needs the model in memory, {error.needed} bytes with its cache, but {error.available} are "
                "available; leave out text, or free memory"
            )
            found = InsufficientMemoryError(message, needed=error.needed, available=error.available)
            raise naming(found, "text") from None

    def _logits(self, llm: LLM, chunk: NDArray[np.int32]) -> NDArray[np.float32]:
        return llm.logits(chunk[:-1].tolist(), first=self._first)


class _Requantized(GGUFFile):
    """An open file with some tensors in other formats, each searched for when it is asked for; closing it leaves the
    file open."""

    def __init__(self, file: GGUFFile, plans: Mapping[str, TensorPlan], search: Search, importance: Importance) -> None:
        super().__init__(file.path, file._shards)
        self._source, self._plans, self._search, self._importance = file, plans, search, importance
        self.tensors = {name: self._info(info) for name, info in file.tensors.items()}

    @property
    def mapped(self) -> bool:
        return not self._plans and self._source.mapped

    def data(self, name: str) -> NDArray[np.uint8]:
        data, plan = self._source.data(name), self._plans.get(name)
        if plan is None:
            return data
        rows, each = data.reshape(plan.rows, -1), plan.info.shape[-2]
        parts = [
            self._search(plan, i, rows[i : i + each], self._importance.weights(plan.info, i))
            for i in range(0, plan.rows, each)
        ]
        return np.concatenate(parts).reshape(*plan.info.shape[:-1], -1)

    def _info(self, info: TensorInfo) -> TensorInfo:
        plan = self._plans.get(info.name)
        return info if plan is None else TensorInfo(info.name, plan.format, info.shape, plan.nbytes, 0, info.shard)


def sensitivities(ladders: Sequence[Ladder], meter: Meter, progress: Progress) -> dict[str, float]:
    """For each group the divergence with all its tensors in about four bits, over the sum of their relative errors."""
    groups: dict[str, list[Rung]] = defaultdict(list)
    for ladder in ladders:
        groups[ladder.group].append(_probe(ladder))
    found = {}
    for count, (group, rungs) in enumerate(groups.items(), 1):
        error = sum(rung.error for rung in rungs)
        found[group] = meter.kl(rung.tensor for rung in rungs) / error if error else 0.0
        progress(count, len(groups))
    return found


def _probe(ladder: Ladder) -> Rung:
    bits = [8 * rung.tensor.nbytes / rung.tensor.info.n_elements for rung in ladder.rungs]
    return next((rung for rung, bit in zip(ladder.rungs, bits, strict=True) if bit >= _PROBE_BITS), ladder.rungs[0])
