"""What an answer must match: the caller's structure, calls of tools, or one of both."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from llamaq.chat.tools import calls_structure
from llamaq.errors import naming
from llamaq.structure import Structure

if TYPE_CHECKING:
    from llamaq.chat.request import ChatRequest
    from llamaq.tokenizer import Tokenizer

__all__ = ["held_to"]


def held_to(
    request: ChatRequest, tokenizer: Tokenizer, given: Structure | None, *, parallel: bool = True
) -> Structure | None:
    """Where a tool must be called, its calls; where one may be, they or the JSON that is ``given``; else what is given,
    behind what comes before an answer.

    Raises ``ValueError`` where a call must come and the answer has begun as a text, and what ``calls_structure`` does.
    """
    beginning = request.beginning
    begun = beginning.closer is None and not beginning.may_open and not beginning.trim
    if request.required and begun:
        message = (
            "tool_choice asks for a call, but the last message is the beginning of a text; end with another message"
        )
        raise naming(ValueError(message), "tool_choice")
    either = request.tools and given is not None and given.kind == "json_schema" and not begun
    if request.syntax is None or not (request.required or either):
        return given if given is None or not request.structure_after else given.following(*request.structure_after)
    tools, answer = request.required, None
    if not tools and given is not None:
        tools, answer = request.tools, json.loads(given.text)
    found = calls_structure(
        request.syntax, tokenizer, tools, several=parallel, answer=answer, thinking=beginning.closer is not None
    )
    return found if beginning.closer is None else found.following(beginning.closer)
