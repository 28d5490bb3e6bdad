from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from lexivox.ops import losses
from tests.reference import losses as slow

CASES = ["pop3d2", "pop3d2ign", "multi"]


@pytest.fixture(scope="module")
def case(golden: Path) -> dict[str, Tensor]:
    with np.load(golden / "pop3d_losses.npz", allow_pickle=False) as archive:
        return {name: torch.from_numpy(archive[name]) for name in archive.files}


def check(loss: Tensor, leaf: Tensor, value: Tensor, gradient: Tensor) -> None:
    loss.backward()
    torch.testing.assert_close(loss.detach(), value, atol=1e-5, rtol=0.0)
    assert leaf.grad is not None
    torch.testing.assert_close(leaf.grad, gradient, atol=1e-6, rtol=0.0)


@pytest.mark.parametrize("name", CASES)
def test_golden_lovasz(case: dict[str, Tensor], name: str) -> None:
    logits = case[f"{name}_logits"].requires_grad_()
    prob = losses.rows_from_volume(logits).softmax(1)
    loss = losses.lovasz_softmax(prob, case[f"{name}_labels"].flatten())
    check(loss, logits, case[f"{name}_lovasz"], case[f"{name}_lovasz_grad_logits"])


@pytest.mark.parametrize("name", CASES)
def test_golden_cross_entropy(case: dict[str, Tensor], name: str) -> None:
    logits = case[f"{name}_logits"].detach().clone().requires_grad_()
    weight = case.get(f"{name}_ce_class_weight")
    labels = case[f"{name}_labels"].flatten()
    loss = losses.cross_entropy(losses.rows_from_volume(logits), labels, class_weight=weight)
    check(loss, logits, case[f"{name}_ce"], case[f"{name}_ce_grad_logits"])


@pytest.mark.parametrize("classes", ["present", "all"])
def test_golden_class_choice(case: dict[str, Tensor], classes: str) -> None:
    probas = case["opt_probas"].detach().clone().requires_grad_()
    rows = losses.rows_from_volume(probas)
    loss = losses.lovasz_softmax(rows, case["opt_labels"].flatten(), classes=classes)  # type: ignore[arg-type]
    check(loss, probas, case[f"opt_{classes}"], case[f"opt_{classes}_grad"])


def test_golden_per_image(case: dict[str, Tensor]) -> None:
    each = [
        losses.lovasz_softmax(
            losses.rows_from_volume(case["opt_probas"][i : i + 1].detach()), case["opt_labels"][i].flatten()
        )
        for i in (0, 2)
    ]
    torch.testing.assert_close(sum(each) / 2, case["opt_per_image_items_0_2"], atol=1e-5, rtol=0.0)


def test_golden_hinge(case: dict[str, Tensor]) -> None:
    logits, labels = case["hinge_logits"].requires_grad_(), case["hinge_labels"]
    loss = losses.lovasz_hinge(logits.flatten(), labels.flatten())
    check(loss, logits, case["hinge_batch"], case["hinge_batch_grad"])
    each = [losses.lovasz_hinge(x.detach().flatten(), y.flatten()) for x, y in zip(logits, labels, strict=True)]
    torch.testing.assert_close(sum(each) / len(each), case["hinge_per_image"], atol=1e-5, rtol=0.0)


def test_golden_gradient_and_features(case: dict[str, Tensor]) -> None:
    ours = losses.lovasz_gradient(case["lovasz_grad_in"])
    torch.testing.assert_close(ours, case["lovasz_grad_out"], atol=1e-6, rtol=0.0)
    predicted = case["ft_pred"].requires_grad_()
    loss = losses.feature_mse(predicted[0], case["ft_target"][0])
    check(loss, predicted, case["ft_loss"], case["ft_grad_pred"])


