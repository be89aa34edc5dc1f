"""``Llama.create_chat_completion``: formats, tools, reasoning, handlers of the caller's."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gguf_files import copy_with
from llama_cpp_calls import CHOICE, SAID, TOOL
from llamaq import SamplingParams
from llamaq.chat.request import chat_request
from llamaq.compat.llama_cpp import Llama, chats, llama_chat_format
from llamaq.compat.llama_cpp.llama_chat_format import (
    ChatFormatterResponse,
    Jinja2ChatFormatter,
    LlamaChatCompletionHandlerNotFoundException,
    LlamaChatCompletionHandlerRegistry,
    hf_tokenizer_config_to_chat_formatter,
    register_chat_completion_handler,
    register_chat_format,
)
from llamaq.errors import ChatTemplateError, ImageError, SamplingError
from written import Written

CALLING = (
    "{% if tools %}Write <tool_call> for: {{ tools|tojson }}\n{% endif %}{% for message in messages %}"
    "{{ message.role }}: {{ message.content }}\n{% endfor %}assistant:"
)
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 8}


@pytest.fixture(scope="module")
def calling(story: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Llama]:
    """A model whose template has tools."""
    path = tmp_path_factory.mktemp("calling") / "calling.gguf"
    copy_with({"tokenizer.chat_template": CALLING}, story, path)
    with Llama(str(path), n_ctx=512, n_threads=1) as llama:
        yield llama


def written(llama: Llama, text: str, **values: Any) -> Any:
    """The answer of a model that writes this text."""
    processor = Written(llama.parts.tokenizer, text)
    return llama.create_chat_completion(SAID, logits_processor=processor, **values)


def message_of(answer: Any) -> dict[str, Any]:
    message: dict[str, Any] = answer["choices"][0]["message"]
    return message


def prompt_of(llama: Llama, monkeypatch: pytest.MonkeyPatch, **values: Any) -> str:
    """The prompt that a conversation is asked with."""
    seen: list[list[int]] = []
    prepare = llama.llm.model.prepare

    def noted(ids: list[int], **options: Any) -> Any:
        seen.append(ids)
        return prepare(ids, **options)

    with monkeypatch.context() as patch:
        patch.setattr(llama.llm.model, "prepare", noted)
        llama.create_chat_completion(**{"messages": SAID, "max_tokens": 1, **values})
    return llama.detokenize(seen[0], special=True).decode()


def test_an_answer_is_that_of_llamaq(llama: Llama) -> None:
    own = llama.llm.chat(SAID, max_tokens=8, sampling=SamplingParams(temperature=0))
    answer = llama.create_chat_completion(SAID, **GREEDY)
    assert message_of(answer) == {"role": "assistant", "content": own.text}
    assert answer["usage"]["total_tokens"] == own.usage.prompt_tokens + 8
    pieces = [*llama.create_chat_completion(SAID, stream=True, **GREEDY)]
    assert "".join(piece["choices"][0]["delta"].get("content", "") for piece in pieces) == own.text
    assert {piece["id"] for piece in pieces} == {pieces[0]["id"]}


def test_the_classes_of_openai(llama: Llama) -> None:
    openai = pytest.importorskip("openai.types.chat")
    whole = llama.create_chat_completion_openai_v1(SAID, logprobs=True, top_logprobs=1, **GREEDY)
    assert isinstance(whole, openai.ChatCompletion)
    pieces = [*llama.create_chat_completion_openai_v1(SAID, stream=True, **GREEDY)]
    assert all(isinstance(piece, openai.ChatCompletionChunk) for piece in pieces)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == whole.choices[0].message.content
    forced = llama.create_chat_completion_openai_v1(SAID, tools=[TOOL], tool_choice=CHOICE, max_tokens=60)
    assert forced.choices[0].message.tool_calls[0].function.name == "choose"
    assert [*llama.create_chat_completion_openai_v1(SAID, tools=[TOOL], tool_choice=CHOICE, stream=True)]


@pytest.mark.parametrize("choice", [CHOICE, "required", None])
def test_a_tool_that_must_be_called(llama: Llama, choice: Any) -> None:
    asked: dict[str, Any] = {"tools": [TOOL], "tool_choice": choice}
    if choice is None:
        asked = {"functions": [TOOL["function"]], "function_call": {"name": "choose"}}
    answer = llama.create_chat_completion(SAID, temperature=0, max_tokens=60, **asked)
    message = message_of(answer)
    (call,) = message["tool_calls"]
    assert answer["choices"][0]["finish_reason"] == "tool_calls"
    assert message["content"] is None
    assert message["function_call"] == call["function"]
    assert json.loads(call["function"]["arguments"])["colour"] in ("red", "blue")
    pieces = [*llama.create_chat_completion(SAID, temperature=0, max_tokens=60, stream=True, **asked)]
    deltas = [piece["choices"][0]["delta"] for piece in pieces]
    parts = [delta["tool_calls"][0] for delta in deltas if delta.get("tool_calls")]
    assert "".join(part["function"]["arguments"] for part in parts) == call["function"]["arguments"]
    # Who joins the names of the pieces gets the name once.
    assert [part["function"]["name"] for part in parts] == ["choose"] + [None] * (len(parts) - 1)
    assert [("id" in part) for part in parts] == [True] + [False] * (len(parts) - 1)
    assert pieces[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_a_tool_that_the_model_calls_itself(calling: Llama) -> None:
    text = 'Well. <tool_call>{"name": "choose", "arguments": {"colour": "red"}}</tool_call>'
    answer = written(calling, text, tools=[TOOL], tool_choice="auto")
    message = message_of(answer)
    assert message["content"].strip() == "Well."
    assert message["function_call"]["name"] == message["tool_calls"][0]["function"]["name"] == "choose"
    assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == {"colour": "red"}
    assert answer["choices"][0]["finish_reason"] == "tool_calls"
    pieces = [*written(calling, text, tools=[TOOL], stream=True)]
    parts = [part for piece in pieces for part in piece["choices"][0]["delta"].get("tool_calls", ())]
    assert json.loads("".join(part["function"]["arguments"] for part in parts)) == {"colour": "red"}
    # What it must call it calls in the template's own way, and not only as arguments.
    other = {"type": "function", "function": {"name": "other", "parameters": {"type": "object", "properties": {}}}}
    framed = '<tool_call>\n{"name": "choose", "arguments": {"colour": "red"}}\n</tool_call>'
    for choice, tools in (("required", [TOOL, other]), (CHOICE, [TOOL, other])):
        (call,) = message_of(written(calling, framed, tools=tools, tool_choice=choice))["tool_calls"]
        assert call["function"]["name"] == "choose"
        with pytest.raises(SamplingError):
            written(calling, "Well.", tools=tools, tool_choice=choice)
    # A model that must not call anything is not told of tools, and what it writes is text.
    assert message_of(written(calling, text, tools=[TOOL], tool_choice="none"))["content"].strip() == text


def test_a_template_without_a_place_for_tools_leaves_them_out(llama: Llama, caplog: pytest.LogCaptureFixture) -> None:
    plain = llama.create_chat_completion(SAID, **GREEDY)
    with caplog.at_level(logging.WARNING, "llamaq"):
        told = llama.create_chat_completion(SAID, tools=[TOOL], **GREEDY)
    assert message_of(told) == message_of(plain)
    assert "the model is not told of the tools: the chat template has no place for tools" in caplog.text


def test_choices_that_are_none(llama: Llama) -> None:
    other = {"type": "function", "function": {"name": "other"}}
    with pytest.raises(ValueError, match=r"Tool choice 'x' not found in tools; they are \['choose'\]"):
        llama.create_chat_completion(SAID, tools=[TOOL], tool_choice={"function": {"name": "x"}})
    with pytest.raises(ValueError, match=r"one tool only, for .* no place for tools; name one"):
        llama.create_chat_completion(SAID, tools=[TOOL, other], tool_choice="required")
    with pytest.raises(ValueError, match="json_object or json_schema, got 'xml'"):
        llama.create_chat_completion(SAID, response_format={"type": "xml"})
    with pytest.raises(ValueError, match="Requested tokens"):
        llama.create_chat_completion([{"role": "user", "content": "Once. " * 300}])


def test_reasoning_has_a_key_of_its_own(llama: Llama) -> None:
    text = "<think>Hm.</think>Yes."
    message = message_of(written(llama, text))
    assert (message["content"].strip(), message["reasoning_content"].strip()) == ("Yes.", "Hm.")
    deltas = [piece["choices"][0]["delta"] for piece in written(llama, text, stream=True)]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas).strip() == "Hm."


def test_stops(llama: Llama) -> None:
    answer = written(llama, "One. Two.", stop=["Two"])
    assert (message_of(answer)["content"].strip(), answer["choices"][0]["finish_reason"]) == ("One.", "stop")


def test_json_comes_after_the_reasoning(story: Path, tmp_path: Path) -> None:
    path = tmp_path / "thinking.gguf"
    copy_with({"tokenizer.chat_template": CALLING + "<think>"}, story, path)
    format = {"type": "json_object", "schema": {"enum": ["red"]}}
    with Llama(str(path), n_ctx=256, n_threads=1) as llama:
        message = message_of(written(llama, 'Hm.</think>"red"', response_format=format))
    assert (message["content"], message["reasoning_content"].strip()) == ('"red"', "Hm.")


def test_json(llama: Llama) -> None:
    schema = TOOL["function"]["parameters"]  # type: ignore[index]
    for format in (
        {"type": "json_object", "schema": schema},
        {"type": "json_schema", "json_schema": {"name": "c", "schema": schema}},
    ):
        text = message_of(llama.create_chat_completion(SAID, response_format=format, max_tokens=60))["content"]
        assert set(json.loads(text)) == {"colour"}
    assert message_of(llama.create_chat_completion(SAID, response_format={"type": "text"}, **GREEDY))["content"]
    begun = message_of(llama.create_chat_completion(SAID, response_format={"type": "json_object"}, max_tokens=4))
    assert begun["content"].strip().startswith("{")


def test_results_of_functions_are_those_of_tools(llama: Llama, monkeypatch: pytest.MonkeyPatch) -> None:
    call = {"name": "choose", "arguments": '{"colour": "red"}'}
    result = {"role": "function", "name": "choose", "content": "ok"}
    seen: list[Any] = []

    def noted(metadata: Any, tokenizer: Any, messages: Any, **options: Any) -> Any:
        seen.append(messages)
        return chat_request(metadata, tokenizer, messages, **options)

    monkeypatch.setattr(chats, "chat_request", noted)
    today = {"tool_calls": [{"id": "c1", "type": "function", "function": call}]}
    for said in (today, {"function_call": call, "content": None}):
        assert "tool: ok" in prompt_of(llama, monkeypatch, messages=[*SAID, {"role": "assistant", **said}, result])
        assert seen[-1][2]["tool_calls"][0]["function"] == call
    with pytest.raises(ValueError, match='message 0: expected a dict with a "role"'):
        llama.create_chat_completion(["Hello"])
    with pytest.raises(ImageError, match="this model reads text only"):
        llama.create_chat_completion([{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}])


def test_formats(story: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    begins = {
        None: "<s>system: You tell",
        "chat_template.default": "<s>system: You tell",
        "chatml-function-calling": "<s>system: You tell",
        "chatml": "<s><|im_start|>system",
        "llama-2": "<s>[INST] <<SYS>>",
        "gemma": "<s><start_of_turn>user",
    }
    for format, begin in begins.items():
        with Llama(str(story), n_ctx=256, n_threads=1, chat_format=format) as llama:
            assert prompt_of(llama, monkeypatch).replace("<s> ", "<s>").startswith(begin)
    unknown = pytest.raises(LlamaChatCompletionHandlerNotFoundException, match="Invalid chat handler: other; there are")
    with Llama(str(story), n_ctx=256, n_threads=1, chat_format="other") as llama, unknown:
        llama.create_chat_completion(SAID)


def test_a_file_without_a_template_has_the_format_llama_2(stories: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Llama(str(stories), n_ctx=256, n_threads=1) as llama:
        assert "[INST]" in prompt_of(llama, monkeypatch)


@pytest.fixture
def unregistered() -> Iterator[str]:
    yield "mine"
    LlamaChatCompletionHandlerRegistry().unregister_chat_handler("mine")


def test_a_format_of_the_callers(story: Path, unregistered: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    @register_chat_format(unregistered)
    def formatted(messages: Any, **values: Any) -> ChatFormatterResponse:
        seen.update(values)
        return ChatFormatterResponse("Q: " + messages[-1]["content"], stop="\n")

    with Llama(str(story), n_ctx=256, n_threads=1, chat_format=unregistered) as llama:
        assert prompt_of(llama, monkeypatch) == "<s> Q: Once upon a time"
        answer = llama.create_chat_completion(SAID, tools=[TOOL], tool_choice=CHOICE, max_tokens=60)
        assert message_of(answer)["tool_calls"][0]["function"]["name"] == "choose"
        assert (seen["tools"], seen["tool_choice"]) == ([TOOL], CHOICE)
        assert message_of(written(llama, "One.\nTwo."))["content"].strip() == "One."
        with pytest.raises(ValueError, match="already registered"):
            register_chat_format(unregistered)(formatted)
    with pytest.raises(ValueError, match="No formatter registered under the name 'nothing'"):
        LlamaChatCompletionHandlerRegistry().unregister_chat_handler("nothing")


def test_a_handler_of_the_callers(story: Path, unregistered: str) -> None:
    def handler(*, llama: Llama, messages: Any, **values: Any) -> Any:
        return {"said": messages, "temperature": values["temperature"], "by": llama.model_path}

    register_chat_completion_handler(unregistered)(handler)
    for given in ({"chat_format": unregistered}, {"chat_handler": handler}):
        with Llama(str(story), n_ctx=64, n_threads=1, **given) as llama:
            expected = {"said": SAID, "temperature": 0.2, "by": str(story)}
            assert llama.create_chat_completion(SAID) == expected


def test_templates_as_formatters(story: Path) -> None:
    template = (
        "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}>{% endif %}"
    )
    formatter = Jinja2ChatFormatter(template, eos_token="</s>", bos_token="<s>", stop_token_ids=[13])
    made = formatter(messages=SAID, tools=None)
    assert (made.prompt, made.stop, made.added_special) == ("<s>You tell stories.Once upon a time>", ["</s>"], True)
    assert made.stopping_criteria is not None
    with Llama(str(story), n_ctx=256, n_threads=1, chat_handler=formatter.to_chat_handler()) as llama:
        answer = llama.create_chat_completion(SAID, temperature=0, max_tokens=200, logit_bias={13: 100})
        # A line's end is the first token; the one after it is not drawn.
        assert (message_of(answer)["content"], answer["choices"][0]["finish_reason"]) == ("\n", "stop")
        pieces = [*llama.create_chat_completion(SAID, max_tokens=9, logit_bias={13: 100}, stream=True)]
        assert pieces[-1]["choices"][0]["finish_reason"] == "stop"
    with pytest.raises(ChatTemplateError):
        Jinja2ChatFormatter("{% if %}", eos_token="", bos_token="")
    config = {"chat_template": template, "bos_token": "<s>", "eos_token": "</s>"}
    assert hf_tokenizer_config_to_chat_formatter(config)(messages=SAID).prompt == "<s>You tell stories.Once upon a time"


def test_there_are_no_other_names() -> None:
    with pytest.raises(AttributeError, match=r"llamaq\.compat has no OtherHandler in llama_chat_format"):
        getattr(llama_chat_format, "OtherHandler")  # noqa: B009
