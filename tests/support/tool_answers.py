"""What models write in each format of tool calls, and what is meant."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["ANSWERS", "TOOLS", "tool"]


def tool(name: str, **parameters: str) -> dict[str, Any]:
    properties = {key: {"type": kind, "description": key} for key, kind in parameters.items()}
    function = {"name": name, "description": name, "parameters": {"type": "object", "properties": properties}}
    return {"type": "function", "function": function}


TOOLS = [tool("weather", city="string", days="integer", detail="object"), tool("python", code="string"), tool("now")]
WEATHER = {"city": 'Münster "am" {See}\n]', "days": 3, "detail": {"wind": [1, None, "}"], "x": True}}
W = json.dumps(WEATHER, ensure_ascii=False)
NOW = '{"name": "now", "arguments": {}}'
TWO = [("weather", WEATHER), ("now", {})]
ANSWERS: list[tuple[str, str, str, list[tuple[str, dict[str, Any]]]]] = [
    ("hermes", "Hello <b>there</b>.\n", "Hello <b>there</b>.\n", []),
    ("hermes", f'Wait.\n<tool_call>\n{{"name": "weather", "arguments": {W}}}\n</tool_call>', "Wait.", TWO[:1]),
    ("hermes", f'<tool_call>{{"arguments": {W}, "name": "weather"}}</tool_call>\n<tool_call>{NOW}'
     "</tool_call>", "", TWO),
    ("hermes", '<tool_call>{"name": "now"}</tool_call> Done.', "Done.", [("now", {})]),
    ("hermes", f'<tool_call>{{"name": "weather", "arguments": {json.dumps(W)}}}</tool_call>', "", TWO[:1]),
    ("hermes", "<tool_call> no call", "<tool_call>no call", []),
    ("hermes", "a < b <tool", "a < b <tool", []),
    ("hermes", 'Hm. <tool_call>{"x": 5} y', 'Hm.<tool_call>{"x": 5}y', []),
    ("hermes", '<tool_call>{"arguments": {}', '<tool_call>{"arguments": {}', []),
    ("mistral", "[TOOL_CALLS] of [a, b]", "[TOOL_CALLS]of [a, b]", []),
    ("qwen", "<tool_call>\n<function=weather>\n<parameter=city>\nParis\n</parameter>\n<parameter=days>2</parameter>\n"
     '<parameter=detail>\n{"a": 1}\n</parameter>\n</function>\n</tool_call>', "",
     [("weather", {"city": "Paris", "days": 2, "detail": {"a": 1}})]),
    ("qwen", "<tool_call><function=python><parameter=code>\n1 < 2\nx\n\n</parameter></function></tool_call>"
     "<tool_call><function=now></function></tool_call>", "", [("python", {"code": "1 < 2\nx\n"}), ("now", {})]),
    ("functionary-v3.1", f"Look: <function=weather>{W}</function><function=now>{{}}</function>", "Look:",
     TWO),
    ("functionary-v3.1", "<|python_tag|>print(1)", "", [("python", {"code": "print(1)"})]),
    ("functionary-v3.2", f"all\nHello.\n>>>weather\n{W}>>>now\n{{}}", "Hello.", TWO),
    ("functionary-v3.2", ">>>python\nprint('>>')\n", "", [("python", {"code": "print('>>')"})]),
    ("functionary-v3.2", "unknown\ntext", "unknown\ntext", []),
    ("functionary-v3.2", "no newline", "no newline", []),
    ("llama3", f'{{"name": "weather", "parameters": {W}}}', "", [("weather", WEATHER)]),
    ("llama3", f'<|python_tag|>{{"type": "function", "name": "weather", "parameters": {W}}}; {NOW}',
     "", TWO),
    ("llama3", '{"name": "unknown", "parameters": {}}', '{"name": "unknown", "parameters": {}}', []),
    ("llama3", f'{{"parameters": {W}, "name": "weather"}}', "", TWO[:1]),
    ("llama3", f'{{"type": "function", "function": "weather", "parameters": {W}}}', "", TWO[:1]),
    ("llama3", '{"name": "now", "parameters": null}', "", [("now", {})]),
    ("llama3", '{"parameters": null, "name": "now"}', "", [("now", {})]),
    ("llama3", f'[{{"name": "weather", "parameters": {W}}}, {NOW}]', "", TWO),
    ("llama3", f'<|python_tag|>[{{"parameters": {W}, "function": "weather"}},\n{NOW}]', "", TWO),
    ("llama3", '{"parameters": {"x": 1}, "name": "unknown"}', '{"parameters": {"x": 1}, "name": "unknown"}', []),
    ("llama3", '{"parameters": {"x": 1', '{"parameters": {"x": 1', []),
    ("llama3", '{"name": {"x": 1}}', '{"name": {"x": 1}}', []),
    ("llama3", '[1, 2]', '[1, 2]', []),
    ("llama3", '[{"x": 1}]', '[{"x": 1}]', []),
    ("llama3", "[", "[", []),
    ("hermes", '<tool_call>{"function": "now", "parameters": null}</tool_call>', "", [("now", {})]),
    ("llama3", '{"answer": 5}', '{"answer": 5}', []),
    ("llama3", "{", "{", []),
    ("llama3", "Plain text { with", "Plain text { with", []),
    ("llama3", '<|python_tag|>weather.call(city="Rome", days=2)', "", [("weather", {"city": "Rome", "days": 2})]),
    ("llama3", "Let me see. <|python_tag|>x = 1\ny", "Let me see.", [("python", {"code": "x = 1\ny"})]),
    ("llama3", f'<|python_start|>{{"name": "weather", "parameters": {W}}}<|python_end|>{NOW}', "", TWO),
    ("llama3", "<|python_start|>print(1)<|python_end|>Done.", "Done.", [("python", {"code": "print(1)"})]),
    ("llama3", "<|python_start|>[1]<|python_end|>", "[1]", []),
    ("mistral", f'[TOOL_CALLS][{{"name": "weather", "arguments": {W}, "id": "abcdefghi"}}, {NOW}]', "",
     TWO),
    ("mistral", f"Hm. [TOOL_CALLS]weather[ARGS]{W}[TOOL_CALLS]now[CALL_ID]abcdefghi[ARGS]{{}}", "Hm.",
     TWO),
    ("mistral", "[TOOL_CALLS] weather{}", "", [("weather", {})]),
    ("mistral", "[TOOL_CALLS][1, 2]", "[TOOL_CALLS][1, 2]", []),
    ("mistral", "[TOOL_CALLS][]", "", []),
    ("gpt-oss", f"<|channel|>analysis<|message|>Hm <b>.<|end|><|start|>assistant<|channel|>commentary"
     f" to=functions.weather <|constrain|>json<|message|>{W}<|call|>", "", TWO[:1]),
    ("gpt-oss", f" to=functions.weather<|channel|>commentary json<|message|>{W}<|call|>", "", TWO[:1]),
    ("gpt-oss", "<|channel|>commentary<|message|>Let me look.<|end|><|start|>assistant<|channel|>analysis<|message|>"
     "\nSo.<|end|><|start|>assistant<|channel|>commentary to=functions.now<|message|>{}<|call|>", "Let me look.",
     TWO[1:]),
    ("gpt-oss", f"<|channel|>commentary to=functions.weather<|message|>{W}<|end|>\n<|start|>assistant to=functions.now"
     "<|channel|>commentary<|constrain|>json<|message|>{}", "", TWO),
    ("gpt-oss", "<|channel|>final<|message|>Yes, a < b <| to=functions.now.<|return|>",
     "Yes, a < b <| to=functions.now.", []),
    ("gpt-oss", "<|channel|>analysis to=python<|message|>print('{')\n<|call|>", "",
     [("python", {"code": "print('{')"})]),
    ("gpt-oss", "<|channel|>commentary to=browser.search<|message|>Hm.<|end|>", "Hm.", []),
    ("gpt-oss", "<|channel|>commentary to=functions.now<|message|>no call<|end|><|channel|>final<|message|>x",
     "<|channel|>commentary to=functions.now<|message|>no callx", []),
    ("gpt-oss", "<|channel|>final<|end|>", "<|channel|>final", []),
    ("gpt-oss", " a text that goes on \nhere", " a text that goes on \nhere", []),
    ("gpt-oss", "to be", "to be", []),
    ("gpt-oss", " to=you", " to=you", []),
    ("granite", f'<|tool_call|>[{{"name": "weather", "arguments": {W}}}, {NOW}]', "", TWO),
    ("granite", f"Hm. <tool_call>[{NOW}]", "Hm.", TWO[1:]),
    ("granite", f'<|tool_call|>{{"name": "weather", "arguments": {W}}}<|/tool_call|> Done.', "Done.", TWO[:1]),
    ("gemma4", f'Hm.\n<|tool_call>call:weather{{city:<|"|>{WEATHER["city"]}<|"|>,days:3,'
     'detail:{wind:[1,None,<|"|>}<|"|>],<|"|>x<|"|>:true}}<tool_call|><|tool_call>call:now{}<tool_call|>', "Hm.", TWO),
    ("gemma4", f"<|tool_call>call:weather{W}<tool_call|>", "", TWO[:1]),
    ("gemma4", '<|tool_call>call:get-x{a : -1.5e3 ,b:<|"|>{c:1}<tool_call|><|"|>}', "",
     [("get-x", {"a": -1500.0, "b": "{c:1}<tool_call|>"})]),
    ("gemma4", "<|tool_call>call:now{x:NaN}<tool_call|>", "<|tool_call>call:now{x:NaN}<tool_call|>", []),
    ("gemma4", '<|tool_call>call:now{x:<|"|>y', '<|tool_call>call:now{x:<|"|>y', []),
    ("gemma4", "<|tool_call>call:now[1]<tool_call|>x", "<|tool_call>call:now[1]<tool_call|>x", []),
    ("gemma4", 'a <|"|> b', 'a <|"|> b', []),
    ("lfm2", "Hm. <|tool_call_start|>[weather(city='Münster \"am\" {See}\\n]', days=3, "
     "detail={'wind': [1, null, \"}\"], 'x': true}), now()]<|tool_call_end|>", "Hm.", TWO),
    ("lfm2", f"<|tool_call_start|>[weather(**{W})]<|tool_call_end|>\nSo.", "So.", TWO[:1]),
    ("lfm2", '<|tool_call_start|>get-x.y(a="\\/ \\ud83d\\ude00", b=True)', "",
     [("get-x.y", {"a": "/ 😀", "b": True})]),
    ("lfm2", '<|tool_call_start|>[now(1)]<|tool_call_end|>', "<|tool_call_start|>[now(1)]<|tool_call_end|>", []),
    ("lfm2", '<|tool_call_start|>[now(), x]<|tool_call_end|>', "<|tool_call_start|>[now(), x]<|tool_call_end|>", []),
    ("lfm2", '<|tool_call_start|>[now(a="\\ud83d")]<|tool_call_end|>',
     '<|tool_call_start|>[now(a="\\ud83d")]<|tool_call_end|>', []),
    ("lfm2", "<|tool_call_start|>[]<|tool_call_end|>", "<|tool_call_start|>[]<|tool_call_end|>", []),
    ("lfm2", '[now()]', "[now()]", []),
    ("glm", f"Hm.\n<tool_call>weather<arg_key>city</arg_key><arg_value>{WEATHER['city']}</arg_value>"
     '<arg_key>days</arg_key><arg_value>3</arg_value><arg_key>detail</arg_key>'
     '<arg_value>{"wind": [1, null, "}"], "x": true}</arg_value>'
     "</tool_call><tool_call>now</tool_call>", "Hm.", TWO),
    ("glm", "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>3</arg_value>\n<arg_key>days</arg_key>\n"
     "<arg_value>4</arg_value>\n</tool_call>\nSo.", "So.", [("weather", {"city": "3", "days": 4})]),
    ("glm", f"<tool_call>weather{W}</tool_call>", "", TWO[:1]),
    ("glm", "<tool_call>weather<arg_key>city</arg_key><arg_value>a < b</tool_call>x", "x",
     [("weather", {"city": "a < b"})]),
    ("glm", "<tool_call> no call", "<tool_call> no call", []),
    ("glm", "<tool_call>no call</tool_call>x", "<tool_call>no call</tool_call>x", []),
    ("functiongemma", f'Hm.\n<start_function_call>call:weather{{city:<escape>{WEATHER["city"]}<escape>,days:3,'
     "detail:{wind:[1,None,<escape>}<escape>],<escape>x<escape>:true}}<end_function_call>"
     "<start_function_call>call:now{}<end_function_call>", "Hm.", TWO),
    ("functiongemma", "<start_function_call>call:now[1]<end_function_call>",
     "<start_function_call>call:now[1]<end_function_call>", []),
    ("deepseek", f"Hm.\n<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n{W}\n```"
     "<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```<｜tool▁call▁end｜>"
     "<｜tool▁calls▁end｜>", "Hm.", TWO),
    ("deepseek", f"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>{W}<｜tool▁call▁end｜>"
     "<｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>\nSo.", "So.", TWO),
    ("deepseek", "<｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜>", "", TWO[1:]),
    ("deepseek", "<｜tool▁calls▁begin｜>none", "<｜tool▁calls▁begin｜>none", []),
    ("deepseek", "<｜tool▁call▁begin｜>now<｜tool▁call▁end｜>x", "<｜tool▁call▁begin｜>now<｜tool▁call▁end｜>x", []),
    ("deepseek", "<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\nno",
     "<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\nno", []),
    ("kimi-k2", "Hm.<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>"
     f"{W}<|tool_call_end|><|tool_call_begin|>functions.now:1<|tool_call_argument_begin|>{{}}<|tool_call_end|>"
     "<|tool_calls_section_end|>", "Hm.", TWO),
    ("kimi-k2", "<|tool_call_begin|>now<|tool_call_argument_begin|>{}<|tool_call_end|>", "", TWO[1:]),
    ("olmo3", f"Hm. <function_calls>weather(city={json.dumps(WEATHER['city'])}, days=3, "
     'detail={"wind": [1, null, "}"], "x": true})\nnow()</function_calls>', "Hm.", TWO),
    ("olmo3", "<function_calls>now(1)</function_calls>", "<function_calls>now(1)</function_calls>", []),
    ("granite", "<|tool_call|> none", "<|tool_call|>none", []),
    ("granite", "<|tool_call|>[none]", "<|tool_call|>[none]", []),
    ("granite", "<|tool_call|>", "<|tool_call|>", []),
    ("granite", " \n<response>\nYes </b>.\n</response>\n", "Yes </b>.", []),
    ("granite", " <b>a</response>", " <b>a</response>", []),
    ("command-r7b", f'<|START_ACTION|>[\n    {{"tool_call_id": "0", "tool_name": "weather", "parameters": {W}}},\n'
     '    {"tool_call_id": "1", "tool_name": "now", "parameters": {}}\n]<|END_ACTION|>', "", TWO),
    ("command-r7b", "<|START_RESPONSE|>Yes <b>.\n<|END_RESPONSE|>", "Yes <b>.", []),
    ("command-r7b", "<|START_TEXT|>Yes<|END_TEXT|>", "Yes", []),
    ("command-r7b", "Plain.", "Plain.", []),
    ("command-r7b", "<|START_ACTION|>none<|END_ACTION|>", "<|START_ACTION|>none", []),
    ("command-r", f'Plan: ask.\nAction: ```json\n[\n    {{\n        "tool_name": "weather",\n        "parameters": {W}'
     '\n    },\n    {"tool_name": "now", "parameters": {}}\n]```', "Plan: ask.", TWO),
    ("command-r", f'Action:\n```json\n[{{"tool_name": "weather", "parameters": {W}}}]\n```\n', "", TWO[:1]),
    ("command-r", "Do so.\n\nAction: ```run``` it", "Do so.\n\nAction: ```run``` it", []),
    ("command-r", "An Action:", "An Action:", []),
    ("nemotron", f'Hm.\n<TOOLCALL>[{{"name": "weather", "arguments": {W}}}, {NOW}]</TOOLCALL>\n', "Hm.", TWO),
    ("nemotron", f"<TOOLCALL>[{NOW}]</TOOLCALL> Done.", "Done.", TWO[1:]),
    ("nemotron", "<TOOLCALL> none", "<TOOLCALL>none", []),
    ("nemotron", "<TOOLCALL>[none]</TOOLCALL>", "<TOOLCALL>[none]</TOOLCALL>", []),
    ("nemotron", "<TOOLCALL>", "<TOOLCALL>", []),
    ("", "<tool_call>{}</tool_call>", "<tool_call>{}</tool_call>", []),
]  # fmt: skip
