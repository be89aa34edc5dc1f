"""The command ``llm``: models of llamaq, which ``llm llamaq add NAME PATH`` makes known to it. Needs the package llm,
which finds this by its entry point."""

from __future__ import annotations

import json
import shlex
import threading
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import llm
from llm.parts import Message, ReasoningPart, StreamEvent, TextPart, ToolCallPart, ToolResultPart
from pydantic import Field

from llamaq.boundary.atomic import atomic_file
from llamaq.errors import LlamaqError

if TYPE_CHECKING:
    from llamaq.chat import ChatEvent, ChatStream
    from llamaq.llm.llm import LLM

__all__ = ["AsyncChat", "Chat", "Embeddings", "register_commands", "register_embedding_models", "register_models"]

_loaded: dict[str, LLM] = {}
_lock = threading.Lock()


class Options(llm.Options):
    """Settings of an answer, ``-o temperature 0``."""

    max_tokens: int | None = Field(None, description="Most tokens of the answer")
    temperature: float | None = Field(None, description="0: the most likely token")
    top_k: int | None = Field(None, description="Draw from so many most likely tokens")
    top_p: float | None = Field(None, description="Draw from the most likely tokens of this probability together")
    min_p: float | None = Field(None, description="Draw from tokens of this share of the highest probability")
    repeat_penalty: float | None = Field(None, description="Above 1: makes repetition less likely")
    seed: int | None = Field(None, description="The same seed gives the same answer")


class _Shared:
    """What chats have in common, whether awaited or not."""

    can_stream = True
    supports_schema = True
    supports_tools = True
    Options = Options

    def __init__(self, name: str, path: str) -> None:
        self.model_id = f"llamaq/{name}"
        self._path = path

    def __str__(self) -> str:
        return f"llamaq: {self.model_id}"

    def begin(self, prompt: Any) -> ChatStream:
        """The answer to a prompt, which begins now."""
        from llamaq.sampling import SamplingParams
        from llamaq.structure import json_schema

        given = {name: value for name, value in prompt.options.model_dump().items() if value is not None}
        most = given.pop("max_tokens", None)
        structure = json_schema(prompt.schema) if prompt.schema else None
        tools = [
            {
                "type": "function",
                "function": {"name": t.name, "description": t.description or "", "parameters": t.input_schema},
            }
            for t in prompt.tools
        ]
        return _model(self._path).chat(
            [said for message in prompt.messages for said in _messages(message)], stream=True, tools=tools or None,
            max_tokens=most, sampling=SamplingParams(**given, structure=structure),
        )  # fmt: skip


class Chat(_Shared, llm.Model):
    """A model as ``llm`` has them."""

    def execute(self, prompt: Any, stream: bool, response: Any, conversation: Any) -> Iterator[StreamEvent]:
        answer = self.begin(prompt)
        names: dict[int, str] = {}
        for event in answer:
            yield from _told(event, names)
        _finish(answer, response)


class AsyncChat(_Shared, llm.AsyncModel):
    """The same for coroutines."""

    async def execute(
        self, prompt: Any, stream: bool, response: Any, conversation: Any
    ) -> AsyncGenerator[StreamEvent, None]:
        answer = self.begin(prompt)
        names: dict[int, str] = {}
        async for event in answer:
            for told in _told(event, names):
                yield told
        _finish(answer, response)


class Embeddings(llm.EmbeddingModel):
    """Vectors of length 1, pooled as the model's file says."""

    batch_size = 32

    def __init__(self, name: str, path: str) -> None:
        self.model_id = f"llamaq/{name}"
        self._path = path

    def embed_batch(self, items: Iterable[Any], *, key: str | None = None) -> Iterator[list[float]]:
        yield from _model(self._path).embed(list(items)).tolist()


@llm.hookimpl
def register_models(register: Callable[..., None]) -> None:
    for name, path in _entries().items():
        register(Chat(name, path), AsyncChat(name, path))


@llm.hookimpl
def register_embedding_models(register: Callable[..., None]) -> None:
    for name, path in _entries().items():
        register(Embeddings(name, path))


