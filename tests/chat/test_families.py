"""Answers as the families of models frame them, with templates in the shape of theirs: rendered, written, read back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bigrams import bigram_file
from llamaq import LLM, SamplingParams
from llamaq.chat import ChatMessage, ChatRequest, ToolCall, chat_request
from llamaq.chat.answer import AnswerReader
from llamaq.chat.reasoning import Beginning
from llamaq.chat.templates import ChatTemplate
from llamaq.chat.tools import TOOL_FORMATS
from llamaq.gguf import GGUFFile
from llamaq.serving.answer import Event
from llamaq.structure import regex
from llamaq.tokenizer import Tokenizer, load_tokenizer
from templates import HARMONY, OLMO3

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"properties": {"city": {"type": "string"}}}}}
ASKED = ChatMessage("user", "Weather?")
CALL = ToolCall("abcdefghi", "weather", {"city": "Rome"})


@pytest.fixture(scope="module")
def tokenizer(shared: Callable[[str], Path]) -> Tokenizer:
    with GGUFFile.open(shared("models/stories260K-F32.gguf")) as file:
        return load_tokenizer(file.metadata)


def request(tokenizer: Tokenizer, source: str, *said: ChatMessage, **options: Any) -> ChatRequest:
    return chat_request({"tokenizer.chat_template": source}, tokenizer, said, **options)


def answer(reader: AnswerReader, text: str) -> ChatMessage:
    for character in text:
        reader.read(Event(character, 7))
    reader.read(Event("", None, "stop"))
    return reader.message


def test_gpt_oss_thinks_calls_and_answers(tokenizer: Tokenizer) -> None:
    asked = request(tokenizer, HARMONY, ASKED, tools=[TOOL])
    assert asked.prompt.endswith("<|start|>assistant")
    thought = "<|channel|>analysis<|message|>Look it up.<|end|>"
    called = answer(
        asked.reader(),
        f"{thought}<|start|>assistant<|channel|>commentary<|message|>One moment.<|end|>"
        '<|start|>assistant to=functions.weather<|channel|>commentary <|constrain|>json<|message|>{"city": "Rome"}',
    )
    assert (called.reasoning, called.content) == ("Look it up.", "One moment.")
    assert [(call.name, call.arguments) for call in called.tool_calls] == [("weather", {"city": "Rome"})]
    again = request(tokenizer, HARMONY, ASKED, called, ChatMessage("tool", "Rain."), tools=[TOOL])
    assert "analysis<|message|>Look it up.\nOne moment.<|end|>" in again.prompt
    assert "to=functions.weather<|channel|>commentary json<|message|>" in again.prompt
    done = answer(again.reader(), f"{thought}<|start|>assistant<|channel|>final<|message|>It rains.\n")
    assert (done.reasoning, done.content, done.tool_calls) == ("Look it up.", "It rains.\n", ())


def test_gpt_oss_has_channels_without_tools(tokenizer: Tokenizer) -> None:
    asked = request(tokenizer, HARMONY, ASKED)
    text = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes."
    assert answer(asked.reader(), text) == ChatMessage("assistant", "Yes.", "Hm.")
    unclosed = "<|channel|>analysis<|message|>Hm.<|channel|>final<|message|>Yes."
    assert answer(asked.reader(), unclosed) == ChatMessage("assistant", "Yes.", "Hm.")
    assert asked.structure_after == ("<|channel|>final", "<|message|>")


def test_an_answer_of_gpt_oss_goes_on(tokenizer: Tokenizer) -> None:
    begun = request(tokenizer, HARMONY, ASKED, ChatMessage("assistant", "It is"))
    assert begun.prompt.endswith("<|start|>assistant<|channel|>final<|message|>It is")
    assert begun.structure_after == ()
    assert answer(begun.reader(), " to rain.") == ChatMessage("assistant", " to rain.")
    thinking = request(tokenizer, HARMONY, ASKED, ChatMessage("assistant", "", "Well"))
    assert thinking.prompt.endswith("<|start|>assistant<|channel|>analysis<|message|>\nWell")
    assert thinking.structure_after == ("<|channel|>final", "<|message|>")
    text = ", no.<|end|><|start|>assistant<|channel|>final<|message|>No."
    assert answer(thinking.reader(), text) == ChatMessage("assistant", "No.", ", no.")


def test_granite_is_shown_the_calls_that_its_template_leaves_out(
    shared: Callable[[str], Path], tokenizer: Tokenizer
) -> None:
    source = shared("templates/ibm-granite-granite-3.3-2B-Instruct.jinja").read_text(encoding="utf-8")
    said = [ASKED, ChatMessage("assistant", tool_calls=(CALL,)), ChatMessage("tool", "Rain.")]
    again = request(tokenizer, source, *said, tools=[TOOL])
    written = '<|tool_call|>[{"name": "weather", "arguments": {"city": "Rome"}}]'
    assert f"<|start_of_role|>assistant<|end_of_role|>{written}<|end_of_text|>" in again.prompt
    called = answer(again.reader(), written)
    assert [(call.name, call.arguments) for call in called.tool_calls] == [("weather", {"city": "Rome"})]
    thinks = request(tokenizer, source, ASKED, template_kwargs={"thinking": True})
    text = "<think>Hm.</think>\n<response>It\nrains.</response>"
    assert answer(thinks.reader(), text) == ChatMessage("assistant", "It\nrains.", "Hm.")


def test_command_r7b_answers_in_a_frame(shared: Callable[[str], Path], tokenizer: Tokenizer) -> None:
    source = shared("templates/CohereForAI-c4ai-command-r7b-12-2024-tool_use.jinja").read_text(encoding="utf-8")
    for template_kwargs in ({}, {"enable_thinking": True}):
        asked = request(tokenizer, source, ASKED, template_kwargs=template_kwargs)
        assert asked.structure_after == ("<|START_RESPONSE|>",)
        text = "<|START_RESPONSE|>Yes.<|END_RESPONSE|>"
        assert answer(asked.reader(), text) == ChatMessage("assistant", "Yes.")
        text = f"<|START_THINKING|>Hm.<|END_THINKING|>{text}"
        assert answer(asked.reader(), text) == ChatMessage("assistant", "Yes.", "Hm.")


def test_where_there_are_no_tools_or_documents_they_are_none(tokenizer: Tokenizer) -> None:
    """As Hugging Face gives them, where a template such as OLMo 3's asks; others go through what is not there."""
    assert "<functions>" not in request(tokenizer, OLMO3, ASKED).prompt
    assert "<functions>[{" in request(tokenizer, OLMO3, ASKED, tools=[TOOL]).prompt
    template = ChatTemplate("{{ tools is none }} {{ documents is not none }}")
    assert template.render([]) == "True False"
    assert template.render([], tools=[TOOL], documents=["x"]) == "False True"
    assert ChatTemplate("{% for tool in tools %}{% else %}{{ tools is defined }}{% endfor %}").render([]) == "False"


