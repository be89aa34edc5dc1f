"""Formats of chats: a registry of functions that answer a conversation, and ways to make them of templates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol, TypeVar

from llamaq.chat.reasoning import Beginning
from llamaq.chat.request import ChatRequest
from llamaq.chat.templates import ChatTemplate, file_templates

from . import chats
from .calls import CHAT
from .image_handlers import (
    Gemma3ChatHandler,
    Gemma4ChatHandler,
    Llava15ChatHandler,
    Llava16ChatHandler,
    MTMDChatHandler,
    Qwen3VLChatHandler,
    Qwen25VLChatHandler,
    refused,
)
from .model import Model
from .processors import StoppingCriteriaList
from .settings import stops_of

__all__ = [
    "ChatFormatter",
    "ChatFormatterResponse",
    "Gemma3ChatHandler",
    "Gemma4ChatHandler",
    "Jinja2ChatFormatter",
    "LlamaChatCompletionHandler",
    "LlamaChatCompletionHandlerNotFoundException",
    "LlamaChatCompletionHandlerRegistry",
    "Llava15ChatHandler",
    "Llava16ChatHandler",
    "MTMDChatHandler",
    "Qwen3VLChatHandler",
    "Qwen25VLChatHandler",
    "chat_formatter_to_chat_completion_handler",
    "get_chat_completion_handler",
    "handler_of",
    "hf_autotokenizer_to_chat_completion_handler",
    "hf_autotokenizer_to_chat_formatter",
    "hf_tokenizer_config_to_chat_completion_handler",
    "hf_tokenizer_config_to_chat_formatter",
    "register_chat_completion_handler",
    "register_chat_format",
]

_T = TypeVar("_T")


class LlamaChatCompletionHandler(Protocol):
    """Answers a conversation: a dict in OpenAI's shape, or with ``stream`` an iterator of them. It gets ``llama``,
    ``messages`` and all other arguments of ``create_chat_completion``."""

    def __call__(self, *, llama: Any, **values: Any) -> Any: ...


class ChatFormatter(Protocol):
    """Makes the prompt for a conversation. It gets ``messages``, ``tools`` and the like."""

    def __call__(self, *, messages: Any, **values: Any) -> ChatFormatterResponse: ...


@dataclass
class ChatFormatterResponse:
    """A prompt, texts and criteria that end the answer, and whether the prompt has its BOS already."""

    prompt: str
    stop: str | list[str] | None = None
    stopping_criteria: StoppingCriteriaList | None = None
    added_special: bool = False


class LlamaChatCompletionHandlerNotFoundException(Exception):
    """There is no format of that name."""


class LlamaChatCompletionHandlerRegistry:
    """The functions that answer chats, by the names of their formats; all objects share them."""

    _chat_handlers: dict[str, Any] = {}  # noqa: RUF012, it is meant to be shared

    def register_chat_completion_handler(self, name: str, chat_handler: Any, overwrite: bool = False) -> None:
        if not overwrite and name in self._chat_handlers:
            raise ValueError(f"Formatter with name '{name}' is already registered; overwrite=True takes its place")
        self._chat_handlers[name] = chat_handler

    def unregister_chat_handler(self, name: str) -> None:
        if name not in self._chat_handlers:
            raise ValueError(f"No formatter registered under the name '{name}'")
        del self._chat_handlers[name]

    def get_chat_completion_handler_by_name(self, name: str) -> Any:
        if name not in self._chat_handlers:
            known = ", ".join(self._chat_handlers)
            raise LlamaChatCompletionHandlerNotFoundException(
                f"Invalid chat handler: {name}; there are {known}, and llamaq.LLM.chat takes any template"
            )
        return self._chat_handlers[name]


def get_chat_completion_handler(name: str) -> Any:
    """The function of that name. Raises ``LlamaChatCompletionHandlerNotFoundException``."""
    return LlamaChatCompletionHandlerRegistry().get_chat_completion_handler_by_name(name)


def register_chat_completion_handler(name: str) -> Callable[[_T], _T]:
    """Gives a function that answers chats a name."""

    def register(handler: _T) -> _T:
        LlamaChatCompletionHandlerRegistry().register_chat_completion_handler(name, handler)
        return handler

    return register


def register_chat_format(name: str) -> Callable[[_T], _T]:
    """Gives a function that makes prompts a name."""

    def register(formatter: _T) -> _T:
        handler = chat_formatter_to_chat_completion_handler(formatter)
        LlamaChatCompletionHandlerRegistry().register_chat_completion_handler(name, handler)
        return formatter

    return register


def handler_of(llama: Model) -> Any:
    """The function that answers the chats of a model: of its ``chat_format``, or of its file's template. A file without
    one has the format "llama-2", as it has in llama-cpp-python."""
    own, name = file_templates(llama.metadata_values), llama.chat_format
    if name is None:
        name = "chat_template.default" if "default" in own else "llama-2"
    kind, _, template = name.partition(".")
    if kind == "chat_template" and template in own:
        return _by_template(None if template == "default" else template)
    if name == "chatml-function-calling" and "default" in own:
        return _by_template(None)  # llamaq reads the calls of every template that has them
    return get_chat_completion_handler(name)


def chat_formatter_to_chat_completion_handler(chat_formatter: Any) -> Any:
    """A function that answers with the prompts that ``chat_formatter`` makes."""

    def handler(*, llama: Model, **given: Any) -> Any:
        values = {**CHAT, **given}
        tools = chats.asked_tools(values)
        names = ("messages", "functions", "function_call", "tools", "tool_choice")
        made = chat_formatter(**{name: values[name] for name in names})
        ids = llama.tokenize(made.prompt.encode(), add_bos=not made.added_special, special=True)
        request = ChatRequest(
            made.prompt, ids, Beginning(may_open=False), (), stops_of(made.stop), frozenset(), tools.shown, (), None,
            None,
        )  # fmt: skip
        return chats.answer(llama, request, values, tools, criteria=made.stopping_criteria)

    return handler


class Jinja2ChatFormatter:
    """Makes prompts with a Jinja template, in llamaq's sandbox. Raises ``ChatTemplateError`` for text that is none."""

    def __init__(
        self, template: str, eos_token: str, bos_token: str, add_generation_prompt: bool = True,
        stop_token_ids: Sequence[int] | None = None,
    ) -> None:  # fmt: skip
        self.template = template
        self.eos_token, self.bos_token = eos_token, bos_token
        self.add_generation_prompt = add_generation_prompt
        self.stop_token_ids = None if stop_token_ids is None else set(stop_token_ids)
        self._compiled = ChatTemplate(template)

    def __call__(self, *, messages: Sequence[Mapping[str, Any]], **values: Any) -> ChatFormatterResponse:
        prompt = self._compiled.render(
            messages, add_generation_prompt=self.add_generation_prompt, bos_token=self.bos_token,
            eos_token=self.eos_token, **values,
        )  # fmt: skip
        ends = self.stop_token_ids
        criteria = None if ends is None else StoppingCriteriaList([lambda ids, logits: int(ids[-1]) in ends])
        return ChatFormatterResponse(prompt, [self.eos_token], criteria, added_special=True)

    def to_chat_handler(self) -> Any:
        return chat_formatter_to_chat_completion_handler(self)


