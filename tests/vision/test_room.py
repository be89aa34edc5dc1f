"""What pictures may take: rows of a prompt, known before anything is encoded, and results that are kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_pictures import NAMES, files_of
from llamaq import LLM
from llamaq.errors import ContextOverflowError, ImageError
from llamaq.plan.inserted import LookedAt
from llamaq.vision import encoder as module
from llamaq.vision.encoder import Encoder
from llamaq.vision.preprocess import picture_of
from mllama_cases import SIDES
from tiny_converted import converted
from vision_cases import picture

SHAPES = [(80, 48), (1, 1), (120, 30), (16, 200), (300, 200)]


@pytest.fixture(scope="module", params=[*NAMES, "mllama"])
def llm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LLM]:
    if request.param == "mllama":
        path, options = converted("mllama", tmp_path_factory.mktemp("room")), {}
    else:
        path, mmproj = files_of(request.param)
        options = {"mmproj": mmproj}
    with LLM.load(path, threads=1, **options) as llm:
        yield llm


def encoder_of(llm: LLM) -> Encoder:
    assert llm.model.encoder is not None
    return llm.model.encoder


def shapes(llm: LLM) -> list[tuple[int, int]]:
    return SIDES if encoder_of(llm).projector.looked_at else SHAPES


def held(pieces: list[Any]) -> list[Any]:
    return [piece for piece in pieces if not isinstance(piece, str)]


def test_rows_are_known_before(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tokens of pictures, as many as the context has, and not one more, which no encoder sees."""
    encoder = encoder_of(llm)
    for i, shape in enumerate(shapes(llm)):
        pieces = held(encoder.pieces(picture(*shape, i)))
        tokens = sum(len(piece.ids) for piece in pieces)
        monkeypatch.setattr(encoder, "_n_ctx", 2 * tokens)
        encoder.pieces_of([picture(*shape, i)] * 2)
        monkeypatch.setattr(encoder, "_n_ctx", 2 * tokens - 1)
        monkeypatch.setattr(encoder, "rows", None)
        with pytest.raises(ContextOverflowError) as caught:
            encoder.pieces_of([picture(*shape, i)] * 2)
        assert (caught.value.needed, caught.value.available) == (2 * tokens, 2 * tokens - 1)
        monkeypatch.undo()


def test_bytes_are_known_before(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = encoder_of(llm)
    for i, shape in enumerate(shapes(llm)):
        numbers = sum(_numbers(encoder, piece) for piece in held(encoder.pieces(picture(*shape, i))))
        monkeypatch.setattr(module, "_MOST_BYTES", numbers)
        encoder.pieces(picture(*shape, i))
        monkeypatch.setattr(module, "_MOST_BYTES", numbers - 1)
        monkeypatch.setattr(encoder, "rows", None)
        with pytest.raises(ImageError, match="pictures of a prompt may take 0 MiB"):
            encoder.pieces(picture(*shape, i))
        monkeypatch.undo()


def _numbers(encoder: Encoder, piece: Any) -> int:
    """Bytes of what is kept, without what fills pages up."""
    return piece.picture.count * encoder._row_bytes if isinstance(piece, LookedAt) else int(piece.rows.nbytes)


def test_the_largest_pictures_of_a_prompt_are_kept(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many of them that a chat about a few encodes none of them again."""
    encoder = encoder_of(llm)
    most = max((held(encoder.pieces(picture(*shape, i))) for i, shape in enumerate(shapes(llm))), key=_bytes)
    assert _bytes(most) <= encoder._store_bytes
    per_row = encoder._row_bytes
    assert sum(_numbers(encoder, piece) for piece in most) <= encoder.projector.most_rows * per_row
    with monkeypatch.context() as patch:
        patch.setattr(module, "STORE_BYTES", 1)
        of = module.Traced(encoder.projector, None, encoder.plan)
        assert of.store_bytes(precise=False) == module.STORE_PICTURES * encoder.projector.most_rows * per_row


def _bytes(pieces: list[Any]) -> int:
    return sum(piece.nbytes for piece in pieces)


def test_what_is_kept_is_part_of_the_memory(tmp_path: Path) -> None:
    """States of Llama 3.2 Vision are kept as numbers of 16 bits, or of 32 as the cache is."""
    path = converted("mllama", tmp_path)
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "STORE_BYTES", 0)
        for kind in ("f16", "f32"):
            with LLM.load(path, threads=1, cache_type=kind) as llm:
                found[kind] = llm.memory.projector, encoder_of(llm)._store_bytes
    (small, kept), (large, twice) = found["f16"], found["f32"]
    assert twice == 2 * kept
    assert large - small == kept


def test_pictures_that_are_too_many_are_not_even_read(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = encoder_of(llm)
    read: list[int] = []
    monkeypatch.setattr(encoder, "_n_ctx", 1)

    def reading(source: Any) -> Any:
        read.append(0)
        return picture_of(source)

    monkeypatch.setattr(module, "picture_of", reading)
    with pytest.raises(ContextOverflowError, match=r"of 9 pictures have \d+ tokens already, the context 1; show fewer"):
        encoder.pieces_of([np.zeros((28, 28, 3), np.uint8)] * 9)
    assert len(read) <= 2
