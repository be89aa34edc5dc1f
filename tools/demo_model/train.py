"""Corpus, tokenizer and model in one command: ``python -m demo_model.train FOLDER``.

Needs torch, tokenizers and safetensors. Writes what ``llamaq convert FOLDER`` reads. Seeded: the same machine gives the
same model. A GPU is used where there is one.
"""

from __future__ import annotations

import argparse
import math
import sys
from array import array
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .chat import END
from .corpus import documents
from .model import Llama, Shape, save_model
from .tokenizer import save_tokenizer, train_tokenizer


@dataclass(frozen=True)
class Setting:
    """``steps`` batches of ``rows`` times ``length`` tokens."""

    documents: int = 60_000
    held_out: int = 500
    steps: int = 6_000
    rows: int = 16
    length: int = 1024
    rate: float = 2e-3
    seed: int = 1


class Tokens:
    """Documents one after another; rows begin where a document begins, as prompts do."""

    def __init__(self, tokenizer: Any, count: int, length: int, *, held_out: bool = False) -> None:
        ids, starts = array("H"), array("q")
        for made in documents(count, held_out=held_out):
            starts.append(len(ids))
            ids.extend(tokenizer.encode(made.text).ids)
        self.ids = torch.tensor(ids, dtype=torch.int32)
        self.starts = torch.tensor([start for start in starts if start + length < len(ids)], dtype=torch.int64)
        self.length = length

    def rows(self, which: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens and those that follow them, from the starts of these numbers: (rows, length) each, int64."""
        found = self.ids[self.starts[which][:, None] + torch.arange(self.length + 1)].long()
        return found[:, :-1], found[:, 1:]


def rate_at(step: int, setting: Setting) -> float:
    """Rises for a twentieth of the steps, then falls along a cosine to a twentieth of its height."""
    rise = max(1, setting.steps // 20)
    if step < rise:
        return setting.rate * (step + 1) / rise
    done = (step - rise) / max(1, setting.steps - rise)
    return setting.rate * (0.05 + 0.95 * (1 + math.cos(math.pi * done)) / 2)


def loss_of(model: Llama, tokens: Tensor, following: Tensor) -> Tensor:
    return functional.cross_entropy(model(tokens).flatten(0, 1), following.flatten())


@torch.no_grad()
def held_out_loss(model: Llama, kept: Tokens, rows: int, device: str) -> float:
    """Mean loss of held-out tokens in nats."""
    numbers = torch.arange(len(kept.starts))
    losses = [
        float(loss_of(model, *(part.to(device) for part in kept.rows(numbers[first : first + rows]))))
        for first in range(0, len(numbers), rows)
    ]
    return sum(losses) / len(losses)


def train(shape: Shape, setting: Setting, folder: Path) -> float:
    """Trains and writes everything; gives the held-out loss in nats a token."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(setting.seed)
    tokenizer = train_tokenizer((made.text for made in documents(min(setting.documents, 20_000))), shape.vocab_size)
    save_tokenizer(tokenizer, folder)
    # A tiny corpus may not have pairs enough for the whole vocabulary.
    shape = replace(shape, vocab_size=tokenizer.get_vocab_size())
    corpus = Tokens(tokenizer, setting.documents, setting.length)
    kept = Tokens(tokenizer, setting.held_out, setting.length, held_out=True)
    model = Llama(shape).to(device)
    matrices = [weight for weight in model.parameters() if weight.dim() == 2]
    others = [weight for weight in model.parameters() if weight.dim() != 2]
    groups: list[dict[str, Any]] = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95))
    for step in range(setting.steps):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, setting)
        rows = corpus.rows(torch.randint(len(corpus.starts), (setting.rows,)))
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
            loss = loss_of(model, *(part.to(device) for part in rows))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0:
            print(f"step {step}: loss {loss.item():.3f}", file=sys.stderr, flush=True)
    save_model(model, folder, tokenizer.token_to_id(END))
    return held_out_loss(model, kept, setting.rows, device)


def main() -> None:
    parser = argparse.ArgumentParser(prog="demo_model.train", description="Trains the demo model.")
    parser.add_argument("folder", type=Path, help="where to write what `llamaq convert` reads")
    parser.add_argument("--documents", type=int, default=Setting.documents)
    parser.add_argument("--steps", type=int, default=Setting.steps)
    parser.add_argument("--seed", type=int, default=Setting.seed)
    args = parser.parse_args()
    setting = Setting(documents=args.documents, steps=args.steps, seed=args.seed)
    print(f"held-out loss: {train(Shape(), setting, args.folder):.4f} nats a token")


if __name__ == "__main__":
    main()