def hf_tokenizer_config_to_chat_formatter(
    tokenizer_config: Mapping[str, Any], add_generation_prompt: bool = True
) -> ChatFormatter:
    """Makes prompts with the template of a tokenizer_config.json, whose begin of an answer is an empty message."""
    template = ChatTemplate(tokenizer_config["chat_template"])
    bos, eos = tokenizer_config["bos_token"], tokenizer_config["eos_token"]

    def formatter(*, messages: Any, **values: Any) -> ChatFormatterResponse:
        said = [*messages, *([{"role": "assistant", "content": ""}] if add_generation_prompt else [])]
        prompt = template.render(said, add_generation_prompt=False, bos_token=bos, eos_token=eos, **values)
        return ChatFormatterResponse(prompt, [eos, bos], added_special=True)

    return formatter


def hf_tokenizer_config_to_chat_completion_handler(
    tokenizer_config: Mapping[str, Any], add_generation_prompt: bool = True
) -> Any:
    return chat_formatter_to_chat_completion_handler(
        hf_tokenizer_config_to_chat_formatter(tokenizer_config, add_generation_prompt)
    )


def hf_autotokenizer_to_chat_formatter(pretrained_model_name_or_path: str) -> ChatFormatter:
    """Makes prompts with a tokenizer of the package transformers, which it needs."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(pretrained_model_name_or_path)

    def formatter(*, messages: Any, **values: Any) -> ChatFormatterResponse:
        prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return ChatFormatterResponse(prompt, tokenizer.eos_token, added_special=True)

    return formatter


def hf_autotokenizer_to_chat_completion_handler(pretrained_model_name_or_path: str) -> Any:
    return chat_formatter_to_chat_completion_handler(hf_autotokenizer_to_chat_formatter(pretrained_model_name_or_path))


def _by_template(template: str | None) -> Any:
    """A function that answers with a template of the file or of llamaq (None: the file's own)."""

    def handler(*, llama: Model, **given: Any) -> Any:
        return chats.chat(llama, {**CHAT, **given}, template)

    return handler


_NAMED = {
    "llama-2": "llama2", "llama-3": "llama3", "alpaca": "alpaca", "vicuna": "vicuna", "chatml": "chatml",
    "qwen": "chatml", "mistral-instruct": "mistral", "gemma": "gemma", "chatml-function-calling": "chatml",
}  # fmt: skip
"""Formats of llama-cpp-python, and the templates of llamaq that they are."""

for _name, _template in _NAMED.items():
    LlamaChatCompletionHandlerRegistry._chat_handlers[_name] = _by_template(_template)


@cache
def __getattr__(name: str) -> Any:
    if (found := refused(name)) is not None:
        return found
    raise AttributeError(f"llamaq.compat has no {name} in llama_chat_format; it has {', '.join(__all__)}")
