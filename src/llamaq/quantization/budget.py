"""The formats of a file under a budget: the least divergence for a size, or the least size for a divergence."""

from __future__ import annotations

import math
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from llamaq.boundary.arguments import real, shown, text_or_bytes, whole
from llamaq.boundary.progress import Progress
from llamaq.errors import QuantizationError, naming
from llamaq.gguf import GGUFFile
from llamaq.quantization.choice import layer_of
from llamaq.quantization.encode import Search
from llamaq.quantization.importance import Importance
from llamaq.quantization.ladder import Ladder, Rung, group_of, ladder_of, least_loss, least_size, loss_of
from llamaq.quantization.plan import Options, Plan, draft_plan, warn_of_idle
from llamaq.quantization.types import file_type_by_name

if TYPE_CHECKING:
    from llamaq.quantization.sensitivity import Meter

__all__ = ["DEFAULT_SENSITIVITY", "Budget", "Fit", "fit", "parse_size"]

DEFAULT_SENSITIVITY = {"attn_q+k": 0.15, "attn_v": 0.35, "attn_output": 0.15, "ffn_up+gate": 0.3, "ffn_down": 0.15}
DEFAULT_SENSITIVITY |= {"token_embd": 0.3, "output": 4.0, "other": 0.3}
"""Divergence (nats) for the relative squared error of a matrix where no text tells, by kind: about what two small
models have. Embeddings that are the output too count as it."""

_ROUNDS = 6  # choices that are measured to find one of a divergence
_NEAR = 0.95  # a divergence is near enough from this share of the one allowed


@dataclass(frozen=True)
class Budget:
    """One limit: ``nbytes`` of the file, ``bits_per_weight`` of all tensors, or ``max_kl`` (mean divergence, nats).

    Sensitivities are measured with ``text``; without it they are `DEFAULT_SENSITIVITY`.
    """

    nbytes: int | None = None
    bits_per_weight: float | None = None
    max_kl: float | None = None
    text: str | bytes | None = None

    @classmethod
    def of(
        cls, target_size: int | str | None, target_bpw: float | None, max_kl: float | None, text: str | bytes | None
    ) -> Budget | None:
        """None where no limit is given. Raises ValueError for more than one, or one that is no positive number."""
        if target_size is not None and not isinstance(target_size, str):
            target_size = whole("target_size", target_size)
        target_bpw = None if target_bpw is None else real("target_bpw", target_bpw)
        max_kl = None if max_kl is None else real("max_kl", max_kl)
        text = None if text is None else text_or_bytes("text", text)
        limits = {"target_size": target_size, "target_bpw": target_bpw, "max_kl": max_kl}
        given = {name: limit for name, limit in limits.items() if limit is not None}
        if not given:
            if text is not None:
                raise ValueError("a text is for a budget: give a target size, bits per weight or a divergence with it")
            return None
        nbytes = parse_size(target_size) if isinstance(target_size, str) else target_size
        value = next(limit for limit in (nbytes, target_bpw, max_kl) if limit is not None)
        if len(given) > 1 or not 0 < value <= sys.float_info.max:
            wrong = " and ".join(f"{name} of {shown(limit)}" for name, limit in given.items())
            message = f"expected one positive limit, of target size, bits per weight or divergence, got {wrong}"
            raise naming(ValueError(message), *given)
        if max_kl is not None and text is None:
            raise naming(ValueError("text is missing: max_kl is measured over one"), "text", "max_kl")
        return cls(nbytes, target_bpw, max_kl, text)


