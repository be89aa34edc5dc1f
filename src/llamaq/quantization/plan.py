"""What quantizing a file will do, known before a weight is read: each tensor's format, sizes, metadata."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from llamaq.boundary.arguments import flag, text
from llamaq.errors import QuantizationError, naming
from llamaq.formats import Format, can_decode, format_by_name
from llamaq.gguf import GGUFArray, GGUFFile, TensorData, TensorInfo, ValueType
from llamaq.gguf.split import SPLIT_KEYS, split_keys
from llamaq.gguf.writer import Writable, gguf_size
from llamaq.quantization.choice import ModelFacts, TypeOptions, choose, idle_patterns
from llamaq.quantization.importance import Importance
from llamaq.quantization.types import COPY, FileType, file_type_by_name

__all__ = ["Options", "Plan", "TensorPlan", "draft_plan", "make_plan", "warn_of_idle"]

logger = logging.getLogger("llamaq")


_SAME_FIRST = {"IQ1_S": 24, "IQ1_M": 27, "IQ2_XXS": 34, "IQ2_XS": 40, "IQ2_S": 45}
"""At how many of 100 places files of these types chose the first token of their source; docs/quantize.md says how."""


@dataclass(frozen=True)
class Options:
    """How to quantize; names as `llamaq.quantize` has them."""

    pure: bool = False
    leave_output_tensor: bool = False
    output_tensor_type: str | None = None
    token_embedding_type: str | None = None
    tensor_types: Sequence[tuple[str, str]] = ()
    allow_requantize: bool = False
    override_kv: Mapping[str, int | float | bool | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("pure", "leave_output_tensor", "allow_requantize"):
            object.__setattr__(self, name, flag(name, getattr(self, name)))


@dataclass(frozen=True)
class TensorPlan:
    """One tensor: what it is, the ``format`` it will have, and the one that its rows do not fit (else None)."""

    info: TensorInfo
    format: Format
    wanted: Format | None = None

    @property
    def copied(self) -> bool:
        """Whether its bytes stay as they are."""
        return self.format == self.info.format

    @property
    def rows(self) -> int:
        """Rows of all its matrices."""
        return math.prod(self.info.shape[:-1])

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in the new format."""
        return self.format.row_bytes(self.info.shape[-1])

    @property
    def nbytes(self) -> int:
        """Bytes in the new format."""
        return self.rows * self.row_bytes


