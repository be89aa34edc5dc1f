"""Muon: steepest descent in the spectral norm, for the matrices within the layers (Jordan et al., 2024).

A step along the orthogonal factor of the momentum moves all directions of a matrix alike; a small model learns the same
from about half the tokens that AdamW wants, and tokens are what a CPU has few of.
"""

from __future__ import annotations

import torch
from torch import Tensor

QUINTIC = (3.4445, -4.7750, 2.0315)
"""a x + b x^3 + c x^5 lifts every singular value in (0, 1] to about 1 within five turns."""


def orthogonal(matrix: Tensor) -> Tensor:
    """Nearly U V^T of a matrix U S V^T, by five turns of Newton and Schulz."""
    a, b, c = QUINTIC
    wide = matrix.shape[0] <= matrix.shape[1]
    x = (matrix if wide else matrix.T) / (matrix.norm() + 1e-7)
    for _ in range(5):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x if wide else x.T


class Muon(torch.optim.Optimizer):
    """Momentum (Nesterov's), made orthogonal; ``lr`` is the root mean square of an update's elements, as in AdamW."""

    def __init__(self, params: list[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.1) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                mean = state.setdefault("momentum", torch.zeros_like(weight))
                mean.lerp_(weight.grad, 1 - group["momentum"])
                update = orthogonal(weight.grad.lerp(mean, group["momentum"]))
                # An orthogonal matrix has elements of the size 1 / sqrt(its longer side).
                size = group["lr"] * max(weight.shape) ** 0.5
                weight.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=size)
