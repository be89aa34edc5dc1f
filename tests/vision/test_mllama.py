"""Llama 3.2 Vision: a tiny model beside transformers (record_mllama.py), the same bits in every company, mutations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llamaq import LLM, _core
from llamaq.engine.engine import Engine
from llamaq.engine.kv_cache import KVCache
from llamaq.engine.loading import plan_of
from llamaq.errors import ModelError
from llamaq.formats import format_by_name
from llamaq.gguf import GGUFFile, TensorData, write_gguf
from llamaq.plan.inserted import LookedAt, step_of
from llamaq.plan.ops.linear import Linear
from llamaq.plan.reference import Reference
from llamaq.serving.reading import wait
from llamaq.vision.canvas import arrangements
from llamaq.vision.encoder import Encoder, traced
from llamaq.vision.preprocess import Picture
from llamaq.vision.projectors import mllama
from llamaq.vision.projectors.mllama import Mllama
from mllama_cases import IMAGE, PROMPTS, SIDES, encoder_of, ids_of, pieces, reading
from tiny_converted import converted
from tiny_vision import copy_of
from vision_cases import PIXELS, SHAPES, SIZE, picture, recorded

BOUND = 2e-5
"""Of a log-probability, which is a few units: some ten times what the sums of both differ by."""
DATA = recorded("mllama")
F32 = NDArray[np.float32]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return converted("mllama", tmp_path_factory.mktemp("mllama"))


@pytest.fixture
def llm(path: Path) -> Iterator[LLM]:
    with LLM.load(path, threads=2, cache_type="f32") as llm:
        yield llm


def log_probabilities(logits: F32) -> F32:
    return np.array([row - _core.log_sum_exp(row) for row in logits])


def off(llm: LLM, name: str) -> float:
    (logits,) = wait(llm.model.scheduler, [reading(llm, name)])
    return float(abs(log_probabilities(logits) - DATA[name]).max())


@pytest.mark.parametrize("name", PROMPTS)
def test_log_probabilities_of_all_positions_are_those_of_transformers(llm: LLM, name: str) -> None:
    assert off(llm, name) < BOUND


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_canvases_are_those_of_transformers(path: Path, shape: tuple[int, int]) -> None:
    with GGUFFile.open(path) as file:
        projector = traced(file).projector
        projector.hp = replace(projector.hp, image_size=SIZE)
        (canvas,) = projector.pieces(Picture(picture(*shape)))
    assert isinstance(canvas, Picture)
    rows, columns = canvas.height // SIZE, canvas.width // SIZE
    want = DATA[f"{shape[0]}x{shape[1]}"]
    tiles = canvas.pixels.reshape(rows, SIZE, columns, SIZE, 3).swapaxes(1, 2).reshape(-1, SIZE, SIZE, 3)
    assert len(tiles) == len(want)
    assert abs(tiles[:, PIXELS[:, 0], PIXELS[:, 1]].astype(int) - want.astype(int)).max() <= 1
    assert arrangements(4).index((rows, columns)) + 1 == DATA[f"{shape[0]}x{shape[1]} id"][0]


def test_logits_are_the_same_in_pieces_in_company_and_from_the_cache(path: Path, llm: LLM) -> None:
    names = ["three, two of them side by side", "text before", "text alone", "one and then another"]
    wanted = {name: wait(llm.model.scheduler, [reading(llm, name)])[0] for name in names}
    for n_batch, threads in ((1, 2), (5, 5), (512, 1)):
        with LLM.load(path, threads=threads, n_batch=n_batch, cache_type="f32") as other:
            found = wait(other.model.scheduler, [reading(other, name) for name in names])
            for name, logits in zip(names, found, strict=True):
                np.testing.assert_array_equal(logits, wanted[name], err_msg=name)
            for name, first in ((names[0], 9), (names[1], 7), (names[3], 8)):  # behind a picture, and at it
                again = reading(other, name, first)
                np.testing.assert_array_equal(wait(other.model.scheduler, [again])[0], wanted[name][first:])
                assert again.cached == first


def test_another_picture_shares_the_text_before_it_alone(llm: LLM) -> None:
    wait(llm.model.scheduler, [reading(llm, "text before")])
    other = reading(llm, "text before", 12)
    (piece,) = encoder_of(llm).pieces(picture(28, 28, 9))
    assert isinstance(piece, LookedAt)
    other.ids[6], other.inserted = piece.first, (piece,)
    wait(llm.model.scheduler, [other])
    assert other.cached == 6


@pytest.mark.parametrize("cache_type", ["f32", "f16"])
def test_every_level_has_the_bits_of_numpy(path: Path, cache_type: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "three, two of them side by side"
    with GGUFFile.open(path) as file:
        of, plan = traced(file), plan_of(file)[1]
        canvas = of.projector.pieces(Picture(picture(*SIDES[1])))[0].pixels  # type: ignore[union-attr]
        weights = {n: (info.format, of.tensors.data(n)) for n, info in of.tensors.tensors.items()}
        rows = Reference(of.plan, weights).forward(of.projector.step(of.projector.patches(canvas)))
        text = {n: (info.format, file.data(n)) for n, info in file.tensors.items()}
        found: dict[int, LookedAt] | None = None
        want = None
        for isa in _core.isas():
            monkeypatch.setenv("LLAMAQ_ISA", isa)
            encoder = Encoder(
                GGUFFile.open(path), traced(file), columns=64, first_id=72, threads=2, token=64,
                precise=cache_type == "f32",
            )  # fmt: skip
            made, _ = encoder._encoded(canvas)
            np.testing.assert_array_equal(made, rows, err_msg=isa)
            found = pieces(encoder, name)
            ids = ids_of(name, {i: piece.first for i, piece in found.items()})
            step = step_of(ids, tuple(found.values()), sequence=0, start=0)
            step.wanted[:] = True
            if want is None:
                want = Reference(plan, text, cache_type=cache_type).forward(step)
            engine = Engine(plan, file, threads=2, max_rows=64)
            logits = engine.forward(step, KVCache(plan, 64, cache_type))
            np.testing.assert_array_equal(logits, want, err_msg=isa)


def test_without_a_feature_logits_are_others(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gates, who sees what, tiles, places, what states are made of."""
    step, given = Mllama.step, Mllama._given

    def sees_all(self: Any, read: Any) -> Any:
        made: Any = step(self, read)
        made.seen[:, 1] = self.most_patches
        return made

    def whole(self: Any, read: Any) -> Any:
        made: Any = step(self, read)
        made.marked[:] = True
        return made

    changes: dict[str, tuple[Any, str, Any]] = {
        "mask of fillers": (Mllama, "step", sees_all),
        "fillers are zeros": (Mllama, "step", whole),
        "id of the arrangement": (mllama, "arrangements", lambda tiles: sorted(ARRANGED, key=lambda x: x[::-1])),
        "gates of global layers": (Mllama, "_gate", lambda self, name: 1.0),
        "what tiles add": (Mllama, "_tiles", lambda self, name, id, rows: np.zeros((4, rows, 32), np.float32)),
        "pixels": (Mllama, "_given", lambda self, canvas, rows, columns: given(self, canvas[::-1], rows, columns)),
    }
    for what, (place, attribute, change) in changes.items():
        with monkeypatch.context() as patch:
            patch.setattr(place, attribute, change)
            with LLM.load(path, threads=2, cache_type="f32") as llm:
                assert off(llm, "picture 1 first") > 100 * BOUND, what


