"""Plans cut between layers: the parts, one after the other, have the bits of the whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llamaq.engine.engine import Engine
from llamaq.engine.kv_cache import KVCache
from llamaq.engine.loading import plan_of
from llamaq.engine.stage_input import StageInput
from llamaq.errors import ModelError
from llamaq.gguf import GGUFFile
from llamaq.models import ARCHITECTURES
from llamaq.plan.cut import cut_plan, layer_count
from llamaq.plan.plan import Plan
from llamaq.plan.step import Step
from tiny_models import tiny_model

TINY = sorted({name for entry in ARCHITECTURES.values() for name in entry.tiny if "bert" not in name})
"""Models that write: an encoder reads a text in one piece."""
SHARED = "gemma4"
"""One whose layers share rows of a second table."""


def run(plan: Plan, file: GGUFFile, inputs: list[NDArray[Any]]) -> list[NDArray[np.float32]]:
    """The results of a text in pieces: of token ids, or of rows of the part before."""
    cache, found, start = KVCache(plan, 64, max_rows=32), [], 0
    source = StageInput(file, 32, plan.nodes[0].cols[0])
    engine = Engine(plan, source, threads=1, max_rows=32)
    for piece in inputs:
        ids = piece if piece.ndim == 1 else source.put(piece)
        found.append(engine.forward(Step.of(ids, start=start, wanted="all"), cache))
        start += len(piece)
    return found


def in_stages(plan: Plan, file: GGUFFile, cuts: list[int], ids: NDArray[np.int32]) -> list[NDArray[np.float32]]:
    """Logits of a prompt cut in two and of a token, through parts that end at these layers."""
    results: list[NDArray[Any]] = [ids[:9], ids[9:16], ids[16:]]
    for first, last in zip([0, *cuts], [*cuts, layer_count(plan)], strict=True):
        part = cut_plan(plan, first, last)
        assert sum(part.out in node.outs for node in part.nodes) == 1
        results = run(part, file, results)
    return results


@pytest.mark.parametrize("name", TINY)
def test_parts_have_the_bits_of_the_whole(name: str) -> None:
    path, recorded = tiny_model(name)
    ids = np.asarray(recorded["ids"], np.int32)[:17]
    with GGUFFile.open(path) as file:
        _, plan = plan_of(file)
        layers = layer_count(plan)
        if name == SHARED:
            with pytest.raises(ModelError, match="run it in one piece"):
                cut_plan(plan, 0, 1)
            return
        whole = in_stages(plan, file, [], ids)
        for cuts in ([1], [layers - 1], list(range(1, layers))):
            parts = in_stages(plan, file, cuts, ids)
            assert all(np.array_equal(a, b) for a, b in zip(whole, parts, strict=True)), cuts


def test_layers_that_are_none() -> None:
    with GGUFFile.open(tiny_model("llama")[0]) as file:
        _, plan = plan_of(file)
    layers = layer_count(plan)
    for first, last in ((-1, 1), (1, 1), (2, 1), (0, layers + 1)):
        with pytest.raises(ValueError, match=f"expected layers from 0 to {layers}"):
            cut_plan(plan, first, last)
    assert str(cut_plan(plan, 0, layers)) == str(plan)


def test_a_part_reads_its_own_tensors_alone() -> None:
    with GGUFFile.open(tiny_model("llama")[0]) as file:
        _, plan = plan_of(file)
    parts = [cut_plan(plan, first, first + 1) for first in range(layer_count(plan))]
    for i, part in enumerate(parts):
        assert {name for name in part.tensors if name.startswith("blk.")} == {
            name for name in plan.tensors if name.startswith(f"blk.{i}.")
        }
        assert [layer.layer for group in part.caches for layer in group.layers] == [i]
        assert len(part.slot_cols) <= len(plan.slot_cols) + 1


def test_a_part_gives_all_rows_or_none() -> None:
    with GGUFFile.open(tiny_model("llama")[0]) as file:
        _, plan = plan_of(file)
        part = cut_plan(plan, 0, 1)
        engine = Engine(part, file, threads=1, max_rows=8)
        with pytest.raises(ValueError, match="it must want all of them"):
            engine.forward(Step.of([1, 2, 3]), KVCache(part, 32))
        with pytest.raises(ValueError, match=r"up to 8 rows of 64 floats, got shape \(9, 64\)"):
            StageInput(file, 8, 64).put(np.zeros((9, 64), np.float32))