@llm.hookimpl
def register_commands(cli: Any) -> None:
    @cli.group(name="llamaq")
    def group() -> None:
        """GGUF models that llamaq runs in this process"""

    @group.command()
    @click.argument("name")
    @click.argument("model")
    def add(name: str, model: str) -> None:
        """Makes MODEL, the path of a GGUF file, known as llamaq/NAME"""
        path = Path(model)
        _write({**_entries(), name: str(path.resolve()) if path.exists() else model})

    @group.command()
    @click.argument("name")
    def remove(name: str) -> None:
        """Forgets llamaq/NAME; the file stays"""
        entries = _entries()
        if entries.pop(name, None) is None:
            raise click.ClickException(f"there is no model llamaq/{name}; llm llamaq list shows those that there are")
        _write(entries)

    @group.command(name="list")
    def show() -> None:
        """Lists names and files, and the models of this machine that add can make known"""
        from llamaq.hub import models  # here, for llm imports its plugins at every start

        entries = _entries()
        for name, path in entries.items():
            click.echo(f"llamaq/{name}  {path}")
        known = {*entries.values()}
        others = [found for found in models() if known.isdisjoint({found.name, str(found.path.resolve())})]
        if others:
            click.echo("Also here, for llm llamaq add NAME MODEL:")
        for found in others:
            click.echo(f"  {shlex.quote(found.name)}  {found.path}")


def _file() -> Path:
    return Path(llm.user_dir()) / "llamaq.json"


def _entries() -> dict[str, str]:
    """Names, and what ``LLM.load`` takes for them; none where the file cannot be read."""
    try:
        found = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): str(path) for name, path in found.items()} if isinstance(found, dict) else {}


def _write(entries: dict[str, str]) -> None:
    with atomic_file(_file(), LlamaqError) as file:
        file.write(json.dumps(entries, indent=2).encode())


def _model(path: str) -> LLM:
    """The model of a file, which stays loaded. Raises ``llm.ModelError``, which the command prints."""
    from llamaq.llm.llm import LLM  # here, for llm imports its plugins at every start

    with _lock:
        if path not in _loaded:
            try:
                _loaded[path] = LLM.load(path)
            except LlamaqError as error:
                raise llm.ModelError(str(error)) from error
        return _loaded[path]


def _messages(message: Message) -> Iterator[dict[str, Any]]:
    """A turn in OpenAI's shape; each result of a tool is a message of its own."""
    parts = message.parts
    for part in parts:
        if isinstance(part, ToolResultPart):
            yield {"role": "tool", "tool_call_id": part.tool_call_id, "name": part.name, "content": part.output}
    calls = [
        {"id": part.tool_call_id, "type": "function", "function": {"name": part.name, "arguments": part.arguments}}
        for part in parts
        if isinstance(part, ToolCallPart)
    ]
    text = "".join(part.text for part in parts if isinstance(part, TextPart))
    reasoning = "".join(part.text for part in parts if isinstance(part, ReasoningPart))
    if text or calls or message.role != "tool":
        found: dict[str, Any] = {"role": message.role, "content": text}
        yield {
            **found,
            **({"reasoning_content": reasoning} if reasoning else {}),
            **({"tool_calls": calls} if calls else {}),
        }


def _told(event: ChatEvent, ids: dict[int, str]) -> Iterator[StreamEvent]:
    if event.reasoning:
        yield StreamEvent(type="reasoning", chunk=event.reasoning)
    if event.text:
        yield StreamEvent(type="text", chunk=event.text)
    if (call := event.tool_call) is not None:
        if call.id is not None:
            ids[call.index] = call.id
            yield StreamEvent(type="tool_call_name", chunk=call.name or "", tool_call_id=call.id)
        if call.arguments:
            yield StreamEvent(type="tool_call_args", chunk=call.arguments, tool_call_id=ids[call.index])


def _finish(answer: ChatStream, response: Any) -> None:
    for call in answer.message.tool_calls:
        response.add_tool_call(llm.ToolCall(name=call.name, arguments=call.arguments, tool_call_id=call.id))
    usage = answer.usage
    response.set_usage(input=usage.prompt_tokens, output=usage.completion_tokens)
