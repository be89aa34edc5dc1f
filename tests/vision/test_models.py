"""Tiny models with projectors beside transformers (record_transformers.py), and the same bits in every company."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llamaq import LLM, _core
from llamaq.errors import ImageError
from llamaq.gguf import GGUFFile
from llamaq.plan.inserted import Inserted
from llamaq.plan.reference import Reference
from llamaq.serving.reading import PromptRequest, wait
from llamaq.vision.encoder import Encoder, traced
from llamaq.vision.projector import Projector
from seen import log_probabilities
from shared_files import shared_path
from vision_cases import EMBEDDED, SIZE, picture, prompt, recorded

BOUND = 2e-5
"""Of a log-probability or a value of a row, which are a few units: some hundred times their last bit."""
F32 = NDArray[np.float32]


def paths(name: str) -> tuple[Path, Path]:
    return shared_path(f"tiny-models/{name}.gguf"), shared_path(f"tiny-models/{name}-mmproj.gguf")


def loaded(name: str, **options: Any) -> LLM:
    model, mmproj = paths(name)
    return LLM.load(model, mmproj=mmproj, **{"threads": 2, **options})


@pytest.fixture(params=EMBEDDED)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def llm(name: str) -> Iterator[LLM]:
    with loaded(name) as llm:
        yield llm


def encoder_of(llm: LLM) -> Encoder:
    assert llm.model.encoder is not None
    return llm.model.encoder


def reading(llm: LLM, which: int, first: int = 0) -> PromptRequest:
    """The prompt with a picture; of its rows logits are wanted from number ``first`` on."""
    rows = encoder_of(llm).rows(picture(SIZE, SIZE, which))
    before, after = prompt()
    found = PromptRequest([*before, *rows.ids, *after], first, share=True)
    found.inserted = (rows,)
    return found


def logits_of(llm: LLM, *requests: PromptRequest) -> list[F32]:
    return wait(llm.model.scheduler, requests or [reading(llm, 0)])


def test_rows_are_those_of_transformers(llm: LLM, name: str) -> None:
    for which in range(2):
        rows = encoder_of(llm).rows(picture(SIZE, SIZE, which)).rows
        assert abs(rows - recorded(name)[f"rows{which}"]).max() < BOUND


def test_log_probabilities_of_all_positions_are_those_of_transformers(name: str) -> None:
    with loaded(name, cache_type="f32") as llm:
        for which in range(2):
            found = log_probabilities(logits_of(llm, reading(llm, which))[0])
            assert abs(found - recorded(name)[f"logprobs{which}"]).max() < BOUND
        before, after = prompt()
        assert abs(log_probabilities(llm.logits([*before, *after])) - recorded(name)["text"]).max() < BOUND


def test_the_encoder_has_the_bits_of_numpy_on_every_level(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with GGUFFile.open(paths(name)[1]) as file:
        of = traced(file)
        weights = {name: (info.format, of.tensors.data(name)) for name, info in of.tensors.tensors.items()}
        read = of.projector.patches(picture(SIZE, SIZE))
        want = Reference(of.plan, weights).forward(of.projector.step(read))
    for isa, threads in [*((isa, 2) for isa in _core.isas()), *((_core.isas()[-1], n) for n in (1, 5))]:
        monkeypatch.setenv("LLAMAQ_ISA", isa)
        with GGUFFile.open(paths(name)[1]) as file:
            encoder = Encoder(file, traced(file), columns=64, first_id=2048, threads=threads)
            np.testing.assert_array_equal(encoder.rows(picture(SIZE, SIZE)).rows, want, err_msg=f"{isa}, {threads}")


def test_logits_are_the_same_in_pieces_in_company_and_from_the_cache(llm: LLM, name: str) -> None:
    (want,) = logits_of(llm)
    most = EMBEDDED[name] + 1
    for n_batch, threads in ((most, 2), (most + 3, 5), (512, 1)):
        with loaded(name, n_batch=n_batch, threads=threads) as other:
            requests = [reading(other, 0), reading(other, 1), PromptRequest([5, 6, 7], 0), reading(other, 0)]
            first, second, _, third = logits_of(other, *requests)
            np.testing.assert_array_equal(first, want)
            np.testing.assert_array_equal(third, want)
            assert not np.array_equal(second, want)
            for begin in (2, len(prompt()[0]) + 2, len(want) - 1):  # these lie before, among and behind the rows
                again = reading(other, 0, begin)
                np.testing.assert_array_equal(logits_of(other, again)[0], want[begin:])
                assert again.cached == begin


def test_equal_pictures_have_equal_ids_and_others_have_not(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = encoder_of(llm)
    first, other, again = (encoder.rows(picture(SIZE, SIZE, which)) for which in (0, 1, 0))
    assert first is again
    assert not {*first.ids} & {*other.ids}
    assert first.first == llm.hparams.vocab_size
    monkeypatch.setattr(encoder, "_store_bytes", first.rows.nbytes)
    encoder.rows(picture(SIZE, SIZE, 2))  # there is room for one, so the others go; their ids stay
    anew = encoder.rows(picture(SIZE, SIZE, 0))
    assert anew is not first
    assert anew.ids == first.ids
    np.testing.assert_array_equal(anew.rows, first.rows)


def test_without_a_feature_rows_are_others(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of patches, the order of colours, means and deviations."""
    want = recorded(name)["rows0"]
    order = Projector.order.fget  # type: ignore[attr-defined]
    patches = Projector.patches
    changes: dict[str, Any] = {
        "order": property(lambda self: order(self)[::-1]),
        "patches": lambda self, tile: patches(self, tile[..., ::-1]),
    }
    for attribute, change in changes.items():
        with monkeypatch.context() as patch, GGUFFile.open(paths(name)[1]) as file:
            patch.setattr(Projector, attribute, change)
            encoder = Encoder(file, traced(file), columns=64, first_id=2048, threads=1)
            assert abs(encoder.rows(picture(SIZE, SIZE)).rows - want).max() > 100 * BOUND, attribute


