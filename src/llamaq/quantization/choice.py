"""Which format each tensor gets: llama.cpp's rules (`llama_tensor_get_type` in `llama-quant.cpp`), rule by rule.

Files of one type name are then alike whoever made them. The rules are many small findings; they are written
as tables of what each type of file does with each kind of tensor, and as functions where a rule counts layers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from llamaq.errors import QuantizationError, naming
from llamaq.formats import Format, format_by_name
from llamaq.quantization.types import FileType

__all__ = [
    "Choice",
    "ModelFacts",
    "TypeOptions",
    "allows_quantization",
    "choose",
    "idle_patterns",
    "kind_of",
    "layer_of",
    "sort_key",
]


@dataclass(frozen=True)
class ModelFacts:
    """What the rules ask about a model. ``query_groups`` is query heads for each KV head, ``n_layer`` all blocks."""

    architecture: str
    n_layer: int
    query_groups: int = 1
    n_expert: int = 0

    @property
    def has_70b_layers(self) -> bool:
        """The Llamas and others of about 70 billion weights, whose small attn_v is worth more bits; Llama 1 has a
        large one."""
        if self.architecture == "llama" and self.query_groups == 1:
            return False
        return self.n_layer == _LAYERS_OF_70B.get(self.architecture)


_LAYERS_OF_70B = dict.fromkeys(("llama", "qwen2", "deci", "olmo"), 80) | {"jais2": 68}


@dataclass(frozen=True)
class TypeOptions:
    """The user's own wishes. ``tensor_types`` are pairs of a regular expression and a format, the first match wins."""

    pure: bool = False
    leave_output_tensor: bool = False
    has_imatrix: bool = False
    output_tensor_type: Format | None = None
    token_embedding_type: Format | None = None
    tensor_types: Sequence[tuple[re.Pattern[str], Format]] = ()


@dataclass(frozen=True)
class Choice:
    """The format of a tensor; ``wanted`` is the one that its rows do not fit, else None."""

    format: Format
    wanted: Format | None = None


# A matrix stays as it is (small, or of a kind that suffers) where any of these is within its name.
_KEPT = (
    *("_norm.weight", "ffn_gate_inp.weight", "ffn_gate_tid2eid.weight", "altup", "laurel", "per_layer_model_proj"),
    *("ssm_conv1d", "shortconv.conv.weight", "indexer.k_proj.weight", "indexer.q_proj.weight"),
    *(f"time_mix_{name}.weight" for name in ("first", "w0", "w1", "w2", "v0", "v1", "v2", "a0", "a1", "a2")),
    *("time_mix_g1.weight", "time_mix_g2.weight", "time_mix_decay_w1.weight", "time_mix_decay_w2.weight"),
    *("time_mix_lerp_fused.weight", "attn_rel_b.weight", ".position_embd", "sam.pos_embd", "sam.neck.", "sam.net_"),
    *(".rel_pos", ".patch_embd", ".patch_merger", "a.rvq.codebook", "mm.a.code_embd"),
)
_KEPT_EXACTLY = {"position_embd.weight", "token_types.weight"}


def allows_quantization(name: str, shape: Sequence[int], *, leave_output_tensor: bool = False) -> bool:
    """Whether a tensor is a weight matrix that quantization is for."""
    while len(shape) > 1 and shape[0] == 1:  # ggml counts dimensions so
        shape = shape[1:]
    return (
        len(shape) >= 2
        and name.endswith("weight")
        and name not in _KEPT_EXACTLY
        and not any(part in name for part in _KEPT)
        and not (leave_output_tensor and name == "output.weight")
    )


_KINDS = (
    ("attn_qkv.weight", "attn_qkv"),
    ("attn_kv_b.weight", "attn_kv_b"),
    ("attn_v.weight", "attn_v"),
    ("attn_k.weight", "attn_k"),
    ("attn_q.weight", "attn_q"),
    ("attn_output.weight", "attn_output"),
    ("ffn_up", "ffn_up"),
    ("ffn_gate", "ffn_gate"),
    ("ffn_down", "ffn_down"),
)


