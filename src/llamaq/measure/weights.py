"""How far the weights of a file are from those of another, tensor by tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llamaq import _core
from llamaq.boundary.progress import Progress
from llamaq.errors import ModelError
from llamaq.formats import can_decode
from llamaq.gguf import GGUFFile

__all__ = ["WeightError", "relative_error", "weight_errors"]


@dataclass(frozen=True)
class WeightError:
    """A matrix: its format in the other file, and sums of squares of the base's weights and of the differences."""

    name: str
    format: str
    weights: int
    base_squares: float
    error_squares: float

    @property
    def relative(self) -> float:
        """Root of the mean squared error over the root of the mean square."""
        return relative_error([self])


def relative_error(errors: Sequence[WeightError]) -> float:
    """The relative error of several matrices together; 0 where there are no weights but zeros."""
    squares = sum(error.base_squares for error in errors)
    return float((sum(error.error_squares for error in errors) / squares) ** 0.5) if squares else 0.0


def weight_errors(
    base: GGUFFile, other: GGUFFile, *, threads: int = 1, progress: Progress | None = None
) -> list[WeightError]:
    """Every matrix that both files have, in the other's order. ``progress`` gets weights done and in total.

    Raises ModelError where a matrix has another shape, or a format that cannot be decoded.
    """
    names = [name for name, info in other.tensors.items() if len(info.shape) > 1 and name in base.tensors]
    for name in names:
        if base.tensors[name].shape != other.tensors[name].shape:
            raise ModelError(
                f"tensor {name!r}: expected the shape {base.tensors[name].shape} as in {base.path}, got "
                f"{other.tensors[name].shape} in {other.path}; compare files of the same model"
            )
    team = _core.ThreadTeam(threads)
    found, total = [], sum(other.tensors[name].n_elements for name in names)
    for name in names:
        info = other.tensors[name]
        sums = _core.weight_error(
            team, _format(base, name), base.data(name).ravel(), _format(other, name), other.data(name).ravel()
        )
        found.append(WeightError(name, info.format.name, info.n_elements, *sums))
        if progress is not None:
            progress(sum(error.weights for error in found), total)
    return found


def _format(file: GGUFFile, name: str) -> int:
    """The number of a matrix's format."""
    format = file.tensors[name].format
    if not can_decode(format):
        raise ModelError(f"{file.path}: tensor {name!r} is in the format {format.name}, which llamaq cannot decode")
    return format.id
