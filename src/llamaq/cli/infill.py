"""``llamaq run --infill``: the texts before and after the gap, from what the user gives."""

from __future__ import annotations

import argparse

from llamaq.cli.prompt import unescaped

__all__ = ["check_infill", "gap_of"]

_MARK = "<FILL>"
_CHAT = (
    *("conversation", "single_turn", "system_prompt", "system_prompt_file"),
    *("chat_template", "chat_template_file", "chat_template_kwargs"),
)


def check_infill(args: argparse.Namespace) -> None:
    """Refuses options that go with ``--infill`` alone, or not with it; with it there is no chat."""
    if not args.infill:
        if args.suffix is not None:
            args.parser.error("--suffix is for --infill")
        return
    for name in _CHAT:
        if getattr(args, name):
            args.parser.error(f"--{name.replace('_', '-')} is for chats, and --infill is given")
    if args.context_shift:
        args.parser.error("--context-shift would drop parts of the text, and --infill needs it whole")
    args.conversation = False


def gap_of(prompt: str, args: argparse.Namespace) -> tuple[str, str]:
    """The prompt cut at its mark, or the prompt and the text of ``--suffix``."""
    before, *after = prompt.split(_MARK)
    suffix: str | None = args.suffix
    if suffix is not None:
        if after:
            args.parser.error(f"--infill: give {_MARK} in the prompt, or what follows the gap with --suffix, not both")
        return before, unescaped(suffix) if args.escape else suffix
    if len(after) != 1:
        wrong = f"the prompt has {len(after)} of them" if after else "or give what follows the gap with --suffix"
        args.parser.error(f"--infill: put one {_MARK} in the prompt where the model is to write; {wrong}")
    return before, after[0]
