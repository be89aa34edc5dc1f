"""From the arguments of ``Llama`` to a loaded model, or to its tokenizer alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llamaq.boundary.arguments import shown
from llamaq.engine.kv_cache import CacheType
from llamaq.errors import LlamaqError
from llamaq.gguf import GGUFFile, Value
from llamaq.llm.llm import LLM
from llamaq.serving.generation import DraftFunction
from llamaq.tokenizer import Tokenizer, load_tokenizer

from .constants import (
    GGML_TYPE_F16,
    GGML_TYPE_F32,
    GGML_TYPE_Q4_0,
    GGML_TYPE_Q8_0,
    LLAMA_POOLING_TYPE_CLS,
    LLAMA_POOLING_TYPE_LAST,
    LLAMA_POOLING_TYPE_MEAN,
    LLAMA_POOLING_TYPE_NONE,
    LLAMA_POOLING_TYPE_UNSPECIFIED,
)
from .llama_speculative import LlamaPromptLookupDecoding

__all__ = ["LoadError", "Opened", "loaded", "pooling_of", "text_of"]

_CACHE_TYPES: dict[Any, CacheType] = {
    GGML_TYPE_F32: "f32", GGML_TYPE_F16: "f16", GGML_TYPE_Q4_0: "q4_0", GGML_TYPE_Q8_0: "q8_0",
}  # fmt: skip
_POOLINGS = (
    LLAMA_POOLING_TYPE_UNSPECIFIED, LLAMA_POOLING_TYPE_NONE, LLAMA_POOLING_TYPE_MEAN, LLAMA_POOLING_TYPE_CLS,
    LLAMA_POOLING_TYPE_LAST,
)  # fmt: skip
_FROM_LANGCHAIN = {"rope_freq_base": 10000.0, "rope_freq_scale": 1.0}  # its defaults, which it gives with every model


class LoadError(ValueError, LlamaqError):
    """A file that llamaq cannot run; a ``ValueError``, too, as it is in llama-cpp-python. The cause says more."""


@dataclass(frozen=True)
class Opened:
    """A file and its tokenizer."""

    file: GGUFFile
    tokenizer: Tokenizer

    @property
    def context_length(self) -> int:
        return self._number("context_length")

    @property
    def width(self) -> int:
        """Numbers of an embedding."""
        return self._number("embedding_length")

    def _number(self, name: str) -> int:
        value = _key(self.file.metadata, name)
        return value if isinstance(value, int) else 0


def loaded(path: str, values: Mapping[str, Any]) -> tuple[Opened, LLM | None]:
    """The file, and the model unless the vocabulary alone is wanted. Raises ``ValueError`` for values that llamaq
    cannot honour, ``LoadError``."""
    cache_type = _cache_type(values["type_k"], values["type_v"])
    _check(values)
    try:
        file = GGUFFile.open(path)
        file.override(_overrides(file.metadata, values))
        if values["vocab_only"]:
            return Opened(file, load_tokenizer(file.metadata)), None
        llm = LLM.load(
            file, n_ctx=values["n_ctx"] or None, threads=values["n_threads"] or None, n_batch=values["n_batch"],
            cache_type=cache_type, draft=_draft(values["draft_model"]),
            mmproj=getattr(values["chat_handler"], "clip_model_path", None),
            adapters={values["lora_path"]: values["lora_scale"]} if values["lora_path"] else {},
        )  # fmt: skip
    except LlamaqError as error:
        raise LoadError(f"Failed to load model: {error}") from error
    return Opened(file, llm.tokenizer), llm


def pooling_of(metadata: Mapping[str, Value]) -> int:
    """The pooling that a file names."""
    found = _key(metadata, "pooling_type")
    return found if isinstance(found, int) else LLAMA_POOLING_TYPE_NONE


def text_of(value: Value) -> str:
    """A value of the metadata as llama.cpp writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:f}" if isinstance(value, float) else str(value)


def _key(metadata: Mapping[str, Value], name: str) -> Value | None:
    return metadata.get(f"{metadata.get('general.architecture')}.{name}")


def _check(values: Mapping[str, Any]) -> None:
    if values["pooling_type"] not in _POOLINGS:
        message = "must be -1 (unspecified), 0 (none), 1 (mean), 2 (cls) or 3 (last); llamaq.LLM.rerank ranks"
        raise ValueError(f"pooling_type {message}; got {values['pooling_type']!r}")
    if not (values["draft_model"] is None or callable(values["draft_model"])):
        raise ValueError(f"draft_model must be a LlamaDraftModel or a function, got {shown(values['draft_model'])}")


def _draft(model: Any) -> DraftFunction | None:
    """What guesses beside llamaq, which looks in the text itself as LlamaPromptLookupDecoding does, and sooner."""
    return None if isinstance(model, LlamaPromptLookupDecoding) else model


def _cache_type(k: int | None, v: int | None) -> CacheType:
    kinds = [GGML_TYPE_F16 if each is None else each for each in (k, v)]
    if kinds[0] not in _CACHE_TYPES or kinds[0] != kinds[1]:
        known = ", ".join(f"{number} ({name})" for number, name in _CACHE_TYPES.items())
        raise ValueError(f"type_k and type_v must be the same one of {known}; got {k} and {v}")
    return _CACHE_TYPES[kinds[0]]


def _overrides(metadata: Mapping[str, Value], values: Mapping[str, Any]) -> dict[str, Value]:
    """Values in the place of the file's."""
    found: dict[str, Value] = {}
    for key, value in (values["kv_overrides"] or {}).items():
        if not isinstance(value, bool | int | float | str):
            kind = type(value).__name__
            raise ValueError(f"kv_overrides[{key!r}] must be true or false, a number or text, got {kind}")
        found[key] = value
    base, scale = (
        None if values[name] in (0, 0.0, usual) else float(values[name]) for name, usual in _FROM_LANGCHAIN.items()
    )
    prefix = f"{metadata.get('general.architecture')}.rope."
    if base is not None:
        found[prefix + "freq_base"] = base
    if scale is not None:
        found |= {prefix + "scaling.type": "linear", prefix + "scaling.factor": 1 / scale}
    return found
