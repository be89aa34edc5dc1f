"""What answers a batch, as plain data that can be sent to other processes: the model and how it runs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llamaq import __version__
from llamaq.batch.answering import Answerer
from llamaq.boundary.progress import Progress
from llamaq.engine.adapters import adapter_files

__all__ = ["BatchJob", "identity_of"]

_OF_NO_WEIGHT = ("threads", "n_batch", "n_cache", "pack", "speculation", "draft", "cache_dir", "cache_limit")
"""Arguments of ``LLM.load`` that change no bit of an answer."""


def identity_of(model: str | os.PathLike[str], load: Mapping[str, Any], *others: Any) -> str:
    """What answers of a model depend on, and ``others``: equal on machines whose files have equal names and sizes."""
    own = {name: value for name, value in load.items() if name not in _OF_NO_WEIGHT and value is not None}
    beside = own.get("mmproj", getattr(model, "projector", None))
    if beside is not None:
        own["mmproj"] = _file(beside)
    adapters = [*adapter_files(getattr(model, "adapters", ())), *adapter_files(own.pop("adapters", ()))]
    if adapters:
        own["adapters"] = [(*_file(file.path), file.scale, file.layers) for file in adapters]
    return json.dumps((__version__, *_file(model), own, *others), sort_keys=True, default=str)


def _file(path: str | os.PathLike[str]) -> tuple[str, int]:
    return Path(path).name, Path(path).stat().st_size


@dataclass(frozen=True)
class BatchJob:
    """A model (a path, or what was found by a name), the arguments of ``LLM.load``, and how requests are answered: so
    many at once, with this chat template, and seeds made of ``seed`` where a request has none."""

    model: str | os.PathLike[str]
    load: Mapping[str, Any] = field(default_factory=dict)
    parallel: int = 16
    template: str | None = None
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    @property
    def identity(self) -> str:
        """What answers depend on beside the request: equal on machines whose files have equal names and sizes."""
        return identity_of(self.model, self.load, self.template, self.template_kwargs, self.seed)

    @contextmanager
    def answerer(self, progress: Progress | None = None) -> Iterator[Answerer]:
        """Loads the model for the time of the context. Raises what ``LLM.load`` does."""
        from llamaq.llm.llm import LLM

        with LLM.load(self.model, progress=progress, **self.load) as llm:
            yield Answerer(llm, parallel=self.parallel, template=self.template, template_kwargs=self.template_kwargs)
