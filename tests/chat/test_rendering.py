"""How messages become the prompt: answers that go on, roles, tool calls without text, tools without a place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llamaq import LLM, ChatMessage, SamplingParams
from llamaq.chat.answer import AnswerReader
from llamaq.chat.messages import ToolCall, message_dicts
from llamaq.chat.named import NAMED_TEMPLATES
from llamaq.chat.reasoning import REASONING_MARKS, Beginning
from llamaq.chat.rendering import render
from llamaq.chat.templates import ChatTemplate
from llamaq.errors import ChatTemplateError
from llamaq.serving.answer import Event

GIVEN = {"bos_token": "<s>", "eos_token": "</s>"}
USER = {"role": "user", "content": "Hello"}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "", "parameters": {"properties": {}}}}
CALL = ToolCall("abcdefghi", "weather", {"city": "Rome"})
WANTS = {"fireworks-ai-llama-3-firefunction-v2": {"functions": "", "datetime": ""}}
"""Variables without which a template renders nothing."""


def prompt_of(template: ChatTemplate, *messages: Any, **variables: Any) -> tuple[str, Beginning]:
    return render(template, message_dicts(messages), (), {**GIVEN, **WANTS.get(template.name, {}), **variables})


@pytest.fixture(scope="module")
def templates(shared: Callable[[str], Path]) -> list[ChatTemplate]:
    files = sorted(shared("templates").glob("*.jinja"))
    assert len(files) >= 35
    own = [ChatTemplate(source, name) for name, (source, _, _) in NAMED_TEMPLATES.items()]
    return [ChatTemplate(path.read_text(encoding="utf-8"), path.stem) for path in files] + own


def template(shared: Callable[[str], Path], name: str) -> ChatTemplate:
    return ChatTemplate(shared(f"templates/{name}.jinja").read_text(encoding="utf-8"), name)


def test_a_last_message_of_the_assistant_is_gone_on_with(templates: list[ChatTemplate]) -> None:
    for one in templates:
        new, _ = prompt_of(one, USER)
        prompt, beginning = prompt_of(one, USER, {"role": "assistant", "content": "Hello, the sum is "})
        assert prompt.endswith("Hello, the sum is "), one.name
        assert prompt.count("Hello, the sum is") == 1, one.name
        header = new.rstrip()
        for mark, close in REASONING_MARKS.items():
            header = header.removesuffix(mark + close).removesuffix(close).removesuffix(mark).rstrip()
        assert prompt.startswith(header), one.name
        thinks = one.name == "NVIDIA-Nemotron-Nano-v2"  # it takes that message as the beginning of a thought
        assert beginning == Beginning("</think>" if thinks else None, False), one.name
        ended = one.render([USER, {"role": "assistant", "content": "Hello, the sum is "}], add_generation_prompt=False,
                           **GIVEN, **WANTS.get(one.name, {}))  # fmt: skip
        assert ended.startswith(prompt.rstrip()), one.name


def test_a_thought_that_was_cut_is_gone_on_with(templates: list[ChatTemplate]) -> None:
    for one in templates:
        new, _ = prompt_of(one, USER)
        for message in (
            {"role": "assistant", "content": "<think>\nLet me se"},
            {"role": "assistant", "content": "", "reasoning_content": "Let me se"},
            ChatMessage("assistant", reasoning="Let me se"),
        ):
            prompt, beginning = prompt_of(one, USER, message)
            before = prompt.removesuffix("Let me se").rstrip()
            assert before.endswith(tuple(REASONING_MARKS)), one.name
            assert beginning.closer in REASONING_MARKS.values(), one.name
            assert not beginning.trim
            assert not before.removesuffix("<think>").rstrip().endswith(tuple(REASONING_MARKS.values())), one.name
            if new.rstrip().endswith(tuple(REASONING_MARKS)):
                assert prompt == new + "Let me se" or prompt == new + "\nLet me se", one.name


def test_an_empty_answer_is_a_new_turn(templates: list[ChatTemplate]) -> None:
    for one in templates:
        for content in ("", None, "\n"):
            said = {"role": "assistant", "content": content, "reasoning_content": None}
            assert prompt_of(one, USER, said) == prompt_of(one, USER), one.name


def test_what_has_been_thought_to_its_end_may_be_left_out(shared: Callable[[str], Path]) -> None:
    said = {"role": "assistant", "content": "<think>\nHm.\n</think>\n\nThe sum"}
    chatml = ChatTemplate(NAMED_TEMPLATES["chatml"][0])
    assert prompt_of(chatml, USER, said)[0].endswith("assistant\n<think>\nHm.\n</think>\n\nThe sum")
    leaves_out = ChatTemplate("{% for m in messages %}[{{ m.content.split('</think>')[-1] | trim }}]{% endfor %}")
    for one in (chatml, leaves_out):
        prompt, beginning = prompt_of(one, USER, said)
        assert prompt.endswith("The sum")
        assert beginning == Beginning(None, False)
    assert prompt_of(leaves_out, USER, said)[0] == "[Hello][The sum"


def test_white_space_around_the_message_is_the_templates_matter() -> None:
    said = {"role": "assistant", "content": "  The sum is "}
    for name, expected in (("llama3", "\n\nThe sum is "), ("chatml", "\n  The sum is ")):
        assert prompt_of(ChatTemplate(NAMED_TEMPLATES[name][0]), USER, said)[0].endswith(expected)


def test_a_new_turn_can_be_asked_for() -> None:
    chatml = ChatTemplate(NAMED_TEMPLATES["chatml"][0])
    said = {"role": "assistant", "content": "Hi"}
    prompt, beginning = prompt_of(chatml, USER, said, add_generation_prompt=True)
    assert prompt.endswith("assistant\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert beginning == Beginning()
    assert prompt_of(chatml, USER, said, add_generation_prompt=False)[0].endswith("assistant\nHi<|im_end|>\n")


def test_what_cannot_be_gone_on_with_is_an_error() -> None:
    said = {"role": "assistant", "content": 'say "x"'}
    for source in ("{{ messages[0].content }}", "{{ messages|tojson }}", "{{ messages[-1].content|upper }}"):
        with pytest.raises(ChatTemplateError, match="does not show the assistant's last message as it is"):
            prompt_of(ChatTemplate(source), USER, said)
    with pytest.raises(ValueError, match="the last message calls tools: their results follow"):
        prompt_of(ChatTemplate("{{ messages|length }}"), USER, ChatMessage("assistant", tool_calls=(CALL,)))


@pytest.mark.parametrize("end", ["<", "</thi", "</think"])
@pytest.mark.parametrize("source", ["", "<think>\n"])
def test_a_mark_that_was_cut_off_is_written_anew(source: str, end: str) -> None:
    template = ChatTemplate("{% for m in messages %}[{{ m.content }}]{% endfor %}" + source)
    for said in ({"content": f"<think>\nHm.\n{end}"}, {"content": "", "reasoning_content": f"Hm.\n{end}"}):
        prompt, beginning = prompt_of(template, USER, {"role": "assistant", **said})
        assert prompt == "[Hello]<think>\nHm.\n"
        assert beginning.closer == "</think>"


def test_the_answer_is_what_follows(shared: Callable[[str], Path]) -> None:
    greedy = SamplingParams(temperature=0)
    with LLM.load(shared("models/stories260K-F32.gguf"), threads=1) as llm:
        said = [USER, ChatMessage("assistant", "Once upon a time")]
        prompt = "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\nOnce upon a time"
        expected = llm.generate(prompt, max_tokens=20, sampling=greedy)
        done = llm.chat(said, template="chatml", max_tokens=20, sampling=greedy)
        assert done.text == expected.text
        assert done.usage.prompt_tokens == expected.usage.prompt_tokens
        whole = llm.chat([USER, ChatMessage("assistant", "Once")], template="chatml", max_tokens=20, sampling=greedy)
        assert "Once" + whole.text != whole.text


def test_what_follows_is_reasoning_or_not_as_what_was_begun() -> None:
    for begun, text, expected in [
        ("Yes", " <think>x</think> no", ChatMessage("assistant", " <think>x</think> no")),
        ("<think>\nLet me", " see.\n</think>\n\nYes.", ChatMessage("assistant", "Yes.", " see.")),
        ("<think>", "\nHm.</think>Yes.", ChatMessage("assistant", "Yes.", "Hm.")),
        ("<think>Hm.</think>", "\n\nYes.", ChatMessage("assistant", "Yes.")),
        ("", "<think>Hm.</think>Yes.", ChatMessage("assistant", "Yes.", "Hm.")),
    ]:
        reader = AnswerReader(Beginning.after("assistant: " + begun, begun))
        for piece in text:
            reader.read(Event(piece, 7))
        reader.read(Event("", None, "stop"))
        assert reader.message == expected, begun


def test_white_space_behind_a_thought_that_a_prompt_ends_is_none_of_the_answer() -> None:
    """GLM 4.5 without thinking begins a line there."""
    reader = AnswerReader(Beginning.after("<|assistant|>\n<think></think>"))
    for piece in ("\n", "\n  Yes", ". "):
        reader.read(Event(piece, 7))
    reader.read(Event("", None, "stop"))
    assert reader.message == ChatMessage("assistant", "Yes. ")


DISTILLED = """\
{%- for m in messages -%}
{%- if m.role == 'user' -%}{{ '<User>' + m.content }}{%- endif -%}
{%- if m.role == 'assistant' and m.content is none -%}
{%- for c in m.tool_calls -%}{{ '<Call>' + c.function.name + '\\n' + c.function.arguments }}{%- endfor -%}
{%- endif -%}
{%- if m.role == 'assistant' and m.content is not none -%}{{ '<Assistant>' + m.content }}{%- endif -%}
{%- if m.role == 'tool' -%}{{ '<Result>' + m.content }}{%- endif -%}
{%- endfor -%}"""
WRITES_NONE = """\
{%- for m in messages -%}
{{ '<' ~ m.role ~ '>' ~ m.content }}{%- for c in m.tool_calls or [] -%}{{ c.function|tojson }}{%- endfor -%}
{%- endfor -%}"""
RESULT = {"role": "tool", "content": "Rain", "tool_call_id": "abcdefghi"}


@pytest.mark.parametrize("content", [None, ""])
def test_a_call_without_text_is_shown_whatever_the_template_tests_for(content: str | None) -> None:
    call = {"role": "assistant", "content": content, "tool_calls": [CALL]}
    for message in (call, {key: call[key] for key in ("role", "tool_calls")}):
        said = [USER, message, RESULT]
        assert prompt_of(ChatTemplate(DISTILLED), *said)[0] == '<User>Hello<Call>weather\n{"city": "Rome"}<Result>Rain'
        assert prompt_of(ChatTemplate(WRITES_NONE), *said)[0] == (
            '<user>Hello<assistant>{"name": "weather", "arguments": {"city": "Rome"}}<tool>Rain'
        )
    typed = [USER, ChatMessage("assistant", tool_calls=(CALL,)), RESULT]
    assert "<Call>weather" in prompt_of(ChatTemplate(DISTILLED), *typed)[0]


def test_null_stays_null_where_the_template_can_have_it() -> None:
    source = "{% for m in messages %}{{ m.content is none }}{% for c in m.tool_calls or [] %}{{ c|tojson }}{% endfor %}"
    one = ChatTemplate(source + "{% endfor %}")
    said = [USER, {"role": "assistant", "content": None, "tool_calls": [CALL]}, RESULT]
    assert prompt_of(one, *said)[0].startswith("FalseTrue{")
    said[1] = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    assert prompt_of(one, *said)[0].startswith("FalseFalse{")


def test_the_role_developer_is_system_where_the_template_does_not_know_it(shared: Callable[[str], Path]) -> None:
    said = [{"role": "developer", "content": "Be kind."}, USER]
    for name in ("llama3", "chatml", "llama2", "vicuna"):
        one = ChatTemplate(NAMED_TEMPLATES[name][0])
        assert prompt_of(one, *said) == prompt_of(one, {**said[0], "role": "system"}, USER)
    ignores = template(shared, "Cohere2MoE")
    assert "developer" in ignores.source
    assert "Be kind." in prompt_of(ignores, *said)[0]
    for name in ("deepseek-ai-DeepSeek-V4", "MiniMax-M3", "Reka-Edge"):
        knows = template(shared, name)
        assert knows.knows_developers, name
        assert prompt_of(knows, *said)[0] == knows.render(said, **GIVEN)


def test_tools_that_the_template_does_not_show_are_an_error(shared: Callable[[str], Path]) -> None:
    without = template(shared, "microsoft-Phi-3.5-mini-instruct")
    for one in (without, ChatTemplate("{{ messages[-1].content }}{# tools #}", "mine")):
        with pytest.raises(ChatTemplateError, match=f"{one.name} has no place for tools"):
            render(one, message_dicts([USER]), [WEATHER], GIVEN)
        with pytest.raises(ChatTemplateError, match="has no place for tools"):
            render(one, message_dicts([USER, {"role": "assistant", "content": "x"}]), [WEATHER], GIVEN)
        render(one, message_dicts([USER]), [], GIVEN)
    shown, _ = render(template(shared, "Qwen-Qwen2.5-7B-Instruct"), message_dicts([USER]), [WEATHER], GIVEN)
    assert '"weather"' in shown
