"""Chat templates: the file's own, or one of ours that the user names; rendered in a sandbox with bounds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache, cached_property, lru_cache
from typing import Any

from jinja2 import TemplateSyntaxError

from llamaq.chat.meter import Meter, current, weight
from llamaq.chat.named import NAMED_TEMPLATES
from llamaq.chat.sandbox import Sandbox
from llamaq.errors import ChatTemplateError

__all__ = ["ChatTemplate", "choose_template", "file_templates"]

MAX_SOURCE = 1 << 18  # characters; real templates have up to some ten thousand
_KEY = "tokenizer.chat_template"
_ARGUMENTS = {"needle": "x"}
_NONE = re.compile(r"\b(tools|documents) is (?:not )?none\b")
"""What templates ask, such as OLMo 3's."""


class ChatTemplate:
    """A compiled template. ``source`` is its text, ``name`` where it comes from, ``stop`` texts that end an answer
    where the vocabulary has no token for them. Instances may be shared between threads.

    Raises ``ChatTemplateError`` for text that is no template.
    """

    def __init__(self, source: str, name: str = "template", stop: Sequence[str] = ()) -> None:
        self.source, self.name, self.stop = source, name, tuple(stop)
        if len(source) > MAX_SOURCE:
            raise ChatTemplateError(f"{name}: the template has {len(source)} characters, more than {MAX_SOURCE}")
        with self._bounded(Meter()):
            self._template = _sandbox().from_string(source)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        now: datetime | None = None,
        **variables: Any,
    ) -> str:
        """The prompt for a conversation, as Hugging Face's ``apply_chat_template`` gives it.

        ``variables`` are whatever else the template reads, such as ``bos_token`` and ``enable_thinking``; ``now`` is
        the time that it may tell (the clock's by default). Raises ``ChatTemplateError`` where the template refuses
        the conversation, is wrong, or exceeds the bounds of time and size (``llamaq.chat.meter``).
        """
        # None for what there is none of is Hugging Face's; templates that do not ask for it may go through the list.
        given: dict[str, Any] = {**dict.fromkeys(_NONE.findall(self.source)), **variables, "messages": messages}
        if tools is not None:
            given["tools"] = tools
        if now is not None:
            given |= _sandbox().now_globals(now)
        with self._bounded(Meter(weight(given))):
            return self._template.render(given, add_generation_prompt=add_generation_prompt)

    @cached_property
    def arguments_are_objects(self) -> bool:
        """Whether the template writes the arguments of tool calls as JSON itself; else it expects them as JSON text."""
        text = json.dumps(_ARGUMENTS)
        return any(self._shows_call(content, _ARGUMENTS) for content in (None, "")) or not any(
            self._shows_call(content, text) for content in (None, "")
        )

    @cached_property
    def contents_of_calls(self) -> frozenset[str | None]:
        """Which of None and "" can be the content of a message that is a tool call: with the other the template leaves
        the call out, or writes "None"."""
        arguments = _ARGUMENTS if self.arguments_are_objects else json.dumps(_ARGUMENTS)
        return frozenset(content for content in (None, "") if self._shows_call(content, arguments))

    @cached_property
    def knows_developers(self) -> bool:
        """Whether the template compares the role with "developer" and shows such a message."""
        shown = self._shows({"role": "developer", "content": "needle"}, {"role": "user", "content": "Go."})
        return shown and re.search("['\"]developer['\"]", self.source) is not None

    @cached_property
    def shows_system(self) -> bool:
        """Whether the template shows a system message at the beginning; some refuse one, or leave it out."""
        user = {"role": "user", "content": "needle"}
        return self._shows({**user, "role": "system"}, {**user, "content": "Go."}) or not self._shows(user)

    @property
    def shows_parts(self) -> bool:
        """Whether the template tells pictures from text in a content that is a list of parts."""
        return re.search("['\"]image['\"]", self.source) is not None

    def _shows(self, *messages: Mapping[str, Any]) -> bool:
        """Whether the prompt of the messages has the text "needle"."""
        try:
            return "needle" in self.render(messages, bos_token="", eos_token="")
        except ChatTemplateError:
            return False

    def _shows_call(self, content: str | None, arguments: Any) -> bool:
        call = {"id": "call00000", "type": "function", "function": {"name": "probe", "arguments": arguments}}
        messages: list[dict[str, Any]] = [
            {"role": "user", "content": "Call it."},
            {"role": "assistant", "content": content, "tool_calls": [call]},
            {"role": "tool", "content": "done", "tool_call_id": "call00000", "name": "probe"},
        ]
        tool = {"type": "function", "function": {"name": "probe", "description": "", "parameters": {"properties": {}}}}
        try:
            text = self.render(messages, tools=[tool], bos_token="", eos_token="")
        except ChatTemplateError:
            return False
        return "needle" in text and "'needle'" not in text and "None" not in text

    @contextmanager
    def _bounded(self, meter: Meter) -> Iterator[None]:
        token = current.set(meter)
        try:
            yield
        except TemplateSyntaxError as error:
            raise ChatTemplateError(f"{self.name}: line {error.lineno}: {error.message}") from error
        except RecursionError:
            raise ChatTemplateError(f"{self.name}: it is nested too deeply") from None
        except Exception as error:  # a template can call anything with anything
            raise ChatTemplateError(f"{self.name}: {_reason(error)}") from error
        finally:
            current.reset(token)


def file_templates(metadata: Mapping[str, Any]) -> dict[str, str]:
    """The templates of a GGUF file by name; "default" is the one that it means for plain conversations.

    Raises ``ChatTemplateError`` where one is not text.
    """
    found = {}
    for key, value in metadata.items():
        if key == _KEY or key.startswith(_KEY + "."):
            if not isinstance(value, str):
                raise ChatTemplateError(f"{key} holds {type(value).__name__}, not the text of a template")
            found["default" if key == _KEY else key[len(_KEY) + 1 :]] = value
    return found


def choose_template(metadata: Mapping[str, Any], choice: str | None = None, *, tools: bool = False) -> ChatTemplate:
    """The template for a model file.

    ``choice`` names one of the file's or of llamaq's own (``NAMED_TEMPLATES``), or is a template's text. Without it the
    file decides: its "tool_use" where ``tools`` are given, else its default. Raises ``ChatTemplateError`` where the
    file has none, or none of that name: nothing is guessed.
    """
    own = file_templates(metadata)
    if choice is None:
        name = "tool_use" if tools and "tool_use" in own else "default"
        if name not in own:
            raise ChatTemplateError(
                f"the file has no chat template; choose the one that the model was trained with: {_names(own)}"
            )
        return _compiled(own[name], f"the file's chat template{'' if name == 'default' else ' tool_use'}")
    if choice in own:
        return _compiled(own[choice], f"the file's chat template {choice}")
    if choice in NAMED_TEMPLATES:
        return _compiled(*NAMED_TEMPLATES[choice])
    if "{{" in choice or "{%" in choice:
        return _compiled(choice, "the given chat template")
    raise ChatTemplateError(f"there is no chat template {choice!r}; there are {_names(own)}")


def _names(own: Mapping[str, str]) -> str:
    return ", ".join((*own, *(name for name in NAMED_TEMPLATES if name not in own)))


@cache
def _sandbox() -> Sandbox:
    return Sandbox()


def _reason(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text if len(text) <= 500 else text[:500] + "..."


@lru_cache(16)
def _compiled(source: str, name: str, stop: tuple[str, ...] = ()) -> ChatTemplate:
    return ChatTemplate(source, name, stop)
