"""Rows of a table answered by a model: each is asked alone, and what is wrong with one is told in its own columns."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from llamaq.batch.job import identity_of
from llamaq.batch.requests import seed_of
from llamaq.boundary.arguments import shown
from llamaq.distributed.kept import KeptAnswers
from llamaq.errors import ClosedError, LlamaqError
from llamaq.sampling import SamplingParams

if TYPE_CHECKING:
    from llamaq.llm.llm import LLM

__all__ = ["COLUMNS", "KINDS", "Row", "RowJob", "RowWorker"]

Row: TypeAlias = Mapping[str, Any]

KINDS = ("messages", "prompt", "embed", "score")
"""What a row can ask for: the answer to a conversation, a text gone on with, a vector, log-probabilities of a text."""

COLUMNS = {
    "text": "string", "finish_reason": "string", "prompt_tokens": "int64", "completion_tokens": "int64",
    "embedding": "floats", "logprobs": "floats", "error": "string",
}  # fmt: skip
"""What a row gets, by the types of a table; what its kind does not have is None, and so is ``error`` where all is
well."""

_OWN = ("sampling", "max_tokens", "stop", "tools", "tool_choice", "template", "template_kwargs", "score_after")
_SAMPLING = frozenset(each.name for each in fields(SamplingParams)) - {"logit_processors", "structure"}


@dataclass(frozen=True)
class RowJob:
    """A model, the arguments of ``LLM.load``, and how rows are asked and answered; plain data that can be sent."""

    model: str | os.PathLike[str]
    load: Mapping[str, Any] = field(default_factory=dict)
    sampling: SamplingParams = field(default_factory=SamplingParams)
    max_tokens: int | None = None
    preprocess: Callable[[dict[str, Any]], Row] | None = None
    postprocess: Callable[[dict[str, Any]], Row] | None = None
    id: str = "id"
    keep: str | os.PathLike[str] | None = None
    """A folder that answers are kept in; those that it has already are taken from there."""


class RowWorker:
    """A loaded model that answers rows, those of a batch together."""

    def __init__(self, job: RowJob) -> None:
        """Raises what ``LLM.load`` does, and ``LlamaqError`` for a folder that nothing can be kept in."""
        from llamaq.llm.llm import LLM

        self._job = job
        self._kept = None if job.keep is None else KeptAnswers(job.keep)
        self._llm: LLM = LLM.load(job.model, **job.load)
        self._identity = identity_of(self._llm.model.parts.file.path, job.load)

    def close(self) -> None:
        self._llm.close()

    def answer(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """For each row itself with ``COLUMNS``, or what ``postprocess`` makes of that, with its ``error``. Raises
        ``ClosedError``."""

        async def together() -> list[dict[str, Any]]:
            return list(await asyncio.gather(*(self._answer(dict(row)) for row in rows)))

        if self._kept is not None:
            self._kept.look()
        return asyncio.run(together())

    async def _answer(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            asked = row if self._job.preprocess is None else dict(self._job.preprocess(row))
            found = {**row, **dict.fromkeys(COLUMNS), **await self._found(asked, self._seed(row, asked))}
            return found if self._job.postprocess is None else {**self._job.postprocess(found), "error": None}
        except ClosedError:  # the fault of this worker: another may answer
            raise
        except Exception as error:
            kept = {**row, **dict.fromkeys(COLUMNS)} if self._job.postprocess is None else {}
            return {**kept, "error": _told(error)}

    def _seed(self, row: Row, asked: Row) -> int:
        """The same for the same row, wherever it is: of its id, or of what it asks for where it has none."""
        name = row.get(self._job.id)
        if name is None:
            raw = json.dumps({key: asked[key] for key in sorted(asked)}, sort_keys=True, default=str).encode()
            name = hashlib.sha256(raw).hexdigest()
        return seed_of(self._job.sampling.seed or 0, str(name))

    async def _found(self, asked: Row, seed: int) -> dict[str, Any]:
        """What an earlier run has kept of the same question, else the model's answer."""
        if self._kept is None:
            return await self._columns(asked, seed)
        own = {name: asked[name] for name in (*KINDS, *_OWN) if asked.get(name) is not None}
        told = (self._identity, repr(self._job.sampling), self._job.max_tokens, seed, own)
        key = hashlib.sha256(json.dumps(told, sort_keys=True, default=_plain).encode()).hexdigest()
        found = self._kept.get(key)
        if found is None:
            found = await self._columns(asked, seed)
            self._kept.add(key, found)
        return found

    async def _columns(self, asked: Row, seed: int) -> dict[str, Any]:
        kinds = [kind for kind in KINDS if asked.get(kind) is not None]
        if len(kinds) != 1:
            raise LlamaqError(f"a row must have one of {', '.join(KINDS)}, got {', '.join(kinds) or 'none'}")
        value = asked[kinds[0]]
        if kinds == ["embed"]:
            vectors = await self._llm.aembed([value])
            return {"embedding": vectors[0].tolist()}
        if kinds == ["score"]:
            score = await self._llm.ascore(value, prompt=asked.get("score_after") or "")
            return {"logprobs": [float(each) for each in score.logprobs]}
        options: dict[str, Any] = {name: asked[name] for name in _OWN if asked.get(name) is not None}
        options = {"max_tokens": self._job.max_tokens, **options, "sampling": self._sampling(asked, seed)}
        answer: Any
        if kinds == ["messages"]:
            answer = await self._llm.achat([_without_nones(message) for message in value], **options)
        else:
            answer = await self._llm.agenerate(value, **options)
        return {
            "text": answer.text, "finish_reason": answer.finish_reason, "prompt_tokens": answer.usage.prompt_tokens,
            "completion_tokens": answer.usage.completion_tokens,
        }  # fmt: skip

    def _sampling(self, asked: Row, seed: int) -> SamplingParams:
        """The job's settings with those of the row, and its seed."""
        own = {name: value for name, value in (asked.get("sampling") or {}).items() if value is not None}
        if unknown := own.keys() - _SAMPLING:
            raise LlamaqError(f"sampling has {shown(sorted(unknown)[0])}, which is no setting of SamplingParams")
        return replace(self._job.sampling, **{"seed": seed, **own})


def _plain(value: Any) -> Any:
    """Numbers of NumPy as those of Python, all others by what tells them apart."""
    return value.tolist() if hasattr(value, "tolist") else repr(value)


def _without_nones(message: Any) -> Any:
    """A message as it was before a table gave it the fields of all others."""
    return {k: v for k, v in message.items() if v is not None} if isinstance(message, Mapping) else message


def _told(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