ARRANGED = arrangements(4)


def test_gates_of_the_text_count(path: Path) -> None:
    """Without tanh, or without a gate, a picture moves logits otherwise."""
    with GGUFFile.open(path) as file, LLM.load(path, threads=1, cache_type="f32") as llm:
        plan = plan_of(file)[1]
        found = pieces(encoder_of(llm), "picture 1 first")
        step = step_of(ids_of("picture 1 first", {1: found[1].first}), tuple(found.values()), sequence=0, start=0)
        step.wanted[:] = True
        gated = [i for i, node in enumerate(plan.nodes) if isinstance(node.op, Linear) and node.op.scale != 1.0]
        assert len(gated) == 4
        for i in (None, *gated):
            nodes = list(plan.nodes)
            if i is not None:
                nodes[i] = replace(nodes[i], op=replace(nodes[i].op, scale=1.0))  # type: ignore[type-var]
            other = replace(plan, nodes=tuple(nodes))
            logits = Engine(other, file, threads=1).forward(step, KVCache(other, 64, "f32"))
            error = abs(log_probabilities(logits) - DATA["picture 1 first"]).max()
            assert error < BOUND if i is None else error > 100 * BOUND


def test_a_token_that_no_model_says_has_no_probability(llm: LLM) -> None:
    logprobs = llm.score([3, 5, IMAGE, 7]).logprobs
    assert np.isneginf(logprobs).tolist() == [token == IMAGE for token in [3, 5, IMAGE, 7][-len(logprobs) :]]


