"""Calls of llama-cpp-python's interface, and what can be seen of their results on whatever has it: recorded of the
original by ``tests/compat/record_llama_cpp.py``, and compared with llamaq's."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from gguf_files import copy_with
from shared_files import shared_path

__all__ = ["PUBLIC", "observed", "story_model"]

TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
PUBLIC = (
    "Llama", "LlamaCache", "LlamaDiskCache", "LlamaGrammar", "LlamaRAMCache", "LlamaState", "LogitsProcessor",
    "LogitsProcessorList", "MinTokensLogitsProcessor", "StoppingCriteria", "StoppingCriteriaList",
)  # fmt: skip
"""Names of the module besides those of its types."""
METHODS = (
    "__call__", "create_chat_completion", "create_completion", "create_embedding", "detokenize", "embed",
    "eval", "from_pretrained", "generate", "load_state", "longest_token_prefix", "logits_to_logprobs", "sample",
    "save_state", "set_cache", "set_seed", "tokenize",
)  # fmt: skip
SAID = [{"role": "system", "content": "You tell stories."}, {"role": "user", "content": "Once upon a time"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "choose",
        "description": "Chooses a colour.",
        "parameters": {"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"]},
    },
}
CHOICE = {"type": "function", "function": {"name": "choose"}}
GREEDY = {"temperature": 0.0, "max_tokens": 6}


def story_model(folder: Path) -> Path:
    """A tiny model with a chat template, which all of this is asked of."""
    path = folder / "stories.gguf"
    entries = {"tokenizer.chat_template": TEMPLATE}
    copy_with(entries, shared_path("models/stories260K-Q8_0.gguf"), path)
    return path


def calls(module: ModuleType, llm: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Calls by name, of a model with ``logits_all`` and ``embedding``."""
    grammar = module.LlamaGrammar.from_string('root ::= "yes" | "no"')
    text, chat = llm.create_completion, llm.create_chat_completion
    prompt = "Once upon a time"
    yield "completion", lambda: text(prompt, **GREEDY)
    yield "completion of ids", lambda: text([1, 403, 407, 261, 378], **GREEDY)
    yield "completion with log-probabilities", lambda: text(prompt, logprobs=2, **GREEDY)
    yield "completion with echo", lambda: text(prompt, logprobs=1, echo=True, **GREEDY)
    yield "completion that stops", lambda: text(prompt, stop=["there"], **GREEDY)
    yield "completion after a grammar", lambda: text(prompt, grammar=grammar, **GREEDY)
    yield "completion as it comes", lambda: text(prompt, stream=True, **GREEDY)
    yield "log-probabilities as they come", lambda: text(prompt, stream=True, logprobs=1, **GREEDY)
    yield "chat", lambda: chat(SAID, **GREEDY)
    yield "chat with log-probabilities", lambda: chat(SAID, logprobs=True, top_logprobs=2, **GREEDY)
    yield "chat as it comes", lambda: chat(SAID, stream=True, **GREEDY)
    forced = {"tools": [TOOL], "tool_choice": CHOICE, "temperature": 0.0, "max_tokens": 60}
    yield "chat with a tool", lambda: chat(SAID, **forced)
    yield "a tool's call as it comes", lambda: chat(SAID, stream=True, **forced)
    yield (
        "chat with a function",
        lambda: chat(
            SAID, functions=[TOOL["function"]], function_call={"name": "choose"}, temperature=0.0, max_tokens=60
        ),
    )
    schema = TOOL["function"]["parameters"]  # type: ignore[index]
    yield (
        "chat in JSON",
        lambda: chat(SAID, response_format={"type": "json_object", "schema": schema}, temperature=0.0, max_tokens=60),
    )
    yield "embedding", lambda: llm.create_embedding(["Once", "upon"])
    yield "embedding of a text", lambda: llm.embed("Once")
    yield "embeddings and their count", lambda: llm.embed(["Once", "upon a"], return_count=True)
    yield "a prompt that is too long", lambda: text("Once upon a time. " * 100, **GREEDY)
    yield "a conversation that is too long", lambda: chat([{"role": "user", "content": "Once. " * 300}], **GREEDY)
    yield (
        "a tool that is not there",
        lambda: chat(SAID, tools=[TOOL], tool_choice={**CHOICE, "function": {"name": "x"}}),
    )
    yield "an argument that there is not", lambda: text(prompt, temprature=1.0)
    yield "a text that may not be cut", lambda: llm.embed("Once upon a time. " * 100, truncate=False)


