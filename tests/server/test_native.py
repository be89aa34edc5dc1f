"""llama-server's own routes: what clients of them find here."""

from __future__ import annotations

from typing import Any

from asgi import TEMPLATE, Client
from llamaq import LLM
from llamaq.chat import chat_request

HELLO = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hi"}]
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {"at": {}}}}}


def test_the_prompt_of_a_chat(client: Client, model: LLM) -> None:
    def of(messages: Any, **more: Any) -> str:
        return chat_request(model.metadata, model.tokenizer, messages, template=TEMPLATE, **more).prompt

    assert client.post("/apply-template", {"messages": HELLO}).json == {"prompt": of(HELLO)}
    begun = [*HELLO, {"role": "assistant", "content": "Hel"}]
    assert client.post("/apply-template", {"messages": begun, "stream": True}).json == {"prompt": of(begun)}
    asked = {"messages": HELLO, "tools": [TOOL], "temperature": 0}
    assert client.post("/apply-template", asked).json == {"prompt": of(HELLO, tools=[TOOL])}
    assert client.post("/apply-template", {}).error["param"] == "messages"
