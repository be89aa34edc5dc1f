"""``llamaq run``: chats, answers once, or continues a text."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llamaq.boundary.words import counted
from llamaq.cli.chat.wrapping import WordWrap
from llamaq.cli.command import Command
from llamaq.cli.infill import check_infill, gap_of
from llamaq.cli.model_names import draft_options
from llamaq.cli.options import INTERRUPTED, loading_options, projector_options
from llamaq.cli.output import TextOutput, size, speed
from llamaq.cli.progress import Bar, Status, looking_bar
from llamaq.cli.prompt import file_text, is_terminal, prompt_text, unescaped
from llamaq.cli.run_options import ABOUT, add_options, model_and_prompt
from llamaq.cli.sampling_options import sampling_params
from llamaq.cli.templates import template_kwargs, template_of

if TYPE_CHECKING:
    from llamaq.chat import ChatEvent, ChatFinishReason
    from llamaq.cli.chat.conversation import Conversation
    from llamaq.cli.chat.kept import Kept
    from llamaq.gguf import GGUFFile
    from llamaq.hub import Found
    from llamaq.llm.llm import LLM
    from llamaq.serving.defaults import Defaults
    from llamaq.serving.stream import Stream, Usage

__all__ = ["COMMAND"]

_ENDS: dict[ChatFinishReason | None, str] = {
    "stop": "an end token or a stop text",
    "length": "the number of tokens (-n)",
    "context": "the end of the context (-c)",
    None: "Ctrl-C",
}


def run(args: argparse.Namespace) -> int:
    """Runs the command; 130 after Ctrl-C."""
    found = model_and_prompt(args)
    check_infill(args)
    prompt = prompt_text(args)
    terminal = is_terminal(sys.stdin) and is_terminal(sys.stdout)
    from llamaq.llm.named import defaults_of

    defaults = defaults_of(found)
    options = _generation(args, defaults)
    gap = gap_of(prompt, args) if args.infill else None
    from llamaq.gguf import GGUFFile

    began = time.perf_counter()
    file = GGUFFile.open(found)
    chats = _chats(file, args)
    _check_pictures(args, found, file, chats)
    interactive = chats and terminal and (not prompt or args.conversation)
    if not chats and terminal:
        _tell_of_no_template(args, prompt)
    if chats and not interactive and not prompt:
        args.parser.error("there is no message to answer: give PROMPT, or pipe it in")
    if args.receipt and interactive:
        args.parser.error("--receipt is for one answer, but this is a chat; give a PROMPT")
    beginning = _conversation(args, defaults) if chats else {}
    kept = _kept(args, found) if chats and (interactive or args.resume) else None
    if kept is not None and interactive:
        options = _generation(args, kept.over(defaults))
    with _loaded(file, args, defaults, _cache_dir(args, chats)) as llm:
        load_seconds = time.perf_counter() - began
        reason: ChatFinishReason | None
        if not chats:
            reason, answer = _continue(llm, prompt, gap, options, args)
        else:
            from llamaq.cli.chat.conversation import Conversation

            conversation = Conversation(llm, **beginning, **options)
            if kept is not None and args.resume:
                kept.resume(conversation)
                conversation.system = beginning["system"] or conversation.system
            if interactive:
                from llamaq.cli.chat.loop import chat

                return chat(
                    conversation, prompt, single_turn=args.single_turn, verbose=args.verbose, tell=args.parser.told,
                    kept=kept, pictures=args.image,
                )  # fmt: skip
            reason = _answer(conversation, prompt, args.image, wraps=not args.nowordwrap)
            answer = conversation.latest
            if kept is not None:
                kept.save(conversation)
        if args.receipt and answer is not None:
            answer.receipt().save(args.receipt)
        if reason == "context":
            _tell(f"llamaq: the context of {llm.n_ctx} tokens is full, so the text ends here (-c sets a longer one)")
        if args.verbose:
            _summary(llm, load_seconds, reason, answer)
    return INTERRUPTED if reason is None else 0


def _generation(args: argparse.Namespace, defaults: Defaults) -> dict[str, Any]:
    """Options of ``LLM.stream``: what the arguments say, and the model's owner where they say nothing."""
    stop = [unescaped(text) for text in args.stop] if args.escape else args.stop
    max_tokens = defaults.max_tokens if args.predict < 0 else args.predict
    overflow = "shift" if args.context_shift else "error"
    return {
        "sampling": sampling_params(args, defaults.sampling), "max_tokens": max_tokens,
        "stop": [*defaults.stop, *stop], "overflow": overflow,
        "keep": args.keep, "receipt": bool(args.receipt),
    }  # fmt: skip


