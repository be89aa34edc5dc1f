"""Writing a model with fewer bits for each weight: which format each tensor gets, and the search for its integers."""

from __future__ import annotations

from .plan import Importance, Options, Plan, TensorPlan, load_importance, make_plan
from .run import quantize, run_plan
from .types import COPY, FILE_TYPES, FileType, file_type_by_name

__all__ = [
    "COPY",
    "FILE_TYPES",
    "FileType",
    "Importance",
    "Options",
    "Plan",
    "TensorPlan",
    "file_type_by_name",
    "load_importance",
    "make_plan",
    "quantize",
    "run_plan",
]
