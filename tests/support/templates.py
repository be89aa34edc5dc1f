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