def _chats(file: GGUFFile, args: argparse.Namespace) -> bool:
    """Whether this is a chat: where a template is there and nobody says no. ``ChatTemplateError`` where it must be one
    and there is none."""
    from llamaq.chat import choose_template, file_templates

    try:
        given = args.chat_template or args.chat_template_file
        if (
            args.infill
            or args.conversation is False
            or not (args.conversation or given or file_templates(file.metadata))
        ):
            _refuse_chat_options(args)
            return False
        choose_template(file.metadata, template_of(args))
    except BaseException:
        file.close()
        raise
    if args.echo:
        args.parser.error("--echo is for texts, but this is a chat; -no-cnv continues a text")
    return True


def _check_pictures(args: argparse.Namespace, found: Found, file: GGUFFile, chats: bool) -> None:
    """Ends the command before the model is loaded where pictures cannot be shown or read."""
    from llamaq.vision.loading import has_encoder
    from llamaq.vision.preprocess import picture_of

    try:
        if args.image and not chats:
            args.parser.error("--image is for chats, where a message says what is wanted of the picture")
        if args.image and args.mmproj is None and found.projector is None and not has_encoder(file):
            args.parser.error("--image needs the model's projector file: --mmproj FILE, often named mmproj-*.gguf")
        for path in args.image:
            picture_of(path)
    except BaseException:
        file.close()
        raise


def _kept(args: argparse.Namespace, found: Found) -> Kept:
    """The chats with the model; ends the command where there is none to go on with."""
    from llamaq.cli.chat.kept import Kept

    kept = Kept(found.name)
    if args.resume and not kept.chats():
        args.parser.error(f"--continue: there is no earlier chat with {found.name}")
    return kept


def _tell_of_no_template(args: argparse.Namespace, prompt: str) -> None:
    """Tells somebody at a terminal why there is no chat; ends the command where there is no text to continue."""
    if args.infill or args.conversation is False:  # no chat was wanted
        return
    why = "the model has no chat template (--chat-template NAME chooses one), so it continues texts"
    if not prompt:
        args.parser.error(f"{why}: give it a PROMPT, or -no-cnv to begin from nothing")
    _tell(f"llamaq: {why}")


def _refuse_chat_options(args: argparse.Namespace) -> None:
    why = "-no-cnv is given" if args.conversation is False else "the model has no chat template: --chat-template"
    options = ("system_prompt", "system_prompt_file", "chat_template_kwargs", "single_turn")
    for option, name in (("continue", "resume"), *((name.replace("_", "-"), name) for name in options)):
        if getattr(args, name):
            args.parser.error(f"--{option} is for chats, and {why}")


def _conversation(args: argparse.Namespace, defaults: Defaults) -> dict[str, Any]:
    """What a conversation begins with."""
    system = args.system_prompt or ""
    if args.system_prompt is None and args.system_prompt_file is None:
        return {"system": defaults.system, "template": template_of(args), "template_kwargs": template_kwargs(args)}
    if args.system_prompt_file is not None:
        system = file_text(args.system_prompt_file)
    elif args.escape:
        system = unescaped(system)
    return {"system": system, "template": template_of(args), "template_kwargs": template_kwargs(args)}


def _cache_dir(args: argparse.Namespace, chats: bool) -> str | None:
    """The folder of the cache on disk: that of the option, or the user's for chats, unless nothing is to be kept."""
    if args.cache_dir is None and chats and not os.environ.get("LLAMAQ_NOHISTORY"):
        from llamaq.serving.disk_cache import default_folder

        return str(default_folder())
    return args.cache_dir or None


def _loaded(file: GGUFFile, args: argparse.Namespace, defaults: Defaults, cache_dir: str | None) -> LLM:
    from llamaq.llm.llm import LLM

    with Bar("loading", "B", binary=True) as progress:
        load: dict[str, Any] = {
            "n_ctx": args.ctx_size or defaults.n_ctx or None,
            **projector_options(args),
            **loading_options(args),
            **draft_options(args),
            "cache_dir": cache_dir,
        }
        load["adapters"] = [*defaults.adapters, *load["adapters"]]
        return LLM.load(file, progress=progress, **load)