def parse_size(text: str) -> int:
    """Bytes of "4.5GiB", "700MiB", "4G" (10 ** 9) or "123456". Raises ValueError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+) ?(?:([KMGT])(i?)B?|B)?", text.strip(), re.IGNORECASE)
    if match is None:
        wrong = f"target_size must be a size such as 4.5GiB, 700MiB or 4G, got {text!r}"
        raise naming(ValueError(wrong), "target_size")
    power = "KMGT".index(match[2].upper()) + 1 if match[2] else 0
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)


@dataclass(frozen=True)
class Fit:
    """A plan under a budget. ``chosen`` is the rung of each ladder, ``sensitivity`` is by group.

    ``predicted`` is the sum that was made small, in nats where a text was given; then also ``measured``, the mean
    divergence over the text.
    """

    plan: Plan
    ladders: tuple[Ladder, ...]
    chosen: tuple[int, ...]
    sensitivity: Mapping[str, float]
    predicted: float
    measured: float | None = None

    def rungs(self) -> list[tuple[str, Rung]]:
        """Group and format of each tensor that was free."""
        return [(ladder.group, ladder.rungs[i]) for ladder, i in zip(self.ladders, self.chosen, strict=True)]


def fit(
    file: GGUFFile,
    budget: Budget,
    options: Options | None = None,
    importance: Importance | None = None,
    *,
    keep_split: bool = False,
    threads: int | None = None,
    weighing: Progress | None = None,
    measuring: Progress | None = None,
) -> Fit:
    """The plan for an open file that keeps to the budget.

    ``options`` that give tensors a format fix it. ``weighing`` gets tensors tried and their number, ``measuring``
    groups measured and theirs. Warns and raises as `make_plan` does and, with a text, `LLM.load`; QuantizationError
    where no choice keeps to the budget.
    """
    options = options or Options()
    if options.pure:
        raise naming(ValueError("expected one format for all (pure) or a budget, got both"), "pure")
    # Tensors alike in two pure plans are fixed: vectors, and those that the user gave a format.
    base, other = (draft_plan(file, type, replace(options, pure=True), importance) for type in ("Q4_0", "Q8_0"))
    warn_of_idle(file, base.file_type, options)
    free = [i for i, (a, b) in enumerate(zip(base.tensors, other.tensors, strict=True)) if a.format != b.format]
    if not free:
        raise QuantizationError(f"{file.path}: no matrix is left to choose a format for; fix fewer of them")
    search, importance = Search(threads), importance or Importance()
    n_layer = 1 + max((i for i in map(layer_of, file.tensors) if i is not None), default=0)
    ladders = []
    for count, i in enumerate(free, 1):
        tensor = base.tensors[i]
        group = group_of(tensor.info.name, n_layer)
        ladders.append(ladder_of(file, tensor, group, file.alignment if budget.nbytes else 1, search, importance))
        if weighing is not None:
            weighing(count, len(free))
    choices = _Choices(base, tuple(free), tuple(ladders), keep_split)
    if budget.text is None:
        return choices.of_size(budget, _defaults(file, ladders))
    from llamaq.quantization.sensitivity import Meter, sensitivities

    meter = Meter(file, budget.text, search, importance, threads)
    found = sensitivities(ladders, meter, measuring or (lambda done, total: None))
    if budget.max_kl is not None:
        return choices.of_divergence(budget.max_kl, found, meter)
    best = choices.of_size(budget, found)
    return replace(best, measured=meter.kl(best.plan.tensors))


def _defaults(file: GGUFFile, ladders: Sequence[Ladder]) -> dict[str, float]:
    kinds = DEFAULT_SENSITIVITY
    if "output.weight" not in file.tensors:
        kinds = {**kinds, "token_embd": kinds["output"]}
    return {ladder.group: kinds[ladder.group.split()[0]] for ladder in ladders}


@dataclass(frozen=True)
class _Choices:
    """The plans that differ in the formats of the ``free`` tensors (indices), each with its ladder."""

    base: Plan
    free: tuple[int, ...]
    ladders: tuple[Ladder, ...]
    keep_split: bool

    def plan(self, chosen: Sequence[int]) -> Plan:
        """A plan; the type that the file says is that of the format that most weights have."""
        tensors = list(self.base.tensors)
        weights: Counter[str] = Counter()
        for i, ladder, k in zip(self.free, self.ladders, chosen, strict=True):
            tensors[i] = ladder.rungs[k].tensor
            weights[tensors[i].format.name] += tensors[i].info.n_elements
        type = file_type_by_name(weights.most_common(1)[0][0])
        metadata = {**self.base.metadata, "general.file_type": np.uint32(type.number)}
        return replace(self.base, file_type=type, tensors=tuple(tensors), metadata=metadata)

    def fit(self, chosen: tuple[int, ...], sensitivity: Mapping[str, float]) -> Fit:
        predicted = loss_of(self.ladders, chosen, sensitivity)
        return Fit(self.plan(chosen), self.ladders, chosen, sensitivity, predicted)

    def ends(self) -> tuple[Plan, Plan]:
        """The smallest plan and the largest."""
        return self.plan([0] * len(self.ladders)), self.plan([len(ladder.rungs) - 1 for ladder in self.ladders])

    def of_size(self, budget: Budget, sensitivity: Mapping[str, float]) -> Fit:
        """The least loss under a limit of bytes or bits per weight."""
        smallest, largest = self.ends()
        if budget.nbytes is not None:
            sizes = [plan.file_nbytes(self.keep_split) for plan in (smallest, largest)]
            limit, words = budget.nbytes, [f"{size} bytes" for size in (budget.nbytes, *sizes)]
        else:
            assert budget.bits_per_weight is not None
            sizes = [smallest.nbytes, largest.nbytes]
            limit = int(budget.bits_per_weight * self.base.parameters / 8)
            bits = (budget.bits_per_weight, smallest.bits_per_weight, largest.bits_per_weight)
            words = [f"{value:.3f} bits per weight" for value in bits]
        if limit < sizes[0]:
            raise QuantizationError(
                f"{self.base.file.path}: {words[0]} are too few: expected at least {words[1]} (and at most "
                f"{words[2]}, which is no loss); raise the target, or fix fewer tensors"
            )
        spare = limit - sizes[0]
        smallest_rungs = sum(ladder.rungs[0].nbytes for ladder in self.ladders)
        return self.fit(least_loss(self.ladders, sensitivity, smallest_rungs + spare), sensitivity)

    def of_divergence(self, bound: float, sensitivity: Mapping[str, float], meter: Meter) -> Fit:
        """The smallest of at most ``_ROUNDS`` choices whose measured divergence is at most ``bound``.

        The first has that divergence by prediction; others follow from how far the prediction was off.
        """
        best: Fit | None = None
        low, high, goal = 0.0, math.inf, bound
        seen: set[tuple[int, ...]] = set()
        for _ in range(_ROUNDS):
            chosen = least_size(self.ladders, sensitivity, goal)
            if chosen in seen:
                break
            seen.add(chosen)
            found = self.fit(chosen, sensitivity)
            measured = meter.kl(found.plan.tensors)
            found = replace(found, measured=measured)
            if measured <= bound:
                low = max(low, found.predicted)
                best = found if best is None or found.plan.nbytes < best.plan.nbytes else best
                if measured >= _NEAR * bound:
                    break
            else:
                high = min(high, found.predicted)
            goal = found.predicted * bound / measured if measured else math.inf
            if not low < goal < high:
                goal = (low + high) / 2 if high < math.inf else goal
        if best is None:
            smallest, largest = (plan.file_nbytes(self.keep_split) for plan in self.ends())
            message = (
                f"{self.base.file.path}: no choice has a mean divergence of at most {bound:g}; the best of {len(seen)} "
                f"had {measured:g} (files of {smallest} to {largest} bytes are possible); raise max_kl, fix fewer "
                "tensors, or give a target size"
            )
            raise naming(QuantizationError(message), "max_kl")
        return best
