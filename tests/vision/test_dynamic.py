"""Tiny models that read pictures of any shape beside transformers (record_dynamic.py), and the same bits in every
company."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from llamaq import LLM, _core
from llamaq.errors import ImageError, ModelError
from llamaq.gguf import GGUFFile
from llamaq.plan.inserted import Inserted
from llamaq.plan.reference import Reference
from llamaq.plan.rope import make_rope
from llamaq.sampling import SamplingParams
from llamaq.serving.reading import PromptRequest
from llamaq.vision.dynamic import Dynamic, fitted
from llamaq.vision.encoder import Encoder, traced
from llamaq.vision.hparams import keys_of
from llamaq.vision.preprocess import Picture
from llamaq.vision.projectors import projector_of
from seen import log_probabilities, logits_of
from shared_files import shared_path
from tiny_vision import SEEING, copy_of, projector_keys, seeing
from vision_cases import SEEN, SHAPES, picture, pixel_sample, prompt_with, recorded

BOUND = 3e-5
"""Of a log-probability or a value of a row, which are a few units: some hundred times their last bit."""
LARGER = {"qwen35": 1e-4}
"""Of log-probabilities: a delta net's state carries every rounding on."""
STATES = {"qwen35"}
"""Models whose sequences have states, which are kept for some beginnings alone."""
F32 = NDArray[np.float32]


def loaded(name: str, **options: Any) -> LLM:
    model, mmproj = seeing(name)
    return LLM.load(model, mmproj=mmproj, **{"threads": 2, **options})


@pytest.fixture(params=SEEING)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def rows_of(llm: LLM, which: int) -> list[Inserted]:
    assert llm.model.encoder is not None
    return [llm.model.encoder.rows(picture(*shape, which)) for shape in SEEN[which]]


def reading(llm: LLM, which: int, first: int = 0) -> PromptRequest:
    """A prompt with pictures; of its rows logits are wanted from number ``first`` on."""
    rows = rows_of(llm, which)
    found = PromptRequest(prompt_with([[*each.ids] for each in rows]), first, share=True)
    found.inserted = tuple(rows)
    return found


def test_rows_and_log_probabilities_are_those_of_transformers(name: str) -> None:
    want = recorded(name)
    with loaded(name, cache_type="f32") as llm:
        for which in range(len(SEEN)):
            for i, each in enumerate(rows_of(llm, which)):
                assert abs(each.rows - want[f"rows{which}-{i}"]).max() < BOUND
            found = log_probabilities(logits_of(llm, reading(llm, which))[0])
            assert abs(found - want[f"logprobs{which}"]).max() < LARGER.get(name, BOUND)


