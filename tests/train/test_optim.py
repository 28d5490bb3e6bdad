"""The schedule at the places where the specification gives numbers (spec pop3d 11)."""

from __future__ import annotations

import pytest
import torch

from lexivox.train.optim import RunningMean, adamw, learning_rate


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 1e-5), (250, 1.05e-4), (500, 1.99931e-4), (21096, 1.005e-4), (42191, 1.0000003e-6)],
)
def test_published_learning_rates(step, expected):
    assert learning_rate(step, 42192, 2e-4, 1e-6, 500) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 1e-5), (250, 1.5e-5), (500, 1.999342e-5), (21096, 1.05e-5), (42191, 1.0e-6)]
)
def test_published_learning_rates_of_the_backbone(step, expected):
    assert learning_rate(step, 42192, 2e-5, 1e-6, 500) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("step", "expected"), [(0, 1e-7), (100, 5.005e-5), (200, 1e-4), (21_095, 1e-4)])
def test_the_constant_rate_of_occflownet(step, expected):
    """Spec occflownet 5: 1e-4 after 200 steps from a thousandth of it."""
    assert learning_rate(step, 21_096, 1e-4, 0.0, 200, schedule="constant") == pytest.approx(expected, rel=1e-6)


def test_decay_spares_one_dimensional_parameters():
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    decayed, plain = adamw(model, 1e-3, 0.1).param_groups
    assert [p.ndim for p in decayed["params"]] == [2]
    assert plain["weight_decay"] == 0.0


def test_published_decay_is_on_everything():
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    (group,) = adamw(model, 1e-3, 0.1, decay_all=True).param_groups
    assert sorted(p.ndim for p in group["params"]) == [1, 1, 1, 2]
    assert group["weight_decay"] == 0.1


def test_a_pretrained_backbone_learns_more_slowly():
    model = torch.nn.Module()
    model.encoder = torch.nn.Module()
    model.encoder.image = torch.nn.Module()
    model.encoder.image.backbone = torch.nn.Conv2d(1, 1, 3, bias=False)
    model.head = torch.nn.Linear(2, 2, bias=False)
    head, backbone = adamw(model, 1e-3, 0.1, backbone_lr_scale=0.1).param_groups
    assert (head["base_lr"], backbone["base_lr"]) == (1e-3, pytest.approx(1e-4))
    assert backbone["params"][0] is model.encoder.image.backbone.weight


def test_the_published_ramp_of_the_running_mean():
    """0.999 (1 - exp(-n / 2000)), n = 10 560 at the first step: exp(-5.28) = 0.005092."""
    model = torch.nn.Linear(1, 1, bias=False)
    mean = RunningMean(model, 0.999, ramp_from=10_560)
    assert mean.decay_at(0) == pytest.approx(0.999 * (1.0 - 0.0050924), abs=1e-7)
    assert mean.decay_at(2000) == pytest.approx(0.999 * (1.0 - 0.0018734), abs=1e-7)
    assert RunningMean(model, 0.999, ramp_from=0).decay_at(0) == 0.0
    assert [RunningMean(model, 0.999).decay_at(step) for step in (0, 90, 10**6)] == [0.1, 0.91, 0.999]
    with torch.no_grad():
        model.weight.fill_(float(mean.weights["weight"]) + 1.0)
    before = float(mean.weights["weight"])
    mean.update(model, step=0)
    assert float(mean.weights["weight"]) == pytest.approx(before + 1.0 - 0.999 * (1.0 - 0.0050924), abs=1e-5)


def test_running_mean_follows_the_weights():
    model = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(0.0)
    mean = RunningMean(model, 0.5)
    with torch.no_grad():
        model.weight.fill_(1.0)
    mean.update(model, step=100)  # decay 0.5: halfway from 0 to 1
    assert float(mean.weights["weight"]) == pytest.approx(0.5)
