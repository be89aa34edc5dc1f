"""What the public classes answer to arguments that their methods do not have, and what their options stand for."""

from __future__ import annotations

import dataclasses
import inspect
from difflib import get_close_matches
from types import FunctionType
from typing import TypeVar

from llamaq.boundary.calls import answering, parameters_of
from llamaq.engine.loading import load_parts
from llamaq.sampling import SamplingParams
from llamaq.serving.model import Model
from llamaq.serving.stream import Options

__all__ = ["elsewhere", "public"]

T = TypeVar("T")


def _by_name(name: str, default: object = None) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)


_PROMPT = [
    *map(_by_name, ("tools", "template", "template_kwargs", "tool_format", "tool_choice", "picture_progress")),
    _by_name("reasoning", True),
]
"""What ``PromptOptions`` has. That module is imported when somebody chats."""
_ANSWER = parameters_of(Model.prepare, Options.__annotations__)
_OPTIONS = {
    "Unpack[Options]": _ANSWER,
    "Unpack[PromptOptions]": _PROMPT,
    "Unpack[ChatOptions]": [
        *_ANSWER, *_PROMPT, _by_name("parallel_tool_calls", True), _by_name("progress"),
    ],
}  # fmt: skip
"""What the methods' ``**options`` stand for, by their annotation."""

_SAMPLING = {field.name for field in dataclasses.fields(SamplingParams)}
_LOADING = {name for name in inspect.signature(load_parts).parameters if name not in ("path", "progress")}
_GPU = ("n_gpu_layers", "main_gpu", "tensor_split", "split_mode", "device", "flash_attn", "use_mlock", "use_mmap")
_LIKE = 0.85
"""How near to a setting's name a word must be to be taken for a slip."""
_METHODS = {
    "stream": "LLM.stream gives the events as they come",
    "messages": "LLM.chat takes messages",
    "system": 'the first of the messages may be {"role": "system", "content": ...}',
    "lora_path": "LLM.load(..., adapters=path) and LLM.load_adapter(path) load adapters",
    "response_format": "sampling=SamplingParams(structure=json_object()), from llamaq.structure, makes it JSON",
    **dict.fromkeys(
        ("json_schema", "schema"),
        "sampling=SamplingParams(structure=json_schema(schema)), from llamaq.structure, makes it match one",
    ),
    "grammar": "sampling=SamplingParams(structure=gbnf(text)), from llamaq.structure, makes it follow one",
    "chat_format": "it is an option of LLM.chat: template=...",
    "verbose": 'nothing is printed; logging.getLogger("llamaq") has what there is to say',
}


def elsewhere(name: str, value: str) -> str | None:
    """How an argument is said that a method does not have."""
    if name in _SAMPLING:
        return f"settings of sampling go together: sampling=SamplingParams({name}={value})"
    if name in _LOADING:
        return f"it is an argument of LLM.load: {name}={value}"
    if name in _GPU:
        return "llamaq runs on CPUs alone and maps files by itself; leave it out"
    if name in Options.__annotations__:
        return "it is an option of LLM.generate, stream and chat"
    if name in _METHODS:
        return _METHODS[name]
    close = get_close_matches(name, _SAMPLING, n=1, cutoff=_LIKE)
    return f"did you mean sampling=SamplingParams({close[0]}={value})?" if close else None


def public(kind: type[T], called: str | None = None) -> type[T]:
    """Makes each public method of a class tell what it takes where it gets something else. Errors name the class, or
    what it is ``called``: the class that it is a part of."""
    for name, member in list(vars(kind).items()):
        function = member.__func__ if isinstance(member, classmethod) else member
        if name.startswith("_") or not isinstance(function, FunctionType):
            continue
        function.__qualname__ = f"{called or kind.__name__}.{name}"
        rest = [one for one in inspect.signature(function).parameters.values() if one.kind is one.VAR_KEYWORD]
        made = answering(options=_options(kind, rest[0].annotation) if rest else (), elsewhere=elsewhere)(function)
        setattr(kind, name, classmethod(made) if isinstance(member, classmethod) else made)
    return kind


def _options(kind: type, annotation: str) -> list[inspect.Parameter]:
    """What ``**options`` of a method stand for; with an annotation of no options, they are handed on to ``load``."""
    if annotation in _OPTIONS:
        return _OPTIONS[annotation]
    given = inspect.signature(vars(kind)["load"].__func__).parameters.values()
    return [one for one in given if one.kind is one.KEYWORD_ONLY]
