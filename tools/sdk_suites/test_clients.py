"""Frameworks that speak to models over HTTP, a few lines of each, as their users write them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llamaq import LLM, SamplingParams
from served import Served, served

QUESTION = "Tell me a story about a fox"
MOST = 24  # tokens


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served("--alias", "demo", "--log-format", "none") as found:
        yield found


@pytest.fixture(scope="module")
def expected() -> str:
    """What the most likely tokens say."""
    with LLM.load() as llm:
        said = [{"role": "user", "content": QUESTION}]
        return llm.chat(said, max_tokens=MOST, sampling=SamplingParams(temperature=0)).text


def test_langchain_openai(server: Served, expected: str) -> None:
    from langchain_openai import ChatOpenAI

    chat = ChatOpenAI(base_url=f"{server.url}/v1", api_key="none", model="demo", temperature=0, max_tokens=MOST)
    message = chat.invoke(QUESTION)
    assert (message.content, message.usage_metadata["output_tokens"]) == (expected, MOST)
    assert "".join(chunk.content for chunk in chat.stream(QUESTION)) == expected
    assert [each.content for each in chat.batch([QUESTION] * 3)] == [expected] * 3


def test_langchain_openai_with_responses(server: Served, expected: str) -> None:
    from langchain_openai import ChatOpenAI

    where: Any = {"base_url": f"{server.url}/v1", "api_key": "none", "model": "demo"}
    chat = ChatOpenAI(**where, temperature=0, max_tokens=MOST, use_responses_api=True)
    message = chat.invoke(QUESTION)
    assert (message.text, message.usage_metadata["output_tokens"]) == (expected, MOST)
    assert "".join(chunk.text for chunk in chat.stream(QUESTION)) == expected


def test_langchain_openai_embeds(server: Served) -> None:
    """Unless it is told not to, it sends the tokens of another vocabulary."""
    from langchain_openai import OpenAIEmbeddings

    where: Any = {"base_url": f"{server.url}/v1", "api_key": "none", "model": "demo"}
    vectors = OpenAIEmbeddings(**where, check_embedding_ctx_length=False).embed_documents(["a fox", "a hen"])
    with LLM.load() as llm:
        assert vectors == llm.embed(["a fox", "a hen"]).tolist()


def test_langchain_anthropic(server: Served, expected: str) -> None:
    from langchain_anthropic import ChatAnthropic

    chat = ChatAnthropic(base_url=server.url, api_key="none", model="demo", temperature=0, max_tokens=MOST)
    message = chat.invoke(QUESTION)
    assert (message.content, message.response_metadata["stop_reason"]) == (expected, "max_tokens")
    pieces = list(chat.stream(QUESTION))
    assert "".join(piece.text for piece in pieces) == expected
    usage = [piece.usage_metadata for piece in pieces if piece.usage_metadata]
    assert sum(each["output_tokens"] for each in usage) == MOST
    assert sum(each["input_tokens"] for each in usage) == message.usage_metadata["input_tokens"]


def test_langchain_ollama(server: Served, expected: str) -> None:
    from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM

    where: Any = {"base_url": server.url, "model": "demo"}
    chat = ChatOllama(**where, temperature=0, num_predict=MOST, validate_model_on_init=True)
    message = chat.invoke(QUESTION)
    assert (message.content, message.response_metadata["done_reason"]) == (expected, "length")
    assert message.usage_metadata["output_tokens"] == MOST
    assert "".join(chunk.content for chunk in chat.stream(QUESTION)) == expected
    assert OllamaLLM(**where, temperature=0, num_predict=MOST).invoke(QUESTION) == expected
    vectors = OllamaEmbeddings(**where).embed_documents(["a fox", "a hen"])
    with LLM.load() as llm:
        assert vectors == llm.embed(["a fox", "a hen"]).tolist()


@pytest.mark.parametrize("provider", ["openai", "anthropic", "ollama_chat"])
def test_litellm(server: Served, expected: str, provider: str) -> None:
    import litellm

    asked: dict[str, Any] = {
        "model": f"{provider}/demo", "api_base": server.url + ("/v1" if provider == "openai" else ""),
        "api_key": None if provider == "ollama_chat" else "none",
        "messages": [{"role": "user", "content": QUESTION}], "temperature": 0, "max_tokens": MOST,
    }  # fmt: skip
    done = litellm.completion(**asked)
    assert (done.choices[0].message.content, done.choices[0].finish_reason) == (expected, "length")
    assert done.usage.completion_tokens == MOST
    chunks = list(litellm.completion(**asked, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == expected


def test_llm(server: Served, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    entry = {"model_id": "mine", "model_name": "demo", "api_base": f"{server.url}/v1"}
    lines = [f"{'-' if not i else ' '} {key}: {value}\n" for i, (key, value) in enumerate(entry.items())]
    (tmp_path / "extra-openai-models.yaml").write_text("".join(lines))
    import llm

    model = llm.get_model("mine")
    model.key = "none"
    assert model.prompt(QUESTION, temperature=0, max_tokens=MOST).text() == expected
    assert model.prompt(QUESTION, temperature=0, max_tokens=MOST, stream=False).text() == expected


def test_llm_ollama(server: Served, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    monkeypatch.setenv("OLLAMA_HOST", server.url)
    import llm

    model = llm.get_model("ollama/demo")
    assert model.prompt(QUESTION, temperature=0, num_predict=MOST).text() == expected
    assert model.prompt(QUESTION, temperature=0, num_predict=MOST, stream=False).text() == expected
