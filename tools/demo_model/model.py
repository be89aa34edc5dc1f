"""A Llama in plain PyTorch, with the names and the layout of Hugging Face's LlamaForCausalLM."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Shape:
    """The numbers of config.json. Rows are multiples of 256 long, so that K-quants apply."""

    vocab_size: int = 2560
    hidden_size: int = 256
    intermediate_size: int = 768
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    max_position_embeddings: int = 1024
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-5


class Norm(nn.Module):
    """RMSNorm."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape.hidden_size))
        self.eps = shape.rms_norm_eps

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


class Attention(nn.Module):
    """Causal attention with grouped queries; RoPE turns the pairs (i, i + dims / 2)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.dims = shape.hidden_size // shape.num_attention_heads
        self.groups = shape.num_attention_heads // shape.num_key_value_heads
        width, keys = shape.hidden_size, shape.num_key_value_heads * self.dims
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (
            nn.Linear(width, rows, bias=False) for rows in (width, keys, keys, width)
        )

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        q, k, v = (
            project(x).unflatten(-1, (-1, self.dims)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = (a * cos + torch.cat((-a[..., self.dims // 2 :], a[..., : self.dims // 2]), -1) * sin for a in (q, k))
        k, v = (a.repeat_interleave(self.groups, dim=1) for a in (k, v))
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.o_proj(mixed.transpose(1, 2).flatten(2))
        return out


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.up_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.down_proj = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Layer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = Norm(shape), Norm(shape)
        self.self_attn, self.mlp = Attention(shape), FeedForward(shape)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Llama(nn.Module):
    """Tokens (rows, length) to logits (rows, length, vocabulary); the embedding is the output matrix, too."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.num_hidden_layers))
        self.norm = Norm(shape)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:  # what adds to the stream starts smaller the more layers do
                ends = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(weight, std=0.02 / (2 * shape.num_hidden_layers) ** 0.5 if ends else 0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        dims = self.shape.hidden_size // self.shape.num_attention_heads
        steps = torch.arange(0, dims, 2, device=tokens.device) / dims
        angles = torch.arange(tokens.shape[1], device=tokens.device)[:, None] * self.shape.rope_theta**-steps
        angles = torch.cat((angles, angles), -1)
        cos, sin = angles.cos(), angles.sin()
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return functional.linear(self.norm(x), self.embed_tokens.weight)


def save_model(model: Llama, folder: Path, stop: int) -> None:
    """Writes config.json and model.safetensors (float16). ``stop`` is the token that ends an answer."""
    folder.mkdir(parents=True, exist_ok=True)
    config = dataclasses.asdict(model.shape) | {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "eos_token_id": stop,
        "torch_dtype": "float16",
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    weights = {f"model.{name}": weight.detach().cpu().half().contiguous() for name, weight in model.named_parameters()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
