"""Cosines of rows: the slow twin, rows without direction, rounding, bad widths."""

from __future__ import annotations

import pytest
import torch
from reference import grounding as slow

from lexivox.errors import ShapeError
from lexivox.ops.cosine import cosine_rows, inverse_lengths


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_equals_the_slow_twin(count):
    rows, vectors = rand(40, 7), rand(count, 7, seed=1)
    rows[3], rows[5, 2], rows[6, 0] = 0.0, torch.nan, torch.inf
    found = cosine_rows(rows, inverse_lengths(rows), vectors)
    torch.testing.assert_close(
        found.double(), torch.from_numpy(slow.cosine(vectors.numpy(), rows.numpy())), atol=1e-6, rtol=0
    )
    assert found[:, [3, 5, 6]].eq(-1).all()


def test_known_values():
    rows = torch.tensor([[3.0, 4.0], [0.0, -2.0]])  # lengths 5 and 2
    assert inverse_lengths(rows).tolist() == pytest.approx([0.2, 0.5])
    found = cosine_rows(rows, inverse_lengths(rows), torch.tensor([[0.0, 7.0]]))
    assert found[0].tolist() == pytest.approx([0.8, -1.0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rounded_products_stay_near(dtype):
    rows, vectors = rand(5000, 96).to(dtype), rand(20, 96, seed=1)
    inverse = inverse_lengths(rows)
    exact = cosine_rows(rows.float(), inverse, vectors)
    assert float((cosine_rows(rows, inverse, vectors, exact=False) - exact).abs().max()) < 4e-3
    assert float((cosine_rows(rows, inverse, vectors, exact=False) - exact).square().mean().sqrt()) < 6e-4


def test_neither_rows_nor_vectors():
    empty = torch.zeros(0, 4)
    for exact in (True, False):
        assert cosine_rows(empty, inverse_lengths(empty), rand(2, 4), exact).shape == (2, 0)
        assert cosine_rows(rand(3, 4), inverse_lengths(rand(3, 4)), empty, exact).shape == (0, 3)


def test_another_width_is_refused():
    with pytest.raises(ShapeError, match=r"vectors must have the features' 4 channels; got 5\. Encode the words"):
        cosine_rows(rand(3, 4), torch.ones(3), rand(2, 5))
