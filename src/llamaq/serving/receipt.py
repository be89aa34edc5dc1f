"""``Receipt``: what an answer was made of, and digests of the logits behind it, as a file that anybody can check."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from llamaq.boundary.arguments import INT32, MOST_SCALE, flag, items, one_of, path_of, real, text, texts, whole, wholes
from llamaq.boundary.atomic import atomic_file
from llamaq.boundary.files import read_small
from llamaq.engine.kv_cache import CACHE_TYPES, CacheType
from llamaq.errors import LlamaqError, ReceiptError
from llamaq.sampling import SamplingParams
from llamaq.structure import Structure

__all__ = ["Receipt", "Top"]

Top: TypeAlias = tuple[tuple[int, float], ...]
"""The tokens with the largest logits, and these."""

_VERSION = 1
_MOST_BYTES = 1 << 28  # bytes of a file: a million tokens take a third of it
_MOST_TOP = 16
_NOT_KEPT = ("seed", "logprobs", "logit_processors")  # the seed in use stands beside the sampling parameters
_KEYS = (
    "llamaq_receipt", "llamaq", "isa", "model", "sha256", "adapters", "numerics", "cache_type", "n_ctx", "sampling",
    "seed", "forces", "chosen_by_functions", "prompt", "tokens", "logits", "top", "digest",
)  # fmt: skip


@dataclass(frozen=True)
class Receipt:
    """What an answer was made of.

    ``sha256`` is of the model file, ``model`` its name; ``llamaq`` and ``isa`` are the version and the SIMD level that
    made the answer, and can be seen in no bit of it. ``prompt`` are the tokens that were read, ``tokens`` those that
    were chosen, an end token among them. ``logits`` has the first 64 bits of the BLAKE2b of the logits behind each of
    them (None: a structure forced it), ``top`` the largest of these logits, and ``digest`` the SHA-256 of all whole
    hashes. ``forces`` says whether tokens were forced where a structure could; ``chosen_by_functions`` that logit
    processors took part, which no file can hold, so that the choices cannot be repeated. ``adapters`` are the SHA-256
    of the LoRA files that the text went through, and their scales.
    """

    llamaq: str
    isa: str
    model: str
    sha256: str
    numerics: str
    cache_type: CacheType
    n_ctx: int
    sampling: SamplingParams
    seed: int
    forces: bool
    chosen_by_functions: bool
    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    logits: tuple[str | None, ...]
    top: tuple[Top, ...]
    digest: str
    adapters: tuple[tuple[str, float], ...] = ()

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Receipt:
        """A file that ``save`` wrote. Raises ``ReceiptError`` for one that cannot be read or is no receipt."""
        return cls.parse(read_small(path_of("path", path), _MOST_BYTES, ReceiptError), str(path))

    @classmethod
    def parse(cls, raw: str | bytes, name: str = "the receipt") -> Receipt:
        """The receipt that JSON says, of which nothing is believed before it is checked. Raises ``ReceiptError``, with
        ``name`` for what it was read from."""
        try:
            found = json.loads(raw, parse_constant=_no_number)
            if not isinstance(found, dict) or "llamaq_receipt" not in found:
                raise ValueError("the key 'llamaq_receipt' is missing")
            if found["llamaq_receipt"] != _VERSION:
                raise ValueError(f"expected version {_VERSION}, got {found['llamaq_receipt']!r:.40}; update llamaq")
            if sorted(found) != sorted(_KEYS):
                raise ValueError(f"expected the keys {', '.join(_KEYS)}, got others")
            return _receipt(found)
        except (ValueError, TypeError, RecursionError, LlamaqError) as error:
            raise ReceiptError(f"{name}: expected a receipt of llamaq, got something else: {error!s:.300}") from None

    def json(self) -> str:
        """What ``save`` writes: a line for each key."""
        own = {
            **{key: getattr(self, key) for key in _KEYS[1:] if key != "sampling"},
            "llamaq_receipt": _VERSION, "sampling": _settings(self.sampling),
        }  # fmt: skip
        lines = (f"{json.dumps(key)}: {json.dumps(own[key], allow_nan=False)}" for key in _KEYS)
        return "{\n" + ",\n".join(lines) + "\n}\n"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the file, whole or not at all. Raises ``ReceiptError`` where the disk refuses."""
        with atomic_file(path_of("path", path), ReceiptError) as file:
            file.write(self.json().encode())