def _continue(
    llm: LLM, prompt: str, gap: tuple[str, str] | None, options: dict[str, Any], args: argparse.Namespace
) -> tuple[ChatFinishReason | None, Stream | None]:
    """Prints the text as it comes, of what follows the prompt or stands in the ``gap`` between two texts; why it ended,
    None for Ctrl-C, and the answer, None where that has not begun."""
    out = TextOutput()
    lines = WordWrap(out.write, 0 if gap or args.nowordwrap else out.width)
    reason: ChatFinishReason | None = None
    events: Stream | None = None
    try:
        with Bar("reading the prompt", " tokens") as progress:
            if gap is None:
                events = llm.stream(prompt, progress=progress, **options)
            else:
                events = llm.infill(*gap, stream=True, progress=progress, **options)
            if args.echo:
                lines.write(prompt if gap is None else gap[0])
            for event in events:
                lines.write(event.text)
                reason = event.finish_reason
            if args.echo and gap is not None:
                lines.write(gap[1])
    except KeyboardInterrupt:
        reason = None
    lines.flush()
    out.end()
    return reason, events


def _answer(
    conversation: Conversation, prompt: str, pictures: Sequence[Path], *, wraps: bool
) -> ChatFinishReason | None:
    """Prints the answer to one message as it comes, without the reasoning before it; a terminal gets lines that are
    broken between words where it ``wraps``."""
    out, status, thinks, answers = TextOutput(), Status(), False, False
    lines = WordWrap(out.write, out.width if wraps else 0)

    def show(event: ChatEvent) -> None:
        nonlocal thinks, answers
        answers = answers or bool(event.text)
        if thinks != bool(event.reasoning) and (event.reasoning or event.text):
            thinks = bool(event.reasoning)
            status.show("thinking" if thinks else "")
        lines.write(event.text)

    conversation.ask(prompt, [path.absolute() for path in pictures])
    with looking_bar() as looking, Bar("reading the prompt", " tokens") as progress:
        reason = conversation.answer(show, progress, looking)
    if thinks:
        status.clear()
    lines.flush()
    out.end()
    if thinks and not answers and reason is not None:
        _tell(f"llamaq: there is no answer: the model was still thinking, and was ended by {_ENDS[reason]}")
    return reason


def _summary(llm: LLM, load_seconds: float, reason: ChatFinishReason | None, answer: Stream | None) -> None:
    memory, rows = llm.memory, {"load": f"{load_seconds:.2f} s"}
    if answer is not None:
        rows |= _counts(answer.usage, llm.n_ctx, reason)
    rows |= {
        "memory": f"{size(memory.total)}: weights {size(memory.weights)}, cache {size(memory.cache)}, "
        f"scratch {size(memory.scratch)} at most"
        + (f", projector {size(memory.projector)}" if memory.projector else "")
        + (f", draft model {size(memory.draft)}" if memory.draft else "")
        + (f", earlier texts {size(memory.texts)} at most" if memory.texts else "")
        + (f", block that guesses {size(memory.nextn)}" if memory.nextn else "")
        + f"; {size(memory.mapped)} mapped",
        "threads": f"{llm.engine.threads}, SIMD level {llm.engine.isa}, numerics {llm.engine.numerics}",
    }
    if answer is not None:
        rows["seed"] = str(answer.seed)
    for name, value in rows.items():
        _tell(f"{name:<12}{value}")


def _counts(usage: Usage, n_ctx: int, reason: ChatFinishReason | None) -> dict[str, str]:
    used = usage.prompt_tokens + usage.completion_tokens
    disk = f", {usage.disk_tokens} of them from the disk" if usage.disk_tokens else ""
    return {
        "prompt": f"{counted(usage.prompt_tokens, 'token')} ({usage.cached_tokens} cached{disk}) "
        + speed(usage.prompt_tokens - usage.cached_tokens, usage.prompt_seconds),
        "generation": f"{counted(usage.completion_tokens, 'token')} "
        + speed(usage.completion_tokens, usage.completion_seconds),
        "guesses": f"{counted(usage.drafted_tokens, 'token')} ({usage.accepted_tokens} right)",
        "ended by": _ENDS[reason],
        "context": f"{min(used, n_ctx)} of {n_ctx} tokens used",
    }


def _tell(line: str) -> None:
    print(line, file=sys.stderr)


COMMAND = Command(
    help="chat with a model, or continue a text",
    usage="[MODEL] [PROMPT] [options]",
    about=ABOUT,
    add_options=add_options,
    run=run,
)
