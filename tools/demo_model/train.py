"""Corpus, tokenizer and model in one command: ``python -m demo_model.train FOLDER``.

Needs torch, tokenizers and safetensors. Writes what ``llamaq convert FOLDER`` reads. Seeded: the same machine gives the
same model. A GPU is used where there is one. What was cut off goes on where it was.
"""

from __future__ import annotations

import argparse
import json
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
from .optimizer import Muon
from .tokenizer import save_tokenizer, train_tokenizer


@dataclass(frozen=True)
class Setting:
    """``steps`` batches of ``rows`` times ``length`` tokens, in rows of half that length or of a whole context."""

    documents: int = 32_000
    held_out: int = 500
    steps: int = 2_300
    rows: int = 12
    length: int = 288
    context: int = 1024
    rate: float = 1e-3
    """At 2.5e-3, trials did not learn to say a name again."""
    seed: int = 1
    compiled: bool = True
    """Whether to use torch.compile, which takes some minutes and a C++ compiler, and makes steps 1.4 times as fast."""

    def batch(self, step: int) -> tuple[int, int]:
        """Rows and their length in a step: short ones first, from which more names are learned, the context at last."""
        length = self.length if step >= self.steps // 2 else self.length // 2
        if step >= self.steps - self.steps // 10:
            length = self.context
        return max(1, self.rows * self.length // length), length


class Tokens:
    """Documents one after another; rows begin where a document begins, as prompts do."""

    def __init__(self, tokenizer: Any, count: int, longest: int, *, held_out: bool = False) -> None:
        ids, starts = array("H"), array("q")
        for made in documents(count, held_out=held_out):
            starts.append(len(ids))
            ids.extend(tokenizer.encode(made.text).ids)
        self.ids = torch.tensor(ids, dtype=torch.int32)
        self.starts = torch.tensor([start for start in starts if start + longest < len(ids)], dtype=torch.int64)

    def rows(self, which: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """Tokens and those that follow them, from the starts of these numbers: (rows, length) each, int64."""
        found = self.ids[self.starts[which % len(self.starts)][:, None] + torch.arange(length + 1)].long()
        return found[:, :-1], found[:, 1:]


SAID_AGAIN = 5.0
RARE = 0.002
"""Share of a corpus that a rare token has at most: names and things, and not "the" or "said"."""


def rate_at(step: int, setting: Setting) -> float:
    """What the rate is multiplied with: rises for a fiftieth of the steps, then falls to nothing."""
    return min(1.0, (step + 1) / (setting.steps / 50 + 1)) * (setting.steps - step) / setting.steps


def loss_of(model: Llama, tokens: Tensor, following: Tensor) -> Tensor:
    """The loss of each token, (rows, length)."""
    return functional.cross_entropy(model(tokens).transpose(1, 2), following, reduction="none")


def learning_loss(model: Llama, tokens: Tensor, following: Tensor, rare: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What training makes small, the mean loss, and that of tokens that are said again: ``rare`` (vocabulary,) ones
    that were in the row before. They count ``SAID_AGAIN`` times, because there are few of them among words that nobody
    could foresee, and from them a model learns to stay with its names and things.
    """
    losses = loss_of(model, tokens, following)
    before = (following[:, :, None] == tokens[:, None, :]).tril().any(-1)
    again = (before & rare[following]).to(losses.dtype)
    weights = 1 + (SAID_AGAIN - 1) * again
    of_again = (losses.detach() * again).sum() / again.sum().clamp(min=1)
    return (losses * weights).sum() / weights.sum(), losses.detach().mean(), of_again


@torch.no_grad()
def held_out_loss(model: Llama, kept: Tokens, setting: Setting, device: str) -> float:
    """Mean loss of held-out tokens in nats."""
    numbers = torch.arange(len(kept.starts)).split(setting.rows)
    losses = [loss_of(model, *(a.to(device) for a in kept.rows(part, setting.length))) for part in numbers]
    return float(torch.cat(losses).mean())


def optimizers(model: Llama, setting: Setting) -> list[torch.optim.Optimizer]:
    """Muon for the matrices within layers, AdamW for the embedding and the norms."""
    named = list(model.named_parameters())
    hidden = [weight for name, weight in named if weight.dim() == 2 and "embed" not in name]
    others = [weight for name, weight in named if weight.dim() != 2 or "embed" in name]
    return [
        Muon(hidden, setting.rate),
        torch.optim.AdamW(others, lr=setting.rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def learn(model: Llama, corpus: Tokens, setting: Setting, folder: Path, device: str) -> None:
    """All steps; goes on from ``folder/state.pt``, which is written every 50 steps, where it is there."""
    makers = optimizers(model, setting)
    state_file = folder / "state.pt"
    begin = 0
    if state_file.exists():
        begin, weights, states = torch.load(state_file)
        model.load_state_dict(weights)
        for maker, state in zip(makers, states, strict=True):
            maker.load_state_dict(state)
    loss = torch.compile(learning_loss) if setting.compiled else learning_loss
    counts = torch.bincount(corpus.ids, minlength=model.shape.vocab_size)
    rare = (counts < RARE * len(corpus.ids)).to(device)
    done = 0
    for step in range(setting.steps):
        rows, length = setting.batch(step)
        which = torch.arange(done, done + rows)  # the numbers of documents are random already
        done += rows
        if step < begin:
            continue
        for maker in makers:
            for group in maker.param_groups:
                group["lr"] = setting.rate * rate_at(step, setting)
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
            weighted, mean, again = loss(model, *(part.to(device) for part in corpus.rows(which, length)), rare)
        model.zero_grad(set_to_none=True)
        weighted.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for maker in makers:
            maker.step()
        if step % 10 == 0:
            print(f"step {step}: loss {mean.item():.3f}, said again {again.item():.3f}", file=sys.stderr, flush=True)
        if step % 50 == 49 and step + 1 < setting.steps:
            partial = state_file.with_suffix(".part")
            torch.save((step + 1, model.state_dict(), [maker.state_dict() for maker in makers]), partial)
            partial.replace(state_file)
    state_file.unlink(missing_ok=True)


def train(shape: Shape, setting: Setting, folder: Path) -> float:
    """Trains and writes everything; gives the held-out loss in nats a token."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(setting.seed)
    tokenizer = train_tokenizer((made.text for made in documents(min(setting.documents, 10_000))), shape.vocab_size)
    save_tokenizer(tokenizer, folder)
    # A tiny corpus may not have pairs enough for the whole vocabulary.
    shape = replace(shape, vocab_size=tokenizer.get_vocab_size())
    corpus = Tokens(tokenizer, setting.documents, setting.context)
    kept = Tokens(tokenizer, setting.held_out, setting.length, held_out=True)
    model = Llama(shape).to(device)
    learn(model, corpus, setting, folder, device)
    loss = held_out_loss(model, kept, setting, device)
    save_model(model, folder, tokenizer.token_to_id(END))
    batches = (setting.batch(step) for step in range(setting.steps))
    record = {
        "weights": sum(weight.numel() for weight in model.parameters()),
        "documents": setting.documents,
        "steps": setting.steps,
        "tokens": sum(rows * length for rows, length in batches),
        "held_out_loss": loss,
    }
    (folder / "training.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
    return loss


def main() -> None:
    parser = argparse.ArgumentParser(prog="demo_model.train", description="Trains the demo model.")
    parser.add_argument("folder", type=Path, help="where to write what `llamaq convert` reads")
    parser.add_argument("--documents", type=int, default=Setting.documents)
    parser.add_argument("--steps", type=int, default=Setting.steps)
    parser.add_argument("--seed", type=int, default=Setting.seed)
    parser.add_argument("--no-compile", action="store_true", help="do without a C++ compiler, and take longer")
    args = parser.parse_args()
    setting = Setting(documents=args.documents, steps=args.steps, seed=args.seed, compiled=not args.no_compile)
    print(f"held-out loss: {train(Shape(), setting, args.folder):.4f} nats a token")


if __name__ == "__main__":
    main()
