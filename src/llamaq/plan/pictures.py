"""Pictures that layers with cross-attention look at: their keys and values, as attention reads them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llamaq.formats import Format, format_by_name

__all__ = ["Picture", "picture_of"]

_PAGE = 32  # states


@dataclass(frozen=True, eq=False)
class Picture:
    """``count`` states in ``pages``, uint8 (layers, pages, KV heads, bytes of a page), which lie as those of the cache
    (docs/numerics.md)."""

    pages: NDArray[np.uint8]
    count: int
    format: Format

    def keys_values(self, layer: int, head_dim: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Of a layer, float32 (states, KV heads, head_dim) each."""
        numbers = self.pages[layer].view(_dtype(self.format)).astype(np.float32)
        pages, heads, _ = numbers.shape
        keys = numbers[..., : head_dim * _PAGE].reshape(pages, heads, head_dim, _PAGE).transpose(0, 3, 1, 2)
        values = numbers[..., head_dim * _PAGE :].reshape(pages, heads, _PAGE, -1).transpose(0, 2, 1, 3)
        flat = (x.reshape(pages * _PAGE, heads, -1)[: self.count, :, :head_dim] for x in (keys, values))
        keys, values = (np.ascontiguousarray(x) for x in flat)
        return keys, values


def picture_of(rows: NDArray[np.float32], *, layers: int, kv_heads: int, head_dim: int, format: str) -> Picture:
    """A picture of rows that have the keys of all KV heads and then their values, layer by layer; kept as "F32" or
    "F16"."""
    kind = format_by_name(format)
    count, pages, pad = len(rows), -(-len(rows) // _PAGE), -(-head_dim // 16) * 16
    sides = (layers, pages, kv_heads, _PAGE * (head_dim + pad))
    found = np.zeros(sides, _dtype(kind))
    whole = np.zeros((pages * _PAGE, 2, kv_heads, head_dim), np.float32)
    for layer, part in enumerate(np.split(rows, layers, axis=1)):
        whole[:count] = part.reshape(count, 2, kv_heads, head_dim)
        paged = whole.reshape(pages, _PAGE, 2, kv_heads, head_dim)
        keys = found[layer][..., : head_dim * _PAGE].reshape(pages, kv_heads, head_dim, _PAGE)
        keys[:] = paged[:, :, 0].transpose(0, 2, 3, 1)
        values = found[layer][..., head_dim * _PAGE :].reshape(pages, kv_heads, _PAGE, pad)
        values[..., :head_dim] = paged[:, :, 1].transpose(0, 2, 1, 3)
    return Picture(found.view(np.uint8), count, kind)


def _dtype(format: Format) -> type[np.floating]:
    return np.float16 if format.name == "F16" else np.float32