def kind_of(name: str) -> str:
    """What a tensor is for: attn_q, ffn_down, output ..., or "other"."""
    if name == "output.weight":
        return "output"
    if name in {"token_embd.weight", "per_layer_token_embd.weight"}:
        return "token_embd"
    return next((kind for part, kind in _KINDS if part in name), "other")


def layer_of(name: str) -> int | None:
    """The number of its block, if it is in one."""
    match = re.match(r"blk\.(\d+)\.", name)
    return int(match[1]) if match else None


def sort_key(name: str) -> tuple[int, str]:
    """The order in which llama.cpp counts tensors: by layer, then by name."""
    layer = layer_of(name)
    return (-1 if layer is None else layer, name)


_FALLBACKS = {"Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
_FALLBACKS |= {"TQ1_0": "Q4_0", "TQ2_0": "Q4_0", "IQ4_XS": "IQ4_NL"}
_FALLBACKS |= dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"), "IQ4_NL")


def _fitting(format: Format, cols: int) -> Choice:
    """The format itself, or what takes its place for rows that it does not divide."""
    if cols % format.block == 0:
        return Choice(format)
    second = format_by_name(_FALLBACKS.get(format.name, "F16"))
    return Choice(second if cols % second.block == 0 else format_by_name("F16"), wanted=format)


def choose(
    tensors: Mapping[str, Sequence[int]], file_type: FileType, facts: ModelFacts, options: TypeOptions
) -> dict[str, Choice | None]:
    """The choice for each tensor, given by name and shape (rows first); None: it stays as it is."""
    rules = _Rules(file_type, facts, options, tensors)
    choices: dict[str, Choice | None] = {}
    for name in sorted(tensors, key=sort_key):
        shape = tensors[name]
        kept = not allows_quantization(name, shape, leave_output_tensor=options.leave_output_tensor)
        choices[name] = None if kept else rules.choice(name, shape)
    return {name: choices[name] for name in tensors}


def idle_patterns(
    tensors: Mapping[str, Sequence[int]], file_type: FileType | None, options: TypeOptions
) -> Iterator[tuple[str, Format, str]]:
    """Each pattern of ``options.tensor_types`` that gives no tensor its format: itself, the format, and why not."""
    matrices = [
        name
        for name, shape in tensors.items()
        if allows_quantization(name, shape, leave_output_tensor=options.leave_output_tensor)
    ]
    left = [
        name
        for name in matrices
        if not (options.token_embedding_type and name == "token_embd.weight")
        and not (options.output_tensor_type and kind_of(name) == "output")
    ]
    for pattern, format in options.tensor_types:
        matched = {name for name in left if pattern.search(name)}
        if not any(map(pattern.search, matrices)):
            yield pattern.pattern, format, "no weight matrix of the file has a name that matches"
        elif not matched:
            yield pattern.pattern, format, "all that match have a format by an earlier pattern or option"
        elif file_type is None or file_type.format.block == 1:
            name = "COPY" if file_type is None else file_type.name
            yield pattern.pattern, format, f"type {name} treats all matrices alike"
        left = [name for name in left if name not in matched]


# A file's type gives these to kinds of tensors, where that depends on nothing else.
_EMBEDDING = dict.fromkeys(("IQ2_XXS", "IQ2_XS", "IQ1_S", "IQ1_M"), "Q2_K")
_EMBEDDING |= dict.fromkeys(("IQ2_S", "IQ2_M", "IQ3_XXS"), "IQ3_S") | dict.fromkeys(("TQ1_0", "TQ2_0"), "Q4_K")
_OUTPUT = dict.fromkeys(("IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ2_S", "IQ2_M", "IQ1_M"), "Q5_K")
_TINY = frozenset(("IQ2_XXS", "IQ2_XS", "IQ1_S", "IQ2_S", "IQ2_M", "IQ1_M"))
_QUERY_KEY = {"IQ3_XS": "IQ3_XXS", "IQ3_XXS": "IQ2_S"}
_ATTN_OUTPUT = {"Q2_K": "Q3_K", "IQ3_XXS": "IQ3_S", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K", "IQ3_M": "Q4_K"}
_ATTN_OUTPUT_8_EXPERTS = frozenset(
    ("Q2_K", "IQ3_XS", "IQ3_XXS", "Q3_K_S", "Q3_K_M", "IQ4_NL", "Q4_K_S", "Q4_K_M", "IQ3_S", "IQ3_M", "IQ4_XS")
)


def _more_bits(layer: int, layers: int) -> bool:
    """The first and the last eighth of the layers, and every third one between."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


@dataclass
class _Rules:
    type: FileType
    facts: ModelFacts
    options: TypeOptions
    tensors: Iterable[str]
    seen: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        kinds = Counter(map(kind_of, self.tensors))
        self.tied = not kinds["output"]
        self.n_attn_v = kinds["attn_v"] + kinds["attn_qkv"] + kinds["attn_kv_b"]
        self.falcon = self.facts.architecture == "falcon"
        self.eight = self.facts.n_expert == 8

    def choice(self, name: str, shape: Sequence[int]) -> Choice:
        kind, options, default = kind_of(name), self.options, self.type.format
        manual = next((format for pattern, format in options.tensor_types if pattern.search(name)), None)
        # The large table of embeddings for each layer follows the small one, unless a pattern names it.
        if options.token_embedding_type and kind == "token_embd" and not (manual and name.startswith("per_layer")):
            return _fitting(options.token_embedding_type, shape[-1])
        if options.output_tensor_type and kind == "output":
            return _fitting(options.output_tensor_type, shape[-1])
        if default.block == 1:
            return Choice(default)
        if manual is not None:
            return _fitting(manual, shape[-1])
        if options.pure:
            return _fitting(default, shape[-1])
        rule = self._rule(name, kind, shape)
        return _fitting(format_by_name(rule) if rule else default, shape[-1])

    def _rule(self, name: str, kind: str, shape: Sequence[int]) -> str | None:
        """The name of the format that the mixture asks for; None: the default."""
        type = self.type.name
        if kind == "output" or (self.tied and kind == "token_embd"):
            return self._output(shape)
        if type == "MXFP4_MOE":  # experts are stacked
            return "MXFP4" if len(shape) > 2 and shape[-3] > 1 else "Q8_0"
        if kind == "token_embd":
            return _EMBEDDING.get(type)
        if type in _TINY:
            return self._tiny(kind)
        if kind in {"attn_v", "attn_qkv", "attn_kv_b"}:
            return self._attn_v()
        if kind == "attn_k" and self.eight:
            return "Q8_0"
        if kind in {"attn_k", "attn_q"}:
            return _QUERY_KEY.get(type)
        if kind == "attn_output":
            return self._attn_output()
        if kind in {"ffn_down", "ffn_up", "ffn_gate"}:
            return self._ffn(kind, self._counted_layer(kind, name))
        return None

    def _output(self, shape: Sequence[int]) -> str | None:
        type, default = self.type.name, self.type.format
        if self.options.output_tensor_type:
            return self.options.output_tensor_type.name
        if type == "MXFP4_MOE" or self.falcon or shape[-1] % default.block:
            return "Q8_0"
        return _OUTPUT.get(type) or (None if default.name == "Q8_0" else "Q6_K")

    def _tiny(self, kind: str) -> str | None:
        larger = "IQ3_S" if self.type.name in {"IQ2_S", "IQ2_M"} else "Q2_K"
        if kind in {"attn_v", "attn_qkv", "attn_kv_b"}:
            return "Q4_K" if self.facts.query_groups >= 4 or self.facts.n_expert >= 4 else larger
        if kind == "attn_k" and self.eight:
            return "Q4_K"
        if kind == "ffn_down":
            return larger if self._count(kind) < self.facts.n_layer // 8 else None
        if kind == "attn_output":
            if self.eight:
                return "Q5_K"
            return {"IQ1_S": "IQ2_XXS", "IQ1_M": "IQ2_XXS", "IQ2_S": "IQ3_S", "IQ2_M": "IQ3_S"}.get(self.type.name)
        return None

    def _attn_v(self) -> str | None:
        index = self._count("attn_v")
        rule = self._attn_v_alone(index)
        if self.facts.has_70b_layers and (rule or self.type.format.name) in {"Q3_K", "Q4_K"}:
            rule = "Q5_K"
        return "Q8_0" if self.eight else rule

    def _attn_v_alone(self, index: int) -> str | None:
        type, grouped = self.type.name, self.facts.query_groups >= 4
        if type == "Q2_K":
            return "Q4_K" if grouped else "Q3_K"
        if type == "IQ3_XXS":
            return "Q4_K" if grouped else "IQ3_XXS" if self.options.has_imatrix else "IQ3_S"
        if type in {"Q2_K_S", "IQ3_XS", "IQ3_S"}:
            return "Q4_K" if grouped else None
        if type in {"IQ4_NL", "IQ4_XS"}:
            return "Q5_K" if grouped else None
        if type == "Q3_K_M":
            return "Q5_K" if index < 2 else "Q4_K"
        if type in {"Q4_K_M", "Q5_K_M"}:
            return "Q6_K" if _more_bits(index, self.n_attn_v) else None
        if type == "Q4_K_S":
            return "Q5_K" if index < 4 else None
        return {"IQ3_M": "Q4_K", "Q3_K_L": "Q5_K"}.get(type)

    def _attn_output(self) -> str | None:
        if self.falcon:
            return "Q4_K" if self.type.name == "Q3_K_L" else None
        if self.eight:
            return "Q5_K" if self.type.name in _ATTN_OUTPUT_8_EXPERTS else None
        return _ATTN_OUTPUT.get(self.type.name)

    def _ffn(self, kind: str, layer: int) -> str | None:
        layers, type = self.facts.n_layer, self.type.name
        if kind != "ffn_down":
            return "IQ3_XXS" if type == "IQ3_XS" and layers // 8 <= layer < 7 * layers // 8 else None
        first, more, imatrix = layer < layers // 8, _more_bits(layer, layers), self.options.has_imatrix
        if type == "Q2_K":
            return "Q3_K"
        if type == "Q2_K_S":
            return "Q4_K" if first else None
        if type == "IQ3_XXS":
            return None if imatrix else "Q4_K" if first else "Q3_K"
        if type == "Q3_K_M":
            return "Q5_K" if layer < layers // 16 else "Q3_K" if self.falcon and not more else "Q4_K"
        if type == "IQ3_M":
            return "Q4_K" if first or (self.eight and more) else None
        if type == "Q3_K_L":
            return "Q4_K" if self.falcon else "Q5_K"
        if type == "Q4_K_M" and self.falcon:
            return "Q6_K" if layer < layers // 16 else "Q5_K" if more else "Q4_K"
        if type in {"Q4_K_M", "Q5_K_M"}:
            return "Q6_K" if more else None
        if type in {"IQ4_NL", "IQ4_XS"}:
            return "Q5_K" if first and not imatrix else None
        if type == "Q4_K_S":
            return "Q5_K" if first and not self.falcon else None
        if type in {"Q4_0", "Q5_0"}:
            return {"Q4_0": "Q4_1", "Q5_0": "Q5_1"}[type] if first and imatrix else None
        return None

    def _count(self, kind: str) -> int:
        self.seen[kind] += 1
        return self.seen[kind] - 1

    def _counted_layer(self, kind: str, name: str) -> int:
        """The number of tensors of this kind before; with experts, the layer that the name tells."""
        index, layer = self._count(kind), layer_of(name)
        if self.facts.n_expert <= 1:
            return index
        if layer is None or layer >= self.facts.n_layer:
            message = (
                f"tensor {name!r}: expected a name like blk.0.ffn_down.weight with a layer below "
                f"{self.facts.n_layer} (block_count); correct the key by override_kv"
            )
            raise naming(QuantizationError(message), "override_kv")
        return layer
