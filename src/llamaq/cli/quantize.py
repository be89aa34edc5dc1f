"""``llamaq quantize``: writes a model with fewer bits for each weight, with llama-quantize's arguments."""

from __future__ import annotations

import argparse
import re
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from llamaq.boundary.arguments import MOST_THREADS
from llamaq.boundary.words import counted
from llamaq.cli.budget import add_budget_options, budget_of, fit_table, fitted
from llamaq.cli.command import Command
from llamaq.cli.compare import add_report
from llamaq.cli.model_names import located
from llamaq.cli.options import Parser
from llamaq.cli.output import size, write
from llamaq.cli.progress import Bar
from llamaq.cli.prompt import file_text

if TYPE_CHECKING:
    from llamaq.quantization import Plan, TensorPlan

__all__ = ["COMMAND"]

_ABOUT = """\
Writes a GGUF model with fewer bits for each weight. TYPE is a name (case does not matter) or a number:

{types}
    COPY copies the tensors. Q3_K, Q4_K and Q5_K are Q3_K_M, Q4_K_M and Q5_K_M; MXFP4 is MXFP4_MOE.

OUT.gguf is ggml-model-TYPE.gguf beside IN.gguf where it is not given, and then must not be there yet. Each tensor gets
the format that llama.cpp gives it; the integers and scales are searched for, so that the squared error (weighted by
--imatrix) is small.
The file appears when it is complete; a run that is stopped leaves nothing."""


def _add_options(parser: Parser) -> None:
    add = parser.add_argument
    add("words", nargs="*", help=argparse.SUPPRESS)
    add("--imatrix", metavar="FILE", help="importance of the columns, from 'llamaq imatrix' or llama-imatrix")
    add("--pure", action="store_true", help="every matrix in the type's own format, no mixture")
    add(
        "--tensor-type",
        metavar="REGEX=TYPE",
        action="append",
        type=_pair,
        default=[],
        help="the format of tensors whose name has a match, such as attn_v=q8_0; can be repeated, the first match wins",
    )
    add("--output-tensor-type", metavar="TYPE", help="the format of output.weight")
    add("--token-embedding-type", metavar="TYPE", help="the format of token_embd.weight")
    add("--leave-output-tensor", action="store_true", help="keep output.weight as it is")
    add("--allow-requantize", action="store_true", help="take weights that are quantized already, at some loss")
    add("--reference", action="store_true", help="no search: the bytes that the gguf package gives (Q4_0, Q8_0 ...)")
    add(
        "--report",
        metavar="FILE",
        help="compare with IN.gguf over this text, and keep the result in OUT.gguf's metadata",
    )
    add("-v", "--verbose", action="store_true", help="a line for each tensor, not for each kind of change")
    add("--dry-run", action="store_true", help="show formats and sizes, write nothing")
    add("--keep-split", action="store_true", help="write as many parts as IN.gguf has")
    add(
        "--override-kv",
        metavar="KEY=TYPE:VALUE",
        action="append",
        type=_override,
        default=[],
        help="replace metadata; TYPE is int, float, bool or str; can be repeated",
    )
    add_budget_options(parser)


def _about() -> str:
    from llamaq.quantization import FILE_TYPES

    cells = [f"{type.number:3} {name:10}" for name, type in FILE_TYPES.items()]
    lines = ["    " + "".join(cells[i : i + 7]).rstrip() for i in range(0, len(cells), 7)]
    return _ABOUT.format(types="\n".join(lines))


def _pair(text: str) -> tuple[str, str]:
    pattern, separator, format = text.rpartition("=")
    if not separator or not pattern:
        raise argparse.ArgumentTypeError(f"expected REGEX=TYPE, got {text!r}")
    return pattern, format


def _override(text: str) -> tuple[str, int | float | bool | str]:
    key, _, rest = text.partition("=")
    kind, separator, value = rest.partition(":")
    try:
        if key and separator and kind in {"int", "float"}:
            return key, int(value) if kind == "int" else float(value)
        if key and separator and kind == "bool" and value in {"true", "false"}:
            return key, value == "true"
        if key and separator and kind == "str":
            return key, value
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"expected KEY=int:1, KEY=float:0.5, KEY=bool:true or KEY=str:text, got {text!r}")


def quantize(args: argparse.Namespace) -> int:
    """Runs the command."""
    from llamaq.gguf import GGUFFile
    from llamaq.quantization import Importance, Options, default_path, make_plan, run_plan

    budget = budget_of(args)
    name, target, type, threads = _words(args) if budget is None else _words_of_budget(args)
    source = located(name, args)
    if target is None and not source.is_path:
        args.parser.error(f"{name} is a model of another place ({source.source}): name the file to write, OUT.gguf")

    options = Options(
        pure=args.pure,
        leave_output_tensor=args.leave_output_tensor,
        output_tensor_type=args.output_tensor_type,
        token_embedding_type=args.token_embedding_type,
        tensor_types=args.tensor_type,
        allow_requantize=args.allow_requantize,
        override_kv=dict(args.override_kv),
    )
    importance = Importance.of(args.imatrix) if args.imatrix else None
    text = file_text(args.report) if args.report else None
    start = time.monotonic()
    with GGUFFile.open(source) as file:
        if budget is None:
            plan, summary = make_plan(file, type, options, importance), ""
        else:
            found = fitted(file, budget, options, importance, args.keep_split, threads)
            plan, summary = found.plan, fit_table(found, args.keep_split)
        table = (_every(plan) if args.verbose else _table(plan)) + summary
        if args.dry_run:
            write(table + _summary(plan))
            return 0
        if target is None:
            target = default_path(plan, fitted=budget is not None, keep_split=args.keep_split)
            write(f"{target}: to be written\n")
        write(table)
        with Bar("quantizing", "B", binary=True, lines=True) as bar:
            path = run_plan(
                plan,
                target,
                importance=importance,
                keep_split=args.keep_split,
                reference=args.reference,
                threads=threads,
                progress=bar,
            )
        write(f"{_summary(plan)}{path}: written in {time.monotonic() - start:.1f} s\n")
    if text is not None:
        write(add_report(source, path, text, Path(args.report).name))
    return 0