def _settings(sampling: SamplingParams) -> dict[str, Any]:
    """The settings as JSON has them; floats keep all their bits."""
    found = {f.name: getattr(sampling, f.name) for f in dataclasses.fields(sampling) if f.name not in _NOT_KEPT}
    structure: Structure | None = found["structure"]
    if structure is not None:
        found["structure"] = {"kind": structure.kind, "text": structure.text, "after": structure.after}
    found["logit_bias"] = {id: bias if math.isfinite(bias) else str(bias) for id, bias in sampling.logit_bias.items()}
    return found


def _receipt(found: Mapping[str, Any]) -> Receipt:
    tokens = tuple(wholes("tokens", found["tokens"], "token ids", 0, INT32))
    prompt = tuple(wholes("prompt", found["prompt"], "token ids", 0, INT32))
    logits = tuple(x if x is None else _hex("each of logits", x, 16) for x in items("logits", found["logits"], "hex"))
    top = tuple(_top(x) for x in items("top", found["top"], "lists"))
    if not prompt or not len(tokens) == len(logits) == len(top):
        raise ValueError(
            f"a prompt and as many logits and top as tokens are expected, got {len(prompt)} tokens of prompt, "
            f"{len(tokens)} tokens, {len(logits)} logits, {len(top)} top"
        )
    return Receipt(
        llamaq=text("llamaq", found["llamaq"])[:40],
        isa=text("isa", found["isa"])[:40],
        model=text("model", found["model"])[:300],
        sha256=_hex("sha256", found["sha256"], 64),
        adapters=tuple(_adapter(x) for x in items("adapters", found["adapters"], "pairs")),
        numerics=one_of("numerics", found["numerics"], ("exact", "fast")),
        cache_type=one_of("cache_type", found["cache_type"], CACHE_TYPES),
        n_ctx=whole("n_ctx", found["n_ctx"], 1, INT32),
        sampling=_sampling(found["sampling"]),
        seed=whole("seed", found["seed"], 0),
        forces=flag("forces", found["forces"]),
        chosen_by_functions=flag("chosen_by_functions", found["chosen_by_functions"]),
        prompt=prompt,
        tokens=tokens,
        logits=logits,
        top=top,
        digest=_hex("digest", found["digest"], 64),
    )


def _sampling(found: Any) -> SamplingParams:
    if not isinstance(found, dict) or set(found) & set(_NOT_KEPT):
        raise ValueError("sampling must be the settings of SamplingParams without the seed")
    structure, biases = found.get("structure"), found.get("logit_bias")
    if structure is not None:
        if not isinstance(structure, dict) or sorted(structure) != ["after", "kind", "text"]:
            raise ValueError("structure must have kind, text and after")
        structure = Structure(structure["kind"], structure["text"]).following(*texts("after", structure["after"]))
    if not isinstance(biases, dict):
        raise ValueError("logit_bias must be an object")
    bias = {int(id): float(bias) if bias == "-inf" else real("logit_bias", bias) for id, bias in biases.items()}
    return SamplingParams(**{**found, "structure": structure, "logit_bias": bias})


def _top(found: Any) -> Top:
    pairs = items("each of top", found, "pairs")
    if len(pairs) > _MOST_TOP or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise ValueError(f"each of top must be at most {_MOST_TOP} pairs of token and logit")
    return tuple((whole("each token of top", id, 0, INT32), real("each logit of top", x)) for id, x in pairs)


def _adapter(found: Any) -> tuple[str, float]:
    if not isinstance(found, list) or len(found) != 2:
        raise ValueError("each of adapters must be a pair of digest and scale")
    return _hex("each digest of adapters", found[0], 64), real(
        "each scale of adapters", found[1], -MOST_SCALE, MOST_SCALE
    )


def _hex(name: str, value: Any, length: int) -> str:
    if not isinstance(value, str) or not re.fullmatch(rf"[0-9a-f]{{{length}}}", value):
        raise ValueError(f"{name} must be {length} hexadecimal digits, got {value!r:.80}")
    return value


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")
