"""``llamaq completion``: what a shell needs to complete commands and options, made from their parsers."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from llamaq.cli.command import OTHER_WORDS, Command, commands
from llamaq.cli.options import Parser
from llamaq.cli.output import write

__all__ = ["COMMAND", "scripts"]

_ABOUT = """\
Prints what completes commands, options and their values. For one session, or in the shell's own start file:

    eval "$(llamaq completion bash)"                # ~/.bashrc
    eval "$(llamaq completion zsh)"                 # ~/.zshrc, after compinit
    llamaq completion fish | source                 # ~/.config/fish/config.fish"""

_FILES = ("FILE", "MODEL", "FOLDER", "PATH", "BASE", "OTHER")
"""Metavars of what is a file."""


@dataclass(frozen=True)
class _Option:
    """``values`` are the words that it takes; ``file``: it takes a file's name; ``takes``: it takes something."""

    names: tuple[str, ...]
    help: str
    values: tuple[str, ...]
    file: bool
    takes: bool


def _options(parser: Parser) -> Iterator[_Option]:
    for action in parser._actions:
        if action.help is not argparse.SUPPRESS and (action.option_strings or action.choices):
            yield _Option(
                tuple(action.option_strings), _sentence(action.help or ""), tuple(map(str, action.choices or ())),
                action.metavar in _FILES, action.nargs != 0,
            )  # fmt: skip


def _sentence(help: str) -> str:
    """The help up to its first mark, without what shells would read as their own."""
    text = " ".join(help.replace("%%", "%").split())
    for mark in (";", " (", ": "):
        text = text.partition(mark)[0]
    return "".join(letter for letter in text if letter not in "'\"`$\\[]")


def _all() -> tuple[dict[str, str], dict[str, list[_Option]]]:
    """Helps of all words that may come first, and the options of those that are commands; one without a name is the
    command's argument."""
    found = argparse.ArgumentParser(prog="llamaq").add_subparsers(parser_class=Parser)
    helps = {}
    for name, command in commands():
        command.add_to(found, name)
        helps[name] = _sentence(command.help)
    options = {name: list(_options(parser)) for name, parser in found.choices.items()}
    for word, line in OTHER_WORDS.items():
        helps[word] = f"llamaq {' '.join(line)}"
        if line[0] in options:
            options[word] = options[line[0]]
    return helps, options


def _bash(helps: dict[str, str], options: dict[str, list[_Option]]) -> str:
    cases: list[str] = []
    after: defaultdict[str, list[str]] = defaultdict(list)
    for name, its in options.items():
        argument = next((_bash_words(each) for each in its if not each.names), 'COMPREPLY=($(compgen -f -- "$now"))')
        words = " ".join(option for each in its for option in each.names)
        cases.append(f'        {name}) words="{words}"; [[ $now == -* ]] || {argument} ;;')
        for each in its:
            if each.takes and each.names:
                after[_bash_words(each)] += [f"{name}:{option}" for option in each.names]
    taken = "\n".join(f"        {'|'.join(names)}) {does}; return ;;" for does, names in after.items())
    return f"""\
_llamaq() {{
    local now="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" command="" words="" word
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        [[ $word != -* ]] && {{ command=$word; break; }}
    done
    COMPREPLY=()
    if [[ -z $command || $before == help ]]; then
        COMPREPLY=($(compgen -W "{" ".join(helps)} --help --version --debug" -- "$now"))
        return
    fi
    case "$command:$before" in
{taken}
    esac
    case "$command" in
{chr(10).join(cases)}
    esac
    [[ $now == -* ]] && COMPREPLY=($(compgen -W "$words" -- "$now"))
}}
complete -o filenames -F _llamaq llamaq
"""


def _bash_words(option: _Option) -> str:
    if option.file:
        return 'COMPREPLY=($(compgen -f -- "$now"))'
    return f'COMPREPLY=($(compgen -W "{" ".join(option.values)}" -- "$now"))' if option.values else ":"


def _zsh(helps: dict[str, str], options: dict[str, list[_Option]]) -> str:
    def spelt(option: _Option) -> Iterator[str]:
        value = (
            ":value:_files" if option.file else f":value:({' '.join(option.values)})" if option.values else ":value: "
        )
        for name in option.names:
            yield f"'{name}[{option.help.replace(':', '')}]{value if option.takes else ''}'"

    def argument(its: list[_Option]) -> str:
        words = [word for each in its if not each.names for word in each.values]
        return f"'*:word:({' '.join(words)})'" if words else "'*:file:_files'"

    listed = "\n".join(f"        '{name}:{help}'" for name, help in helps.items())
    cases = "\n".join(
        f"        {name}) _arguments -S {' '.join(one for each in its for one in spelt(each))} {argument(its)} ;;"
        for name, its in options.items()
    )
    return f"""\
#compdef llamaq
_llamaq() {{
    local -a words_of_llamaq
    words_of_llamaq=(
{listed}
    )
    if (( CURRENT == 2 )) || [[ $words[2] == help ]]; then
        _describe command words_of_llamaq
        return
    fi
    local command=$words[2]
    words=("${{(@)words[2,-1]}}")
    (( CURRENT-- ))
    case $command in
{cases}
    esac
}}
compdef _llamaq llamaq
"""


def _fish(helps: dict[str, str], options: dict[str, list[_Option]]) -> str:
    lines = [f"complete -c llamaq -n __fish_use_subcommand -f -a {name} -d '{help}'" for name, help in helps.items()]
    lines.append(f"complete -c llamaq -n '__fish_seen_subcommand_from help' -f -a '{' '.join(helps)}'")
    for name, its in options.items():
        for each in its:
            spelt = [_fish_name(option) for option in each.names]
            value = f" -x -a '{' '.join(each.values)}'" if each.values else " -r -F" if each.file else " -x"
            value = value.replace(" -x", " -f") if not each.names else value
            lines.append(
                f"complete -c llamaq -n '__fish_seen_subcommand_from {name}' {' '.join(spelt)}"
                f"{value if each.takes else ''} -d '{each.help}'"
            )
    return "\n".join(lines) + "\n"


def _fish_name(option: str) -> str:
    if option.startswith("--"):
        return f"-l {option[2:]}"
    return f"-s {option[1:]}" if len(option) == 2 else f"-o {option[1:]}"


_SHELLS = {"bash": _bash, "zsh": _zsh, "fish": _fish}


def scripts() -> dict[str, str]:
    """The script of each shell."""
    helps, options = _all()
    return {shell: script(helps, options) for shell, script in _SHELLS.items()}


def completion(args: argparse.Namespace) -> int:
    """Runs the command."""
    write(scripts()[args.shell])
    return 0


def _add_options(parser: Parser) -> None:
    parser.add_argument("shell", metavar="SHELL", choices=tuple(_SHELLS), help="bash, zsh or fish")


COMMAND = Command(
    help="let a shell complete commands and options",
    usage="SHELL",
    about=_ABOUT,
    add_options=_add_options,
    run=completion,
)