def _words(args: argparse.Namespace) -> tuple[str, Path | None, str, int | None]:
    """IN [OUT] TYPE [NTHREADS]: the first word after IN that names a type is TYPE."""
    from llamaq.quantization import file_type_by_name

    words: list[str] = args.words
    if not 2 <= len(words) <= 4:
        args.parser.error(f"expected IN.gguf [OUT.gguf] TYPE [NTHREADS], got {len(words)} arguments")
    at = 1 if _is_type(words[1]) else 2
    if len(words) <= at or len(words) > at + 2:
        args.parser.error(f"expected IN.gguf [OUT.gguf] TYPE [NTHREADS], got {' '.join(map(repr, words))}")
    threads = _threads(args, words[at + 1]) if len(words) > at + 1 else None
    if not _is_type(words[at]):
        file_type_by_name(words[at])  # its error lists the names
    return words[0], Path(words[1]) if at == 2 else None, words[at], threads


def _is_type(word: str) -> bool:
    from llamaq.quantization import COPY, file_type_by_name

    try:
        return word.upper() == COPY or bool(file_type_by_name(word))
    except ValueError:
        return False


def _words_of_budget(args: argparse.Namespace) -> tuple[str, Path | None, str, int | None]:
    """IN [OUT] [NTHREADS]."""
    words: list[str] = args.words
    threads = _threads(args, words.pop()) if len(words) > 1 and words[-1].isdecimal() else None
    if not 1 <= len(words) <= 2 or _is_type(words[-1]):
        args.parser.error(f"expected IN.gguf [OUT.gguf] [NTHREADS] with a budget, got {' '.join(map(repr, words))}")
    return words[0], Path(words[1]) if len(words) > 1 else None, "", threads


def _threads(args: argparse.Namespace, word: str) -> int:
    count = int(word) if word.isdecimal() and len(word) < 10 else 0
    if not 1 <= count <= MOST_THREADS:
        args.parser.error(f"expected a number of threads from 1 to {MOST_THREADS}, got {word!r}")
    return count


def _table(plan: Plan) -> str:
    """A line for each kind of change: how many tensors, formats, sizes, which they are; and why a format is not the one
    asked for."""
    groups: dict[tuple[str, str, str], list[TensorPlan]] = defaultdict(list)
    for tensor in plan.tensors:
        after = "" if tensor.copied else tensor.format.name
        groups[tensor.info.format.name, after, _why(tensor)].append(tensor)
    rows = [("tensors", "from", "to", "size", "", "which")]
    for (before, after, why), tensors in groups.items():
        old, new = (sum(sizes) for sizes in zip(*((t.info.nbytes, t.nbytes) for t in tensors), strict=True))
        which = ", ".join(dict.fromkeys(_kind(tensor.info.name) for tensor in tensors)) + (f"  {why}" if why else "")
        rows.append(
            (str(len(tensors)), before, after or "as it is", size(old), f"-> {size(new)}" if after else "", which)
        )
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "".join(
        f"{row[0]:>{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:<{widths[2]}}  {row[3]:>{widths[3]}} "
        f"{row[4]:<{widths[4]}}  {row[5]}\n"
        for row in rows
    )


def _kind(name: str) -> str:
    return re.sub(r"^blk\.\d+\.", "", name).removesuffix(".weight")


def _why(tensor: TensorPlan) -> str:
    if tensor.wanted is None:
        return ""
    return f"(rows of {tensor.info.shape[-1]} are no blocks of {tensor.wanted.name})"


def _every(plan: Plan) -> str:
    """A line for each tensor: name, shape, formats and sizes; and why a format is not the one asked for."""
    width = max((len(t.info.name) for t in plan.tensors), default=0)
    shapes = [" x ".join(map(str, t.info.shape)) for t in plan.tensors]
    shape_width = max(map(len, shapes), default=0)
    lines = []
    for index, (tensor, shape) in enumerate(zip(plan.tensors, shapes, strict=True), 1):
        head = f"[{index:4}/{len(plan.tensors):4}] {tensor.info.name:{width}}  {shape:>{shape_width}}  "
        line = f"{head}{tensor.info.format.name:>7}"
        if not tensor.copied:
            line += f" -> {tensor.format.name:7} {size(tensor.info.nbytes):>11} -> {size(tensor.nbytes):>11}"
        lines.append(f"{line}  {_why(tensor)}".rstrip())
    return "\n".join([*lines, ""])


def _summary(plan: Plan) -> str:
    before = 8 * plan.source_nbytes / max(1, plan.parameters)
    fallbacks = sum(tensor.wanted is not None for tensor in plan.tensors)
    note = f"{counted(fallbacks, 'tensor')} needed another format than the one asked for\n" if fallbacks else ""
    return (
        f"{note}model size {size(plan.source_nbytes)} ({before:.2f} bits per weight) -> "
        f"{size(plan.nbytes)} ({plan.bits_per_weight:.2f} bits per weight)\n"
    )


COMMAND = Command(
    help="write a model with fewer bits for each weight",
    usage="[options] IN.gguf [OUT.gguf] TYPE [NTHREADS]\n[options] --target-size SIZE IN.gguf [OUT.gguf]",
    about=_about,
    add_options=_add_options,
    run=quantize,
)
