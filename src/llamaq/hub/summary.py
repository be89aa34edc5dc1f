"""What a model file is, from its header alone."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from llamaq.errors import LlamaqError
from llamaq.formats import can_decode
from llamaq.gguf import GGUFFile
from llamaq.hub.choice import quant_of
from llamaq.hub.found import Found
from llamaq.models.registry import family_of

__all__ = ["Summary", "summary"]

logger = logging.getLogger("llamaq")


@dataclass(frozen=True)
class Summary:
    """``nbytes`` is the size of all parts; ``format``, ``architecture`` and ``family`` are empty where they are not
    known; ``problem`` says why it cannot be run, empty where it can."""

    found: Found
    nbytes: int
    format: str = ""
    architecture: str = ""
    family: str = ""
    problem: str = ""


def summary(found: Found) -> Summary:
    """Reads a model's header. Whatever is wrong with the file is its ``problem``."""
    nbytes = 0
    for path in found.paths:
        with suppress(OSError):
            nbytes += path.stat().st_size
    if found.problem:
        return Summary(found, 0, problem=found.problem)
    try:
        with GGUFFile.open(found.path) as file:
            return _of(file, found, nbytes)
    except (LlamaqError, OSError, MemoryError) as error:
        return Summary(found, nbytes, problem=str(error) or type(error).__name__)


def _of(file: GGUFFile, found: Found, nbytes: int) -> Summary:
    from llamaq.engine.loading import plan_of

    architecture = file.metadata.get("general.architecture")
    architecture = architecture if isinstance(architecture, str) else ""
    weights = Counter[str]()
    for info in file.tensors.values():
        weights[info.format.name] += info.nbytes
    format = (quant_of(found.path.name) if found.path.name.lower().endswith(".gguf") else "").upper()
    format = format or next((name for name, _ in weights.most_common(1)), "")
    problem = ""
    if architecture == "clip":
        return Summary(found, nbytes, format, architecture, "projector", _of_projector(file))
    try:
        with _silent():
            _, plan = plan_of(file)
        strange = [info.format.name for name in plan.tensors if not can_decode((info := file.tensors[name]).format)]
        if strange:
            problem = f"llamaq cannot run the format {strange[0]}"
    except LlamaqError as error:
        problem = str(error)
    return Summary(found, nbytes, format, architecture, family_of(architecture) or "", problem)


def _of_projector(file: GGUFFile) -> str:
    """Why it is no model to run by itself."""
    from llamaq.vision.encoder import traced

    try:
        kind = traced(file).projector.hp.projector
    except LlamaqError as error:
        return f"a projector, for pictures, which llamaq cannot use: {error}"
    return f"a projector ({kind}), which goes with its model: --mmproj"


@contextmanager
def _silent() -> Iterator[None]:
    """What is only worth a warning is told when a model is loaded."""

    def nothing(record: logging.LogRecord) -> bool:
        return False

    logger.addFilter(nothing)
    try:
        yield
    finally:
        logger.removeFilter(nothing)
