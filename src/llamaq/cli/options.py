"""What the commands' options share: one-line errors, ranges, defaults from the environment."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Callable
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NoReturn

from llamaq.cli.adapters import adapters_of, add_adapters, add_control_vectors, with_scales
from llamaq.cli.llama_cpp import without_words
from llamaq.cli.output import write
from llamaq.cli.spelling import as_typed, misspelt, no_command, no_option

if TYPE_CHECKING:
    from llamaq.engine.kv_cache import CacheType

__all__ = [
    "CACHE_TYPES",
    "INTERRUPTED",
    "MODEL",
    "Parser",
    "add_cache_dir",
    "add_cache_type",
    "add_context",
    "add_loading",
    "add_model",
    "add_no_pack",
    "add_numerics",
    "add_projector",
    "add_speculation",
    "at_least",
    "cache_type",
    "from_env",
    "given_model",
    "loading_options",
    "model_variable",
    "number",
    "projector_options",
    "switched",
    "threads_default",
]

CACHE_TYPES = ("f16", "f32", "q8_0", "q4_0")
"""The cache types of ``llamaq.engine.kv_cache``, known without loading compiled code."""
_CACHE_VARIABLES = ("LLAMA_ARG_CACHE_TYPE_K", "LLAMA_ARG_CACHE_TYPE_V")

MODEL = "a GGUF file (any part of a split one), or a name: llamaq list shows them"
"""The help of the argument MODEL."""

INTERRUPTED = 130  # 128 + SIGINT: shells report it so

_OPTIONS = {
    "adapters": "lora",
    "dry_sequence_breakers": "dry_sequence_breaker",
    "max_tokens": "predict",
    "n_batch": "batch_size",
    "n_ctx": "ctx_size",
    "overflow": "context_shift",
    "template": "chat_template",
    "template_kwargs": "chat_template_kwargs",
    "tensor_types": "tensor_type",
}
"""The options, by their attribute, of those arguments of the library that are called otherwise."""


class Parser(argparse.ArgumentParser):
    """An ``ArgumentParser`` with errors of one line, ``--debug`` anywhere, and arguments between the options.

    ``about`` is the description as it is; a function makes it when the help is asked for.
    """

    def __init__(self, *, about: str | Callable[[], str] = "", **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)
        self._about = about
        self._intermixed = False
        self._typed: list[str] = []
        self.add_argument(
            "--debug",
            action="store_true",
            default=argparse.SUPPRESS,  # otherwise the command's default would undo a --debug before it
            help="show the traceback of an error",
        )

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"llamaq: error: {as_typed(message, self._typed)} (see '{self.prog} --help')\n")

    def told(self, error: Exception) -> str:
        """What an error says, with this command's options where it names arguments of the library (`naming`)."""
        text = str(error)
        for argument in getattr(error, "arguments", ()):
            alone = rf"(?<![\w./'\"-]){argument}(?![\w/'\"-]|\.\w)"
            text = re.sub(alone, self.option_of(argument) or argument, text, count=1)
        return text

    def option_of(self, argument: str) -> str | None:
        """How people give an argument of the library here; None where they do not."""
        name = _OPTIONS.get(argument, argument)
        for action in self._actions:
            if action.dest == name:
                long = [option for option in action.option_strings if option.startswith("--")]
                return (long or action.option_strings or [str(action.metavar or name)])[0]
        return None

    def format_help(self) -> str:
        self.description = self._about if isinstance(self._about, str) else self._about()
        return super().format_help()

    def _print_message(self, message: str, file: Any = None) -> None:
        # argparse hides that stdout took nothing, and leaves the text in a buffer.
        if message and file is not sys.stderr:
            write(message)
        else:
            super()._print_message(message, file)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        # A plain parser takes MODEL and an absent PROMPT at once, and then refuses `run MODEL -n 5 PROMPT`.
        if self._subparsers is not None:
            for word in takewhile(lambda word: word.startswith("-"), args):
                if (name := word.partition("=")[0]) not in self._option_string_actions:
                    hint = f"; options come after a command: llamaq run {name}" if self._is_of_run(name) else ""
                    self.error(no_option(word, {} if hint else self._option_string_actions) + hint)
        if self._subparsers is not None or self._intermixed:
            return super().parse_known_args(args, namespace)
        args = self._typed = with_scales(without_words(args))
        if (word := misspelt(args, self._option_string_actions)) is not None:
            self.error(no_option(word, self._option_string_actions))
        self._intermixed = True
        try:
            namespace, unknown = self.parse_known_intermixed_args(args, namespace)
        finally:
            self._intermixed = False
        if unknown:
            self.error(self._unknown(unknown))
        return namespace, unknown

    def _is_of_run(self, option: str) -> bool:
        chosen = (each for each in self._actions if isinstance(each, argparse._SubParsersAction))
        return any(option in each.choices["run"]._option_string_actions for each in chosen)

    def _unknown(self, words: list[str]) -> str:
        for word in words:
            if word.startswith("-"):
                return no_option(word, self._option_string_actions)
        return f"too many arguments: {shlex.join(words)}; quotes make one of a text"

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if isinstance(action, argparse._SubParsersAction) and value not in action.choices:
            raise argparse.ArgumentError(None, no_command(value, action.choices))
        super()._check_value(action, value)


