"""The attention variants as loops over heads, tokens and pairs of tokens (spec ovpanoptic 8.2)."""

from __future__ import annotations

import numpy as np


def softmax(row: np.ndarray) -> np.ndarray:
    power = np.exp(row - row.max())
    return power / power.sum()


def mix(q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int, kind: str, grid_hw: tuple[int, int]) -> np.ndarray:
    """q, k, v: (T, C); one class token before the patches."""
    tokens, channels = v.shape
    width = channels // heads
    out = np.zeros_like(v)
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        for i in range(tokens):
            weight = np.array([0.0] * tokens)
            qq = np.array([q[i, part] @ q[j, part] for j in range(tokens)]) / np.sqrt(width)
            kk = np.array([k[i, part] @ k[j, part] for j in range(tokens)]) / np.sqrt(width)
            if kind == "sclip":
                weight = softmax(qq) + softmax(kk)
            elif kind == "clearclip":
                weight = softmax(qq)
            elif kind == "naclip":
                near = np.zeros(tokens)
                for j in range(1, tokens):
                    if i > 0:
                        (r0, c0), (r1, c1) = divmod(i - 1, grid_hw[1]), divmod(j - 1, grid_hw[1])
                        near[j] = np.exp(-((r0 - r1) ** 2 + (c0 - c1) ** 2) / (2 * 5.0**2))
                weight = softmax(kk + near)
            elif kind == "plain":
                weight = softmax(np.array([q[i, part] @ k[j, part] for j in range(tokens)]) / np.sqrt(width))
            else:
                weight[i] = 1.0
            out[i, part] = weight @ v[:, part]
    return out
