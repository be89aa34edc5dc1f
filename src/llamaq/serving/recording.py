"""What is kept of an answer for its receipt, as its tokens are chosen."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from llamaq import __version__, _core
from llamaq.engine.loading import LoadedModel
from llamaq.errors import ReceiptError
from llamaq.sampling import Sampler
from llamaq.serving.receipt import Receipt, Top

__all__ = ["Recording", "digest_of_all", "logits_digest", "short", "top_logits"]

_TOP = 3


def logits_digest(logits: NDArray[np.float32]) -> bytes:
    """The BLAKE2b, 32 bytes, of logits (vocabulary,) as little-endian float32."""
    return hashlib.blake2b(np.ascontiguousarray(logits, "<f4").data, digest_size=32).digest()


def short(digest: bytes | None) -> str | None:
    """As much of a digest as a receipt shows for each token."""
    return None if digest is None else digest[:8].hex()


def digest_of_all(digests: Sequence[bytes | None]) -> str:
    """The SHA-256 of all digests, in hex; a token that was forced counts as 32 zeros."""
    return hashlib.sha256(b"".join(digest or bytes(32) for digest in digests)).hexdigest()


def top_logits(candidates: _core.Candidates, logits: NDArray[np.float32]) -> Top:
    """The largest logits and their tokens, equal ones by token; float32 in so few digits that they come back alike."""
    candidates.load(logits)
    ids = [id for id in candidates.most_likely(_TOP).tolist() if math.isfinite(logits[id])]
    return tuple((id, float(str(logits[id]))) for id in ids)


class Recording:
    """The tokens of an answer to ``prompt`` in the order in which they were chosen, and the logits behind each.
    ``parts`` gives those of the model, or raises ``ClosedError``."""

    def __init__(self, parts: Callable[[], LoadedModel], prompt: Sequence[int], sampler: Sampler) -> None:
        self._parts = parts
        self._prompt = tuple(prompt)
        self._sampler = sampler
        self._tokens: list[int] = []
        self._digests: list[bytes | None] = []
        self._top: list[Top] = []
        self._candidates = _core.Candidates()

    def add(self, token: int, logits: NDArray[np.float32] | None) -> None:
        """A token, and the logits (vocabulary,) that it was chosen from; None: a structure forced it."""
        self._tokens.append(token)
        self._digests.append(None if logits is None else logits_digest(logits))
        self._top.append(() if logits is None else top_logits(self._candidates, logits))

    def receipt(self, count: int, adapters: tuple[tuple[str, float], ...] = ()) -> Receipt:
        """Of the first ``count`` tokens, made with such ``adapters`` (SHA-256 in hex, scale). Reads the model file for
        its hash the first time. Raises ``ClosedError`` where the model is closed, ``ReceiptError`` where the file is
        not what runs."""
        parts = self._parts()
        if parts.file.overridden:
            raise ReceiptError("values of the model's metadata were overridden, so that its file says nothing of it")
        params = self._sampler.params
        return Receipt(
            llamaq=__version__, isa=_core.chosen_isa(), model=parts.file.path.name, sha256=parts.sha256,
            numerics=parts.engine.numerics, cache_type=parts.cache.cache_type, n_ctx=parts.memory.n_ctx,
            sampling=params, seed=self._sampler.seed, forces=params.logprobs is None,
            chosen_by_functions=bool(params.logit_processors), prompt=self._prompt,
            tokens=tuple(self._tokens[:count]), logits=tuple(map(short, self._digests[:count])),
            top=tuple(self._top[:count]), digest=digest_of_all(self._digests[:count]),
            adapters=adapters,
        )  # fmt: skip
