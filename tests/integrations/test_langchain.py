"""LangChain's chat model and embeddings; ``nox -s drop-in`` runs this."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from pydantic import BaseModel

from llamaq import LLM, SamplingParams
from llamaq.integrations.langchain import ChatLlamaq, LlamaqEmbeddings
from written import Written

SAID = [SystemMessage("You are kind."), HumanMessage("Say hello.")]
PLAIN = [{"role": "system", "content": "You are kind."}, {"role": "user", "content": "Say hello."}]
GREEDY = {"temperature": 0}


@pytest.fixture
def chat(smol: LLM) -> ChatLlamaq:
    return ChatLlamaq(llm=smol, sampling=GREEDY, max_tokens=8)


def own(smol: LLM, **options: Any) -> Any:
    return smol.chat(PLAIN, max_tokens=8, sampling=SamplingParams(temperature=0), **options)


def test_answers_are_llamaqs(smol: LLM, chat: ChatLlamaq) -> None:
    expected = own(smol)
    answer = chat.invoke(SAID)
    assert answer.content == expected.text
    assert answer.usage_metadata["total_tokens"] == expected.usage.prompt_tokens + 8
    assert answer.response_metadata["finish_reason"] == "length"
    pieces = list(chat.stream(SAID))
    assert "".join(piece.content for piece in pieces) == expected.text
    assert sum(pieces[1:], pieces[0]).usage_metadata["output_tokens"] == 8

    async def both() -> tuple[str, str]:
        return (await chat.ainvoke(SAID)).content, "".join([piece.content async for piece in chat.astream(SAID)])

    assert asyncio.run(both()) == (expected.text, expected.text)
    assert [answer.content for answer in chat.batch([SAID, SAID])] == [expected.text] * 2
    assert chat.get_num_tokens("Hello world") == 2
    assert chat.invoke(SAID, stop=["!"]).content == expected.text.split("!")[0]
    assert chat.bind(temperature=1.0, seed=1).invoke(SAID).response_metadata["seed"] == 1


class City(BaseModel):
    name: str
    people: int


def test_structured_output(smol: LLM) -> None:
    chat = ChatLlamaq(llm=smol, sampling=GREEDY, max_tokens=100)
    found = chat.with_structured_output(City).invoke("Rome has 3 million people. Answer in JSON.")
    assert isinstance(found, City)
    schema = {"title": "answer", "type": "object", "properties": {"x": {"enum": [1, 2]}}, "required": ["x"]}
    assert chat.with_structured_output(schema).invoke("One or two?")["x"] in (1, 2)
    whole = chat.with_structured_output(City, include_raw=True).invoke("Rome")
    assert isinstance(whole["raw"], AIMessage)
    assert isinstance(whole["parsed"], City)
    cut = ChatLlamaq(llm=smol, sampling=GREEDY, max_tokens=2).with_structured_output(City, include_raw=True)
    failed = cut.invoke("Rome")
    assert failed["parsed"] is None
    assert failed["parsing_error"] is not None


@tool  # type: ignore[untyped-decorator, unused-ignore]
def weather(city: str) -> str:
    """The weather of a city."""
    return f"It is sunny in {city}."


def test_tools(smol: LLM) -> None:
    template = (
        "{% if tools %}Write <tool_call>: {{ tools|tojson }}\n{% endif %}"
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for c in m.tool_calls or [] %}"
        "{{ c.function.arguments|tojson }}{% endfor %}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
    )
    chat = ChatLlamaq(llm=smol, sampling=GREEDY, max_tokens=60, options={"template": template}).bind_tools([weather])
    text = '<tool_call>{"name": "weather", "arguments": {"city": "Rome"}}</tool_call>'
    expected = [("weather", {"city": "Rome"})]
    answer = chat.invoke("Weather?", logit_processors=[Written(smol.tokenizer, text)])
    assert [(call["name"], call["args"]) for call in answer.tool_calls] == expected
    pieces = list(chat.stream("Weather?", logit_processors=[Written(smol.tokenizer, text)]))
    whole = sum(pieces[1:], pieces[0])
    assert [(call["name"], call["args"]) for call in whole.tool_calls] == expected
    # The call and its result go into the next turn.
    turns = [HumanMessage("Weather?"), answer, weather.invoke(answer.tool_calls[0])]
    assert isinstance(turns[-1], ToolMessage)
    assert chat.invoke(turns).usage_metadata["input_tokens"] > answer.usage_metadata["input_tokens"]
    free = ChatLlamaq(llm=smol, sampling=GREEDY, max_tokens=100, options={"template": template})
    for choice in ("any", True, "weather"):
        (call,) = free.bind_tools([weather], tool_choice=choice).invoke("Weather in Rome?").tool_calls[:1]
        assert (call["name"], set(call["args"])) == ("weather", {"city"})
    assert free.bind_tools([weather], tool_choice="none").invoke("Weather?").tool_calls == []


def test_reasoning(smol: LLM) -> None:
    text = "<think>Hm.</think>Yes."
    answer = ChatLlamaq(llm=smol).invoke("Well?", logit_processors=[Written(smol.tokenizer, text)])
    assert (answer.content, answer.additional_kwargs["reasoning_content"]) == ("Yes.", "Hm.")


def test_embeddings(smol: LLM) -> None:
    embeddings = LlamaqEmbeddings(smol)
    vectors = np.array(embeddings.embed_documents(["a", "b"]), np.float32)
    np.testing.assert_array_equal(vectors, smol.embed(["a", "b"]))
    assert embeddings.embed_query("a") == vectors[0].tolist()
    assert asyncio.run(embeddings.aembed_query("b")) == vectors[1].tolist()
