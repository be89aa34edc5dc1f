"""How far along the reading of pictures is: layers of the encoder, over all tiles of a prompt."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamaq import LLM
from llamaq.gguf import GGUFFile
from llamaq.vision.encoder import Encoder, traced
from tiny_vision import LAYERS, copy_of, seeing
from vision_cases import SIZE, picture


@pytest.fixture
def encoder(tmp_path: Path) -> Encoder:
    """Reads pictures of 512 pixels as they are, which takes longer than the engine is silent."""
    path = copy_of(seeing("qwen25vl")[1], tmp_path / "p.gguf", {"clip.vision.image_max_pixels": 512 * 512})
    file = GGUFFile.open(path)
    of = traced(file)
    return Encoder(file, of, columns=of.plan.out_cols, first_id=2048, threads=2)


def test_layers_of_all_pictures_are_counted(encoder: Encoder) -> None:
    pictures, told = [picture(512, 512, seed) for seed in (0, 1)], []
    encoder.pieces_of(pictures, lambda done, total: told.append((done, total)))
    assert {total for _, total in told} == {2 * LAYERS}
    done = [done for done, _ in told]
    assert done == sorted(done)
    assert done[-1] == 2 * LAYERS
    assert {*range(1, LAYERS)} & {*done}
    assert {*range(LAYERS + 1, 2 * LAYERS)} & {*done}
    told.clear()
    encoder.pieces_of(pictures, lambda done, total: told.append((done, total)))
    assert told == [(2 * LAYERS, 2 * LAYERS)]  # they are kept


def test_what_progress_raises_ends_the_reading(encoder: Encoder) -> None:
    def stop(done: int, total: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        encoder.pieces_of([picture(512, 512)], stop)
    assert len(encoder.pieces(picture(512, 512))) == 3


def test_chats_tell_it(shared: object) -> None:
    from hf_pictures import files_of

    model, mmproj = files_of("gemma3v")
    told: list[tuple[int, int]] = []
    with LLM.load(model, mmproj=mmproj, threads=1) as llm:
        question = [{"type": "image", "image": picture(SIZE, SIZE)}, {"type": "text", "text": "What?"}]
        llm.chat(
            [{"role": "user", "content": question}], template="gemma", max_tokens=1,
            picture_progress=lambda done, total: told.append((done, total)),
        )  # fmt: skip
        assert told[-1] == (2, 2)
        with pytest.raises(TypeError, match="picture_progress must be"):
            llm.chat([{"role": "user", "content": "Hm?"}], template="gemma", picture_progress=3)
