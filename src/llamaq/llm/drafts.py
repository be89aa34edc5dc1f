"""The draft model of an ``LLM``: a file that is loaded with it, one that is loaded already, or a function."""

from __future__ import annotations

import os
from typing import Any, TypeAlias, cast

from llamaq.boundary.arguments import path_of
from llamaq.engine.loading import DraftNeed, check_same_tokens, load_parts, plan_of
from llamaq.engine.memory import memory_need
from llamaq.engine.topology import default_threads
from llamaq.errors import ModelError
from llamaq.gguf import GGUFFile
from llamaq.hub import resolve
from llamaq.llm.shown import Shown
from llamaq.serving.generation import DraftFunction
from llamaq.serving.model import Model
from llamaq.tokenizer import load_tokenizer

__all__ = ["Draft", "DraftChoice", "draft_of"]

DraftChoice: TypeAlias = "str | os.PathLike[str] | GGUFFile | Shown | DraftFunction | None"
"""A path or a name of a model, an open file, an ``LLM``, or a function that guesses."""


def draft_of(choice: DraftChoice, **options: Any) -> Draft:
    """What guesses for a model that is loaded with these options. Raises what ``LLM.load`` does."""
    if isinstance(choice, Shown):
        return _Loaded(choice.model)
    if callable(choice) and not isinstance(choice, str | os.PathLike):
        return _Function(choice)
    return Draft() if choice is None else _File(cast("str | GGUFFile", choice), options)


class Draft:
    """No draft model."""

    need: DraftNeed | None = None
    """What the loading of the other model has to know."""

    def attach(self, model: Model) -> None:
        """Lets it guess for a model. What goes wrong closes nothing but itself."""

    def close(self) -> None:
        """Frees what has been opened for it, where the other model could not be loaded."""


class _Function(Draft):
    def __init__(self, function: DraftFunction) -> None:
        self._function = function

    def attach(self, model: Model) -> None:
        model.draft_function = self._function


class _Loaded(Draft):
    def __init__(self, draft: Model) -> None:
        draft.check_writes()
        self._draft = draft

    def attach(self, model: Model) -> None:
        check_same_tokens(model.tokenizer, self._draft.tokenizer)
        model.draft_with(self._draft)


class _File(Draft):
    def __init__(self, choice: str | os.PathLike[str] | GGUFFile, options: dict[str, Any]) -> None:
        """``options``: those of ``load_parts`` but the file's own."""
        self._options = options
        file = choice if isinstance(choice, GGUFFile) else GGUFFile.open(resolve(path_of("draft", choice)))
        self._file = file
        try:
            hparams, plan = plan_of(file)
            if plan.encodes:
                raise ModelError(f"{file.path}: an encoder writes nothing, so that it cannot be a draft model")
            self._longest = hparams.context_length
            threads, pack = options["threads"] or default_threads().threads, options["pack"] or not file.mapped

            def need(n_ctx: int) -> int:
                n_ctx = min(n_ctx, self._longest)
                return memory_need(
                    plan, file.tensors, n_ctx, n_cache=options["n_cache"], cache_type=options["cache_type"],
                    max_rows=min(options["n_batch"], n_ctx), threads=threads, pack=pack, speculation=False,
                ).total  # fmt: skip

            self.need = DraftNeed(load_tokenizer(file.metadata), need)
        except BaseException:
            file.close()
            raise

    def attach(self, model: Model) -> None:
        options = {**self._options, "n_ctx": min(model.n_ctx, self._longest), "speculation": False}
        draft = Model(load_parts(self._file, **options), speculation=False)
        try:
            draft.check_writes()
        except BaseException:
            draft.close()
            raise
        model.draft_with(draft, owned=True)

    def close(self) -> None:
        self._file.close()
