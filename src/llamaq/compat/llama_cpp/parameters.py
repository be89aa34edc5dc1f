"""The parameters of ``Llama``, and what becomes of each: read by its constructor, by help and by the documentation."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .constants import (
    LLAMA_ATTENTION_TYPE_UNSPECIFIED,
    LLAMA_DEFAULT_SEED,
    LLAMA_POOLING_TYPE_UNSPECIFIED,
    LLAMA_ROPE_SCALING_TYPE_UNSPECIFIED,
    LLAMA_SPLIT_MODE_LAYER,
)

__all__ = ["PARAMETERS", "Parameter", "parameter_table", "read", "signature"]

logger = logging.getLogger("llamaq")

Fate = Literal["honoured", "ignored", "refused"]


@dataclass(frozen=True)
class Parameter:
    """One of them. ``what`` says what it does here; of a refused one, what to do instead. ``silent`` are values besides
    the default that ask for nothing; None: any value."""

    name: str
    default: Any
    fate: Fate
    what: str
    silent: tuple[Any, ...] | None = (None,)

    def asks(self, value: Any) -> bool:
        """Whether the value wants something else than the default."""
        return self.silent is not None and not any(_same(value, quiet) for quiet in (self.default, *self.silent))


_CPU = "llamaq runs on the CPU"
_ROPE = "give the file's keys another value: kv_overrides={'llama.rope.scaling.type': 'yarn', ...}"

PARAMETERS = (
    Parameter("n_gpu_layers", 0, "ignored", _CPU),
    Parameter("split_mode", LLAMA_SPLIT_MODE_LAYER, "ignored", _CPU),
    Parameter("main_gpu", 0, "ignored", _CPU),
    Parameter("tensor_split", None, "ignored", _CPU),
    Parameter("vocab_only", False, "honoured", "loads the tokenizer alone"),
    Parameter("use_mmap", True, "ignored", "files are always mapped, and weights packed from them", None),
    Parameter("use_mlock", False, "ignored", "memory is not locked"),
    Parameter("kv_overrides", None, "honoured", "other values for keys of the file"),
    Parameter("seed", LLAMA_DEFAULT_SEED, "honoured", "where calls have none: a sequence of seeds; -1: random ones"),
    Parameter("n_ctx", 512, "honoured", "tokens of one text; 0: the model's own, as memory allows"),
    Parameter("n_batch", 512, "honoured", "tokens read at once, and the most of a text to embed"),
    Parameter("n_ubatch", 512, "ignored", "n_batch alone counts", None),
    Parameter("n_threads", None, "honoured", "None: one for each physical performance core"),
    Parameter("n_threads_batch", None, "ignored", "prompts are read with n_threads, too"),
    Parameter("rope_scaling_type", LLAMA_ROPE_SCALING_TYPE_UNSPECIFIED, "refused", _ROPE),
    Parameter("pooling_type", LLAMA_POOLING_TYPE_UNSPECIFIED, "honoured",
              "of embeddings: none (0), mean (1), cls (2), last (3); unspecified: the file's"),
    Parameter("attention_type", LLAMA_ATTENTION_TYPE_UNSPECIFIED, "refused", "the file's architecture says which"),
    Parameter("rope_freq_base", 0.0, "honoured", "0, or 10000.0, which LangChain always gives: the file's"),
    Parameter("rope_freq_scale", 0.0, "honoured", "0, or 1.0, which LangChain always gives: the file's"),
    Parameter("yarn_ext_factor", -1.0, "refused", _ROPE),
    Parameter("yarn_attn_factor", 1.0, "refused", _ROPE),
    Parameter("yarn_beta_fast", 32.0, "refused", _ROPE),
    Parameter("yarn_beta_slow", 1.0, "refused", _ROPE),
    Parameter("yarn_orig_ctx", 0, "refused", _ROPE),
    Parameter("logits_all", False, "honoured", "scores has a row for each token; log-probabilities come without it"),
    Parameter("embedding", False, "honoured", "embed and create_embedding ask for it"),
    Parameter("offload_kqv", True, "ignored", _CPU, None),
    Parameter("flash_attn", False, "ignored", "attention never writes its matrix anyway", None),
    Parameter("op_offload", None, "ignored", _CPU, None),
    Parameter("swa_full", None, "ignored", "layers with windows keep what a later token sees", None),
    Parameter("no_perf", False, "ignored", "nothing is printed", None),
    Parameter("last_n_tokens_size", 64, "honoured", "tokens that the penalties look at"),
    Parameter("lora_base", None, "ignored", "an adapter is added to the model as it is"),
    Parameter("lora_scale", 1.0, "honoured", "how much of the adapter"),
    Parameter("lora_path", None, "honoured", "a LoRA adapter of the model, in GGUF"),
    Parameter("numa", False, "ignored", "the operating system places memory", (None, 0)),
    Parameter("chat_format", None, "honoured", "None: the template of the file; or the name of a format"),
    Parameter("chat_handler", None, "honoured", "a function that answers chats; one for pictures brings its projector"),
    Parameter("draft_model", None, "honoured",
              "guesses where llamaq has none from the text itself, as LlamaPromptLookupDecoding would"),
    Parameter("tokenizer", None, "honoured", "an object with tokenize and detokenize, for prompts"),
    Parameter("type_k", None, "honoured", "f32 (0), f16 (1), q4_0 (2) or q8_0 (8); type_v must be the same"),
    Parameter("type_v", None, "honoured", "as type_k"),
    Parameter("spm_infill", False, "honoured", "with a suffix, this puts it before the prompt"),
    Parameter("verbose", True, "ignored", "what llamaq has to say goes to the log `llamaq`", None),
)  # fmt: skip
"""All but ``model_path``, in their order."""


def read(given: Mapping[str, Any]) -> dict[str, Any]:
    """A value for each parameter. One log line names what changes nothing here; further arguments count among it.

    Raises ``ValueError`` for one that is refused.
    """
    values = {parameter.name: given.get(parameter.name, parameter.default) for parameter in PARAMETERS}
    asked = [parameter for parameter in PARAMETERS if parameter.asks(values[parameter.name])]
    for parameter in asked:
        if parameter.fate == "refused":
            raise ValueError(f"{parameter.name}={values[parameter.name]!r} is not possible here: {parameter.what}")
    idle = [parameter.name for parameter in asked if parameter.fate == "ignored"]
    idle += [name for name in given if name not in values]
    if idle:
        logger.warning("llama_cpp.Llama: these change nothing: %s", ", ".join(f"{n}={given[n]!r}" for n in idle))
    return values


def signature() -> inspect.Signature:
    """What ``help`` shows of ``Llama``."""
    kinds = inspect.Parameter
    own = [kinds(each.name, kinds.KEYWORD_ONLY, default=each.default) for each in PARAMETERS]
    path = kinds("model_path", kinds.POSITIONAL_OR_KEYWORD)
    return inspect.Signature([path, *own, kinds("kwargs", kinds.VAR_KEYWORD)])


def parameter_table(parameters: Iterable[Parameter] = PARAMETERS) -> str:
    """The table of the documentation."""
    rows = [f"| `{each.name}` | {each.default!r} | {each.fate} | {each.what} |" for each in parameters]
    return "\n".join(["| parameter | default | here | |", "|---|---|---|---|", *rows])


def _same(value: Any, other: Any) -> bool:
    return value is other or (isinstance(value, bool | int | float | str) and value == other)
