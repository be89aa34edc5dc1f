"""What somebody meant who wrote an option or a command that there is not."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile

__all__ = ["as_typed", "meant", "misspelt", "no_command", "no_option"]

_ELSEWHERE = {
    "stop": "a server unloads a model after --sleep-idle-seconds, or when a request says keep_alive 0",
    "create": "what a Modelfile says are options of 'llamaq run' and 'llamaq serve'",
    "cp": "'llamaq serve MODEL --alias NAME' gives a model another name",
    "push": "llamaq sends nothing away",
    "signin": "HF_TOKEN in the environment is the key to the Hugging Face hub",
    "get": "'llamaq pull hf:user/repo:QUANT' fetches a model",
    "download": "'llamaq pull hf:user/repo:QUANT' fetches a model",
    "load": "'llamaq run MODEL' and 'llamaq serve MODEL' load what they are given",
    "unload": "a server unloads a model after --sleep-idle-seconds, or when a request says keep_alive 0",
    "server": "'llamaq serve MODEL' starts one, Ctrl-C ends it",
    "import": "a GGUF file is run where it lies: 'llamaq run FILE'",
    "models": "'llamaq list' shows them",
    "status": "'llamaq ps' shows what a server has in memory",
    "generate": "'llamaq run MODEL PROMPT' does it",
    "cli": "'llamaq run' does it",
    "embed": "'llamaq serve MODEL' answers /v1/embeddings, and LLM.embed does it in Python",
    "embedding": "'llamaq serve MODEL' answers /v1/embeddings, and LLM.embed does it in Python",
    "remove": "'llamaq rm NAME' does it",
    "delete": "'llamaq rm NAME' does it",
}
"""Commands that users of Ollama, LM Studio and llama.cpp know, and what there is instead."""

_OPTIONS = {
    "--max-tokens": "-n",
    "--max-new-tokens": "-n",
    "--num-predict": "-n",
    "--n-ctx": "-c",
    "--num-ctx": "-c",
    "--n-threads": "-t",
    "--num-threads": "-t",
}
"""Options by the names that arguments have in Python, or parameters with Ollama."""


def meant(word: str, words: Iterable[str]) -> str:
    """``; did you mean WORD?`` where one of the words is close, else nothing."""
    from difflib import get_close_matches  # only errors need it

    # Of close words the one that begins alike: whoever types "rum" wants "run", though "rm" is closer.
    found = get_close_matches(word.lower(), list(words))
    best = max(found, key=lambda close: _alike(word.lower(), close), default="")
    return f"; did you mean {best}?" if found else ""


def _alike(word: str, other: str) -> int:
    """How many letters two words begin with together."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(word, other, strict=False)))


def as_typed(message: str, args: Sequence[str]) -> str:
    """An error of argparse with the name of an option that was typed, in the place of all that the option has."""
    head, _, rest = message.partition(": ")
    names = head.removeprefix("argument ").split("/")
    typed = [name for name in names if any(word.startswith(name) for word in args)]
    return f"argument {max(typed, key=len)}: {rest}" if typed and head.startswith("argument -") else message


def no_command(word: str, commands: Iterable[str]) -> str:
    """The message about a command that there is not."""
    program = word.removeprefix("llama-")  # llama.cpp has a program for each
    if program in _ELSEWHERE:
        return f"there is no command {word!r}: {_ELSEWHERE[program]}"
    hint = "" if word.lower().endswith(".gguf") else meant(program, commands)
    return f"there is no command {word!r}{hint or f'; for a chat with the model: llamaq run {shlex.quote(word)}'}"


def no_option(word: str, options: Mapping[str, argparse.Action]) -> str:
    """The message about an option that there is not."""
    name = word.partition("=")[0]
    if (here := _OPTIONS.get(name)) in options:
        return f"there is no option {name}; it is {here} here"
    first = name.lstrip("-")[:1]  # hardly anybody gets it wrong
    long = [option for option in options if len(option) > 2 and option.lstrip("-")[:1] == first]
    shown = [option for option in long if options[option].help is not argparse.SUPPRESS]
    return f"there is no option {name}{meant(name, shown) or meant(name, long)}"


def misspelt(args: Sequence[str], options: Mapping[str, argparse.Action]) -> str | None:
    """The first word that argparse would take for a short option with its value, ``-ngk`` for ``-n gk``, though it
    cannot be one."""
    for word in args:
        if word == "--":
            return None
        if word[:1] != "-" or word[1:2] in ("", "-") or len(word) < 3 or word.partition("=")[0] in options:
            continue
        action = options.get(word[:2])
        if action is not None and not _can_be(word, action, options):
            return word
    return None


def _can_be(word: str, action: argparse.Action, options: Mapping[str, argparse.Action]) -> bool:
    if action.nargs == 0:  # short options without values may stand together
        return all((other := options.get(f"-{letter}")) is not None and other.nargs == 0 for letter in word[1:])
    try:
        if callable(action.type):
            action.type(word[2:].removeprefix("="))
    except (ValueError, argparse.ArgumentTypeError):
        return any(option.startswith(word) for option in options)  # argparse lists what the word may begin
    return True
