"""llamaq runs GGUF language models on ordinary CPUs.

>>> from llamaq import LLM
>>> with LLM.load("model.gguf") as llm:  # doctest: +SKIP
...     print(llm.generate("Once upon a time", max_tokens=50).text)
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from llamaq import errors
from llamaq.errors import LlamaqError

if TYPE_CHECKING:
    from llamaq.chat import ChatCompletion, ChatEvent, ChatMessage, ChatStream, ToolCall
    from llamaq.gguf import GGUFFile
    from llamaq.llm.llm import LLM
    from llamaq.llm.moderation import Moderation, amoderate, moderate
    from llamaq.llm.session import Session
    from llamaq.llm.verify import verify
    from llamaq.quantization import quantize
    from llamaq.sampling import SamplingParams
    from llamaq.serving.answer import Event
    from llamaq.serving.receipt import Receipt
    from llamaq.serving.stream import Completion, Stream, Usage

logging.getLogger("llamaq").addHandler(logging.NullHandler())  # silent unless whoever uses it listens

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
    "Moderation",
    "Receipt",
    "SamplingParams",
    "Session",
    "Stream",
    "ToolCall",
    "Usage",
    "__version__",
    "amoderate",
    "errors",
    "moderate",
    "quantize",
    "verify",
]

# Imported when they are first asked for, so that `import llamaq` costs next to nothing.
_LAZY = {
    "LLM": "llamaq.llm.llm",
    "ChatCompletion": "llamaq.chat",
    "ChatEvent": "llamaq.chat",
    "ChatMessage": "llamaq.chat",
    "ChatStream": "llamaq.chat",
    "Completion": "llamaq.serving.stream",
    "Moderation": "llamaq.llm.moderation",
    "Receipt": "llamaq.serving.receipt",
    "Session": "llamaq.llm.session",
    "Stream": "llamaq.serving.stream",
    "Usage": "llamaq.serving.stream",
    "Event": "llamaq.serving.answer",
    "GGUFFile": "llamaq.gguf",
    "SamplingParams": "llamaq.sampling",
    "ToolCall": "llamaq.chat",
    "amoderate": "llamaq.llm.moderation",
    "moderate": "llamaq.llm.moderation",
    "quantize": "llamaq.quantization",
    "verify": "llamaq.llm.verify",
}


_OF_LLAMA_CPP = "from llamaq.compat.llama_cpp import {} gives llama-cpp-python's; llamaq's own interface is llamaq.LLM"
_LOAD = 'llamaq.LLM.load("model.gguf") loads a model'
_HERE = {
    **{name: _OF_LLAMA_CPP.format(name) for name in (
        "Llama", "LlamaCache", "LlamaDiskCache", "LlamaGrammar", "LlamaRAMCache", "LlamaState", "LlamaTokenizer",
        "LogitsProcessorList", "StoppingCriteriaList",
    )},
    **dict.fromkeys(("AutoModel", "AutoModelForCausalLM", "Model", "load", "load_model", "pipeline"), _LOAD),
    "Client": f"{_LOAD}, without a server; with one (llamaq serve), the clients of Ollama, OpenAI and Anthropic do",
    "generate": f"{_LOAD}, and its method generate gives an answer",
}  # fmt: skip
"""What other libraries have where this one has something else."""


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    advice = f"; {_HERE[name]}" if name in _HERE else ""
    # Python has a sentence of its own for "from llamaq import Llama", which would hide the advice.
    if advice and sys._getframe(1).f_globals.get("__name__") == "importlib._bootstrap":
        raise ImportError(f"cannot import name {name!r} from 'llamaq'{advice}", name="llamaq")
    raise AttributeError(f"module 'llamaq' has no attribute {name!r}{advice}", name=name)


def __dir__() -> list[str]:
    return sorted(__all__)