def observed(module: ModuleType, path: Path) -> dict[str, Any]:
    """Shapes of results and kinds of errors, by the names of the calls; names and defaults of arguments; and numbers
    that can be no others."""
    llm = module.Llama(str(path), n_ctx=256, n_threads=1, logits_all=True, embedding=True, verbose=False)
    plain = module.Llama(str(path), n_ctx=256, n_threads=1, verbose=False)
    ids = llm.tokenize(b"Once upon a time")
    texts = ((b"Once upon a time",), (b"Once", False), (b"Once</s>", True, True), (b"",))
    pieces = (llm.detokenize(ids), llm.detokenize(ids[1:]), llm.detokenize([1], None, True))
    numbers = ("n_ctx", "n_vocab", "n_embd", "token_bos", "token_eos", "token_nl", "pooling_type")
    found = {
        "results": {name: outcome(call) for name, call in calls(module, llm)},
        "arguments": {"Llama": arguments(module.Llama)}
        | {name: arguments(getattr(module.Llama, name)) for name in METHODS},
        "types": sorted(name for name in dir(module.llama_types) if name[0].isupper() and name not in _TYPING),
        "metadata": llm.metadata,
        "tokens": [llm.tokenize(*text) for text in texts],
        "bytes": [piece.decode() for piece in pieces],
        "numbers": {name: getattr(llm, name)() for name in numbers},
    }
    found["text"] = plain.create_completion("Once upon a time", temperature=0.0, max_tokens=24)["choices"][0]["text"]
    found["generated"] = [token for token, _ in zip(plain.generate(ids, temp=0.0), range(8), strict=False)]
    found["results"]["embedding of a model not made for it"] = outcome(lambda: plain.embed("Once"))
    found["results"]["a file that is no model"] = outcome(lambda: module.Llama(__file__, verbose=False))
    found["results"]["a path that is none"] = outcome(lambda: module.Llama(str(path) + ".missing"))
    return found


_TYPING = ("Any", "Dict", "JsonType", "List", "Literal", "NotRequired", "Optional", "TypeAlias", "TypedDict", "Union")


def arguments(function: Any) -> list[list[Any]]:
    """Names and defaults; an empty list counts as an empty tuple."""
    parameters = inspect.signature(function).parameters.values()
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return [
        [p.name, "required" if p.default is p.empty else [] if p.default == () else p.default]
        for p in parameters
        if p.name != "self" and p.kind not in kinds
    ]


def outcome(call: Callable[[], Any]) -> Any:
    """The shape of a result; those of a stream's pieces, each once in a row; or the kind of an error and its first
    words."""
    try:
        result = call()
        if not isinstance(result, Iterator):
            return shape(result)
        pieces = [shape(piece) for piece in result]
        return {"pieces": [piece for i, piece in enumerate(pieces) if not i or piece != pieces[i - 1]]}
    except Exception as error:
        kind = next(each.__name__ for each in type(error).__mro__ if each.__module__ == "builtins")
        return {"error": [kind, *str(error).split()[:2]]}


def shape(value: Any) -> Any:
    """Keys, and kinds of values; of a list the kinds of its elements, each once. Reasons to end are shown."""
    if isinstance(value, dict):
        texts = {
            key: value[key] for key in ("finish_reason", "object", "role", "type") if isinstance(value.get(key), str)
        }
        return {key: texts.get(key) or shape(item) for key, item in value.items() if key != "top_logprobs"} | (
            {"top_logprobs": "..."} if "top_logprobs" in value else {}
        )
    if isinstance(value, list | tuple):
        kinds: list[Any] = []
        for item in map(shape, value):
            if item not in kinds:
                kinds.append(item)
        return kinds
    if value is None or isinstance(value, bool):
        return value
    return "text" if isinstance(value, str) else "number"
