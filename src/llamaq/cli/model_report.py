"""What ``llamaq info`` tells about a file: gathered once, then written as JSON or as text."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from llamaq.cli.output import size
from llamaq.engine.topology import ThreadChoice, default_threads
from llamaq.errors import ModelError, TokenizerError
from llamaq.formats import can_decode
from llamaq.gguf import GGUFArray, GGUFFile, TensorInfo, Value
from llamaq.models.registry import family_of

if TYPE_CHECKING:
    from llamaq.engine.kv_cache import CacheType
    from llamaq.engine.memory import GroupNeed, MemoryNeed

__all__ = ["Report", "as_json", "as_text", "examine"]

_WIDTH = 100  # characters that a shortened value may take
_TEXTS = "at most: earlier ones that guesses come from"
_NEXTN = "a block of the file that guesses further tokens (multi-token prediction)"
_PICTURES = ("at most: the encoder inside of the file, and results that are kept", "at most: results that are kept")


@dataclass(frozen=True)
class FormatUse:
    """The tensors of one format; ``kernel`` None where no matrix has it, or where nothing can multiply with it."""

    name: str
    tensors: int
    nbytes: int
    kernel: str | None


@dataclass(frozen=True)
class Report:
    """What is known of a file. ``problem`` says why it cannot be run; ``memory`` is then None.

    ``levels`` are the SIMD levels of this machine and ``level`` the one in use, ``numerics`` what that one
    offers; sizes are bytes.
    """

    file: GGUFFile
    formats: tuple[FormatUse, ...]
    levels: tuple[str, ...]
    level: str | None
    problem: str | None
    memory: MemoryNeed | None
    available: int | None
    cache_type: CacheType
    threads: ThreadChoice
    numerics: tuple[str, ...] = ()

    @property
    def file_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.file.paths)

    @property
    def parameters(self) -> int:
        return sum(info.n_elements for info in self.file.tensors.values())

    @property
    def bits_per_weight(self) -> float | None:
        return 8 * sum(use.nbytes for use in self.formats) / self.parameters if self.parameters else None


def examine(
    file: GGUFFile, n_ctx: int, cache_type: CacheType, *, pack: bool = True, tell: Callable[[Exception], str] = str
) -> Report:
    """Looks at a file without loading it; ``n_ctx`` 0 takes the model's own context. ``tell`` words what is wrong."""
    try:
        from llamaq import _core
    except ImportError:
        missing = "llamaq's compiled part is not installed"
        return Report(file, _formats(file, None), (), None, missing, None, None, cache_type, default_threads())
    problem, memory, available = None, None, None
    try:
        memory, available = _memory(file, n_ctx, cache_type, pack)
    except (ModelError, TokenizerError) as error:
        problem = tell(error)
    level = _core.chosen_isa()
    return Report(
        file, _formats(file, level), tuple(_core.isas()), level, problem, memory, available, cache_type,
        default_threads(), ("exact", "fast") if _core.has_fast() else ("exact",),
    )  # fmt: skip


def _memory(file: GGUFFile, n_ctx: int, cache_type: CacheType, pack: bool) -> tuple[MemoryNeed, int | None]:
    from llamaq.engine.loading import plan_of
    from llamaq.engine.memory import available_memory, memory_need
    from llamaq.engine.nextn import nextn_of
    from llamaq.tokenizer import load_tokenizer

    if _is_projector(file):
        from llamaq.vision.encoder import traced

        of = traced(file)
        kept = of.store_bytes(precise=cache_type == "f32")
        return replace(of.need(default_threads().threads), projector=kept), available_memory()
    hparams, plan = plan_of(file, n_ctx or None)
    n_ctx = n_ctx or hparams.context_length
    need = memory_need(
        plan, file.tensors, n_ctx, cache_type=cache_type, max_rows=min(512, n_ctx),
        threads=default_threads().threads, pack=pack or not file.mapped, nextn=nextn_of(file, hparams),
        projector=_inside(file, cache_type),
    )  # fmt: skip
    load_tokenizer(file.metadata)
    return need, available_memory()