@pytest.mark.parametrize("name", ["gemma3v"])
def test_rows_of_gemma_see_each_other_and_are_not_scaled(llm: LLM, name: str) -> None:
    want = recorded("gemma3v")["logprobs0"]
    rows = encoder_of(llm).rows(picture(SIZE, SIZE))
    for changed in (Inserted(5000, rows.rows, together=False), Inserted(6000, rows.rows * 8, together=True)):
        request = reading(llm, 0)
        request.ids = [*prompt()[0], *changed.ids, *prompt()[1]]
        request.inserted = (changed,)
        found = log_probabilities(logits_of(llm, request)[0])
        assert abs(found - want).max() > 1e-2  # the cache of half precision moves them by 2e-3


def test_what_does_not_fit_together_is_refused(tmp_path: Path) -> None:
    model, mmproj = paths("gemma3v")
    with pytest.raises(ValueError, match="n_batch must be 4 at least, the rows of a picture, got 3"):
        loaded("gemma3v", n_batch=3)
    with pytest.raises(Exception, match=r"gemma3v.gguf: general.architecture is 'gemma3', but a projector file"):
        LLM.load(model, mmproj=model)
    with pytest.raises(Exception, match="the file is a projector"):
        LLM.load(mmproj)
    with loaded("gemma3v") as llm:
        rows = encoder_of(llm).rows(picture(SIZE, SIZE))
        with pytest.raises(ValueError, match="overflow must be 'error' for a prompt with pict"):
            llm.model.prepare([1, *rows.ids], inserted=(rows,), overflow="shift")
    with LLM.load(model) as llm, pytest.raises(ImageError, match="loaded without a projector"):
        llm.chat([{"role": "user", "content": [{"type": "image", "image": b"x"}]}], template="{{ messages }}")


def test_the_longest_edge_can_be_chosen() -> None:
    wide = picture(400, 200)
    tiles = []
    for edge in (None, SIZE, 3 * SIZE):
        with loaded("smolvlm", image_edge=edge) as llm:
            tiles.append(sum(not isinstance(piece, str) for piece in encoder_of(llm).pieces(wide)))
    assert tiles == [1, 1, 7]  # three by two, and the whole
    for name, edge in (("smolvlm", SIZE - 1), ("smolvlm", 10**6), ("gemma3v", 512), ("smolvlm", 0)):
        with pytest.raises(ValueError, match="image_edge must be"):
            loaded(name, image_edge=edge)


def test_memory_is_known_before_loading(llm: LLM, name: str) -> None:
    with LLM.load(paths(name)[0], threads=2) as alone:
        assert alone.memory.projector == 0
        assert llm.memory.total == alone.memory.total + llm.memory.projector
    assert llm.memory.projector > 1 << 26