def add_model(group: argparse._ActionsContainer, *, several: bool = False, positional: bool = True) -> None:
    """The argument MODEL, and ``-m`` and ``-hf`` for it: ``given_model`` reads them. ``several`` may be given as
    ``models``, folders among them; without ``positional`` there are the options alone."""
    if not positional:
        group.set_defaults(model=None)
    elif several:
        group.add_argument("models", metavar="MODEL", nargs="*", help=f"{MODEL}; or a folder of files")
    else:
        group.add_argument("model", metavar="MODEL", nargs="?", help=MODEL)
    group.add_argument(
        "-m", "--model", metavar="MODEL", dest="model_option", help="the same as an option (env LLAMA_ARG_MODEL)"
    )
    group.add_argument(
        "-hf",
        "-hfr",
        "--hf-repo",
        metavar="REPO",
        dest="model_option",
        type=_of_the_hub,
        help="a repository of the Hugging Face hub, user/repo or user/repo:QUANT: the same as -m hf:REPO (env "
        "LLAMA_ARG_HF_REPO)",
    )


def add_context(group: argparse._ActionsContainer, about: str, *, least: int = 0, default: int = 0) -> None:
    """``--ctx-size``."""
    group.add_argument(
        "-c",
        "--ctx-size",
        metavar="N",
        type=at_least(least),
        default=from_env("LLAMA_ARG_CTX_SIZE", str(default)),
        help=f"{about} (default {default}, env LLAMA_ARG_CTX_SIZE)",
    )


def add_loading(group: argparse._ActionsContainer) -> None:
    """What loading a model takes but its context: ``loading_options`` reads it."""
    group.add_argument(
        "-t",
        "--threads",
        metavar="N",
        type=at_least(-1),
        default=threads_default(),
        help="-1: one for each performance core that this process may use "
        "(default -1, env LLAMA_ARG_THREADS, else OMP_NUM_THREADS)",
    )
    group.add_argument(
        "-b",
        "--batch-size",
        metavar="N",
        type=at_least(1),
        default=from_env("LLAMA_ARG_UBATCH", "512"),
        help="prompt tokens read at once (default 512, env LLAMA_ARG_UBATCH)",
    )
    add_cache_type(group)
    add_no_pack(group)
    add_numerics(group)
    group.add_argument("--pre", metavar="NAME", help="use this pre-tokenizer instead of the one that the file names")
    add_adapters(group)
    add_control_vectors(group)


def add_projector(group: argparse._ActionsContainer) -> None:
    """``--mmproj``: what a model sees pictures with."""
    group.add_argument(
        "-mm",
        "--mmproj",
        metavar="FILE",
        default=os.environ.get("LLAMA_ARG_MMPROJ") or None,
        help="the projector file with which the model sees pictures (docs/images.md, env LLAMA_ARG_MMPROJ)",
    )
    group.add_argument(
        "--image-edge",
        metavar="N",
        type=at_least(1),
        help="scale pictures to N pixels, where projectors take several sizes (SmolVLM, Gemma 4, LLaVA 1.6, Pixtral, "
        "Qwen): fewer pixels, fewer tokens (docs/images.md; default: as the file says)",
    )


