"""Damaged projector files of every kind, taken up to the rows of a picture: each is refused with a LlamaqError or runs,
soon and in bounded memory."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given

from damaged_files import content, damaged_file
from fuzzing import bounded, runs, search
from hf_pictures import NAMES, files_of
from llamaq.vision.encoder import Encoder
from llamaq.vision.loading import ProjectorFile
from vision_cases import picture

MEMORY = 256 << 20
"""Bytes that a damaged file of a quarter of a megabyte may cost: of the pixels that it asks for."""
KEYS = [
    *(f"clip.{name}" for name in ("projector_type", "use_gelu", "use_silu")),
    *(f"clip.vision.{name}" for name in (
        "image_size", "patch_size", "block_count", "feature_layer", "image_grid_pinpoints", "mm_patch_merge_type",
        "image_crop", "image_stretch", "projector.scale_factor", "spatial_merge_size", "preproc_image_size",
        "image_min_pixels", "image_max_pixels", "window_size", "n_wa_pattern", "is_deepstack_layers",
    )),
]  # fmt: skip


def see(path: Path) -> None:
    """Reads a picture with a projector, unless it says that it takes more memory than is spent on it here."""
    file = ProjectorFile(path)
    try:
        if file.need(1) < MEMORY:
            columns = file.traced.plan.out_cols
            encoder = Encoder(file.file, file.traced, columns=columns, first_id=2048, threads=1)
            encoder.pieces(picture(80, 48))
    finally:
        file.file.close()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Generating overly large repr")  # of a file that does harm
@pytest.mark.parametrize("name", NAMES)
def test_damaged_projectors(tmp_path: Path, name: str) -> None:
    numbers = itertools.count()

    @given(damaged_file(content(files_of(name)[1]), KEYS))
    def ends_well(raw: bytes) -> None:
        target = tmp_path / f"{next(numbers)}.gguf"
        target.write_bytes(raw)
        with bounded(2 * MEMORY):
            runs(lambda: see(target))
        target.unlink()

    search(ends_well)