def test_the_encoder_has_the_bits_of_numpy_on_every_level(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tile = picture(*SEEN[0][0])
    with GGUFFile.open(seeing(name)[1]) as file:
        of = traced(file)
        weights = {n: (info.format, of.tensors.data(n)) for n, info in of.tensors.tensors.items()}
        read = of.projector.patches(tile)
        want = Reference(of.plan, weights).forward(of.projector.step(read))
        want = want if read.back is None else want[read.back]
    for isa, threads in [*((isa, 2) for isa in _core.isas()), *((_core.isas()[-1], n) for n in (1, 5))]:
        monkeypatch.setenv("LLAMAQ_ISA", isa)
        with GGUFFile.open(seeing(name)[1]) as file:
            of = traced(file)
            encoder = Encoder(file, of, columns=of.plan.out_cols, first_id=2048, threads=threads)
            np.testing.assert_array_equal(encoder.rows(tile).rows, want, err_msg=f"{isa}, {threads}")


def test_logits_are_the_same_in_pieces_in_company_and_from_the_cache(name: str) -> None:
    with loaded(name) as llm:
        (want,) = logits_of(llm, reading(llm, 1))
    for n_batch, threads in ((1, 2), (7, 5), (512, 1)):
        with loaded(name, n_batch=n_batch, threads=threads) as other:
            requests = [reading(other, 1), reading(other, 0), PromptRequest([5, 6, 7], 0), reading(other, 1)]
            first, second, _, third = logits_of(other, *requests)
            np.testing.assert_array_equal(first, want)
            np.testing.assert_array_equal(third, want)
            assert not np.array_equal(second[: len(want)], want[: len(second)])
            for begin in (2, 9, 20, len(want) - 1):  # these lie before, among and behind the rows
                again = reading(other, 1, begin)
                np.testing.assert_array_equal(logits_of(other, again)[0], want[begin:])
                assert again.cached == begin or (name in STATES and (again.cached or 0) < begin)


def changes(name: str) -> dict[str, Any]:
    """By what goes wrong: what to set, and to what. Rows must move."""
    kind: Any = type(projector_of(keys_of(projector_keys(name), {})))
    arranged, patches = kind.arranged, kind.patches
    found: dict[str, Any] = {
        "rope of patches": (
            "llamaq.vision.vit.make_rope",
            lambda dims, base, layout: make_rope(dims, 50.0, layout=layout),
        ),
        "axes of patches": (f"{Dynamic.__module__}.np.stack", swapped_axes),
        "order of patches": (f"{kind.__module__}.{kind.__name__}.arranged", reversed_blocks(arranged)),
        "order of rows": (f"{Dynamic.__module__}.np.argsort", lambda x, **_: np.arange(len(x))),
        "colours": (f"{kind.__module__}.{kind.__name__}.patches", lambda self, tile: patches(self, tile[..., ::-1])),
    }
    if name == "qwen25vl":
        found["windows"] = (f"{kind.__module__}.{kind.__name__}.arranged", one_window(arranged))
    else:
        del found["order of rows"]  # they come in the picture's order
        found["positions"] = (f"{kind.__module__}.{kind.__name__}.beside", no_positions)
    return found


def swapped_axes(arrays: Any, axis: int) -> Any:
    return np.array([arrays[0], arrays[2], arrays[1]]).T


def reversed_blocks(arranged: Any) -> Any:
    return lambda self, rows, columns: tuple(each[::-1] for each in arranged(self, rows, columns))


def one_window(arranged: Any) -> Any:
    return lambda self, rows, columns: (arranged(self, rows, columns)[0], np.zeros(rows * columns, np.int64))


def no_positions(self: Any, rows: int, columns: int, order: Any) -> list[F32]:
    return [np.zeros((len(order), self.hp.width), np.float32)]


def test_without_a_feature_rows_are_others(name: str) -> None:
    tile = picture(*SEEN[0][0])
    want = recorded(name)["rows0-0"]
    for what, (place, change) in changes(name).items():
        with pytest.MonkeyPatch.context() as patch, GGUFFile.open(seeing(name)[1]) as file:
            patch.setattr(place, change)
            of = traced(file)
            encoder = Encoder(file, of, columns=of.plan.out_cols, first_id=2048, threads=1)
            assert abs(encoder.rows(tile).rows - want).max() > 100 * BOUND, what


def test_without_a_feature_log_probabilities_are_others(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where rows stand in their picture, whose they are, which pairs turn by what, and the parts for further layers."""
    want = recorded(name)["logprobs0"]
    with loaded(name, cache_type="f32") as llm:
        (rows,) = rows_of(llm, 0)
        assert rows.grid is not None
        others = {
            "places": replace(rows, first=5000, grid=None),
            "sides": replace(rows, first=6000, grid=rows.grid[::-1]),
            "rows": replace(rows, first=7000, rows=rows.rows[::-1]),
        }
        if rows.rows.shape[1] > llm.hparams.width:
            parts = rows.rows.reshape(len(rows.rows), -1, llm.hparams.width)
            others["parts"] = replace(rows, first=8000, rows=parts[:, [0, 2, 1]].reshape(rows.rows.shape))
            others["no parts"] = replace(rows, first=9000, rows=(parts * [[[1], [0], [0]]]).reshape(rows.rows.shape))
        for what, changed in others.items():
            found = PromptRequest(prompt_with([[*changed.ids]]), 0)
            found.inserted = (changed,)
            assert abs(log_probabilities(logits_of(llm, found)[0]) - want).max() > 100 * BOUND, what
    monkeypatch.setattr("llamaq.models.ropes._axes", lambda lengths, pairs, _: tuple(i % 2 for i in range(pairs)))
    with loaded(name, cache_type="f32") as llm:
        turned = log_probabilities(logits_of(llm, reading(llm, 0))[0])
        assert abs(turned - want).max() > 100 * BOUND


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_pictures_are_scaled_as_by_transformers(shape: tuple[int, int]) -> None:
    projector = projector_of(keys_of(projector_keys("qwen3vl"), {}))
    source = Picture(picture(*shape))
    if max(shape) > 200 * min(shape):
        with pytest.raises(ImageError, match="may be 200 times the other at most"):
            projector.pieces(source)
        return
    begin, whole, end = projector.pieces(source)
    assert (begin, end) == ("<|vision_start|>", "<|vision_end|>")
    assert isinstance(whole, Picture)
    sides = "x".join(map(str, shape))
    want = recorded("dynamic_pictures")
    assert [whole.height, whole.width] == want[f"qwen {sides} sides"].tolist()
    assert abs(pixel_sample(whole.pixels).astype(int) - want[f"qwen {sides}"].astype(int)).max() <= 1


@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from([28, 32]), st.integers(32, 1500))
def test_every_picture_has_whole_blocks_within_the_limits(height: int, width: int, block: int, edge: int) -> None:
    name = "qwen25vl" if block == 28 else "qwen3vl"
    keys = {f"clip.vision.{key}": None for key in ("image_min_pixels", "image_max_pixels")}
    entries = {k: v for k, v in projector_keys(name).items() if k not in keys}
    entries |= {"clip.vision.patch_size": block // 2, "clip.vision.image_size": block, "clip.vision.window_size": 112}
    projector = projector_of(keys_of(entries, {}))
    projector.choose_edge(edge)
    assume(max(height, width) <= 200 * min(height, width))
    assert isinstance(projector, Dynamic)
    h, w = fitted(height, width, block, *projector.limits)
    assert min(h, w) >= block
    assert h % block == w % block == 0
    assert h * w // (block // 2) ** 2 <= projector.most_patches


@pytest.mark.parametrize(
    ("name", "entries", "message"),
    [
        ("qwen25vl", {"vision.window_size": 15}, "window_size is 15; expected an integer from 16"),
        ("qwen25vl", {"vision.n_wa_pattern": -1}, "n_wa_pattern is -1"),
        ("qwen25vl", {"vision.image_max_pixels": 0}, "image_max_pixels is 0"),
        ("qwen25vl", {"vision.spatial_merge_size": 9}, "spatial_merge_size is 9; expected an integer from 1 to 8"),
        ("qwen25vl", {"vision.spatial_merge_size": 4}, "columns"),
        ("qwen3vl", {"vision.is_deepstack_layers": [True]}, "is_deepstack_layers is .* 3 flags"),
        ("qwen3vl", {"vision.is_deepstack_layers": [True] * 3}, "no tensor 'v.deepstack.1"),
        ("qwen3vl", {"vision.projection_dim": 63}, "projection_dim is 63; expected"),
    ],
    ids=str,
)
def test_contradictions_are_errors(tmp_path: Path, name: str, entries: dict[str, Any], message: str) -> None:
    changed = {f"clip.{key}": value for key, value in entries.items()}
    path = copy_of(seeing(name)[1], tmp_path / "x.gguf", changed)
    with GGUFFile.open(path) as file, pytest.raises(ModelError, match=message):
        traced(file)


@pytest.mark.parametrize(
    "tensor", ["v.position_embd.weight", "v.deepstack.2.fc1.weight", "mm.2.weight", "v.post_ln.bias"]
)
def test_a_missing_tensor_is_an_error_or_moves_rows(tmp_path: Path, tensor: str) -> None:
    path = copy_of(seeing("qwen3vl")[1], tmp_path / "x.gguf", {}, without=tensor)
    with GGUFFile.open(path) as file:
        if tensor.endswith("weight"):
            with pytest.raises(ModelError, match=tensor.replace(".", r"\.")):
                traced(file)
            return
        of = traced(file)
        found = Encoder(file, of, columns=of.plan.out_cols, first_id=2048, threads=1).rows(picture(*SEEN[0][0])).rows
    assert abs(found - recorded("qwen3vl")["rows0-0"]).max() > 100 * BOUND


def test_models_and_projectors_that_do_not_belong_together(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="makes rows of 192 floats, the model reads 64"):
        LLM.load(seeing("qwen25vl")[0], mmproj=seeing("qwen3vl")[1])
    with pytest.raises(ModelError, match=r"has no rope\.dimension_sections, which the projector's pictures need"):
        LLM.load(shared_path("tiny-models/qwen2.gguf"), mmproj=seeing("qwen25vl")[1])


def test_the_edge_can_be_chosen() -> None:
    sides = []
    for edge in (None, 64, 16):
        with loaded("qwen3vl", image_edge=edge) as llm:
            assert llm.model.encoder is not None
            rows = llm.model.encoder.pieces(picture(200, 100))[1]
            assert isinstance(rows, Inserted)
            sides.append(rows.grid)
    assert sides == [(4, 8), (2, 5), (1, 1)]
    for edge in (15, 4097):
        with pytest.raises(ValueError, match=r"image_edge must be 16 \(a row's patches\) to 4096 pixels"):
            loaded("qwen3vl", image_edge=edge)


def test_answers_go_on_behind_the_picture_and_find_it_in_the_cache(name: str) -> None:
    template = (
        "{% for m in messages %}{% for p in m.content %}{% if p['type'] == 'image' %}<|vision_start|><|image_pad|>"
        "<|vision_end|>{% else %}{{ p['text'] }}{% endif %}{% endfor %}b{% endfor %}"
    )
    said = [{"role": "user", "content": [{"type": "image", "image": picture(80, 48)}, {"type": "text", "text": "ab"}]}]
    options: Any = {"template": template, "max_tokens": 6, "sampling": SamplingParams(temperature=0)}
    with loaded(name) as llm, loaded(name, n_batch=3) as other:
        first, again, elsewhere = (each.chat(said, **options) for each in (llm, llm, other))
        assert again.text == first.text == elsewhere.text
        assert again.usage.cached_tokens == again.usage.prompt_tokens - 1 or name in STATES
        request = llm.render_chat(said, template=template)
        assert [getattr(each, "grid", None) for each in request.inserted] == [(3, 5)]
        answer = [int(number) for number in first.text.split("tok")[1:]]
        whole = PromptRequest([*request.ids, *answer], len(request.ids) - 1)
        whole.inserted = request.inserted
        assert [int(np.argmax(row)) for row in logits_of(llm, whole)[0][:-1]] == answer
