"""What ``llamaq bench`` found: records with llama-bench's field names, written as a table, JSON or CSV."""

from __future__ import annotations

import csv
import io
import json
import statistics
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

from llamaq import __version__
from llamaq.boundary.words import counted
from llamaq.cli.output import size, write
from llamaq.engine.engine import Numerics, numerics_here
from llamaq.engine.kv_cache import CacheType
from llamaq.engine.loading import plan_of
from llamaq.gguf import GGUFFile
from llamaq.measure.limits import MachineLimits, cpu_name
from llamaq.measure.speed import Work, Workload
from llamaq.plan.graph import Plan

__all__ = ["OUTPUTS", "Model", "Output", "Record", "Settings", "make_record"]

Record: TypeAlias = dict[str, Any]

_BEYOND = "above 100 %: a CPU cache holds what is read, or the machine was slower at each probe than in the runs"


@dataclass(frozen=True)
class Settings:
    """What a model is loaded with."""

    n_threads: int
    n_batch: int
    n_ubatch: int
    cache_type: CacheType
    pack: bool = True
    numerics: Numerics = "exact"

    @property
    def rows(self) -> int:
        """Tokens of a prompt that one step reads."""
        return min(self.n_batch, self.n_ubatch)


@dataclass(frozen=True)
class Model:
    """An open model file and its plan."""

    path: Path
    file: GGUFFile
    plan: Plan

    @classmethod
    def open(cls, path: Path) -> Model:
        """Raises ``GGUFError`` and ``ModelError`` for files that cannot be run."""
        file = GGUFFile.open(path)
        try:
            return cls(path, file, plan_of(file)[1])
        except BaseException:
            file.close()
            raise

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()

    @property
    def parameters(self) -> int:
        return sum(info.n_elements for info in self.file.tensors.values())

    @property
    def nbytes(self) -> int:
        return sum(info.nbytes for info in self.file.tensors.values())

    @property
    def kind(self) -> str:
        """Architecture, size and the format of most weights: ``llama 1.24B Q4_0``."""
        formats: Counter[str] = Counter()
        for info in self.file.tensors.values():
            formats[info.format.name] += info.n_elements
        architecture = self.file.metadata.get("general.architecture")
        return f"{architecture} {_count(self.parameters).replace(' ', '')} {formats.most_common(1)[0][0]}"


def make_record(
    model: Model, settings: Settings, test: Workload, samples: Sequence[float], began: datetime,
    limits: Sequence[MachineLimits], work: Work,
) -> Record:  # fmt: skip
    """One row of the result; ``limits`` as probed before, between and after the runs. Percentages are of the highest,
    null where the test has no such work; the remark is the reason for one above 100."""
    bandwidths = [each.read_bandwidth / 1e9 for each in limits]
    peaks = [each.int8_peak / 1e9 for each in limits]
    seconds = statistics.mean(samples)
    rates = [test.tokens / sample for sample in samples]
    several = len(samples) > 1
    of_bandwidth = round(work.nbytes / 1e7 / seconds / max(bandwidths), 2)
    of_peak = round(work.int8_ops / 1e7 / seconds / max(peaks), 2) if work.int8_ops else None
    return {
        "build_commit": f"llamaq-{__version__}",
        "cpu_info": cpu_name(),
        "backends": "CPU",
        "level": limits[0].level,
        "numerics": numerics_here(settings.numerics),
        "model_filename": str(model.path),
        "model_type": model.kind,
        "model_size": model.nbytes,
        "model_n_params": model.parameters,
        "n_batch": settings.n_batch,
        "n_ubatch": settings.n_ubatch,
        "n_threads": settings.n_threads,
        "type_k": settings.cache_type,
        "type_v": settings.cache_type,
        "use_mmap": not settings.pack,
        "n_prompt": test.n_prompt,
        "n_gen": test.n_gen,
        "n_depth": test.n_depth,
        "n_parallel": test.n_parallel,
        "test_time": f"{began:%Y-%m-%dT%H:%M:%SZ}",
        "avg_ns": round(1e9 * seconds),
        "stddev_ns": round(1e9 * statistics.stdev(samples)) if several else 0,
        "avg_ts": round(statistics.mean(rates), 6),
        "stddev_ts": round(statistics.stdev(rates), 6) if several else 0.0,
        "read_bandwidth_gbps": round(max(bandwidths), 3),
        "read_bandwidth_median_gbps": round(statistics.median(bandwidths), 3),
        "read_bandwidth_min_gbps": round(min(bandwidths), 3),
        "percent_of_bandwidth": of_bandwidth,
        "int8_peak_gops": round(max(peaks), 3),
        "int8_peak_median_gops": round(statistics.median(peaks), 3),
        "int8_peak_min_gops": round(min(peaks), 3),
        "percent_of_int8_peak": of_peak,
        "remark": _BEYOND if max(of_bandwidth, of_peak or 0) > 100 else None,
        "samples_ns": [round(1e9 * sample) for sample in samples],
        "samples_ts": [round(rate, 6) for rate in rates],
    }


