"""Templates of each format of tool calls, and calls as its models write them."""

from __future__ import annotations

from shared_files import shared_path
from templates import DEEPSEEK_V3, DEEPSEEK_V31, FUNCTION_GEMMA, GEMMA4, HARMONY, OLMO3

__all__ = ["FORMATS", "MARKS", "PLAIN", "SOURCES", "WRITTEN", "source_of"]

FILES = {
    "hermes": "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use",
    "qwen": "Qwen-Qwen2.5-7B-Instruct",
    "qwen-coder": "Qwen3-Coder",
    "functionary-v3.1": "meetkai-functionary-medium-v3.1",
    "functionary-v3.2": "meetkai-functionary-medium-v3.2",
    "llama3": "meta-llama-Llama-3.1-8B-Instruct",
    "mistral": "mistralai-Mistral-Nemo-Instruct-2407",
    "command-r7b": "CohereForAI-c4ai-command-r7b-12-2024-tool_use",
    "granite": "ibm-granite-granite-3.3-2B-Instruct",
    "lfm2": "LFM2-8B-A1B",
    "glm": "GLM-4.7-Flash",
    "kimi-k2": "moonshotai-Kimi-K2",
}
PLAIN = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{{ tools|tojson if tools }}assistant:"
SOURCES = {
    "gpt-oss": HARMONY.replace("{{ tools | length if tools else 0 }}", "{{ tools|tojson if tools }}"),
    "mistral-args": f"[TOOL_CALLS]f[ARGS]{PLAIN}",
    "command-r": f"Action: tool_name{PLAIN}",
    "nemotron": f"<TOOLCALL>{PLAIN}",  # its own begins a thought that no variable ends
    "phi4-mini": f"<|tool_call|><|/tool_call|>{PLAIN}",
    "gemma4": GEMMA4,
    "functiongemma": FUNCTION_GEMMA,
    "olmo3": OLMO3,
    "deepseek": DEEPSEEK_V31,
    "deepseek-fenced": DEEPSEEK_V3,
}
FORMATS = [*FILES, *SOURCES]
MARKS = (
    *("<|start|>", "<|channel|>", "<|message|>", "<|constrain|>", "<|end|>", "<|call|>", "<|return|>"),
    *("<|START_ACTION|>", "<|END_ACTION|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_THINKING|>"),
    *("<|END_THINKING|>", "<|tool_call|>", "<|/tool_call|>", "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]"),
    *("<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", '<|"|>', "<|tool_call_start|>", "<|tool_call_end|>"),
    *("<start_function_call>", "<end_function_call>", "<escape>", "<function_calls>", "</function_calls>"),
    *("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>", "<|tool_call_begin|>", "<|tool_call_end|>"),
    *("<|tool_call_argument_begin|>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", "<TOOLCALL>"),
    "</TOOLCALL>", "weather", '{"name": "', "assistant", "final", "analysis",
)  # fmt: skip


def source_of(format: str) -> str:
    return SOURCES.get(format) or shared_path(f"templates/{FILES[format]}.jinja").read_text(encoding="utf-8")


WRITTEN = {
    "hermes": '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>\n<tool_call>\n{"name": "weather", '
    '"arguments": {"city": "Rome", "days": 2}}\n</tool_call>',
    "qwen-coder": "<tool_call>\n<function=weather>\n<parameter=city>\nRome\n</parameter>\n<parameter=days>\n2\n"
    "</parameter>\n<parameter=detail>\ntrue\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=now>\n"
    "</function>\n</tool_call>",
    "functionary-v3.1": "<function=now>{}</function><function=now>{}</function>",
    "functionary-v3.2": 'weather\n{"city": "Rome", "days": 2}>>>now\n{}',
    "llama3": '{"name": "weather", "parameters": {"city": "Rome", "days": 2}}',
    "mistral": '[TOOL_CALLS][{"name": "now", "arguments": {}}, {"name": "now", "arguments": {}}]',
    "mistral-args": "[TOOL_CALLS]now[ARGS]{}[TOOL_CALLS]now[ARGS]{}",
    "command-r7b": '<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "now", "parameters": {}}\n]'
    "<|END_ACTION|>",
    "command-r": 'Action: ```json\n[\n    {\n        "tool_name": "now",\n        "parameters": {}\n    }\n]```',
    "granite": '<|tool_call|>[{"name": "now", "arguments": {}}]',
    "phi4-mini": '<|tool_call|>[{"name": "now", "arguments": {}}]<|/tool_call|>',
    "gemma4": '<|tool_call>call:now{}<tool_call|><|tool_call>call:weather{city:<|"|>Rome<|"|>,days:2,detail:true}'
    "<tool_call|>",
    "lfm2": '<|tool_call_start|>[now(), weather(city="Rome", days=2)]<|tool_call_end|>',
    "glm": "<tool_call>now</tool_call><tool_call>weather<arg_key>city</arg_key><arg_value>Rome</arg_value>"
    "<arg_key>days</arg_key><arg_value>2</arg_value></tool_call>",
    "functiongemma": "<start_function_call>call:now{}<end_function_call><start_function_call>call:weather"
    "{city:<escape>Rome<escape>,days:2}<end_function_call>",
    "olmo3": '<function_calls>now()\nweather(city="Rome", days=2, detail=true)</function_calls>',
    "deepseek": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜>"
    "<｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    "deepseek-fenced": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```"
    "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    "kimi-k2": "<|tool_calls_section_begin|><|tool_call_begin|>functions.now:0<|tool_call_argument_begin|>{}"
    "<|tool_call_end|><|tool_calls_section_end|>",
    "nemotron": '<TOOLCALL>[{"name": "now", "arguments": {}}, '
    '{"name": "weather", "arguments": {"city": "Rome", "days": 2}}]</TOOLCALL>',
    "gpt-oss": "<|channel|>analysis<|message|>Hm <b>.<|end|><|start|>assistant<|channel|>commentary to=functions.now "
    "<|constrain|>json<|message|>{}",
}