def test_text_alone_leaves_layers_with_cross_attention_out(path: Path) -> None:
    with GGUFFile.open(path) as file:
        plan = plan_of(file)[1]
        passed = [node for node in plan.nodes if node.only_marked]
        assert {node.layer for node in passed} == {1, 3}
        step = step_of([1, 5, 9], (), sequence=0, start=0)
        step.wanted[:] = True
        captures = {(i, node.outs[0]): np.ones((3, node.cols[0]), np.float32)
                    for i, node in enumerate(plan.nodes) if node.only_marked}  # fmt: skip
        Engine(plan, file, threads=2).forward(step, KVCache(plan, 64), captures=captures)
        assert captures
        for array in captures.values():
            np.testing.assert_array_equal(array, 0)


def old_files(path: Path, folder: Path) -> tuple[Path, Path]:
    """The model in two files, with the names of 2024."""
    with GGUFFile.open(path) as file:
        made = []
        for vision in (False, True):
            tensors = []
            for name, info in file.tensors.items():
                if name.startswith(("v.", "mm.")) != vision:
                    continue
                for new, old in (
                    ("attn_norm", "ln1"), ("attn_output", "attn_out"), ("ffn_norm", "ln2"), ("ffn_up", "ffn_xx"),
                    ("ffn_down", "ffn_up"), ("ffn_xx", "ffn_down"),
                ) if vision and ".blk." in name else ():  # fmt: skip
                    name = name.replace(new, old)
                tensors.append(TensorData(name, info.format, info.shape, file.data(next(
                    each for each in file.tensors if file.tensors[each] is info
                ))))  # fmt: skip
            metadata = {
                key: value for key, value in file.metadata.items()
                if key.startswith("general.") or (".vision." in key) == vision
            }  # fmt: skip
            if vision:
                metadata["mllama.vision.projection_dim"] = 64
            target = folder / ("projector.gguf" if vision else "text.gguf")
            write_gguf(target, metadata, tensors)
            made.append(target)
    return made[0], made[1]


def test_two_files_are_the_same_model(path: Path, tmp_path: Path) -> None:
    text, projector = old_files(path, tmp_path)
    with LLM.load(text, mmproj=projector, threads=2, cache_type="f32") as llm:
        assert off(llm, "three, two of them side by side") < BOUND
    with LLM.load(text, threads=2, cache_type="f32") as llm:
        assert llm.model.encoder is None
        assert abs(log_probabilities(llm.logits(ids_of("text alone"))) - DATA["text alone"]).max() < BOUND
    with pytest.raises(ModelError, match="mllama"):
        LLM.load(projector)


def test_a_quantized_projection_has_its_columns_in_order(path: Path, tmp_path: Path) -> None:
    with GGUFFile.open(path) as file:
        tensors = []
        for name, info in file.tensors.items():
            kind, data = info.format, file.data(name)
            if name == "mm.0.weight":
                from llamaq.formats import encode

                kind = format_by_name("Q8_0")
                data = encode(kind, data.view(np.float32))
            tensors.append(TensorData(name, kind, info.shape, data))
        write_gguf(tmp_path / "q.gguf", file.metadata, tensors)
    with LLM.load(tmp_path / "q.gguf", threads=2, cache_type="f32") as llm:
        assert BOUND < off(llm, "picture 1 first") < 0.1


def test_tiles_larger_than_any_picture_are_an_error(path: Path, tmp_path: Path) -> None:
    keys = {"mllama.vision.image_size": 4098, "mllama.vision.patch_size": 2049}
    message = "image_size is 4098; expected up to 4096 pixels for 4 tiles"
    with GGUFFile.open(copy_of(path, tmp_path / "x.gguf", keys)) as file, pytest.raises(ModelError, match=message):
        traced(file)
