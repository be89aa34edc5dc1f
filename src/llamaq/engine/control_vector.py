"""Control vectors in GGUF files: what is added to the outputs of a model's layers."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from llamaq.errors import ModelError
from llamaq.gguf import GGUFFile
from llamaq.plan.plan import Plan

__all__ = ["directions_of", "is_control_vector"]

_NAME = re.compile(r"direction\.([1-9][0-9]{0,5})")


def is_control_vector(file: GGUFFile) -> bool:
    """Whether a file says that it is a control vector and no model."""
    return file.metadata.get("general.architecture") == "controlvector"


def directions_of(
    file: GGUFFile, plan: Plan, layers: tuple[int, int] | None = None
) -> tuple[tuple[str, ...], dict[int, NDArray[np.float32]]]:
    """The names of a file's tensors, and their vectors, float32 (width,), by the number of the node that ends the layer
    which they are added to: ``direction.N`` to layer N, counted from 0. ``layers``: of the first to the last of these
    alone. Raises ``ModelError`` for what does not fit the model, with the tensor's name."""
    found: dict[str, tuple[int, NDArray[np.float32]]] = {}
    last = len(plan.layer_ends) - 2
    for name, info in file.tensors.items():
        match = _NAME.fullmatch(name)
        layer = int(match[1]) if match else 0
        if not 1 <= layer <= last:
            raise ModelError(
                f"tensor {name!r}: expected a name from direction.1 to direction.{last}; the control vector is of "
                "another model"
            )
        end = plan.layer_ends[layer + 1]
        width = plan.nodes[end].cols[0]
        if info.shape != (width,) or info.format.name != "F32":
            raise ModelError(
                f"tensor {name!r}: expected shape {(width,)} in F32, got {info.shape} in {info.format.name}; the "
                "control vector is of another model"
            )
        values = file.data(name).view(np.float32)
        if not np.isfinite(values).all():
            raise ModelError(f"tensor {name!r}: expected finite numbers; train the control vector again")
        if layers is None or layers[0] <= layer <= layers[1]:
            found[name] = end, values.copy()
    if not found:
        raise ModelError("the file has no direction of these layers; the control vector would change nothing")
    return tuple(found), dict(found.values())
