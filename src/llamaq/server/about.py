"""What is known of a model from its file, as several protocols tell it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from llamaq.chat import choose_template
from llamaq.chat.reasoning import REASONING_MARKS
from llamaq.errors import ChatTemplateError
from llamaq.quantization.types import FILE_TYPES

if TYPE_CHECKING:
    from llamaq.chat import ChatTemplate
    from llamaq.gguf import GGUFFile

__all__ = ["TemplateFacts", "architecture", "parameter_count", "quantization", "template_facts", "template_of"]

_TYPE_NAMES = {type.number: type.name for type in FILE_TYPES.values()}
_SWITCHES = ("enable_thinking", "reasoning_effort")
"""Variables by which templates let a model reason or not."""


@dataclass(frozen=True)
class TemplateFacts:
    """What a chat template has a place for."""

    system: bool = False
    tools: bool = False
    tool_calls: bool = False
    object_arguments: bool = False
    thinking: bool = False
    effort: bool = False


def architecture(metadata: Mapping[str, Any]) -> str:
    name = metadata.get("general.architecture")
    return name if isinstance(name, str) else ""


def parameter_count(file: GGUFFile) -> int:
    return sum(tensor.n_elements for tensor in file.tensors.values())


def quantization(file: GGUFFile) -> str:
    """The name of what the file says that it was quantized to, or of the format that most of its bytes have."""
    number = file.metadata.get("general.file_type")
    if isinstance(number, int) and number in _TYPE_NAMES:
        return _TYPE_NAMES[number]
    nbytes: Counter[str] = Counter()
    for tensor in file.tensors.values():
        nbytes[tensor.format.name] += tensor.nbytes
    return nbytes.most_common(1)[0][0] if nbytes else ""


def template_of(metadata: Mapping[str, Any], choice: str | None, *, tools: bool = False) -> ChatTemplate | None:
    """The chat template in use; None where there is none that can be."""
    try:
        return choose_template(metadata, choice, tools=tools)
    except ChatTemplateError:
        return None


def template_facts(metadata: Mapping[str, Any], choice: str | None) -> TemplateFacts:
    """Of the template in use, found by rendering it."""
    template = template_of(metadata, choice, tools=True) or template_of(metadata, choice)
    return TemplateFacts() if template is None else _facts_of(template)


@lru_cache(16)
def _facts_of(template: ChatTemplate) -> TemplateFacts:
    tool = {"type": "function", "function": {"name": "probe", "description": "", "parameters": {"properties": {}}}}
    user = {"role": "user", "content": "needle"}
    with_tool = _rendered(template, [user], tools=[tool])
    return TemplateFacts(
        system="thread" in _rendered(template, [{"role": "system", "content": "thread"}, user]),
        tools="probe" in with_tool,
        tool_calls=bool(template.contents_of_calls),
        object_arguments=template.arguments_are_objects,
        thinking=any(word in template.source for word in (*_SWITCHES, *REASONING_MARKS)),
        effort="reasoning_effort" in template.source,
    )


def _rendered(template: ChatTemplate, messages: list[dict[str, Any]], **more: Any) -> str:
    try:
        return template.render(messages, bos_token="", eos_token="", **more)
    except ChatTemplateError:
        return ""