def test_ids_of_kimis_calls_are_its_own() -> None:
    text = "<|tool_call_begin|>functions.weather:3<|tool_call_argument_begin|>{}<|tool_call_end|>"
    (call,) = answer(AnswerReader(Beginning(), TOOL_FORMATS["kimi-k2"]((TOOL,))), text).tool_calls
    assert (call.id, call.name) == ("functions.weather:3", "weather")


def test_who_gave_no_tools_gets_no_calls() -> None:
    listed = '[{"name": "weather", "arguments": {}}]'
    for format, text, content in (
        ("gpt-oss", "<|channel|>commentary to=functions.weather<|message|>{}<|call|>", "{}"),
        ("granite", f"Hm. <|tool_call|>{listed}", f"Hm. <|tool_call|>{listed}"),
        ("command-r7b", f"<|START_ACTION|>{listed}<|END_ACTION|>", f"<|START_ACTION|>{listed}"),
    ):
        message = answer(AnswerReader(Beginning(), TOOL_FORMATS[format](())), text)
        assert (message.content, message.tool_calls) == (content, ())


def test_the_frame_of_gpt_oss_is_free_and_its_answer_structured(tmp_path: Path) -> None:
    marks = ["<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|call|>", "<|return|>"]
    words = ["assistant", "final", "analysis", "maybe", "yes"]
    follow = {"assistant": {"<|channel|>": 1.0}, "<|channel|>": {"final": 1.0}, "final": {"<|message|>": 1.0}}
    follow |= {"<|message|>": {"maybe": 0.9, "yes": 0.1}, "yes": {"<|return|>": 1.0}, "maybe": {"<|return|>": 1.0}}
    path = bigram_file(tmp_path / "m.gguf", [*marks, *words], follow, tokenizer__chat_template=HARMONY)
    greedy = SamplingParams(temperature=0)
    with LLM.load(path, threads=1) as llm:
        assert llm.chat([ASKED], sampling=greedy, max_tokens=9).text == "maybe"
        bound = SamplingParams(temperature=0, structure=regex("(yes|no)"))
        events = list(llm.chat([ASKED], sampling=bound, max_tokens=9, stream=True))
        assert [event.text for event in events if event.text] == ["yes"]
        assert events[-1].finish_reason == "stop"
