"""The chat template (ChatML): special tokens, the Jinja template for the model file, the same in Python."""

from __future__ import annotations

BEGIN, END, STOP = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
SPECIAL = (STOP, BEGIN, END)
"""Special tokens in the order of their ids. ``STOP`` ends a text without roles; ``END`` a message."""

TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def chat_text(messages: list[dict[str, str]]) -> str:
    """What ``TEMPLATE`` makes of messages, without a prompt for an answer."""
    return "".join(f"{BEGIN}{message['role']}\n{message['content']}{END}\n" for message in messages)
