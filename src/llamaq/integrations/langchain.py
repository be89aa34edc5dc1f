"""LangChain: a chat model and embeddings on a model in this process. Needs the package langchain-core."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from langchain_core.embeddings import Embeddings
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, convert_to_openai_messages
from langchain_core.messages.tool import tool_call, tool_call_chunk
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from pydantic import BaseModel, ConfigDict, Field

from llamaq.llm.llm import LLM
from llamaq.sampling import SamplingParams
from llamaq.structure import json_schema

if TYPE_CHECKING:
    from llamaq.chat import ChatCompletion, ChatEvent, ChatStream
    from llamaq.llm.embedding import Pooling
    from llamaq.serving.stream import Usage

__all__ = ["ChatLlamaq", "LlamaqEmbeddings"]


class ChatLlamaq(BaseChatModel):
    """A model that LangChain chats with: ``ChatLlamaq(model="model.gguf", sampling={"temperature": 0})``.

    ``model`` and ``load`` are what ``LLM.load`` takes, ``sampling`` what ``SamplingParams`` takes; or give an ``llm``
    that is loaded already. ``options`` are further ones of ``LLM.chat``, such as ``template_kwargs``. Settings of
    ``SamplingParams`` may also be given with a call. Structured output is sure to match its schema. Raises what
    ``LLM.load`` and ``LLM.chat`` raise.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    model: str | None = None
    load: dict[str, Any] = Field(default_factory=dict)
    sampling: dict[str, Any] = Field(default_factory=dict)
    max_tokens: int | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    llm: LLM = Field(default=None, exclude=True, repr=False)  # type: ignore[assignment]

    def model_post_init(self, context: Any, /) -> None:
        if self.llm is None:
            self.llm = LLM.load(self.model, **self.load)

    @property
    def _llm_type(self) -> str:
        return "llamaq"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model, "sampling": self.sampling, "max_tokens": self.max_tokens}

    def get_num_tokens(self, text: str) -> int:
        return len(self.llm.tokenize(text))

    def bind_tools(
        self, tools: Sequence[dict[str, Any] | type | Callable[..., Any] | Any], *, tool_choice: Any = None,
        **kwargs: Any,
    ) -> Runnable[Any, AIMessage]:  # fmt: skip
        """Shows the model tools, which it may call; ``tool_choice`` is as in ``LLM.chat``, and "any" or True means that
        it must call one."""
        choice = "required" if tool_choice in ("any", True) else tool_choice or None
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], tool_choice=choice, **kwargs)

    def with_structured_output(
        self, schema: dict[str, Any] | type, *, include_raw: bool = False, **kwargs: Any
    ) -> Runnable[Any, Any]:
        """Answers are objects of a class of Pydantic, or dicts that match a JSON schema."""
        own = isinstance(schema, type) and issubclass(schema, BaseModel)
        parser: Any = PydanticOutputParser(pydantic_object=schema) if own else JsonOutputParser()  # type: ignore[type-var]
        asked = self.bind(schema=convert_to_json_schema(schema))
        if not include_raw:
            return asked | parser
        parsed = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
        failed = RunnablePassthrough.assign(parsed=lambda _: None)
        return {"raw": asked} | parsed.with_fallbacks([failed], exception_key="parsing_error")  # type: ignore[operator, no-any-return]

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        return _result(self.llm.chat(_said(messages), **self._options(stop, kwargs)))

    async def _agenerate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        return _result(await self.llm.achat(_said(messages), **self._options(stop, kwargs)))

    def _stream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        stream = self._begun(messages, stop, kwargs)
        for event in stream:
            chunk = _chunk(event, stream)
            if run_manager:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    async def _astream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        stream = self._begun(messages, stop, kwargs)
        async for event in stream:
            chunk = _chunk(event, stream)
            if run_manager:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    def _begun(self, messages: list[BaseMessage], stop: list[str] | None, given: dict[str, Any]) -> ChatStream:
        return self.llm.chat(_said(messages), stream=True, **self._options(stop, given))

    def _options(self, stop: list[str] | None, given: Mapping[str, Any]) -> dict[str, Any]:
        """Options of ``LLM.chat``; what else a call was given are settings of ``SamplingParams``."""
        settings = {name: value for name, value in given.items() if name in SamplingParams.__dataclass_fields__}
        rest = {name: value for name, value in given.items() if name not in settings}
        schema = rest.pop("schema", None)
        for name in ("ls_structured_output_format", "stream_usage"):  # LangChain's own, for its tracing
            rest.pop(name, None)
        if schema is not None:
            settings["structure"] = json_schema(schema)
        sampling = SamplingParams(**{**self.sampling, **settings})
        own: dict[str, Any] = {"max_tokens": self.max_tokens, "sampling": sampling, "stop": stop or ()}
        return {**self.options, **own, **rest}


class LlamaqEmbeddings(Embeddings):
    """Vectors of texts: ``LlamaqEmbeddings("model.gguf")``, with options of ``LLM.load``; or give an ``LLM``."""

    def __init__(
        self, model: str | LLM | None = None, *, pooling: Pooling | None = None, normalize: bool = True, **load: Any
    ) -> None:
        self.llm = model if isinstance(model, LLM) else LLM.load(model, **load)
        self._how: dict[str, Any] = {"pooling": pooling, "normalize": normalize}

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        found: list[list[float]] = self.llm.embed(texts, **self._how).tolist()
        return found

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        found: list[list[float]] = (await self.llm.aembed(texts, **self._how)).tolist()
        return found

    async def aembed_query(self, text: str) -> list[float]:
        return (await self.aembed_documents([text]))[0]


def _said(messages: list[BaseMessage]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = convert_to_openai_messages(messages)  # type: ignore[assignment]
    return found


def _result(answer: ChatCompletion) -> ChatResult:
    message = answer.message
    found = AIMessage(
        message.content,
        tool_calls=[tool_call(id=call.id, name=call.name, args=call.arguments) for call in message.tool_calls],
        additional_kwargs={"reasoning_content": message.reasoning} if message.reasoning else {},
        response_metadata={"finish_reason": answer.finish_reason, "seed": answer.seed},
        usage_metadata=_usage(answer.usage),  # type: ignore[arg-type]
    )
    return ChatResult(generations=[ChatGeneration(message=found)])


def _chunk(event: ChatEvent, stream: ChatStream) -> ChatGenerationChunk:
    call, ends = event.tool_call, event.finish_reason is not None
    calls = [] if call is None else [tool_call_chunk(id=call.id, name=call.name, args=call.arguments, index=call.index)]
    message = AIMessageChunk(
        event.text,
        tool_call_chunks=calls,
        additional_kwargs={"reasoning_content": event.reasoning} if event.reasoning else {},
        response_metadata={"finish_reason": event.finish_reason, "seed": stream.text.seed} if ends else {},
        usage_metadata=_usage(stream.usage) if ends else None,  # type: ignore[arg-type]
    )
    return ChatGenerationChunk(message=message)


def _usage(usage: Usage) -> dict[str, Any]:
    read, made = usage.prompt_tokens, usage.completion_tokens
    counts = {"input_tokens": read, "output_tokens": made, "total_tokens": read + made}
    return {**counts, "input_token_details": {"cache_read": usage.cached_tokens}}
