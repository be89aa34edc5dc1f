"""Tool calls and reasoning, told from an answer's text however it is cut into pieces."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaq.chat.answer import AnswerReader
from llamaq.chat.messages import ChatEvent, ChatMessage, ToolCall, message_dicts
from llamaq.chat.reasoning import REASONING_MARKS, Beginning, ReasoningSplitter
from llamaq.chat.rendering import render
from llamaq.chat.templates import ChatTemplate
from llamaq.chat.tools import TOOL_FORMATS, ToolReader, format_of
from llamaq.errors import ChatTemplateError
from llamaq.serving.answer import Event, FinishReason
from shared_files import shared_path
from templates import DEEPSEEK_V3, DEEPSEEK_V31, FUNCTION_GEMMA, GEMMA4, OLMO3
from tool_answers import ANSWERS, TOOLS


def read(
    format: str, text: str, cuts: Sequence[int] = (), prompt: str = "", reason: FinishReason = "stop"
) -> tuple[ChatMessage, list[ChatEvent]]:
    """The message of an answer that comes in pieces, and its events."""
    reader = AnswerReader(Beginning.after(prompt), TOOL_FORMATS[format](TOOLS) if format else None)
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(edges)]
    events = [event for piece in pieces for event in reader.read(Event(piece, 7))]
    events += reader.read(Event("", None, reason))
    return reader.message, events


def calls(message: ChatMessage) -> list[tuple[str, dict[str, Any]]]:
    return [(call.name, call.arguments) for call in message.tool_calls]


@pytest.mark.parametrize(("format", "text", "content", "expected"), ANSWERS)
@settings(max_examples=25)
@given(cuts=st.lists(st.integers(0, 500), max_size=8))
def test_calls_are_read_however_the_text_is_cut(
    format: str, text: str, content: str, expected: list[tuple[str, dict[str, Any]]], cuts: list[int]
) -> None:
    for places in (cuts, range(len(text))):
        message, events = read(format, text, places)
        assert (message.content, calls(message)) == (content, expected)
        assert events[-1].finish_reason == ("tool_calls" if expected else "stop")
        assert [event.token for event in events].count(7) == len(places) + 1
        deltas = [event.tool_call for event in events if event.tool_call is not None]
        for number, call in enumerate(message.tool_calls):
            mine = [delta for delta in deltas if delta.index == number]
            assert [(delta.id, delta.name) for delta in mine] == [
                (call.id, call.name),
                *[(None, None)] * (len(mine) - 1),
            ]
            assert json.loads("".join(delta.arguments for delta in mine)) == call.arguments
    assert len({call.id for call in message.tool_calls}) == len(expected)


@pytest.mark.parametrize(("format", "text", "content", "expected"), ANSWERS)
@settings(deadline=None, max_examples=5)
@given(cuts=st.lists(st.integers(0, 500), max_size=8))
def test_an_answer_that_is_cut_off_has_no_calls_but_whole_ones(
    format: str, text: str, content: str, expected: list[tuple[str, dict[str, Any]]], cuts: list[int]
) -> None:
    counts = []
    for end in range(len(text)):
        message, events = read(format, text[:end], cuts, reason="length")
        assert calls(message) == expected[: len(message.tool_calls)]
        assert events[-1].finish_reason == "length"
        counts.append(len(message.tool_calls))
    assert counts == sorted(counts)


TAGS = (
    "<tool_call>",
    "</tool_call>",
    "<function=",
    "weather>",
    ">",
    "<parameter=",
    "city>",
    "</parameter>",
    "</function>",
)
MARKS = ("[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "<|python_tag|>", ">>>", "all\n", "weather\n", "<think>", "</think>")
JSON = ('{"name": "now"', ', "arguments": ', ', "parameters": ', "{}", *'{}[]"\\:, \n', "weather", "x", "1", "null")
FRAMES = ("<|channel|>", "<|message|>", "<|start|>", "<|end|>", "<|call|>", "analysis", "final", " to=functions.now")
BRACES = ("<|tool_call>", "call:now", '<|"|>', "<tool_call|>", "<|channel>thought", "<channel|>", "{x:1}", ",y:")
PYTHON = ("<|tool_call_start|>", "<|tool_call_end|>", "[now()", "weather(", "days=2", ")", "**{", "'")
LISTS = ("<|tool_call|>", "<response>", "</response>", "<|START_ACTION|>", "<|END_ACTION|>", "<|START_RESPONSE|>",
         "<TOOLCALL>", "</TOOLCALL>")  # fmt: skip
SECTIONS = (
    "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>", "function<｜tool▁sep｜>",
    "now\n```json\n", "<｜tool▁call▁end｜>", "<|tool_call_begin|>functions.now:0", "<|tool_call_argument_begin|>",
    "<|tool_call_end|>", "<function_calls>", "</function_calls>", "<start_function_call>", "<escape>",
    "<end_function_call>", "<|python_start|>", "<|python_end|>",
)  # fmt: skip
FENCES = ("Action:", "```json", "```", '[{"tool_name": "now", "parameters": {}}]')
UNSENDABLE = ('"\\ud800"', "NaN", "1e999", "-Infinity")
SCRAPS = st.sampled_from(
    [*UNSENDABLE, *TAGS, *MARKS, *FRAMES, *LISTS, *FENCES, *SECTIONS, *JSON, *BRACES, *PYTHON, 'now.call(a="b")']
)


@pytest.mark.parametrize("format", ["", *TOOL_FORMATS])
@settings(max_examples=200)
@given(scraps=st.lists(SCRAPS, max_size=14), cuts=st.lists(st.integers(0, 200), max_size=6))
def test_whatever_a_model_writes_means_the_same_in_pieces(format: str, scraps: list[str], cuts: list[int]) -> None:
    text = "".join(scraps)
    whole, events = read(format, text)
    assert events[-1].finish_reason == ("tool_calls" if whole.tool_calls else "stop")
    for places in (cuts, range(len(text))):
        message, _ = read(format, text, places)
        assert (message.content, message.reasoning, calls(message)) == (whole.content, whole.reasoning, calls(whole))
    named = [event.tool_call.name for event in events if event.tool_call is not None]
    json.dumps([calls(whole), named], ensure_ascii=False, allow_nan=False).encode()  # what is sent


@pytest.mark.parametrize(
    ("schema", "values"),
    [
        ({"type": "string"}, {"42": "42", "null": "null", '"a"': '"a"'}),
        ({"type": ["string", "null"]}, {"42": "42", "null": None, "a b": "a b", '"a"': "a", "true": "true"}),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, {"42": "42", "null": None, "[1]": "[1]"}),
        ({"oneOf": [{"type": "string"}, {"type": "integer"}]}, {"42": 42, "4.5": "4.5", "4.0": 4.0, "x": "x"}),
        ({"anyOf": [{"type": "array"}, {"type": ["string", "number"]}]}, {"[1]": [1], "4.5": 4.5, "{}": "{}"}),
        ({"anyOf": [{"type": "string"}, {"$ref": "#/$defs/x"}]}, {"42": 42}),
        ({"type": "integer"}, {"42": 42, "true": True, "x": "x"}),
        ({}, {"42": 42, "x": "x"}),
    ],
    ids=str,
)  # fmt: skip
def test_values_in_tags_are_of_the_kinds_that_a_parameter_has(schema: dict[str, Any], values: dict[str, Any]) -> None:
    own = {"function": {"name": "f", "parameters": {"properties": {"x": schema}}}}
    for written, value in values.items():
        for format, answer in (
            ("qwen", f"<tool_call><function=f><parameter=x>\n{written}\n</parameter></function></tool_call>"),
            ("glm", f"<tool_call>f<arg_key>x</arg_key><arg_value>{written}</arg_value></tool_call>"),
        ):
            reader = TOOL_FORMATS[format]([own])
            deltas = [event.tool_call for event in [*reader.push(answer), *reader.flush()] if event.tool_call]
            found = json.loads("".join(delta.arguments for delta in deltas))["x"]
            assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("number", ["NaN", "1e999", "-Infinity"])
def test_numbers_that_json_does_not_have_are_no_arguments(number: str) -> None:
    text = f'<tool_call>{{"name": "now", "arguments": {{"x": {number}}}}}</tool_call>'
    message, events = read("hermes", text)
    assert (calls(message), message.content) == ([], f'now{{"x": {number}}}')
    assert events[-1].finish_reason == "stop"
    text = f"<tool_call><function=now><parameter=x>{number}</parameter></function></tool_call>"
    assert calls(read("qwen", text)[0]) == [("now", {"x": number})]


def test_half_a_character_is_replaced() -> None:
    whole, half = "\\ud83d\\ude00", "\\ud83d"
    text = f'<tool_call>{{"name": "no{half}w", "arguments": {{"{half}": "{whole}{half}"}}}}</tool_call>'
    assert calls(read("hermes", text)[0]) == [("no\ufffdw", {"\ufffd": "\U0001f600\ufffd"})]


def test_deep_nesting_is_no_call() -> None:
    deep = "[" * 100_000
    for format, text in [
        ("hermes", f'<tool_call>{{"x": {deep}'),
        ("hermes", f'<tool_call>{{"name": "now", "arguments": {{"x": {deep}{"]" * 100_000}}}}}</tool_call>'),
        ("qwen", f"<tool_call><function=now><parameter=x>{deep}</parameter></function></tool_call>"),
        ("llama3", f"<|python_tag|>now({deep})"),
        ("lfm2", f"<|tool_call_start|>[now(x={deep})]<|tool_call_end|>"),
        ("gemma4", f"<|tool_call>call:now{{x:{deep}{']' * 100_000}}}<tool_call|>"),
    ]:
        message, _ = read(format, text)
        assert len(message.content) > 100_000 or message.tool_calls


def test_arguments_stream_as_they_come() -> None:
    for format, before in [
        ("hermes", '<tool_call>{"name": "weather", "arguments": '),
        ("functionary-v3.1", "<function=weather>"),
        ("functionary-v3.2", "weather\n"),
        ("llama3", '{"name": "weather", "parameters": '),
        ("mistral", '[TOOL_CALLS][{"name": "weather", "arguments": '),
        ("gpt-oss", "<|channel|>commentary to=functions.weather<|message|>"),
        ("granite", '<|tool_call|>[{"name": "weather", "arguments": '),
        ("command-r7b", '<|START_ACTION|>[{"tool_name": "weather", "parameters": '),
        ("command-r", 'Action: ```json\n[{"tool_name": "weather", "parameters": '),
        ("deepseek", "<｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n"),
        ("deepseek", "<｜tool▁call▁begin｜>weather<｜tool▁sep｜>"),
        ("kimi-k2", "<|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>"),
    ]:
        reader = TOOL_FORMATS[format](TOOLS)

        def push(text: str, reader: ToolReader = reader) -> list[tuple[str | None, str]]:
            return [(call.name, call.arguments) for event in reader.push(text) if (call := event.tool_call) is not None]

        assert push(before) in ([("weather", "")], [])  # some wait for the first character of the arguments
        assert [*push(before[:0]), *push('{"ci')][-1] == (None, '{"ci')
        assert push('ty": "Pa') == [(None, 'ty": "Pa')]


def test_a_call_that_is_cut_off_stays_as_text() -> None:
    message, _ = read("hermes", '<tool_call>{"name": "weather", "arguments": {"city": "Par')
    assert (message.content, message.tool_calls) == ('weather{"city": "Par', ())


SPOKEN = {
    "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use": "hermes",
    "GLM-4.7-Flash": "glm",
    "Qwen-Qwen2.5-7B-Instruct": "qwen",
    "Qwen3-Coder": "qwen",
    "meetkai-functionary-medium-v3.1": "functionary-v3.1",
    "meetkai-functionary-medium-v3.2": "functionary-v3.2",
    "meta-llama-Llama-3.1-8B-Instruct": "llama3",
    "meta-llama-Llama-3.2-3B-Instruct": "llama3",
    "LFM2-8B-A1B": "lfm2",
    "LFM2.5-Instruct": "lfm2",
    "GEMMA4": "gemma4",
    "FUNCTION_GEMMA": "functiongemma",
    "OLMO3": "olmo3",
    "DEEPSEEK_V3": "deepseek",
    "DEEPSEEK_V31": "deepseek",
    "moonshotai-Kimi-K2": "kimi-k2",
    "mistralai-Mistral-Nemo-Instruct-2407": "mistral",
    "CohereForAI-c4ai-command-r7b-12-2024-tool_use": "command-r7b",
    "ibm-granite-granite-3.3-2B-Instruct": "granite",
}
SHAPES = {
    "GEMMA4": GEMMA4, "FUNCTION_GEMMA": FUNCTION_GEMMA, "OLMO3": OLMO3, "DEEPSEEK_V3": DEEPSEEK_V3,
    "DEEPSEEK_V31": DEEPSEEK_V31,
}  # fmt: skip


@pytest.mark.parametrize("name", SPOKEN)
def test_what_a_template_writes_is_read_back(shared: Callable[[str], Path], name: str) -> None:
    """The calls of an earlier turn, as a real template shows them to the model, are in the format that it writes."""
    source = SHAPES.get(name) or shared(f"templates/{name}.jinja").read_text(encoding="utf-8")
    template = ChatTemplate(source)
    assert format_of(template.source) is TOOL_FORMATS[SPOKEN[name]]
    call = ToolCall("abcdefghi", "weather", {"city": "Rome", "days": 2})
    said = [ChatMessage("user", "Weather?"), ChatMessage("assistant", tool_calls=(call,))]
    given = {"bos_token": "<s>", "eos_token": "</s>", "enable_thinking": SPOKEN[name] != "glm"}
    for template_kwargs in ({}, {"tools_in_user_message": False}):
        format = TOOL_FORMATS[SPOKEN[name]]
        before, _ = render(template, message_dicts(said[:1]), tuple(TOOLS), given | template_kwargs, format)
        variables = given | template_kwargs | {"add_generation_prompt": False}
        text, _ = render(template, message_dicts(said), tuple(TOOLS), variables, format)
        for end in ("<|eot_id|>", "<|eom_id|>", "<|im_end|>", "</s>", "<|end_of_text|>", "<｜end▁of▁sentence｜>"):
            text = text.rstrip().removesuffix(end)
        assert text.startswith(before.rstrip())
        message, _ = read(SPOKEN[name], text[len(before.rstrip()) :])
        assert calls(message) == [("weather", {"city": "Rome", "days": 2})]


def test_what_nemotrons_template_writes_is_read_back(shared: Callable[[str], Path]) -> None:
    """It leaves out the thought that it begins a new turn with."""
    template = ChatTemplate(shared("templates/NVIDIA-Nemotron-Nano-v2.jinja").read_text(encoding="utf-8"))
    assert format_of(template.source) is TOOL_FORMATS["nemotron"]
    call = ToolCall("abcdefghi", "weather", {"city": "Rome", "days": 2})
    said = [ChatMessage("user", "Weather?"), ChatMessage("assistant", tool_calls=(call,)), ChatMessage("tool", "Rain.")]
    text, _ = render(template, message_dicts(said), tuple(TOOLS), {}, TOOL_FORMATS["nemotron"])
    message, _ = read("nemotron", text.partition("<SPECIAL_11>Assistant\n")[2].partition("\n<SPECIAL_12>")[0])
    assert (message.content, calls(message)) == ("", [("weather", {"city": "Rome", "days": 2})])


def test_formats_that_are_not_known_are_refused(shared: Callable[[str], Path]) -> None:
    for name, message in [
        ("microsoft-Phi-3.5-mini-instruct", "no place for tools"),
        ("MiniMax-M2", "a format that llamaq does not read; tool_format= takes one of llama3, hermes"),
        ("MiniMax-M3", "does not read"),
    ]:
        source = shared_path(f"templates/{name}.jinja").read_text(encoding="utf-8")
        with pytest.raises(ChatTemplateError, match=message):
            format_of(source)
        assert format_of(source, "hermes") is TOOL_FORMATS["hermes"]
    with pytest.raises(ChatTemplateError, match="no tool format 'gpt'"):
        format_of("", "gpt")


def test_templates_say_how_they_want_arguments(shared: Callable[[str], Path]) -> None:
    def objects(source: str) -> bool:
        return ChatTemplate(source).arguments_are_objects

    wants_text = {path.stem for path in shared("templates").glob("*.jinja") if not objects(path.read_text("utf-8"))}
    assert wants_text == {"meetkai-functionary-medium-v3.2"}
    loop = "{%% for m in messages %%}{%% for c in m.tool_calls or [] %%}{{ %s }}{%% endfor %%}{%% endfor %%}"
    assert objects(loop % "c.function.arguments|tojson")
    assert not objects(loop % "'<' + c.function.arguments + '>'")
    assert not objects(loop % "c.function.arguments")


@given(cuts=st.lists(st.integers(0, 200), max_size=8), mark=st.sampled_from(sorted(REASONING_MARKS)))
def test_reasoning_is_told_from_the_answer(cuts: list[int], mark: str) -> None:
    close = REASONING_MARKS[mark]
    for text, prompt in (
        (f"{mark}\nSo: 1 < 2 </b>.\n{close}\n\nYes {mark} no.\n", ""),
        (f"\n{mark}So: 1 < 2 </b>.{close}Yes {mark} no.\n", "user: Is it?\n"),
        (f"So: 1 < 2 </b>.\n\n{close}\nYes {mark} no.\n", f"assistant: {mark}\n"),
    ):
        for places in (cuts, range(len(text))):
            message, _ = read("", text, places, prompt)
            assert (message.reasoning, message.content) == ("So: 1 < 2 </b>.", f"Yes {mark} no.\n")
    for text in ("\n Yes.", mark[:-1], f"Yes. {mark}x{close}", "", " "):
        assert read("", text, cuts)[0] == ChatMessage("assistant", text)
    assert read("", f"{mark} never closed {close[:-1]}", cuts)[0].reasoning == f"never closed {close[:-1]}"


def test_reasoning_streams_as_it_comes() -> None:
    splitter = ReasoningSplitter()
    assert [splitter.push(piece) for piece in ("<th", "ink>\n", "One ", "two", "</thi", "nk>", "\n\nThree", " ")] == [
        ("", ""), ("", ""), ("One", ""), (" two", ""), ("", ""), ("", ""), ("", "Three"), ("", " "),
    ]  # fmt: skip


def test_reasoning_and_calls_in_one_answer() -> None:
    message, events = read("hermes", '<think>Hm.</think>\n<tool_call>{"name": "now", "arguments": {}}</tool_call>')
    assert (message.reasoning, message.content, calls(message)) == ("Hm.", "", [("now", {})])
    assert events[-1].finish_reason == "tool_calls"


def test_messages_in_their_shapes() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    given: list[Any] = [
        ChatMessage("system", "Be kind."),
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None, "tool_calls": [call, ToolCall("2", "g", {})]},
        {"role": "assistant", "tool_calls": ({"function": {"name": "h", "arguments": None}},)},
        ChatMessage("tool", "7", tool_call_id="1", name="f"),
        ChatMessage("assistant", "ok", reasoning="hm"),
    ]
    said = [
        {"id": "1", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}},
        {"id": "2", "type": "function", "function": {"name": "g", "arguments": {}}},
    ]
    assert message_dicts(given) == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "ab"},
        {"role": "assistant", "content": None, "tool_calls": said},
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "h", "arguments": {}}}]},
        {"role": "tool", "content": "7", "tool_call_id": "1", "name": "f"},
        {"role": "assistant", "content": "ok", "reasoning_content": "hm"},
    ]
    assert call["function"] == {"name": "f", "arguments": '{"x": 1}'}  # the caller's objects are left alone


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ("Hello", "must be a list"),
        ([{"content": "x"}], "message 0: expected a dict with a"),
        ([{"role": "user", "content": 5}], "message 0: the content must be text"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "must be text, or a list of text parts"),
        ([{"role": "user", "content": ["a"]}], "must be text, or a list of text parts"),
        ([{"role": "user", "content": {"text": "a"}}], "must be text, or a list of text parts"),
        ([{"role": "assistant", "tool_calls": [{"name": "f"}]}], 'message 0: a tool call needs a "function"'),
        ([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}], "of f are no JSON"),
    ],
)
def test_messages_that_are_none(messages: Any, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        message_dicts(messages)


def test_calls_that_are_no_list() -> None:
    with pytest.raises(TypeError, match="message 0: tool_calls must be a list of tool calls, got True"):
        message_dicts([{"role": "assistant", "tool_calls": True}])
