"""The prompt that a template makes of messages and tools, and how the answer to it begins."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from llamaq.chat.reasoning import REASONING_MARKS, Beginning, overlap
from llamaq.chat.templates import ChatTemplate
from llamaq.chat.tools import ToolReader
from llamaq.errors import ChatTemplateError

__all__ = ["render"]

Message: TypeAlias = "dict[str, Any]"


def render(
    template: ChatTemplate,
    messages: Sequence[Message],
    tools: Sequence[Any],
    variables: Mapping[str, Any],
    format: type[ToolReader] | None = None,
) -> tuple[str, Beginning]:
    """A last message of the assistant is gone on with, unless ``variables`` have "add_generation_prompt". ``format`` is
    how the model writes calls, for templates that do not show those of earlier turns.

    Raises ``ChatTemplateError`` where the template does not show the tools or that message, and what it raises itself.
    """
    messages = [_adapted(template, message, format) for message in messages]
    messages = messages if template.shows_system else _said_by_the_user(messages)
    prompt, begun = _rendered(template, messages, tools, variables)
    if tools and _shows_no_tools(prompt, template, messages, variables):
        raise ChatTemplateError(
            f"{template.name} has no place for tools, so the model would not see them; choose another one, or leave "
            "the tools out and describe them in a message"
        )
    return prompt, Beginning.after(prompt, begun)


def _rendered(
    template: ChatTemplate, messages: Sequence[Message], tools: Sequence[Any], variables: Mapping[str, Any]
) -> tuple[str, str]:
    """The prompt, and what it has of the answer already."""

    def show(messages: Sequence[Message], **more: Any) -> str:
        try:
            return template.render(messages, tools=list(tools) or None, **variables, **more)
        except ChatTemplateError:  # Command R+'s wants a description of each tool
            described = [_described(tool) for tool in tools]
            if described == list(tools):
                raise
            return template.render(messages, tools=described, **variables, **more)

    if not messages or messages[-1]["role"] != "assistant" or "add_generation_prompt" in variables:
        return show(messages), ""
    *earlier, last = messages
    if last.get("tool_calls"):
        raise ValueError("the last message calls tools: their results follow, as messages of the role tool")
    if last["content"].strip() and not _open_thought(last["content"]):
        return _up_to_content(partial(show, add_generation_prompt=False), messages), last["content"]
    return _with_thought(template.source, show(earlier), last)


def _shows_no_tools(
    prompt: str, template: ChatTemplate, messages: Sequence[Message], variables: Mapping[str, Any]
) -> bool:
    try:
        return _rendered(template, messages, (), variables)[0] == prompt
    except ChatTemplateError:  # the template wants a message
        return False


def _adapted(template: ChatTemplate, message: Message, format: type[ToolReader] | None) -> Message:
    """A message as the template wants it: the role "developer" is "system" where it does not know it, reasoning has the
    name that it reads, and tool calls have the arguments and the content with which it shows them."""
    message = dict(message)
    if message["role"] == "developer" and not template.knows_developers:
        message["role"] = "system"
    if message.get("reasoning_content") and "message.thinking" in template.source:
        message.setdefault("thinking", message["reasoning_content"])
    if "tool_calls" not in message:
        return message
    if "thinking" in message and message["content"]:  # gpt-oss' template takes only one of them
        message["thinking"], message["content"] = f"{message['thinking']}\n{message['content']}", ""
    if not template.contents_of_calls and format is not None:
        written = format.written(message["tool_calls"])
        if written is not None:
            return {**message, "content": f"{message['content'] or ''}{written}"}
    if not message["content"] and message["content"] not in template.contents_of_calls:
        message["content"] = None if None in template.contents_of_calls else ""
    if not template.arguments_are_objects:
        message["tool_calls"] = [_with_text(call) for call in message["tool_calls"]]
    return message


def _said_by_the_user(messages: Sequence[Message]) -> Sequence[Message]:
    """A system message at the beginning becomes the beginning of the user's first."""
    at = next((i for i, message in enumerate(messages) if message["role"] == "user"), 0)
    if not at or messages[0]["role"] != "system":
        return messages
    text, content = messages[0]["content"], messages[at]["content"]
    before = f"{text}\n\n" if text.strip() else ""
    content = before + content if isinstance(content, str) else [{"type": "text", "text": before}, *content]
    return [*messages[1:at], {**messages[at], "content": content}, *messages[at + 1 :]]


def _described(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """A tool with a description, which may be empty."""
    function = tool.get("function", tool)
    described = {**function, "description": function.get("description") or ""}
    return {**tool, "function": described} if "function" in tool else described


def _with_text(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    return {**call, "function": {**function, "arguments": json.dumps(function["arguments"], ensure_ascii=False)}}


def _open_thought(content: str) -> str:
    """The mark that begins reasoning to which there is no end; "" where there is none."""
    text = content.lstrip()
    return next((m for m, close in REASONING_MARKS.items() if text.startswith(m) and close not in text), "")


def _with_thought(source: str, prompt: str, message: Message) -> tuple[str, str]:
    """The prompt for a new turn, and on with a message that is empty or has not come to the end of its reasoning, which
    a template would close or leave out."""
    own = _open_thought(message["content"])
    thought = message["content"].lstrip()[len(own) :] if own else f"\n{message.get('reasoning_content') or ''}"
    if not own and not thought.strip():
        return prompt, ""
    prompt = _without_end_of_thought(prompt)
    mark = next((mark for mark in REASONING_MARKS if prompt.rstrip().endswith(mark)), None)
    opens = "" if mark else own or next((mark for mark in REASONING_MARKS if mark in source), "<think>")
    begun = opens + (thought.lstrip() if mark and prompt[-1:].isspace() else thought)
    begun = begun[: len(begun) - overlap(begun, REASONING_MARKS[mark or opens])]  # the model writes the mark whole
    return prompt + begun, begun


def _without_end_of_thought(prompt: str) -> str:
    """The prompt without the mark by which a template says that there is no reasoning."""
    end = prompt.rstrip()
    close = next((close for close in REASONING_MARKS.values() if end.endswith(close)), None)
    return prompt if close is None else end.removesuffix(close)


def _up_to_content(show: Callable[[Sequence[Message]], str], messages: Sequence[Message]) -> str:
    """The prompt up to the end of the last message's content, where a mark is put to find it."""
    *earlier, last = messages
    end = secrets.token_hex(16)
    rendered: str = show([*earlier, {**last, "content": last["content"] + end}])
    prompt, found, _ = rendered.rpartition(end)
    if not found or not prompt.rstrip().endswith(_answer(last["content"]).strip()):
        raise ChatTemplateError(
            "the chat template does not show the assistant's last message as it is, so it cannot be continued; "
            'end with another message, or begin a new turn: template_kwargs={"add_generation_prompt": True}'
        )
    return prompt


def _answer(content: str) -> str:
    """A message's text after its reasoning, which templates may leave out."""
    for mark, close in REASONING_MARKS.items():
        if content.lstrip().startswith(mark) and close in content:
            return content.partition(close)[2].lstrip()
    return content
