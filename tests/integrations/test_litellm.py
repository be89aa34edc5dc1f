"""LiteLLM's custom provider; ``nox -s drop-in`` runs this."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import litellm
import numpy as np
import pytest

from llamaq import LLM, SamplingParams
from llamaq.integrations.litellm import LlamaqHandler

pytestmark = pytest.mark.filterwarnings("default")
SAID = [{"role": "user", "content": "Say hello."}]
ASKED: dict[str, Any] = {"model": "llamaq/smol", "messages": SAID, "max_tokens": 8, "temperature": 0}


@pytest.fixture(autouse=True)
def provided(smol: LLM, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(litellm, "custom_provider_map", [])
    litellm.custom_provider_map = [{"provider": "llamaq", "custom_handler": LlamaqHandler({"smol": smol})}]
    yield
    litellm.provider_list[:] = [each for each in litellm.provider_list if each != "llamaq"]


def test_answers_are_llamaqs(smol: LLM) -> None:
    expected = smol.chat(SAID, max_tokens=8, sampling=SamplingParams(temperature=0)).text
    answer = litellm.completion(**ASKED)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (expected, "length")
    assert answer.usage.completion_tokens == 8
    pieces = [piece.choices[0].delta.content or "" for piece in litellm.completion(**ASKED, stream=True)]
    assert "".join(pieces) == expected
    assert len(pieces) > 3

    async def both() -> tuple[str, str]:
        whole = await litellm.acompletion(**ASKED)
        stream = await litellm.acompletion(**ASKED, stream=True)
        return whole.choices[0].message.content, "".join([p.choices[0].delta.content or "" async for p in stream])

    assert asyncio.run(both()) == (expected, expected)
    assert litellm.completion(**ASKED, stop=["!"]).choices[0].message.content == expected.split("!")[0]


def test_json() -> None:
    schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]}
    format = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    answer = litellm.completion(**{**ASKED, "max_tokens": 60}, response_format=format)
    assert json.loads(answer.choices[0].message.content)["n"] in (1, 2)


def test_embeddings(smol: LLM) -> None:
    found = litellm.embedding("llamaq/smol", input=["a", "b"])
    vectors = np.array([entry["embedding"] for entry in found.data], np.float32)
    np.testing.assert_array_equal(vectors, smol.embed(["a", "b"]))
