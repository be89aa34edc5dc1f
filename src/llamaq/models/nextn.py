"""Multi-token prediction: a block behind the last layer, ``nextn`` in files, that guesses one token further than the
model. DeepSeek-AI (2024), "DeepSeek-V3 Technical Report", section 2.2.

Of each token but a text's first it reads the embedding, and the model's last state of the token before. Its own last
state stands in the place of the model's where it goes on with what it guessed.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from llamaq.errors import ModelError
from llamaq.models.hparams import Decoder, HParams
from llamaq.plan.graph import Graph, Norm, Value

__all__ = ["check_tokens", "embedding_of", "has_block", "joined", "logits", "with_block"]

D = TypeVar("D", bound=Decoder)


def has_block(tensors: Container[str], layers: int) -> bool:
    """Whether a file with these tensors has one behind so many layers. Of several the first is read."""
    return f"blk.{layers}.nextn.eh_proj.weight" in tensors


def with_block(hp: D) -> D:
    """The hyperparameters with one layer more, which is as the last one."""
    names = ("heads", "kv_heads", "ropes", "windows")
    more: dict[str, Any] = {name: (*getattr(hp, name), getattr(hp, name)[-1]) for name in names}
    return replace(hp, **more)


def embedding_of(tensors: Container[str], layers: int) -> str:
    """The table whose rows the block reads: its own, or the model's."""
    own = f"blk.{layers}.nextn.embed_tokens.weight"
    return own if own in tensors else "token_embd.weight"


def check_tokens(hp: HParams, shapes: Mapping[str, tuple[int, ...]], guessed: int) -> None:
    """Raises ``ModelError`` where the block knows other tokens than the model: its table must have a row for each, and
    it must not guess more, of which it ``guessed`` so many."""
    table = embedding_of(shapes, hp.layers)
    rows, *cols = shapes[table]
    if rows < hp.vocab_size or cols != [hp.width]:
        wanted = f"{hp.vocab_size} rows of {hp.width}"
        raise ModelError(f"tensor {table!r}: expected {wanted}, as the model's embeddings have, got {shapes[table]}")
    if guessed > hp.vocab_size:
        raise ModelError(f"its logits are of {guessed} tokens, but the model has {hp.vocab_size}")


def joined(g: Graph, hp: Decoder) -> Value:
    """What the block works on. A step gives the embedding of each token and, behind it, the last state before."""
    b = f"blk.{hp.layers}.nextn."
    parts = zip((b + "enorm", b + "hnorm"), (0, hp.width), strict=True)
    both = [g.norm(g.given(hp.width, first=first, width=2 * hp.width), Norm(name, hp.eps)) for name, first in parts]
    return g.linear(g.concat(*both), b + "eh_proj")


def logits(g: Graph, hp: Decoder, x: Value) -> Value:
    """Logits of the wanted rows; before they are selected stand the block's last states. Norm and matrix are the
    block's own, or the model's."""
    b = f"blk.{hp.layers}.nextn."
    norm = b + "shared_head_norm" if g.has(b + "shared_head_norm") else "output_norm"
    output = next(name for name in (b + "shared_head_head", "output", "token_embd") if g.has(name))
    return g.linear(g.select_rows(g.norm(x, Norm(norm, hp.eps))), output)