def projector_options(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of ``LLM.load`` that the options of ``add_projector`` say."""
    return {"mmproj": args.mmproj, "image_edge": args.image_edge}


def loading_options(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of ``LLM.load`` that the options of ``add_loading`` say."""
    return {
        "threads": max(args.threads, 0) or None,
        "n_batch": args.batch_size,
        "cache_type": cache_type(args),
        "pack": args.pack,
        "numerics": args.numerics,
        "speculation": getattr(args, "speculation", True),
        "pre": args.pre,
        "adapters": adapters_of(args),
    }


def add_cache_dir(group: argparse._ActionsContainer, default: str) -> None:
    """``--cache-dir``: where what was read of long prompts is kept."""
    group.add_argument(
        "--cache-dir",
        metavar="DIR",
        help=f"keep what was read of prompts of more than 256 tokens in a folder, for later runs (default {default})",
    )


def add_cache_type(group: argparse._ActionsContainer) -> None:
    """``--cache-type``: what the cache keeps of keys and values; and llama.cpp's two names for it. `cache_type` reads
    them."""
    group.add_argument(
        "--cache-type",
        choices=CACHE_TYPES,
        help="numbers of the key-value cache (default f16, env LLAMA_ARG_CACHE_TYPE_K, LLAMA_ARG_CACHE_TYPE_V)",
    )
    for names in (("-ctk", "--cache-type-k"), ("-ctv", "--cache-type-v")):
        group.add_argument(*names, choices=CACHE_TYPES, help=argparse.SUPPRESS)


def cache_type(args: argparse.Namespace) -> CacheType:
    """The numbers of the cache, which are the same for keys and values."""
    halves = [name for name in (args.cache_type_k, args.cache_type_v) if name is not None]
    if not halves and args.cache_type is None:
        halves = [
            _cache_type_of(args, name) for name in map("LLAMA_ARG_CACHE_TYPE_".__add__, "KV") if os.environ.get(name)
        ]
    given = {name for name in (args.cache_type, *halves) if name is not None}
    if len(given) > 1:
        args.parser.error("keys and values are kept alike: -ctk, -ctv and --cache-type must say the same")
    chosen: CacheType = given.pop() if given else "f16"
    if len(halves) == 1:
        print(f"llamaq: keys and values are kept alike: both as {chosen}", file=sys.stderr)
    return chosen


def _cache_type_of(args: argparse.Namespace, variable: str) -> str:
    if (said := os.environ[variable]) not in CACHE_TYPES:
        args.parser.error(f"{variable}: expected one of {', '.join(CACHE_TYPES)}, got {said!r}")
    return said


def add_no_pack(group: argparse._ActionsContainer) -> None:
    """``--no-pack`` (attribute ``pack``), and llama.cpp's name for it."""
    group.add_argument(
        "--no-pack",
        "--no-repack",
        "-nr",
        dest="pack",
        action="store_false",
        help="leave the weights in the file's mapping: loads at once and takes no second copy, but runs slower",
    )


def add_numerics(group: argparse._ActionsContainer) -> None:
    """``--numerics``: exact bits, or fast prompts."""
    group.add_argument(
        "--numerics",
        choices=("exact", "fast"),
        default="exact",
        help="exact: the same bits on every CPU; fast: prompts by bfloat16 products on CPUs with AMX, with a small "
        "error, and as exact elsewhere (default exact)",
    )


def add_speculation(group: argparse._ActionsContainer) -> None:
    """``--no-speculation`` (attribute ``speculation``), and ``--model-draft``: ``draft_options`` reads it."""
    group.add_argument(
        "--no-speculation",
        dest="speculation",
        action="store_false",
        help="read no guesses of what comes next; they change the speed of answers and nothing else",
    )
    group.add_argument(
        "-md",
        "--model-draft",
        "--spec-draft-model",
        metavar="MODEL",
        default=from_env("LLAMA_ARG_SPEC_DRAFT_MODEL", os.environ.get("LLAMA_ARG_MODEL_DRAFT", "")) or None,
        help="a smaller model with the same tokens that guesses, too (env LLAMA_ARG_SPEC_DRAFT_MODEL, or "
        "LLAMA_ARG_MODEL_DRAFT)",
    )
    names = ("-hfd", "-hfrd", "--hf-repo-draft", "--spec-draft-hf")
    group.add_argument(*names, metavar="REPO", dest="model_draft", type=_of_the_hub,
                       help="the same of the Hugging Face hub: -md hf:REPO")  # fmt: skip


def given_model(args: argparse.Namespace) -> str | None:
    """What the arguments, or the environment, say of the model; None where they say nothing."""
    if args.model_option is not None and args.model is not None:
        args.parser.error("MODEL is given twice, as an argument and with -m or --hf-repo")
    return args.model_option or args.model or model_variable()


def model_variable() -> str | None:
    """The model that the environment names; None where it names none."""
    if model := os.environ.get("LLAMA_ARG_MODEL"):
        return model
    return _of_the_hub(repo) if (repo := os.environ.get("LLAMA_ARG_HF_REPO")) else None


def _of_the_hub(text: str) -> str:
    return text if text.startswith("hf:") else f"hf:{text}"


def at_least(low: int) -> Callable[[str], int]:
    """An argparse type: integers from ``low`` on."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if value < low:
            raise argparse.ArgumentTypeError(f"expected an integer of at least {low}, got {text!r}")
        return value

    return parse


def number(text: str) -> float:
    """An argparse type: a number; its range is the library's business."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}") from None


def from_env(name: str, default: str) -> str:
    """An option's default: the environment variable where it is not empty; argparse parses it as an argument."""
    return os.environ.get(name) or default


def switched(name: str, *, default: bool = False) -> bool:
    """Whether an environment variable switches something on, or off by one of llama.cpp's words for that."""
    said = os.environ.get(name, "").lower()
    return said not in ("0", "off", "false", "disabled") if said else default


def threads_default() -> str:
    """The default of ``--threads``."""
    openmp = os.environ.get("OMP_NUM_THREADS", "")  # people expect it to hold; a list for nested levels does not count
    return from_env("LLAMA_ARG_THREADS", openmp if openmp.isdecimal() else "-1")