def _formats(file: GGUFFile, level: str | None) -> tuple[FormatUse, ...]:
    uses: dict[str, list[TensorInfo]] = {}
    for info in file.tensors.values():
        uses.setdefault(info.format.name, []).append(info)
    rows = [FormatUse(name, len(of), sum(i.nbytes for i in of), _kernel(of, level)) for name, of in uses.items()]
    return tuple(sorted(rows, key=lambda row: -row.nbytes))


def _kernel(tensors: Sequence[TensorInfo], level: str | None) -> str | None:
    format = tensors[0].format
    if level is None or not can_decode(format) or all(len(info.shape) < 2 for info in tensors):
        return None
    from llamaq import _core

    return _core.kernel_name(level, format.id)


def _inside(file: GGUFFile, cache_type: CacheType) -> int:
    """What the encoder takes that a model has inside of its file."""
    from llamaq.vision.loading import ProjectorFile, has_encoder

    try:
        return ProjectorFile(file, None, file).need(None, cache_type) if has_encoder(file) else 0
    except ModelError:  # it is read as one for text
        return 0


def as_json(report: Report) -> dict[str, Any]:
    """Everything, arrays in full. Numbers that JSON lacks (infinities, NaN) are null."""
    file, memory = report.file, report.memory
    return {
        "files": [str(path) for path in file.paths],
        "file_bytes": report.file_bytes,
        "gguf_version": file.version,
        "byte_order": file.byte_order,
        "alignment": file.alignment,
        "parameters": report.parameters,
        "bits_per_weight": report.bits_per_weight,
        "family": family_of(file.metadata.get("general.architecture")),
        "runnable": report.problem is None,
        "problem": report.problem,
        "memory": memory and asdict(memory) | {"total": memory.total, "cache_type": report.cache_type},
        "memory_available": report.available,
        "simd_levels": list(report.levels),
        "simd_level": report.level,
        "numerics": list(report.numerics),
        "threads": asdict(report.threads),
        "formats": [asdict(use) for use in report.formats],
        "metadata": {key: _plain(value) for key, value in file.metadata.items()},
        "tensors": [
            {"name": t.name, "format": t.format.name, "shape": t.shape, "nbytes": t.nbytes, "file": t.shard}
            for t in file.tensors.values()
        ],
    }


def _plain(value: Value) -> Any:
    if isinstance(value, GGUFArray):
        return [_plain(item) for item in value.tolist()]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_text(report: Report, *, every_tensor: bool) -> str:
    """The report for people: aligned columns, long values shortened."""
    sections = [_headline(report), ["metadata", *_metadata(report.file)]]
    if report.formats:
        sections.append(["tensors", *_format_table(report)])
    if every_tensor and report.formats:
        sections.append(["every tensor (rows first)", *_tensor_table(report.file)])
    sections.append(_needs(report))
    return "\n\n".join("\n  ".join(section).replace("\n  \n", "\n\n") for section in sections) + "\n"


def _headline(report: Report) -> list[str]:
    file = report.file
    parts = f" in {len(file.paths)} parts" if len(file.paths) > 1 else ""
    lines = [
        _shown(str(file.path)),
        f"GGUF version {file.version}, {file.byte_order}-endian, {size(report.file_bytes)}{parts}",
    ]
    if isinstance(name := file.metadata.get("general.architecture"), str):
        lines.append(f"architecture {_shown(name)} ({family_of(name) or 'unknown'})")
    if _is_projector(file) and report.problem is None:
        lines.append(_projector(file))
    if report.bits_per_weight is not None:
        lines.append(f"{_count(report.parameters)} parameters, {report.bits_per_weight:.2f} bits per weight")
    return lines


def _projector(file: GGUFFile) -> str:
    """What a projector makes of pictures."""
    from llamaq.vision.encoder import traced

    projector = traced(file).projector
    use = f"llamaq run MODEL --mmproj {_shown(file.path.name)} --image FILE"
    return f"projector {projector.hp.projector}: {projector.summary}; {use}"


