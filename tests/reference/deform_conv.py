"""Modulated deformable convolution as loops over outputs and taps, in numpy."""

from __future__ import annotations

import itertools

import numpy as np

from tests.reference.sampling import linear


def modulated_deform_conv2d(
    x: np.ndarray, offset: np.ndarray, mask: np.ndarray, weight: np.ndarray, stride: int, padding: int, dilation: int
) -> np.ndarray:
    """One image: x (C, H, W), offset (2 K, h, w), mask (K, h, w), weight (D, C, kh, kw) -> (D, h, w)."""
    _, _, kh, kw = weight.shape
    _, h, w = mask.shape
    out = np.zeros((len(weight), h, w), x.dtype)
    for i, j, a, b in itertools.product(range(h), range(w), range(kh), range(kw)):
        tap = a * kw + b
        y = i * stride - padding + a * dilation + offset[2 * tap, i, j]
        z = j * stride - padding + b * dilation + offset[2 * tap + 1, i, j]
        read = linear(x, np.array([y + 0.5, z + 0.5]))
        out[:, i, j] += mask[tap, i, j] * weight[:, :, a, b] @ read
    return out
