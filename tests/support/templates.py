"""Chat templates in the shape of real ones."""

from __future__ import annotations

HARMONY = """\
<|start|>system<|message|>{{ tools | length if tools else 0 }} tools<|end|>
{%- for message in messages %}
    {%- if message.role == 'assistant' and message.tool_calls %}
        {%- if message.content and message.thinking %}{{ raise_exception('both') }}{% endif %}
        {%- if message.thinking %}
            {{- '<|start|>assistant<|channel|>analysis<|message|>' + message.thinking + '<|end|>' }}
        {%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- '<|start|>assistant to=functions.' + call.name + '<|channel|>commentary json<|message|>' }}
        {{- call.arguments | tojson + '<|call|>' }}
    {%- elif message.role == 'assistant' %}
        {{- '<|start|>assistant<|channel|>final<|message|>' + message.content }}
        {{- '<|return|>' if loop.last and not add_generation_prompt else '<|end|>' }}
    {%- elif message.role == 'tool' %}
        {{- '<|start|>functions.weather to=assistant<|channel|>commentary<|message|>' + message.content + '<|end|>' }}
    {%- else %}{{ '<|start|>' + message.role + '<|message|>' + message.content + '<|end|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|start|>assistant{% endif %}"""
"""gpt-oss': messages in channels."""

GEMMA4 = """\
{%- macro value(x) -%}
    {%- if x is string %}<|"|>{{ x }}<|"|>
    {%- elif x is mapping %}
        {{- '{' }}{% for k in x %}{{ k }}:{{ value(x[k]) }}{{ ',' if not loop.last }}{% endfor %}{{ '}' }}
    {%- elif x is boolean or x is none or x is number %}{{ x | tojson if x is boolean else x }}
    {%- else %}[{% for y in x %}{{ value(y) }}{{ ',' if not loop.last }}{% endfor %}]
    {%- endif -%}
{%- endmacro -%}
{{ bos_token }}<|turn>system
{% for tool in tools or [] %}<|tool>declaration:{{ value(tool.function) }}<tool|>{% endfor %}<turn|>
{% for message in messages %}
    {%- set role = 'model' if message.role == 'assistant' else message.role -%}
    {%- if role == 'tool' %}<|tool_response>response:{{ value(message.content) }}<tool_response|>
    {%- else %}<|turn>{{ role }}
{% for call in message.tool_calls or [] %}
            {{- '<|tool_call>call:' + call.function.name }}{{ value(call.function.arguments) }}<tool_call|>
        {%- endfor %}
        {{- message.content or '' }}
        {{- '<turn|>\n' if not message.tool_calls }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt and messages[-1].role != 'tool' %}<|turn>model
{{ '' if enable_thinking else '<|channel>thought\n<channel|>' }}{% endif %}"""
"""Gemma 4's: names without quotes, texts in marks, and an empty thought where there is to be none."""

FUNCTION_GEMMA = (
    GEMMA4.replace("<|tool_call>", "<start_function_call>")
    .replace("<tool_call|>", "<end_function_call>")
    .replace('<|"|>', "<escape>")
)
"""FunctionGemma's, as far as calls go."""

OLMO3 = """\
{%- for message in messages -%}
<|im_start|>{{ 'environment' if message.role == 'tool' else message.role }}
{{ message.content or '' }}
    {%- if loop.first and tools is not none %}<functions>{{ tools | tojson }}</functions>{% endif %}
    {%- if message.tool_calls %}
        {{- '<function_calls>' }}
        {%- for call in message.tool_calls %}
            {{- call.function.name }}({% for key in call.function.arguments %}
                {{- key }}={{ call.function.arguments[key] | tojson }}{{ ', ' if not loop.last }}
            {%- endfor %}){{ '\\n' if not loop.last }}
        {%- endfor %}
        {{- '</function_calls>' }}
    {%- endif %}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
"""OLMo 3's, which asks whether tools are none, as Hugging Face gives them."""

_DEEPSEEK = """\
{{ bos_token }}{{ tools | tojson if tools }}
{%- for message in messages %}
    {%- if message.role == 'assistant' %}{{ '<｜Assistant｜>' + (message.content or '') }}
        {%- if message.tool_calls %}
            {{- '<｜tool▁calls▁begin｜>' }}
            {%- for call in message.tool_calls %}
                {{- 'CALL' if loop.first else 'BETWEENCALL' }}{{ call.function.arguments | tojson }}{{ 'END' }}
            {%- endfor %}
            {{- '<｜tool▁calls▁end｜>' }}
        {%- endif %}
        {{- '<｜end▁of▁sentence｜>' }}
    {%- else %}{{ '<｜User｜>' + message.content }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<｜Assistant｜>' }}{% endif %}"""


def _deepseek(call: str, between: str, end: str) -> str:
    name = "' + call.function.name + '"
    return _DEEPSEEK.replace("BETWEEN", between).replace("CALL", call.replace("NAME", name)).replace("END", end)


DEEPSEEK_V3 = _deepseek(
    "<｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME\\n```json\\n", "\\n", "\\n```<｜tool▁call▁end｜>"
)
"""DeepSeek V3's and R1's: JSON in a fence."""
DEEPSEEK_V31 = _deepseek("<｜tool▁call▁begin｜>NAME<｜tool▁sep｜>", "", "<｜tool▁call▁end｜>")