def _metadata(file: GGUFFile) -> list[str]:
    rows = []
    for key, value in file.metadata.items():
        if isinstance(value, GGUFArray):
            kind = f"{len(value)} x {value.element_type.name.lower()}"
            first = ", ".join(_quoted(item) for item in value[:8])
            text = f"{kind}: {first}" if first else kind
            rows.append((_shown(key), _shortened(text, more=len(value) > 8)))
        else:
            rows.append((_shown(key), _shortened(_quoted(value))))
    return list(_columns(rows, "<<"))


def _format_table(report: Report) -> list[str]:
    total = max(1, sum(use.nbytes for use in report.formats))
    rows = [("format", "tensors", "size", "share", "kernel")]
    for use in report.formats:
        share = f"{100 * use.nbytes / total:.1f}%"
        rows.append((use.name, str(use.tensors), size(use.nbytes), share, use.kernel or "-"))
    return list(_columns(rows, "<>>><"))


def _tensor_table(file: GGUFFile) -> list[str]:
    rows = [
        (_shown(info.name), info.format.name, " x ".join(map(str, info.shape)), size(info.nbytes))
        for info in file.tensors.values()
    ]
    return list(_columns(rows, "<<<>"))


def _needs(report: Report) -> list[str]:
    levels = f"SIMD levels of this CPU: {', '.join(report.levels)}; {report.level} is in use"
    levels += f" (numerics: {', '.join(report.numerics)})"
    threads = f"threads: {report.threads.threads} ({report.threads.reason})"
    memory = report.memory
    if memory is None:
        return ["cannot be run", report.problem or "", *([levels, threads] if report.levels else [])]
    alone = _is_projector(report.file)
    available = "unknown" if report.available is None else size(report.available)
    fits = "" if report.available is None or memory.total <= report.available else " (does not fit)"
    rows = [
        ("weights", size(memory.weights), ""),
        ("cache", size(memory.cache), f"  {report.cache_type}"),
        *(_group_row(group) for group in memory.groups if len(memory.groups) > 1 or _sees(group)),
        ("scratch", size(memory.scratch), "  at most"),
        *([("texts", size(memory.texts), f"  {_TEXTS}")] if memory.texts else []),
        *([("guesses", size(memory.nextn), f"  {_NEXTN}")] if memory.nextn else []),
        *([("pictures", size(memory.projector), f"  {_PICTURES[alone]}")] if memory.projector else []),
        ("total", size(memory.total), fits),
        ("available", available, ""),
        ("mapped", size(memory.mapped), "  read from the file, kept by the system while there is room"),
    ]
    what = "memory beside that of its model" if alone else ""
    return [what or f"memory for a context of {memory.n_ctx} tokens", *_columns(rows, "<><"), "", levels, threads]


def _is_projector(file: GGUFFile) -> bool:
    return file.metadata.get("general.architecture") == "clip"


def _group_row(group: GroupNeed) -> tuple[str, str, str]:
    return f"  layers: {group.layers}", size(group.nbytes), f"  {_sees(group) or 'seeing the whole text'}"


def _sees(group: GroupNeed) -> str:
    if group.state:
        return "with a state of each text"
    windows = [f"the last {group.window} tokens"] if group.window else []
    chunks = [f"{group.chunk} tokens of positions at a time"] if group.chunk else []
    return f"seeing {' of '.join(windows + chunks)}" if windows or chunks else ""


def _columns(rows: Sequence[Sequence[str]], align: str) -> Iterator[str]:
    """Rows of cells as aligned lines, two spaces between columns."""
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(len(align))]
    for row in rows:
        cells = (f"{cell:{side}{width}}" for cell, side, width in zip(row, align, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _count(n: int) -> str:
    for unit, factor in (("billion", 10**9), ("million", 10**6), ("thousand", 10**3)):
        if n >= factor:
            return f"{n / factor:.2f} {unit}"
    return str(n)


def _quoted(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    return _shown(json.dumps(value, ensure_ascii=False)) if isinstance(value, str) else str(value)


def _shown(text: str) -> str:
    """Text that may hold anything, on one line and without what steers a terminal."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def _shortened(text: str, *, more: bool = False) -> str:
    if len(text) > _WIDTH:
        return text[: _WIDTH - 4] + " ..."
    return f"{text}, ..." if more else text