@dataclass(frozen=True)
class Plan:
    """Everything but the weights. ``file_type`` None: the tensors are copied."""

    file: GGUFFile
    file_type: FileType | None
    tensors: tuple[TensorPlan, ...]
    metadata: Mapping[str, Writable]
    types: Mapping[str, ValueType]

    @cached_property
    def nbytes(self) -> int:
        """Bytes of all tensors afterwards."""
        return sum(tensor.nbytes for tensor in self.tensors)

    @cached_property
    def source_nbytes(self) -> int:
        """Bytes of all tensors now."""
        return sum(tensor.info.nbytes for tensor in self.tensors)

    @cached_property
    def parameters(self) -> int:
        """Weights of all tensors."""
        return sum(tensor.info.n_elements for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """Bits that a weight takes afterwards, over all tensors."""
        return 8 * self.nbytes / max(1, self.parameters)

    def parts(self, keep_split: bool) -> list[tuple[dict[str, Writable], list[TensorPlan]]]:
        """Metadata and tensors of each file to write."""
        count = len(self.file.paths)
        if not keep_split or count == 1:
            return [(dict(self.metadata), list(self.tensors))]
        return [
            (
                {**(self.metadata if index == 0 else {}), **split_keys(index, count, len(self.tensors))},
                [tensor for tensor in self.tensors if tensor.info.shard == index],
            )
            for index in range(count)
        ]

    def file_nbytes(self, keep_split: bool = False) -> int:
        """Bytes of all files to write, with their metadata."""
        size = 0
        for metadata, tensors in self.parts(keep_split):
            data = [TensorData(t.info.name, t.format, t.info.shape, b"") for t in tensors]
            size += gguf_size(metadata, data, types=self.types)
        return size


def make_plan(file: GGUFFile, type: str, options: Options | None = None, importance: Importance | None = None) -> Plan:
    """The plan for an open file. Warns of patterns in ``options.tensor_types`` that change nothing, and of formats that
    are hardly of use without importance.

    Raises ValueError for a type or a format that is unknown, QuantizationError for tensors that are quantized
    already (without ``allow_requantize``) or that no decoder reads, and for importance that has other columns.
    """
    options = options or Options()
    plan = draft_plan(file, type, options, importance)
    warn_of_idle(file, plan.file_type, options)
    if importance is None:
        _warn_of_loss(plan)
    return plan


def _warn_of_loss(plan: Plan) -> None:
    """Logs what is hardly of use without importance."""
    used = {tensor.format.name for tensor in plan.tensors if not tensor.copied}
    if worst := min(used & _SAME_FIRST.keys(), key=lambda name: _SAME_FIRST[name], default=None):
        logger.warning(
            "%s without importance (imatrix) is hardly of use: a small model then had the same first token as its "
            "source at %d of 100 places, where Q2_K did at 56 and Q4_K_M at 86; give an importance matrix (llamaq "
            "imatrix makes one), or take Q2_K",
            worst, _SAME_FIRST[worst],
        )  # fmt: skip


def warn_of_idle(file: GGUFFile, file_type: FileType | None, options: Options) -> None:
    """Logs the patterns of ``options.tensor_types`` that give no tensor its format."""
    shapes = {name: info.shape for name, info in file.tensors.items()}
    for pattern, format, why in idle_patterns(shapes, file_type, _type_options(options, None)):
        logger.warning("the tensor type %s=%s changes nothing: %s", pattern, format.name, why)


def draft_plan(file: GGUFFile, type: str, options: Options, importance: Importance | None) -> Plan:
    """`make_plan` without its warnings."""
    file_type = None if type.upper() == COPY else file_type_by_name(type)
    metadata: dict[str, Writable] = {**file.metadata, **options.override_kv}
    types = {key: value for key, value in file.metadata_types.items() if key not in options.override_kv}
    for key in SPLIT_KEYS:
        metadata.pop(key, None)
    if file_type is None:
        tensors = tuple(TensorPlan(info, info.format) for info in file.tensors.values())
        return Plan(file, None, tensors, metadata, types)
    metadata |= {"general.quantization_version": np.uint32(2), "general.file_type": np.uint32(file_type.number)}
    if importance is not None:
        metadata |= importance.metadata
    types |= {"general.quantization_version": ValueType.UINT32, "general.file_type": ValueType.UINT32}
    chosen = choose(
        {name: info.shape for name, info in file.tensors.items()},
        file_type,
        _facts(metadata),
        _type_options(options, importance),
    )
    tensors = tuple(
        TensorPlan(info, info.format) if choice is None else TensorPlan(info, choice.format, choice.wanted)
        for info, choice in zip(file.tensors.values(), chosen.values(), strict=True)
    )
    for tensor in tensors:
        _check(file, tensor, options, importance)
    return Plan(file, file_type, tensors, metadata, types)


def _type_options(options: Options, importance: Importance | None) -> TypeOptions:
    def known(argument: str, name: str | None) -> Format | None:
        return None if name is None else _format(argument, name)

    patterns = []
    for pattern, name in options.tensor_types:
        try:
            patterns.append((re.compile(pattern), _format("tensor_types", name)))
        except re.error as error:
            wrong = f"tensor_types: {pattern!r} is no regular expression: {error}"
            raise naming(ValueError(wrong), "tensor_types") from None
    return TypeOptions(
        pure=options.pure,
        leave_output_tensor=options.leave_output_tensor,
        has_imatrix=importance is not None,
        output_tensor_type=known("output_tensor_type", options.output_tensor_type),
        token_embedding_type=known("token_embedding_type", options.token_embedding_type),
        tensor_types=patterns,
    )


def _format(argument: str, name: str) -> Format:
    try:
        return format_by_name(text(argument, name))
    except ValueError as error:
        raise naming(ValueError(f"{argument}: {error}"), argument) from None


def _facts(metadata: Mapping[str, object]) -> ModelFacts:
    architecture = str(metadata.get("general.architecture", ""))

    def number(key: str, default: int) -> int:
        value = metadata.get(f"{architecture}.{key}", default)
        if isinstance(value, GGUFArray):  # it has one value for each layer
            value = value[0] if len(value) else default
        return value if isinstance(value, int) else default

    heads = number("attention.head_count", 1)
    kv_heads = number("attention.head_count_kv", heads)
    groups = heads // kv_heads if kv_heads > 0 else 1
    return ModelFacts(architecture, number("block_count", 0), groups, number("expert_count", 0))


def _check(file: GGUFFile, tensor: TensorPlan, options: Options, importance: Importance | None) -> None:
    info = tensor.info
    if tensor.copied:
        return
    where = f"{file.path}: tensor {info.name!r}"
    if not can_decode(info.format):
        message = f"{where}: {info.format.name} cannot be decoded; keep it as it is by tensor_types"
        raise naming(QuantizationError(message), "tensor_types")
    if info.format.block > 1 and not options.allow_requantize:
        message = (
            f"{where}: expected F32, F16 or BF16, got {info.format.name}, which was quantized before; quantize the "
            "original file, or choose allow_requantize, at some loss"
        )
        raise naming(QuantizationError(message), "allow_requantize")
    if importance is not None:
        importance.check(info, where)