def test_numbers_worked_by_hand() -> None:
    # Spec POP-3D 11: p(occupied) and truth of five voxels.
    occupied = torch.tensor([0.9, 0.2, 0.6, 0.3, 0.1], dtype=torch.float64)
    prob = torch.stack([1 - occupied, occupied], 1)
    label = torch.tensor([1, 0, 0, 1, 0])
    assert losses.cross_entropy(prob.log(), label).item() == pytest.approx(0.5108256, abs=1e-7)
    assert losses.lovasz_softmax(prob, label).item() == pytest.approx(0.4458333, abs=1e-7)
    assert losses.lovasz_softmax(prob, torch.zeros_like(label)).item() == pytest.approx(0.42, abs=1e-7)


@pytest.mark.parametrize("classes", ["present", "all"])
@pytest.mark.parametrize("seed", range(3))
def test_equal_to_the_slow_twins(seed: int, classes: str) -> None:
    rng = np.random.default_rng(seed)
    logit, label = rng.normal(size=(40, 4)), rng.choice([0, 1, 2, 255], size=40)
    weight = rng.uniform(0.5, 2.0, size=4)
    rows, truth = torch.from_numpy(logit), torch.from_numpy(label)
    ours = losses.lovasz_softmax(rows.softmax(1), truth, classes=classes)  # type: ignore[arg-type]
    expected = slow.lovasz_softmax(rows.softmax(1).numpy(), label, classes, 255)
    assert ours.item() == pytest.approx(expected, abs=1e-12)
    ours = losses.cross_entropy(rows, truth, class_weight=torch.from_numpy(weight))
    assert ours.item() == pytest.approx(slow.cross_entropy(logit, label, weight, 255), abs=1e-12)


def test_feature_losses_equal_the_slow_twins() -> None:
    rng = np.random.default_rng(0)
    predicted, target, weight = rng.normal(size=(9, 5)), rng.normal(size=(9, 5)), rng.uniform(size=9)
    for name in ("feature_mse", "feature_cosine"):
        ours = getattr(losses, name)(*map(torch.from_numpy, (predicted, target, weight)))
        assert ours.item() == pytest.approx(getattr(slow, name)(predicted, target, weight), abs=1e-12)


def test_points_without_weight_change_nothing() -> None:
    predicted, target = torch.randn(6, 4), torch.randn(6, 4)
    weight = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    for loss in (losses.feature_mse, losses.feature_cosine):
        torch.testing.assert_close(loss(predicted, target, weight), loss(predicted[:3], target[:3]))


def test_nothing_to_learn_is_zero_with_a_gradient() -> None:
    logit = torch.randn(4, 3, requires_grad=True)
    ignored, no_weight = torch.full((4,), 255), torch.zeros(4)
    total = losses.cross_entropy(logit, ignored) + losses.lovasz_softmax(logit.softmax(1), ignored)
    total = total + losses.lovasz_hinge(logit[:, 0], ignored)
    total = total + losses.feature_mse(logit, logit.detach(), no_weight)
    total = total + losses.feature_cosine(logit[:0], logit[:0].detach())
    total.backward()
    assert total.item() == 0.0
    assert logit.grad is not None
    assert not logit.grad.any()


def test_the_teacher_gets_no_gradient() -> None:
    target = torch.randn(3, 2, requires_grad=True)
    losses.feature_mse(torch.randn(3, 2, requires_grad=True), target).backward()
    assert target.grad is None


def test_half_precision_is_summed_in_float32() -> None:
    assert losses.cross_entropy(torch.randn(3, 2).bfloat16(), torch.zeros(3)).dtype == torch.float32


def test_gradcheck() -> None:
    generator = torch.Generator().manual_seed(0)
    logit = torch.randn(12, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    label = torch.tensor([0, 1, 2, 255] * 3)
    target = torch.randn(12, 3, dtype=torch.float64, generator=generator)
    assert gradcheck(lambda x: losses.lovasz_softmax(x.softmax(1), label), logit)
    assert gradcheck(lambda x: losses.lovasz_hinge(x[:, 0], label % 2), logit)
    assert gradcheck(lambda x: losses.cross_entropy(x, label), logit)
    assert gradcheck(lambda x: losses.feature_mse(x, target), logit)
    assert gradcheck(lambda x: losses.feature_cosine(x, target), logit)
