"""Cosines of many rows with a few vectors, in about the time of reading the rows once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lexivox.errors import ShapeError

ROWS_AT_ONCE = 4096
"""Rows worked on together: their copies stay in the cache of a CPU."""


def inverse_lengths(features: Float[Tensor, "N D"]) -> Float[Tensor, "N"]:
    """1 / length of every row in float32; 0 where a row has no direction (zero, NaN or infinite)."""
    parts = [part.float().norm(dim=-1) for part in features.split(ROWS_AT_ONCE)]
    length = torch.cat(parts) if parts else features.new_zeros(0, dtype=torch.float32)
    usable = length.isfinite() & (length > 0)
    return torch.where(usable, 1.0 / length, 0.0)


def cosine_rows(
    features: Float[Tensor, "N D"],
    inverse: Float[Tensor, "N"],
    vectors: Float[Tensor, "M E"],
    exact: bool = True,
) -> Float[Tensor, "M N"]:
    """Cosine of every vector with every row; -1, the least there is, where a row has no direction.

    The rows are read once and never copied as a whole: their lengths divide the products, not the features.

    Args:
        inverse: of the rows, from :func:`inverse_lengths`; kept by whoever asks again.
        vectors: any length but zero; their width E must be D.
        exact: False multiplies in bfloat16, which for many vectors is several times as fast; errors stay
            around 3e-4.

    Raises:
        ShapeError: vectors of another width than the features.
    """
    if features.shape[-1] != vectors.shape[-1]:
        raise ShapeError(
            f"vectors must have the features' {features.shape[-1]} channels; got {vectors.shape[-1]}. "
            "Encode the words with the text encoder that belongs to the model."
        )
    units = F.normalize(vectors.float(), dim=-1).to(features.device)
    products = _products(features, units) if exact else _rounded_products(features, units)
    return torch.where(inverse > 0, products * inverse, -1.0)


def _products(features: Tensor, units: Tensor) -> Tensor:
    """Rows times one vector take 2.5 times as long as rows times two: matrix kernels are the better tuned."""
    pair = units.repeat(2, 1) if len(units) == 1 else units  # a true copy: a stride of 0 is slow again
    return (features @ pair.to(features.dtype).T).T[: len(units)].float()


def _rounded_products(features: Tensor, units: Tensor) -> Tensor:
    low = units.bfloat16()
    parts = [F.linear(part.bfloat16(), low) for part in features.split(ROWS_AT_ONCE)]
    return torch.cat(parts).T.float() if parts else features.new_zeros((len(units), 0), dtype=torch.float32)
