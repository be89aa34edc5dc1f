"""``LLM.chat`` on real models: prompts, their tokens, what is cached, events and results."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llamaq import LLM, ChatMessage, SamplingParams
from llamaq.chat import chat_request
from llamaq.errors import ChatTemplateError, ContextOverflowError
from llamaq.gguf import GGUFFile
from llamaq.structure import lark, literal
from llamaq.tokenizer import load_tokenizer

GREEDY = SamplingParams(temperature=0)
HELLO: list[dict[str, Any]] = [{"role": "user", "content": "Tell me of Lily"}]


@pytest.fixture(scope="module")
def llm(shared: Callable[[str], Path]) -> Iterator[LLM]:
    with LLM.load(shared("models/stories260K-F32.gguf"), threads=1) as llm:
        yield llm


def test_an_answer_is_the_continuation_of_the_rendered_prompt(llm: LLM) -> None:
    prompt = "<|im_start|>user\nTell me of Lily<|im_end|>\n<|im_start|>assistant\n"
    expected = llm.generate(prompt, max_tokens=40, sampling=GREEDY, stop=["<|im_end|>", "<|im_start|>"])
    done = llm.chat(HELLO, template="chatml", max_tokens=40, sampling=GREEDY)
    assert done.message == ChatMessage("assistant", expected.text)
    assert (done.finish_reason, done.usage.completion_tokens) == ("length", 40)
    stream = llm.chat(HELLO, template="chatml", max_tokens=40, sampling=GREEDY, stream=True)
    events = list(stream)
    assert "".join(event.text for event in events) == expected.text
    assert tuple(event.token for event in events if event.token is not None) == expected.tokens
    assert [event.finish_reason for event in events if event.finish_reason] == ["length"]
    assert stream.message == done.message


def test_turns_share_what_the_cache_holds(llm: LLM) -> None:
    first = llm.chat(HELLO, template="chatml", max_tokens=20, sampling=GREEDY)
    said = [*HELLO, first.message, ChatMessage("user", "And then?")]
    again = llm.chat(said, template="chatml", max_tokens=5, sampling=GREEDY)
    assert again.usage.cached_tokens >= first.usage.prompt_tokens
    assert again.usage.prompt_tokens > again.usage.cached_tokens


def test_a_stop_text_of_the_caller_ends_an_answer(llm: LLM) -> None:
    whole = llm.chat(HELLO, template="alpaca", max_tokens=40, sampling=GREEDY).text
    word = whole.split()[3]
    cut = llm.chat(HELLO, template="alpaca", max_tokens=40, sampling=GREEDY, stop=[word])
    assert cut.text == whole[: whole.index(word)]
    assert (cut.finish_reason, cut.stop) == ("stop", word)
    events = list(llm.chat(HELLO, template="alpaca", max_tokens=40, sampling=GREEDY, stop=[word], stream=True))
    assert [event.stop for event in events] == [None] * (len(events) - 1) + [word]
    assert llm.chat(HELLO, template="alpaca", max_tokens=40, sampling=GREEDY, stop=word).text == cut.text
    assert llm.chat(HELLO, template="alpaca", max_tokens=40, sampling=GREEDY, stop=()).text == whole


def test_errors_come_before_anything_runs(llm: LLM) -> None:
    with pytest.raises(ChatTemplateError, match=r"the file has no chat template; choose .*: llama2, .*chatml, mistral"):
        llm.chat(HELLO)
    with pytest.raises(ChatTemplateError, match="no place for tools"):
        llm.chat(HELLO, template="chatml", tools=[{"type": "function", "function": {"name": "f"}}])
    with pytest.raises(ChatTemplateError, match="template chatml has no place for tools, so the model would not see"):
        llm.chat(
            HELLO, template="chatml", tools=[{"type": "function", "function": {"name": "f"}}], tool_format="hermes"
        )
    with pytest.raises(ValueError, match="each tool must be"):
        llm.chat(HELLO, template="chatml", tools=[{"name": 5}])
    function: Any
    for function in ("f", None, {"name": "f", "parameters": 5}, {"name": "f", "parameters": {"properties": [1]}}):
        with pytest.raises(ValueError, match="each tool must be"):
            llm.chat(HELLO, template="chatml", tools=[{"function": function}])
    with pytest.raises(ValueError, match="each tool must be"):
        llm.chat(HELLO, template="chatml", tools=[None])
    for name in ("messages", "tools", "self", "now"):
        with pytest.raises(ValueError, match="template_kwargs must be"):
            llm.chat(HELLO, template="chatml", template_kwargs={name: 5})
    with pytest.raises(ValueError, match="must be a list"):
        llm.chat("Hello", template="chatml")
    with pytest.raises(ContextOverflowError):
        llm.chat([{"role": "user", "content": "Hello " * 2000}], template="chatml")
    with pytest.raises(ChatTemplateError, match="renders nothing"):
        llm.chat(HELLO, template="{{ '' }}")


@pytest.mark.parametrize("writes_bos", [False, True])
@pytest.mark.parametrize("name", ["llama-spm", "llama-bpe", "qwen2", "gemma-4"])
def test_one_bos_whoever_writes_it(shared: Callable[[str], Path], name: str, writes_bos: bool) -> None:
    path = shared(f"vocab/ggml-vocab-{name}.gguf")
    with GGUFFile.open(path) as file:
        tokenizer, metadata = load_tokenizer(file.metadata), dict(file.metadata)
    source = ("{{ bos_token }}" if writes_bos else "") + "[{{ messages[0].content }}]"
    request = chat_request(metadata, tokenizer, HELLO, template=source)
    bos = [tokenizer.bos_id]
    assert request.ids.count(tokenizer.bos_id) == (1 if tokenizer.add_bos or (writes_bos and tokenizer.bos_id) else 0)
    assert (request.ids[:1] == bos) == (tokenizer.add_bos or writes_bos)
    assert tokenizer.decode(request.ids) == "[Tell me of Lily]"


def test_marks_that_are_control_tokens_are_shown(shared: Callable[[str], Path]) -> None:
    with GGUFFile.open(shared("vocab/ggml-vocab-llama-bpe.gguf")) as file:
        tokenizer, metadata = load_tokenizer(file.metadata), dict(file.metadata)
    source = shared("templates/meta-llama-Llama-3.1-8B-Instruct.jinja").read_text(encoding="utf-8")
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"properties": {}}}}]
    request = chat_request(metadata, tokenizer, HELLO, template=source, tools=tools)
    assert request.shown == {id for mark in ("<|python_tag|>",) if (id := tokenizer.token_to_id(mark)) is not None}
    end = tokenizer.token_to_id("<|start_header_id|>")
    assert end is not None
    ids = [*tokenizer.encode("a", add_special=False), end, *tokenizer.encode("b", add_special=False)]
    for special, text in ((False, "ab"), ({end}, "a<|start_header_id|>b"), (True, "a<|start_header_id|>b")):
        decoder = tokenizer.stream(special=special)
        assert "".join(map(decoder.push, ids)) + decoder.flush() == text


def test_an_answer_for_coroutines_and_one_that_is_cancelled(llm: LLM) -> None:
    async def whole() -> tuple[str, str]:
        options: dict[str, Any] = {"template": "chatml", "max_tokens": 12, "sampling": GREEDY, "stream": True}
        text = "".join([event.text async for event in llm.chat(HELLO, **options)])
        del options["stream"]
        return text, (await llm.achat(HELLO, **options)).text

    expected = llm.chat(HELLO, template="chatml", max_tokens=12, sampling=GREEDY).text
    assert asyncio.run(whole()) == (expected, expected)
    stream = llm.chat(HELLO, template="chatml", sampling=GREEDY, stream=True)
    next(stream)
    stream.cancel()
    done = stream.result()
    assert done.finish_reason == "cancelled"
    assert done.usage.completion_tokens < 100


def test_a_prompt_without_an_answer(llm: LLM) -> None:
    rendered = llm.render_chat(HELLO, template="chatml")
    done = llm.chat(HELLO, template="chatml", max_tokens=3)
    assert rendered.prompt.endswith("<|im_start|>assistant\n")
    assert (len(rendered.ids), llm.detokenize(rendered.ids)) == (done.usage.prompt_tokens, rendered.prompt)
    with pytest.raises(ChatTemplateError, match="no chat template"):
        llm.render_chat(HELLO)
    with pytest.raises(TypeError, match="template must be text"):
        llm.render_chat(HELLO, template=5)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_answer_ends_before_a_second_call(llm: LLM, asynchronous: bool) -> None:
    call = 'Hm.<tool_call>{"name": "now", "arguments": {}}</tool_call>'
    options: Any = {
        "tools": [{"type": "function", "function": {"name": "now"}}],
        "template": "{{ '<tool_call>' if tools }}{{ messages[0].content }}",
        "sampling": SamplingParams(seed=1, structure=lark(f"start: {literal(call)}{{3}}")),
    }

    async def result(stream: Any) -> Any:
        return [event async for event in stream]

    both = llm.chat(HELLO, **options)
    assert len(both.message.tool_calls) == 3
    stream = llm.chat(HELLO, parallel_tool_calls=False, stream=True, **options)
    events = asyncio.run(result(stream)) if asynchronous else list(stream)
    assert [event.finish_reason for event in events][-2:] == [None, "tool_calls"]
    assert len(stream.message.tool_calls) == 1
    assert "".join(event.text for event in events) == stream.message.content == "Hm.Hm."
    assert stream.usage.completion_tokens == sum(event.token is not None for event in events)
    done = llm.chat(HELLO, parallel_tool_calls=False, **options)
    assert (done.finish_reason, done.text, len(done.message.tool_calls)) == ("tool_calls", "Hm.Hm.", 1)
    assert done.usage.completion_tokens == stream.usage.completion_tokens < both.usage.completion_tokens
