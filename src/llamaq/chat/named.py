"""Templates for files that bring none, written here after the formats that these models were trained with."""

from __future__ import annotations

__all__ = ["NAMED_TEMPLATES"]

_ROLES = """\
{%- for message in messages if message.role not in ['system', 'user', 'assistant'] -%}
    {{- raise_exception('this template has no place for messages of the role ' + message.role) -}}
{%- endfor -%}
"""

_SYSTEM_FIRST = (
    _ROLES
    + """\
{%- set system = messages[0].content | trim if messages and messages[0].role == 'system' else '' -%}
{%- set turns = messages[1:] if messages and messages[0].role == 'system' else messages -%}
{%- for message in turns if message.role == 'system' -%}
    {{- raise_exception('this template takes a system message at the beginning only') -}}
{%- endfor -%}
"""
)

_CHATML = (
    _ROLES
    + """\
{%- for message in messages -%}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""
)

_LLAMA2 = (
    _SYSTEM_FIRST
    + """\
{%- for message in turns -%}
    {%- if message.role == 'user' -%}
        {{- bos_token + '[INST] ' -}}
        {%- if loop.first and system -%}{{- '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' -}}{%- endif -%}
        {{- message.content | trim + ' [/INST]' -}}
    {%- else -%}
        {{- ' ' + message.content | trim + ' ' + eos_token -}}
    {%- endif -%}
{%- endfor -%}
"""
)

_MISTRAL = (
    _SYSTEM_FIRST
    + """\
{{- bos_token -}}
{%- for message in turns -%}
    {%- if message.role == 'user' -%}
        {{- '[INST] ' -}}
        {%- if loop.last and system -%}{{- system + '\\n\\n' -}}{%- endif -%}
        {{- message.content + '[/INST]' -}}
    {%- else -%}
        {{- ' ' + message.content | trim + eos_token -}}
    {%- endif -%}
{%- endfor -%}
"""
)

_HEADERS = (
    _ROLES
    + """\
{{- bos_token -}}
{%- for message in messages -%}
    {{- 'START' + message.role + 'END\\n\\n' + message.content | trim + 'TURN' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'STARTassistantEND\\n\\n' -}}{%- endif -%}
"""
)

_ALPACA = (
    _SYSTEM_FIRST
    + """\
{{- bos_token -}}
{%- if system -%}{{- system + '\\n\\n' -}}{%- endif -%}
{%- for message in turns -%}
    {%- if message.role == 'user' -%}
        {{- '### Instruction:\\n' + message.content | trim + '\\n\\n' -}}
    {%- else -%}
        {{- '### Response:\\n' + message.content | trim + eos_token + '\\n\\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '### Response:\\n' -}}{%- endif -%}
"""
)

_VICUNA = (
    _SYSTEM_FIRST
    + """\
{{- bos_token -}}
{%- if system -%}{{- system + ' ' -}}{%- endif -%}
{%- for message in turns -%}
    {%- if message.role == 'user' -%}
        {{- 'USER: ' + message.content | trim + ' ' -}}
    {%- else -%}
        {{- 'ASSISTANT: ' + message.content | trim + eos_token -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'ASSISTANT:' -}}{%- endif -%}
"""
)

_GEMMA = (
    _SYSTEM_FIRST
    + """\
{{- bos_token -}}
{%- for message in turns -%}
    {{- '<start_of_turn>' + ('model' if message.role == 'assistant' else 'user') + '\\n' -}}
    {%- if loop.first and system -%}{{- system + '\\n\\n' -}}{%- endif -%}
    {{- message.content | trim + '<end_of_turn>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<start_of_turn>model\\n' -}}{%- endif -%}
"""
)

_PHI3 = (
    _ROLES
    + """\
{{- bos_token -}}
{%- for message in messages -%}
    {{- '<|' + message.role + '|>\\n' + message.content + '<|end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>\\n' -}}{%- endif -%}
"""
)

_GRANITE = (
    _ROLES
    + """\
{%- for message in messages -%}
    {{- '<|start_of_role|>' + message.role + '<|end_of_role|>' + message.content + '<|end_of_text|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start_of_role|>assistant<|end_of_role|>' -}}{%- endif -%}
"""
)

_COMMAND_R = (
    _ROLES
    + """\
{{- bos_token -}}
{%- set names = {'system': 'SYSTEM', 'user': 'USER', 'assistant': 'CHATBOT'} -%}
{%- for message in messages -%}
    {{- '<|START_OF_TURN_TOKEN|><|' + names[message.role] + '_TOKEN|>' -}}
    {{- message.content | trim + '<|END_OF_TURN_TOKEN|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' -}}{%- endif -%}
"""
)


def _headers(start: str, end: str, turn: str) -> str:
    return _HEADERS.replace("START", start).replace("END", end).replace("TURN", turn)


NAMED_TEMPLATES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    name: (source, f"template {name}", stop)
    for name, source, stop in (
        ("llama2", _LLAMA2, ("[INST]",)),
        ("llama3", _headers("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"), ("<|eot_id|>",)),
        ("llama4", _headers("<|header_start|>", "<|header_end|>", "<|eot|>"), ("<|eot|>",)),
        ("alpaca", _ALPACA, ("### Instruction:",)),
        ("vicuna", _VICUNA, ("USER:",)),
        ("chatml", _CHATML, ("<|im_end|>", "<|im_start|>")),
        ("mistral", _MISTRAL, ("[INST]",)),
        ("gemma", _GEMMA, ("<end_of_turn>",)),
        ("phi3", _PHI3, ("<|end|>",)),
        ("granite", _GRANITE, ("<|end_of_text|>",)),
        ("command-r", _COMMAND_R, ("<|END_OF_TURN_TOKEN|>",)),
    )
}
"""Templates by name: the text, what errors call it, and texts at which an answer ends."""
