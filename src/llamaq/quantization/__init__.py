"""Writing a model with fewer bits for each weight: which format each tensor gets, and the search for its integers."""

from __future__ import annotations

from .budget import Budget, Fit, fit
from .importance import Importance
from .merging import merge_adapters
from .plan import Options, Plan, TensorPlan, make_plan
from .types import COPY, FILE_TYPES, FileType, file_type_by_name
from .write import default_path, quantize, run_plan

__all__ = [
    "COPY",
    "FILE_TYPES",
    "Budget",
    "FileType",
    "Fit",
    "Importance",
    "Options",
    "Plan",
    "TensorPlan",
    "default_path",
    "file_type_by_name",
    "fit",
    "make_plan",
    "merge_adapters",
    "quantize",
    "run_plan",
]
