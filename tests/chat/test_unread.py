"""What templates would pass over in silence: system messages, tools without a description, roles and keys."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llamaq import LLM
from llamaq.chat.messages import message_dicts
from llamaq.chat.named import NAMED_TEMPLATES
from llamaq.chat.rendering import render
from llamaq.chat.templates import ChatTemplate
from llamaq.chat.unread import check_read, without_unread
from llamaq.errors import ChatTemplateError

SYSTEM, USER = {"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}
REFUSES = """\
{%- if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}
{%- for m in messages %}<{{ m.role }}>{{ m.content if m.content is string else m.content | tojson }}{% endfor %}"""
"""Gemma 2's habit."""
LEAVES_OUT = "{% for m in messages if m.role != 'system' %}<{{ m.role }}>{{ m.content }}{% endfor %}"
DESCRIBES = """\
{%- for tool in tools or [] %}{{ 'def ' + tool.function.name + ': ' + tool.function.description }}{% endfor %}
{%- for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"""
"""Command R+'s habit."""


def prompt_of(source: str, *messages: Any, tools: Any = ()) -> str:
    return render(ChatTemplate(source), message_dicts(messages), tools, {"bos_token": "", "eos_token": ""})[0]


@pytest.mark.parametrize("source", [REFUSES, LEAVES_OUT])
def test_a_system_message_that_a_template_does_not_show_is_said_by_the_user(source: str) -> None:
    for role in ("system", "developer"):
        assert prompt_of(source, {**SYSTEM, "role": role}, USER) == "<user>Be kind.\n\nHello"
    greeting = {"role": "assistant", "content": "Hi"}
    assert prompt_of(source, SYSTEM, greeting, USER, greeting, USER) == (
        "<assistant>Hi<user>Be kind.\n\nHello<assistant>Hi<user>Hello"
    )
    assert prompt_of(source, {**SYSTEM, "content": " "}, USER) == "<user>Hello"
    assert prompt_of(source, USER) == "<user>Hello"


def test_pictures_stay_behind_what_the_system_said() -> None:
    said = [SYSTEM, {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Hello"}]}]
    parts = '[{"type": "text", "text": "Be kind.\\n\\n"}, {"type": "image"}, {"type": "text", "text": "Hello"}]'
    assert render(ChatTemplate(REFUSES), said, (), {})[0] == f"<user>{parts}"


def test_a_system_message_without_a_user_is_the_templates_to_refuse() -> None:
    with pytest.raises(ChatTemplateError, match="no system"):
        prompt_of(REFUSES, SYSTEM)


def test_real_templates_show_system_messages_themselves(shared: Callable[[str], Path]) -> None:
    own = {name: ChatTemplate(source) for name, (source, _, _) in NAMED_TEMPLATES.items()}
    files = sorted(shared("templates").glob("*.jinja"))
    real = {path.stem: ChatTemplate(path.read_text(encoding="utf-8"), path.stem) for path in files}
    assert [name for name, one in (own | real).items() if not one.shows_system] == []


@pytest.mark.parametrize("given", [{}, {"description": None}, {"description": ""}])
def test_a_tool_needs_no_description(given: dict[str, Any]) -> None:
    function = {"name": "now", "parameters": {"properties": {}}, **given}
    tools = ({"type": "function", "function": function}, {"name": "then", "description": "Later."})
    assert prompt_of(DESCRIBES, USER, tools=tools[:1]) == "def now: <user>Hello"
    shows = "{{ tools | tojson if tools }}{{ messages[0].content }}"  # elsewhere a tool stays as it is
    assert ('"description": ""' in prompt_of(shows, USER, tools=tools[:1])) == (given == {"description": ""})
    with pytest.raises(ChatTemplateError, match="mine"):
        prompt_of("{{ raise_exception('mine') if tools }}{{ messages[0].content }}", USER, tools=tools)


def test_roles_are_the_usual_ones_or_the_templates(model: LLM) -> None:
    for role in ("system", "developer", "user", "assistant", "tool"):
        check_read([{"role": role, "content": "x"}], ChatTemplate(""))
    own = ChatTemplate("{{ messages[0].role == 'document' }}")
    check_read([{"role": "document 3", "content": "x"}], own)
    for role in ("asistant", "", "docu", "role", "("):
        with pytest.raises(ValueError, match=rf"message 1: expected a role of system, .*; got '{re.escape(role)}'"):
            check_read([USER, {"role": role, "content": "x"}], own)
    with pytest.raises(ValueError, match=r"message 0: expected a role of system, .* names; got 'usr'"):
        model.chat([{**USER, "role": "usr"}], template="chatml", max_tokens=1)


def test_keys_that_nothing_reads_are_named(model: LLM) -> None:
    empty: dict[str, Any] = {"refusal": None, "annotations": [], "audio": None, "prefix": False, "tool_calls": None}
    answer = {"role": "assistant", "content": "Hi", **empty}
    asked = [USER, answer, {**USER, "name": "Ada"}]
    assert model.chat(asked, template="chatml", max_tokens=1).usage.completion_tokens == 1
    with pytest.raises(ValueError, match=r"message 1: nothing reads the key 'refusal', neither llamaq nor .*chatml"):
        model.chat([USER, {**answer, "refusal": "No."}, USER], template="chatml", max_tokens=1)
    knows = "{% for m in messages %}{{ m.content }}{{ m.mood }}{{ m['tone'] }}{% endfor %}"
    check_read([{**USER, "mood": "good", "tone": "low"}], ChatTemplate(knows))
    with pytest.raises(ValueError, match="'moo'"):
        check_read([{**USER, "moo": 1}], ChatTemplate(knows))


def test_unread_keys_can_be_left_out(model: LLM) -> None:
    said = [USER, {**USER, "mood": "good", "weight": 0.5}, {**USER, "weight": 1, "tone": ""}]
    found, names = without_unread({}, said, "{{ messages[0].mood }}{{ messages[0].content }}")
    assert names == ["weight"]
    assert found == [USER, {**USER, "mood": "good"}, {**USER, "tone": ""}]
    assert found[0] is said[0]


@pytest.fixture(scope="module")
def model(shared: Callable[[str], Path]) -> LLM:
    return LLM.load(shared("models/stories260K-Q4_0.gguf"), threads=1, n_ctx=256)
