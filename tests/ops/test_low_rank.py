from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from lexivox.ops.low_rank import fit_low_rank


def rows_in_a_plane(count: int = 200) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    plane = torch.randn(2, 6, generator=generator)
    return torch.randn(count, 2, generator=generator) @ plane + torch.randn(6, generator=generator)


def test_rows_in_a_plane_need_two_directions() -> None:
    rows = rows_in_a_plane()
    known = fit_low_rank(rows, 2)
    assert torch.allclose(known.basis @ known.basis.T, torch.eye(2), atol=1e-5)
    assert torch.allclose(known.mean, rows.mean(dim=0), atol=1e-6)
    code, scale = known.encode(rows)
    assert code.dtype == torch.int8
    error = (known.decode(code, scale) - rows).norm(dim=1)
    # rounding to a byte: at most half a step in each of two directions
    assert (error <= 0.5 * 2**0.5 * scale.float() + 1e-4).all()
    assert F.cosine_similarity(known.decode(code, scale), rows).min() > 0.999


def test_more_directions_lose_less_and_all_of_them_nothing_but_the_rounding() -> None:
    rows = torch.randn(300, 8, generator=torch.Generator().manual_seed(1)) * torch.arange(1.0, 9.0)
    errors = []
    for rank in (1, 2, 4, 8):
        known = fit_low_rank(rows, rank)
        errors.append(float((known.decode(*known.encode(rows)) - rows).square().sum()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-3 * errors[0]


def test_the_strongest_direction_comes_first_by_hand() -> None:
    rows = torch.tensor([[3.0, 0.0, 1.0], [-3.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.0, -1.0, 1.0]])
    known = fit_low_rank(rows, 2)
    assert torch.allclose(known.basis.abs(), torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), atol=1e-6)
    assert torch.allclose(known.mean, torch.tensor([0.0, 0.0, 1.0]))


@pytest.mark.parametrize("rows", [torch.zeros(0, 4), torch.zeros(3, 4), torch.ones(1, 4) * 1e-9])
def test_nothing_to_learn_from(rows) -> None:
    known = fit_low_rank(rows, 9)
    assert known.rank <= 4
    assert torch.allclose(known.decode(*known.encode(rows)), rows, atol=1e-6)
