"""Tiny models with projectors beside transformers (record_towers.py): rows and log-probabilities, and the same bits in
every company."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llamaq import LLM, _core
from llamaq.gguf import GGUFFile
from llamaq.plan.inserted import Inserted
from llamaq.plan.reference import Reference
from llamaq.serving.reading import PromptRequest
from llamaq.vision.encoder import Encoder, traced
from llamaq.vision.patches import Mosaic
from llamaq.vision.preprocess import Picture
from seen import log_probabilities, logits_of, reading, rows_of
from tiny_towers import TOWERS, tower
from vision_cases import SEEN, picture, recorded

BOUND = 1e-5
"""Of a value of a row, which is a few units: some tens of its last bit."""
LARGER = 5e-5
"""Of log-probabilities, which carry the roundings of rows through the layers of the text."""
SCALE = {"granitev": 12.0}
"""What rows are multiplied with where the text's own are."""


@pytest.fixture(params=TOWERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def loaded(name: str, **options: Any) -> LLM:
    model, mmproj = tower(name)
    return LLM.load(model, mmproj=mmproj, **{"threads": 2, **options})


def test_rows_and_log_probabilities_are_those_of_transformers(name: str) -> None:
    want = recorded(name)
    with loaded(name, cache_type="f32") as llm:
        for which in range(len(SEEN)):
            for i, pieces in enumerate(rows_of(llm, which)):
                rows = np.concatenate([piece.rows for piece in pieces]) / SCALE.get(name, 1.0)
                assert abs(rows - want[f"rows{which}-{i}"]).max() < BOUND
            found = log_probabilities(logits_of(llm, reading(llm, which))[0])
            assert abs(found - want[f"logprobs{which}"]).max() < LARGER


def test_the_encoder_has_the_bits_of_numpy_on_every_level(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with GGUFFile.open(tower(name)[1]) as file:
        of = traced(file)
        piece = next(p for p in of.projector.pieces(Picture(picture(*SEEN[0][0]))) if not isinstance(p, str))
        tile = piece.tiles[-1] if isinstance(piece, Mosaic) else piece.pixels
        weights = {n: (info.format, of.tensors.data(n)) for n, info in of.tensors.tensors.items()}
        read = of.projector.patches(tile)
        made = Reference(of.plan, weights).forward(of.projector.step(read))
        inserted = of.projector.inserted(2048, made, read.grid, token=0, precise=True)
        assert isinstance(inserted, Inserted)
    for isa, threads in [*((isa, 2) for isa in _core.isas()), *((_core.isas()[-1], n) for n in (1, 5))]:
        monkeypatch.setenv("LLAMAQ_ISA", isa)
        with GGUFFile.open(tower(name)[1]) as file:
            of = traced(file)
            encoder = Encoder(file, of, columns=of.plan.out_cols, first_id=2048, threads=threads)
            np.testing.assert_array_equal(encoder.rows(tile).rows, inserted.rows, err_msg=f"{isa}, {threads}")


def test_logits_are_the_same_in_pieces_in_company_and_from_the_cache(name: str) -> None:
    with loaded(name) as llm:
        (want,) = logits_of(llm, reading(llm, 1))
        together = rows_of(llm, 0)[0][0].together
    for n_batch, threads in ((17 if together else 1, 2), (23, 5), (512, 1)):
        with loaded(name, n_batch=n_batch, threads=threads) as other:
            requests = [reading(other, 1), reading(other, 0), PromptRequest([5, 6, 7], 0), reading(other, 1)]
            first, second, _, third = logits_of(other, *requests)
            np.testing.assert_array_equal(first, want)
            np.testing.assert_array_equal(third, want)
            assert not np.array_equal(second[: len(want)], want[: len(second)])
            for begin in (2, 9, len(want) - 1):  # these lie before, among and behind the rows
                again = reading(other, 1, begin)
                np.testing.assert_array_equal(logits_of(other, again)[0], want[begin:])
                assert again.cached == begin