class Output(ABC):
    """Writes records as they come; a context manager, whose end is written whatever happens."""

    def __init__(self, models: Sequence[Model], settings: Sequence[Settings]) -> None:
        self._count = 0

    def __enter__(self) -> Output:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, OSError):  # stdout is gone
            write(self.end())

    def add(self, record: Record) -> None:
        """Writes one record."""
        write(self.text(record, first=self._count == 0))
        self._count += 1

    @abstractmethod
    def text(self, record: Record, *, first: bool) -> str:
        """The record as text."""

    def end(self) -> str:
        """What follows the last record."""
        return ""


class JsonLines(Output):
    """A JSON object a line."""

    def text(self, record: Record, *, first: bool) -> str:
        return json.dumps(record) + "\n"


class Json(Output):
    """A JSON array."""

    def text(self, record: Record, *, first: bool) -> str:
        items = ",\n".join(f"    {json.dumps(key)}: {json.dumps(value)}" for key, value in record.items())
        return ("[\n" if first else ",\n") + "  {\n" + items + "\n  }"

    def end(self) -> str:
        return "\n]\n" if self._count else "[]\n"


class Csv(Output):
    """Comma-separated values with a head, without the single samples."""

    def text(self, record: Record, *, first: bool) -> str:
        plain = {key: value for key, value in record.items() if not key.startswith("samples_")}
        text = io.StringIO()
        writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
        if first:
            writer.writerow(plain)
        writer.writerow(plain.values())
        return text.getvalue()


class Markdown(Output):
    """A table of Markdown, and below it what the percentages are of."""

    def __init__(self, models: Sequence[Model], settings: Sequence[Settings]) -> None:
        super().__init__(models, settings)
        widest = max(len(model.kind) for model in models)
        self._columns = {"model": -widest, "size": 10, "params": 9, "backend": -7, "threads": 7}
        usual = Settings(0, 2048, 512, "f16")
        for name, width in (("n_batch", 7), ("n_ubatch", 8), ("cache_type", -10), ("numerics", -8)):
            if {getattr(each, name) for each in settings} != {getattr(usual, name)}:
                self._columns[name] = width
        self._columns |= {"test": -19, "t/s": 17, "GB/s": 11, "% bandwidth": 11, "% int8 peak": 11}
        self._limits: dict[str, list[Record]] = {}

    def text(self, record: Record, *, first: bool) -> str:
        test = Workload(*(record[name] for name in ("n_prompt", "n_gen", "n_depth", "n_parallel")))
        cells = record | {
            "model": record["model_type"],
            "size": size(record["model_size"]),
            "params": _count(record["model_n_params"]),
            "backend": record["backends"],
            "threads": record["n_threads"],
            "cache_type": record["type_k"],
            "test": str(test),
            "t/s": f"{record['avg_ts']:.2f} ± {record['stddev_ts']:.2f}",
            "GB/s": _range([record], "read_bandwidth", "gbps", 1),
            "% bandwidth": _percent(record["percent_of_bandwidth"]),
            "% int8 peak": _percent(record["percent_of_int8_peak"]),
        }
        machine = f"{record['cpu_info']}, {record['level']}, {counted(record['n_threads'], 'thread')}"
        self._limits.setdefault(machine, []).append(record)
        row = self._line([_aligned(str(cells[name]), width) for name, width in self._columns.items()])
        return (self._head() if first else "") + row

    def _head(self) -> str:
        rules = ["-" * (abs(width) - 1) + (":" if width > 0 else "-") for width in self._columns.values()]
        return self._line([_aligned(name, width) for name, width in self._columns.items()]) + self._line(rules)

    def _line(self, cells: Sequence[str]) -> str:
        return "| " + " | ".join(cells) + " |\n"

    def end(self) -> str:
        if not self._count:
            return ""
        lines = [
            f"{machine}: reads {_range(records, 'read_bandwidth', 'gbps', 1)} GB/s, "
            f"int8 peak {_range(records, 'int8_peak', 'gops', 0)} GOP/s"
            for machine, records in self._limits.items()
        ]
        remarks = {record["remark"] for records in self._limits.values() for record in records} - {None}
        return (
            "".join(f"\n{line}" for line in (*lines, *(f"* {each}" for each in remarks), f"llamaq {__version__}"))
            + "\n"
        )


OUTPUTS: Mapping[str, type[Output]] = {"md": Markdown, "json": Json, "jsonl": JsonLines, "csv": Csv}


def _aligned(text: str, width: int) -> str:
    """Text put to the right of its column, or to the left where the width is negative."""
    return text.rjust(width) if width > 0 else text.ljust(-width)


def _range(records: Sequence[Record], name: str, unit: str, digits: int) -> str:
    """The range from the lowest to the highest that was probed."""
    lowest = min(record[f"{name}_min_{unit}"] for record in records)
    highest = max(record[f"{name}_{unit}"] for record in records)
    return "-".join(dict.fromkeys(f"{x:.{digits}f}" for x in (lowest, highest)))


def _percent(share: float | None) -> str:
    if share is None:
        return "-"
    return f"{share:.1f}*" if share > 100 else f"{share:.1f}"


def _count(n: int) -> str:
    for unit, factor in (("B", 10**9), ("M", 10**6)):
        if n >= factor:
            return f"{n / factor:.2f} {unit}"
    return f"{n / 1000:.2f} K"
