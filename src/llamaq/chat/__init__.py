"""Chat: templates, tools, reasoning, and the typed messages and events that ``LLM.chat`` takes and gives."""

from __future__ import annotations

from llamaq.chat.chat_stream import ChatStream
from llamaq.chat.messages import (
    ChatCompletion,
    ChatEvent,
    ChatFinishReason,
    ChatMessage,
    ToolCall,
    ToolCallDelta,
)
from llamaq.chat.named import NAMED_TEMPLATES
from llamaq.chat.request import ChatRequest, chat_request
from llamaq.chat.templates import ChatTemplate, choose_template, file_templates
from llamaq.chat.tools import TOOL_FORMATS

__all__ = [
    "NAMED_TEMPLATES",
    "TOOL_FORMATS",
    "ChatCompletion",
    "ChatEvent",
    "ChatFinishReason",
    "ChatMessage",
    "ChatRequest",
    "ChatStream",
    "ChatTemplate",
    "ToolCall",
    "ToolCallDelta",
    "chat_request",
    "choose_template",
    "file_templates",
]
