"""What ``LLM`` shows of its model."""

from __future__ import annotations

from collections.abc import Mapping

from llamaq.engine.engine import Engine
from llamaq.engine.memory import MemoryNeed
from llamaq.gguf import Value
from llamaq.llm.tensors import Tensors
from llamaq.models import HParams
from llamaq.plan.graph import Plan
from llamaq.serving.model import Model
from llamaq.serving.occupancy import Occupancy
from llamaq.tokenizer import Tokenizer

__all__ = ["Shown"]


class Shown:
    """The properties that lead to its parts."""

    model: Model

    @property
    def tokenizer(self) -> Tokenizer:
        return self.model.tokenizer

    @property
    def hparams(self) -> HParams:
        return self.model.hparams

    @property
    def memory(self) -> MemoryNeed:
        return self.model.memory

    @property
    def n_ctx(self) -> int:
        return self.model.n_ctx

    @property
    def occupancy(self) -> Occupancy:
        """How many requests run and wait now, and how full the cache is. Raises ``ClosedError``."""
        return self.model.scheduler.occupancy

    @property
    def metadata(self) -> Mapping[str, Value]:
        return self.model.metadata

    @property
    def engine(self) -> Engine:
        return self.model.parts.engine

    @property
    def plan(self) -> Plan:
        return self.engine.plan

    @property
    def tensors(self) -> Tensors:
        """The file's tensors by name, raw and as numbers, without copies where the format allows."""
        return Tensors(self.model.parts.file)
