"""Losses of occupancy and rendering against slow twins, by hand, and through gradcheck."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from lexivox.ops import losses
from tests.reference import losses as slow

IGNORED = 255
KINDS = ["mse", "l1", "huber_log", "silog"]


def rows(count: int = 40, classes: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logit = torch.randn(count, classes, generator=generator, dtype=torch.float64)
    label = torch.randint(0, classes - 1, (count,), generator=generator)  # one class never occurs
    label[::7] = IGNORED
    return logit, label


def near(value: Tensor, expected: float) -> None:
    assert float(value) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
def test_focal(gamma: float) -> None:
    logit, label = rows()
    found = losses.focal_cross_entropy(logit, label, gamma)
    near(found, slow.focal_cross_entropy(logit.numpy(), label.numpy(), gamma, IGNORED))
    if gamma == 0.0:
        near(found, float(losses.cross_entropy(logit, label)))


def test_focal_by_hand() -> None:
    """Even odds of two: (1 - 1/2)^2 * log 2."""
    near(losses.focal_cross_entropy(torch.zeros(3, 2).double(), torch.tensor([0, 1, 0])), 0.25 * math.log(2))


def test_sem_scal() -> None:
    logit, label = rows()
    near(losses.sem_scal(logit.softmax(1), label), slow.sem_scal(logit.softmax(1).numpy(), label.numpy(), IGNORED))


def test_sem_scal_by_hand() -> None:
    """Class 0 of three rows: precision 0.9 / 1.2, recall 0.9, specificity (0.8 + 0.9) / 2. The second mirrors it."""
    prob = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.1, 0.9]], dtype=torch.float64)
    first = -math.log(0.9 / 1.2) - math.log(0.9) - math.log(1.7 / 2)
    second = -math.log(1.7 / 1.8) - math.log(1.7 / 2) - math.log(0.9)
    near(losses.sem_scal(prob, torch.tensor([0, 1, 1])), (first + second) / 2)
    near(losses.geo_scal(prob[:, 1], torch.tensor([0, 1, 1])), second)


def test_affinity_of_one_class_alone_has_no_specificity() -> None:
    prob = torch.tensor([0.5, 1.0]).double()
    near(losses.geo_scal(prob, torch.tensor([1, 1])), -math.log(0.75))


@pytest.mark.parametrize("kind", KINDS)
def test_depth(kind) -> None:
    generator = np.random.default_rng(0)
    predicted, measured, weight = generator.uniform(0.0, 40.0, (3, 30))
    found = losses.depth_loss(*(torch.from_numpy(v) for v in (predicted, measured)), kind, torch.from_numpy(weight))
    near(found, slow.depth_loss(predicted, measured, kind, weight))


def test_depth_by_hand() -> None:
    """1 and 3 m off, weights 1 and 2."""
    predicted, measured = torch.tensor([11.0, 17.0]).double(), torch.tensor([10.0, 20.0]).double()
    weight = torch.tensor([1.0, 2.0])
    near(losses.depth_loss(predicted, measured, "l1", weight), 7 / 3)
    near(losses.depth_loss(predicted, measured, "mse", weight), 19 / 3)


def test_silog_as_published_by_hand() -> None:
    """Gaps log 2 and 2 log 2: mean square 2.5 log2^2, squared mean 2.25 log2^2; root of 2.5 - 0.85 * 2.25 = 0.5875."""
    found = losses.depth_loss(torch.tensor([2.0, 4.0]), torch.ones(2), "silog", near_m=0.0)
    assert float(found) == pytest.approx(0.5875**0.5 * math.log(2.0), rel=1e-6)


def test_langocc() -> None:
    logit, _ = rows()
    target, weight = torch.randn(40, 5).double(), torch.rand(40).double()
    near(losses.langocc_loss(logit, target, weight), slow.langocc(logit.numpy(), target.numpy(), weight.numpy()))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_depth(kind) -> None:
    predicted = torch.rand(6, dtype=torch.float64) * 20 + 1
    measured = predicted + torch.tensor([0.3, -2.0, 5.0, 0.01, -0.5, 1.0]).double()
    assert gradcheck(lambda p: losses.depth_loss(p, measured, kind), (predicted.requires_grad_(),))


def test_gradients() -> None:
    logit, label = rows(12)
    logit.requires_grad_()
    assert gradcheck(lambda x: losses.focal_cross_entropy(x, label), (logit,))
    assert gradcheck(lambda x: losses.sem_scal(x.softmax(1), label), (logit,))
    assert gradcheck(lambda x: losses.geo_scal(x.sigmoid()[:, 0], (label > 1).long()), (logit,))


def test_langocc_has_no_gradient_through_its_weight() -> None:
    """d of (stop(e) * e) is e * de: half of that of e^2."""
    logit, _ = rows(6)
    target = torch.randn(6, 5).double()
    one, two = logit.clone().requires_grad_(), logit.clone().requires_grad_()
    losses.langocc_loss(one, target).backward()
    unit = torch.nn.functional.normalize
    (unit(two) - unit(target)).square().sum(1).square().mean().backward()
    torch.testing.assert_close(one.grad, two.grad / 2)


def test_nothing_to_learn_from_is_zero_with_a_gradient() -> None:
    logit = torch.randn(4, 3, requires_grad=True)
    label = torch.full((4,), IGNORED)
    terms = [
        losses.focal_cross_entropy(logit, label),
        losses.sem_scal(logit.softmax(1), label),
        losses.geo_scal(logit[:, 0].sigmoid(), label),
        losses.geo_scal(logit[:, 0].sigmoid(), torch.zeros(4, dtype=torch.int64)),
        losses.langocc_loss(logit, torch.zeros(4, 3), torch.zeros(4)),
        losses.depth_loss(logit[:, 0], torch.ones(4), "l1", torch.zeros(4)),
    ]
    total = torch.stack(terms).sum()
    total.backward()
    assert float(total.detach()) == 0.0
    assert not bool(logit.grad.any())
