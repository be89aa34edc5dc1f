"""A conversation made ready for a model: its template, the prompt's tokens, and how to read the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llamaq.boundary.arguments import instance, items, shown, text
from llamaq.chat.answer import AnswerReader
from llamaq.chat.messages import ChatMessage, message_dicts
from llamaq.chat.reasoning import REASONING_MARKS, Beginning
from llamaq.chat.rendering import render
from llamaq.chat.templates import choose_template
from llamaq.chat.tools import ToolReader, format_of, frame_of
from llamaq.errors import ChatTemplateError, naming
from llamaq.tokenizer import Tokenizer

__all__ = ["ChatRequest", "chat_request", "checked", "prompt_ids", "special_texts"]

_TAKEN = ("self", "messages", "tools", "now")
"""What a template gets by other ways."""


@dataclass(frozen=True)
class ChatRequest:
    """``prompt`` is the rendered conversation, ``ids`` its tokens with exactly the BOS that the file asks for,
    ``beginning`` how the answer begins, ``structure_after`` the mark behind which a structure holds (None: at once),
    ``stop`` the template's own stop texts, ``shown`` the control tokens that mark reasoning and tool calls."""

    prompt: str
    ids: list[int]
    beginning: Beginning
    structure_after: str | None
    stop: tuple[str, ...]
    shown: frozenset[int]
    tools: tuple[Mapping[str, Any], ...]
    tool_reader: type[ToolReader] | None

    def reader(self) -> AnswerReader:
        """Reads an answer to this request."""
        return AnswerReader(self.beginning, self.tool_reader(self.tools) if self.tool_reader else None)


def chat_request(
    metadata: Mapping[str, Any],
    tokenizer: Tokenizer,
    messages: Sequence[ChatMessage | Mapping[str, Any]],
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    template: str | None = None,
    template_kwargs: Mapping[str, Any] | None = None,
    tool_format: str | None = None,
) -> ChatRequest:
    """Renders and tokenizes; arguments as in ``ChatOptions``, errors as in ``LLM.chat``."""
    tools = tuple(tools or ())
    strange = [tool for tool in tools if not _is_tool(tool)]
    if strange:
        expected = 'each tool must be {"type": "function", "function": {"name": ..., "parameters": {...}}}'
        raise ValueError(f"{expected}, got {shown(strange[0])}")
    chosen = choose_template(metadata, template, tools=bool(tools))
    reader = format_of(chosen.source, tool_format) if tools else frame_of(chosen.source)
    said = message_dicts(messages)
    prompt, beginning = render(chosen, said, tools, {**special_texts(tokenizer), **(template_kwargs or {})}, reader)
    marks = (*REASONING_MARKS, *REASONING_MARKS.values(), *(reader.marks if reader else ()))
    visible = frozenset(id for mark in marks if (id := tokenizer.token_to_id(mark)) is not None)
    after = _before_answer(chosen.source, beginning, reader)
    return ChatRequest(prompt, prompt_ids(tokenizer, prompt), beginning, after, chosen.stop, visible, tools, reader)


def _before_answer(source: str, beginning: Beginning, reader: type[ToolReader] | None) -> str | None:
    """The mark that ends what comes before the text of an answer."""
    if reader is not None and (beginning.closer is not None or beginning.may_open):
        return next((mark for mark in reader.answer_marks if mark in source), beginning.closer)
    return beginning.closer


def checked(own: dict[str, Any]) -> dict[str, Any]:
    """Options of the chat itself, of the right kinds. Raises ``TypeError``."""
    given = {name: value for name, value in own.items() if value is not None}
    if "tools" in given:
        given["tools"] = items("tools", given["tools"], "definitions of tools")
    for name in {"template", "tool_format"} & given.keys():
        text(name, given[name])
    for key in instance("template_kwargs", given.get("template_kwargs", {}), Mapping):  # type: ignore[type-abstract]
        if text("each key of template_kwargs", key) in _TAKEN:
            wrong = f"template_kwargs must be variables of the template besides its own, got {shown(key)}"
            raise naming(ValueError(wrong), "template_kwargs")
    return given


def _is_tool(tool: Any) -> bool:
    function = tool.get("function", tool) if isinstance(tool, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        return False
    parameters = function.get("parameters") or {}
    return isinstance(parameters, Mapping) and isinstance(parameters.get("properties") or {}, Mapping)


def prompt_ids(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """The tokens of a rendered prompt. Templates write BOS themselves, or leave it to the tokenizer: one is enough."""
    ids = tokenizer.encode(prompt, add_special=False, parse_special=True)
    if not ids:
        raise ChatTemplateError("the chat template renders nothing for these messages")
    begin = [tokenizer.bos_id] if tokenizer.add_bos and tokenizer.bos_id is not None else []
    return ids if ids[:1] == begin else begin + ids


def special_texts(tokenizer: Tokenizer) -> dict[str, str]:
    """The variables of templates that name special tokens."""
    ids = {"bos_token": tokenizer.bos_id, "eos_token": tokenizer.eos_id}
    return {name: "" if id is None else tokenizer.token_text(id) for name, id in ids.items()}
