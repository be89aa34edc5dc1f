"""A conversation made ready for a model: its template, the prompt's tokens, and how to read the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llamaq.boundary.arguments import flag, function, instance, items, shown, text
from llamaq.boundary.progress import Progress
from llamaq.chat.answer import AnswerReader
from llamaq.chat.messages import ChatMessage, message_dicts
from llamaq.chat.pictures import Places
from llamaq.chat.reasoning import REASONING_MARKS, Beginning
from llamaq.chat.rendering import render
from llamaq.chat.templates import choose_template
from llamaq.chat.tools import Syntax, ToolChoiceOption, ToolReader, format_of, frame_of, read_choice
from llamaq.chat.unread import check_read
from llamaq.errors import ChatTemplateError, ImageError, naming
from llamaq.plan.inserted import Inserted, LookedAt
from llamaq.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llamaq.vision.encoder import Encoder

__all__ = ["ChatRequest", "chat_request", "checked", "prompt_ids", "special_texts"]

_TAKEN = ("self", "messages", "tools", "now")
"""What a template gets by other ways."""


@dataclass(frozen=True)
class ChatRequest:
    """``prompt`` is the rendered conversation, ``ids`` its tokens with exactly the BOS that the file asks for,
    ``beginning`` how the answer begins, ``structure_after`` the marks behind which a structure holds (none: at once),
    ``stop`` the template's own stop texts, ``shown`` the control tokens that mark reasoning and tool calls. The model
    is shown ``tools``, must call one of ``required`` where there are any, and writes calls in this ``syntax``."""

    prompt: str
    ids: list[int]
    beginning: Beginning
    structure_after: tuple[str, ...]
    stop: tuple[str, ...]
    shown: frozenset[int]
    tools: tuple[Mapping[str, Any], ...]
    required: tuple[Mapping[str, Any], ...]
    syntax: Syntax | None
    tool_reader: type[ToolReader] | None
    reasoning: bool = True
    """Whether the answer's reasoning is told from its text."""
    inserted: tuple[Inserted | LookedAt, ...] = ()
    """Rows of pictures, whose ids stand among ``ids``."""

    def reader(self, *, one_call: bool = False) -> AnswerReader:
        """Reads an answer to this request; with ``one_call`` it ends before a second one."""
        beginning = self.beginning if self.reasoning else Beginning(may_open=False)
        reader = self.tool_reader if self.reasoning or self.tools else None
        return AnswerReader(beginning, reader(self.tools) if reader else None, one_call)


def chat_request(
    metadata: Mapping[str, Any],
    tokenizer: Tokenizer,
    messages: Sequence[ChatMessage | Mapping[str, Any]],
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    template: str | None = None,
    template_kwargs: Mapping[str, Any] | None = None,
    tool_format: str | None = None,
    tool_choice: ToolChoiceOption | None = None,
    reasoning: bool = True,
    encoder: Encoder | None = None,
    picture_progress: Progress | None = None,
) -> ChatRequest:
    """Renders and tokenizes; arguments as in ``ChatOptions``, errors as in ``LLM.chat``. ``encoder`` reads pictures."""
    strange = [tool for tool in tools or () if not _is_tool(tool)]
    if strange:
        expected = 'each tool must be {"type": "function", "function": {"name": ..., "parameters": {...}}}'
        raise ValueError(f"{expected}, got {shown(strange[0])}")
    choice = read_choice(tool_choice, tools or ())
    tools = choice.tools
    chosen = choose_template(metadata, template, tools=bool(tools))
    reader = format_of(chosen.source, tool_format) if tools else frame_of(chosen.source)
    sources: list[Any] = []
    said = message_dicts(messages, sources)
    check_read(said, chosen)
    places = _places(encoder, sources, picture_progress)
    given: Any = (tools, template_kwargs or {})
    if places is not None:
        said = [places.marked(message, parts=chosen.shows_parts) for message in said]
        given = places.without_marks(given)
    prompt, beginning = render(chosen, said, given[0], {**special_texts(tokenizer), **given[1]}, reader)
    found: list[int] | None = None
    inserted: tuple[Inserted | LookedAt, ...] = ()
    if places is not None:
        prompt, found, inserted = places.ids(prompt, tokenizer)
    ids = prompt_ids(tokenizer, prompt, found)
    marks = (*REASONING_MARKS, *REASONING_MARKS.values(), *(reader.marks if reader else ()))
    marks += tuple(mark.partition(">")[0] + ">" for mark in REASONING_MARKS)  # the token that a mark begins with
    visible = frozenset(id for mark in marks if (id := tokenizer.token_to_id(mark)) is not None)
    return ChatRequest(
        prompt, ids, beginning, _before_answer(chosen.source, beginning, reader), chosen.stop,
        visible, tools, choice.required, reader.syntax(chosen.source) if reader else None, reader, reasoning,
        inserted,
    )  # fmt: skip


def _places(encoder: Encoder | None, sources: Sequence[Any], progress: Progress | None) -> Places | None:
    """Where pictures stand, if there are any."""
    if not sources:
        return None
    if encoder is None:
        raise ImageError(
            "this model reads text only, for it was loaded without a projector: LLM.load(model, mmproj=...), or "
            "--mmproj, if there is one for it"
        )
    return Places(encoder, sources, progress)


def _before_answer(source: str, beginning: Beginning, reader: type[ToolReader] | None) -> tuple[str, ...]:
    """The marks that end what comes before the text of an answer."""
    if reader is not None and reader.framed and (beginning.closer is not None or beginning.may_open):
        opens = reader.syntax(source).opens
        if opens and all(mark in source for mark in opens):
            return opens
    return () if beginning.closer is None else (beginning.closer,)


def checked(own: dict[str, Any]) -> dict[str, Any]:
    """Options of the chat itself, of the right kinds. Raises ``TypeError``."""
    given = {name: value for name, value in own.items() if value is not None}
    if "tools" in given:
        given["tools"] = items("tools", given["tools"], "definitions of tools")
    if "reasoning" in given:
        given["reasoning"] = flag("reasoning", given["reasoning"])
    if "picture_progress" in given:
        function("picture_progress", given["picture_progress"])
    for name in {"template", "tool_format"} & given.keys():
        text(name, given[name])
    if not isinstance(given.get("tool_choice", ""), str | Mapping):
        raise naming(
            TypeError(f"tool_choice must be a text or a mapping, got {shown(given['tool_choice'])}"), "tool_choice"
        )
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


def prompt_ids(tokenizer: Tokenizer, prompt: str, ids: list[int] | None = None) -> list[int]:
    """The tokens of a rendered prompt. Templates write BOS themselves, or leave it to the tokenizer: one is enough.
    ``ids`` are those that it has without."""
    ids = tokenizer.encode(prompt, add_special=False, parse_special=True) if ids is None else ids
    if not ids:
        raise ChatTemplateError("the chat template renders nothing for these messages")
    begin = [tokenizer.bos_id] if tokenizer.add_bos and tokenizer.bos_id is not None else []
    return ids if ids[:1] == begin else begin + ids


def special_texts(tokenizer: Tokenizer) -> dict[str, str]:
    """The variables of templates that name special tokens."""
    ids = {"bos_token": tokenizer.bos_id, "eos_token": tokenizer.eos_id}
    return {name: "" if id is None else tokenizer.token_text(id) for name, id in ids.items()}
