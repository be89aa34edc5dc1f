"""``llamaq run``: continues a text."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from llamaq.cli.options import (
    Commands,
    Parser,
    add_batch,
    add_cache_type,
    add_model,
    add_no_pack,
    add_numerics,
    add_threads,
    at_least,
    from_env,
    model_path,
)
from llamaq.cli.output import TextOutput, size
from llamaq.cli.progress import Bar
from llamaq.cli.prompt import prompt_text, unescaped
from llamaq.cli.sampling_options import add_sampling, sampling_params

if TYPE_CHECKING:
    from llamaq.generate import FinishReason
    from llamaq.llm import LLM
    from llamaq.sampling import SamplingParams

__all__ = ["add_run"]

INTERRUPTED = 130  # 128 + SIGINT, as shells have it

_ENDS: dict[FinishReason | None, str] = {
    "stop": "an end token or a stop text",
    "length": "the number of tokens (-n)",
    "context": "the end of the context (-c)",
    None: "Ctrl-C",
}

_ABOUT = """\
Continues a prompt with a model's own words, on stdout, until the model ends the text.

The prompt is PROMPT, -p or -f. What is piped to stdin (or redirected) is the prompt where none of them is given,
else it follows theirs after a newline; a pipe that stays silent for a second is then left alone (in a loop that
reads a file itself, add </dev/null). One newline at the end of a file or of stdin does not count. An empty prompt
starts from the model's BOS token. Stdout carries the text alone, with a newline at its end; Ctrl-C ends it."""


def add_run(commands: Commands) -> None:
    """Adds ``run`` to the command line."""
    parser: Parser = commands.add_parser(
        "run",
        help="continue a prompt",
        usage="llamaq run MODEL [PROMPT] [options]",
        description=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=run, parser=parser)
    add_model(parser)
    parser.add_argument("prompt", metavar="PROMPT", nargs="?", help="the text to continue")
    _add_prompt_options(parser)
    add_sampling(parser)
    _add_machine_options(parser)


def _add_prompt_options(parser: Parser) -> None:
    group = parser.add_argument_group("text")
    add = group.add_argument
    add("-p", "--prompt", metavar="TEXT", dest="prompt_option", help="the prompt, as an option")
    add("-f", "--file", metavar="FILE", help="read the prompt from a file (- is stdin)")
    add(
        "-e",
        "--escape",
        action="store_true",
        default=True,
        help=r"take \n \t \r \\ \' \" \xHH in PROMPT, -p and --stop for the characters (default)",
    )
    add("--no-escape", dest="escape", action="store_false", help="leave backslashes alone")
    add(
        "-n",
        "--predict",
        "--n-predict",
        metavar="N",
        type=at_least(-1),
        default=from_env("LLAMA_ARG_N_PREDICT", "-1"),
        help="generate at most N tokens; -1: until the text or the context ends (default -1, env LLAMA_ARG_N_PREDICT)",
    )
    add(
        "--stop",
        "-r",
        "--reverse-prompt",
        metavar="TEXT",
        action="append",
        default=[],
        help="end before this text; may be repeated",
    )
    add("--echo", action="store_true", help="print the prompt before the text")
    add("-v", "--verbose", action="store_true", help="tell times, speeds and sizes on stderr at the end")
    add(
        "-no-cnv",
        "--no-conversation",
        action="store_true",
        help="accepted for llama.cpp's sake: run always continues, it does not chat",
    )


def _add_machine_options(parser: Parser) -> None:
    group = parser.add_argument_group("model and machine")
    add = group.add_argument
    add(
        "-c",
        "--ctx-size",
        metavar="N",
        type=at_least(0),
        default=from_env("LLAMA_ARG_CTX_SIZE", "0"),
        help="tokens of prompt and text together; 0: the model's own, or what memory allows "
        "(default 0, env LLAMA_ARG_CTX_SIZE)",
    )
    add_threads(group)
    add_batch(group)
    add_cache_type(group)
    add_no_pack(group)
    add_numerics(group)
    add("--pre", metavar="NAME", help="use this pre-tokenizer instead of the one that the file names")


def run(args: argparse.Namespace) -> int:
    """Runs the command; 130 after Ctrl-C."""
    path = model_path(args, then="prompt")
    prompt = prompt_text(args)
    from llamaq.llm import LLM

    sampling = sampling_params(args)
    began = time.perf_counter()
    with Bar("loading", "B", binary=True) as progress:
        llm = LLM.load(
            path, n_ctx=args.ctx_size or None, threads=max(args.threads, 0) or None, n_batch=args.batch_size,
            cache_type=args.cache_type, pack=args.pack, numerics=args.numerics, pre=args.pre, progress=progress,
        )  # fmt: skip
    with llm:
        load_seconds = time.perf_counter() - began
        reason = _generate(llm, prompt, sampling, args)
        if reason == "context":
            _tell(f"llamaq: the context of {llm.n_ctx} tokens is full, so the text ends here (-c sets a longer one)")
        if args.verbose:
            _summary(llm, load_seconds, reason)
    return INTERRUPTED if reason is None else 0


def _generate(llm: LLM, prompt: str, sampling: SamplingParams, args: argparse.Namespace) -> FinishReason | None:
    """Prints the text as it comes; why it ended, None for Ctrl-C."""
    out = TextOutput()
    stop = [unescaped(text) for text in args.stop] if args.escape else args.stop
    max_tokens = None if args.predict < 0 else args.predict
    reason: FinishReason | None = None
    try:
        with Bar("reading the prompt", " tokens") as progress:
            events = llm.stream(prompt, max_tokens=max_tokens, sampling=sampling, stop=stop, progress=progress)
            if args.echo:
                out.write(prompt)
            for event in events:
                out.write(event.text)
                reason = event.finish_reason
    except KeyboardInterrupt:
        reason = None
    out.end()
    return reason


def _summary(llm: LLM, load_seconds: float, reason: FinishReason | None) -> None:
    usage, memory = llm.usage, llm.memory
    used = usage.prompt_tokens + usage.completion_tokens
    rows = {
        "load": f"{load_seconds:.2f} s",
        "prompt": f"{usage.prompt_tokens} tokens ({usage.cached_tokens} cached) "
        + _speed(usage.prompt_tokens - usage.cached_tokens, usage.prompt_seconds),
        "generation": f"{usage.completion_tokens} tokens " + _speed(usage.completion_tokens, usage.completion_seconds),
        "ended by": _ENDS[reason],
        "context": f"{min(used, llm.n_ctx)} of {llm.n_ctx} tokens used",
        "memory": f"{size(memory.total)}: weights {size(memory.weights)}, cache {size(memory.cache)}, "
        f"scratch {size(memory.scratch)} at most; {size(memory.mapped)} mapped",
        "threads": f"{llm.engine.threads}, SIMD level {llm.engine.isa}, numerics {llm.engine.numerics}",
        "seed": str(llm.seed),
    }
    for name, value in rows.items():
        _tell(f"{name:<12}{value}")


def _speed(tokens: int, seconds: float) -> str:
    return f"in {seconds:.2f} s, {tokens / seconds:.1f} tokens/s" if seconds > 0 else f"in {seconds:.2f} s"


def _tell(line: str) -> None:
    print(line, file=sys.stderr)
