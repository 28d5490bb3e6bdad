"""Feature rows in few bytes: coefficients in the directions along which they differ most, one byte each."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int8
from torch import Tensor

_LARGEST = 127


@dataclass(frozen=True, slots=True)
class LowRank:
    """A mean and orthonormal directions (principal components).

    Attributes:
        mean: (D,)
        basis: (R, D), the strongest direction first.
    """

    mean: Float[Tensor, "D"]
    basis: Float[Tensor, "R D"]

    @property
    def rank(self) -> int:
        return int(self.basis.shape[0])

    def encode(self, rows: Float[Tensor, "N D"]) -> tuple[Int8[Tensor, "N R"], Float[Tensor, "N"]]:
        """Coefficients as signed bytes, and what one unit of a row's bytes is worth (float16).

        Bytes are rounded to the scale as it is stored, so decoding adds no error of its own.
        """
        coefficients = (rows.float() - self.mean) @ self.basis.T
        largest = coefficients.abs().amax(dim=-1) if self.rank else coefficients.new_zeros(len(rows))
        # upwards, so that the largest still fits; never 0, so that nothing is divided by it
        scale = (largest / _LARGEST * (1 + 2**-10)).clamp_min(2**-24).half()
        code = (coefficients / scale.float()[:, None]).round().clamp(-_LARGEST, _LARGEST)
        return code.to(torch.int8), scale

    def decode(self, code: Int8[Tensor, "N R"], scale: Float[Tensor, "N"]) -> Float[Tensor, "N D"]:
        """Rows near those that were encoded, float32."""
        return self.mean + (code.float() * scale.float()[:, None]) @ self.basis


def fit_low_rank(rows: Float[Tensor, "N D"], rank: int) -> LowRank:
    """The mean of the rows and the ``rank`` directions that keep most of their variance; at most D of them."""
    if not len(rows):
        return LowRank(torch.zeros(rows.shape[1]), torch.eye(rows.shape[1])[:rank])
    exact = rows.double()
    mean = exact.mean(dim=0)
    centered = exact - mean
    directions = torch.linalg.eigh(centered.T @ centered / len(rows)).eigenvectors  # weakest first
    return LowRank(mean.float(), directions.flip(1)[:, :rank].T.float().contiguous())
