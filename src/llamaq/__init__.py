"""llamaq runs GGUF language models on ordinary CPUs.

>>> from llamaq import LLM
>>> with LLM.load("model.gguf") as llm:  # doctest: +SKIP
...     print(llm.generate("Once upon a time", max_tokens=50).text)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from llamaq import errors
from llamaq.errors import LlamaqError

if TYPE_CHECKING:
    from llamaq.chat import ChatCompletion, ChatEvent, ChatMessage, ChatStream, ToolCall
    from llamaq.generate import Event
    from llamaq.gguf import GGUFFile
    from llamaq.llm import LLM
    from llamaq.quantization import quantize
    from llamaq.sampling import SamplingParams
    from llamaq.session import Session
    from llamaq.stream import Completion, Stream, Usage

__version__ = "0.1.0"
__all__ = [
    "LLM",
    "ChatCompletion",
    "ChatEvent",
    "ChatMessage",
    "ChatStream",
    "Completion",
    "Event",
    "GGUFFile",
    "LlamaqError",
    "SamplingParams",
    "Session",
    "Stream",
    "ToolCall",
    "Usage",
    "__version__",
    "errors",
    "quantize",
]

# Imported when they are first asked for, so that `import llamaq` costs next to nothing.
_LAZY = {
    "LLM": "llamaq.llm",
    "ChatCompletion": "llamaq.chat",
    "ChatEvent": "llamaq.chat",
    "ChatMessage": "llamaq.chat",
    "ChatStream": "llamaq.chat",
    "Completion": "llamaq.stream",
    "Session": "llamaq.session",
    "Stream": "llamaq.stream",
    "Usage": "llamaq.stream",
    "Event": "llamaq.generate",
    "GGUFFile": "llamaq.gguf",
    "SamplingParams": "llamaq.sampling",
    "ToolCall": "llamaq.chat",
    "quantize": "llamaq.quantization",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'llamaq' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
