"""What an answer in a chat is asked for with; for type checkers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, TypedDict

from llamaq.boundary.progress import Progress
from llamaq.chat.messages import ChatMessage
from llamaq.chat.tools import ToolChoiceOption
from llamaq.serving.stream import Options

__all__ = ["ChatOptions", "Messages", "PromptOptions"]

Messages: TypeAlias = "Sequence[ChatMessage | Mapping[str, Any]]"


class PromptOptions(TypedDict, total=False):
    """What the prompt of a chat is made with; nothing needs to be given.

    ``tools`` are definitions in OpenAI's shape. The prompt comes from the file's chat template, or from ``template``:
    a name of the file's or of ``llamaq.chat.NAMED_TEMPLATES``, or a template's text; ``template_kwargs`` are further
    variables of it, such as ``enable_thinking``. ``tool_format`` names one of ``llamaq.chat.TOOL_FORMATS`` where the
    template does not tell. ``tool_choice`` is OpenAI's: "auto" (the default), "none" (as without tools), "required", a
    tool's name, or one of the dicts for one tool or for some; the model is held to a call where one must come. With
    ``reasoning`` False what the model writes for itself stays in the text, with its marks. ``picture_progress`` gets
    layers of the encoder that pictures are through and in total, before the prompt is read.
    """

    tools: Sequence[Mapping[str, Any]] | None
    template: str | None
    template_kwargs: Mapping[str, Any] | None
    tool_format: str | None
    tool_choice: ToolChoiceOption | None
    reasoning: bool
    picture_progress: Progress | None


class ChatOptions(Options, PromptOptions, total=False):
    """Those of the prompt, and what the answer is asked for with.

    With ``parallel_tool_calls`` False it has one call at most. ``progress`` gets the prompt tokens read and in total.
    """

    parallel_tool_calls: bool
    progress: Progress | None
