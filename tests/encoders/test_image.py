from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lexivox.encoders.image import FeaturePyramid, ImageEncoder, JoinedLevels
from lexivox.errors import ConfigError, ShapeError


def images(batch: int = 2, views: int = 3) -> Tensor:
    shape = (batch, views, 3, 32, 64)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def encoder(**options) -> ImageEncoder:
    torch.manual_seed(0)
    return ImageEncoder(16, widths=(8, 16, 24), **options)


def test_levels_halve() -> None:
    levels = encoder(num_levels=3)(images())
    assert [tuple(level.shape) for level in levels] == [(2, 3, 16, 8 // s, 16 // s) for s in (1, 2, 4)]
    assert {level.dtype for level in levels} == {torch.float32}


def test_images_do_not_hear_each_other() -> None:
    made, pictures = encoder(), images()
    together = made(pictures)
    for level, alone in zip(together, made(pictures[1:, 2:]), strict=True):
        torch.testing.assert_close(level[1:, 2:], alone, atol=1e-5, rtol=1e-5)


def test_training_and_evaluation_agree() -> None:
    made = encoder()
    for a, b in zip(made.train()(images()), made.eval()(images()), strict=True):
        torch.testing.assert_close(a, b)


def test_every_parameter_gets_a_gradient() -> None:
    made = encoder()
    sum(level.square().sum() for level in made(images())).backward()  # type: ignore[union-attr]
    assert [n for n, p in made.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_bfloat16_is_close_and_given_out_in_float32() -> None:
    exact, rough = encoder(), encoder(bfloat16=True)
    for a, b in zip(exact(images()), rough(images()), strict=True):
        assert b.dtype == torch.float32
        assert (a - b).abs().max() < 0.05 * a.abs().max()


def test_no_views() -> None:
    assert encoder()(images(2, 0))[0].shape[:3] == (2, 0, 16)


def test_odd_sizes_are_refused() -> None:
    with pytest.raises(ShapeError, match="image height and width must be multiples of 16; got 30 x 64"):
        encoder()(images()[..., :30, :])


class Edges(nn.Module):
    """A user's own backbone."""

    channels = (5,)

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, 2, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.conv(x)]


def test_any_backbone_will_do() -> None:
    made = ImageEncoder(8, backbone=Edges(), num_levels=1)
    assert made(images())[0].shape == (2, 3, 8, 16, 32)


def test_the_published_neck() -> None:
    # Spec POP-3D 2.2 and 8: sizes of the levels at 480 x 800, and 3,278,592 parameters.
    torch.manual_seed(0)
    neck = FeaturePyramid((512, 1024, 2048), 256, 4, is_separable=False)
    assert sum(p.numel() for p in neck.parameters()) == 3_278_592
    small = FeaturePyramid((2, 3, 4), 6, 4, is_separable=False)
    levels = [torch.randn(1, c, h, w) for c, h, w in ((2, 60, 100), (3, 30, 50), (4, 15, 25))]
    outputs = small(levels)
    assert [tuple(level.shape[-2:]) for level in outputs] == [(60, 100), (30, 50), (15, 25), (8, 13)]
    coarse = small.lateral[2](levels[2])
    torch.testing.assert_close(outputs[2], small.smooth[2](coarse))
    middle = small.lateral[1](levels[1]) + F.interpolate(coarse, scale_factor=2)
    torch.testing.assert_close(outputs[1], small.smooth[1](middle))
    torch.testing.assert_close(outputs[3], F.conv2d(outputs[2], small.smooth[3].weight, None, 2, 1))  # bias starts at 0


def test_more_levels_than_inputs_are_made_by_strides() -> None:
    levels = encoder(num_levels=4)(images())
    assert [tuple(level.shape[-2:]) for level in levels] == [(8, 16), (4, 8), (2, 4), (1, 2)]


# ------------------------------------------------------------------------------------- for encoders that lift images


def test_skipped_levels_are_no_part_of_the_pyramid() -> None:
    made = ImageEncoder(8, widths=(8, 16, 24), num_levels=1, skip_levels=1)
    images = torch.randint(0, 256, (2, 3, 3, 32, 64), dtype=torch.uint8)
    pyramid, finest = made.with_finest(images)
    assert [tuple(level.shape) for level in pyramid] == [(2, 3, 8, 4, 8)]
    assert finest.shape == (2, 3, 8, 8, 16)
    assert [lateral.in_channels for lateral in made.pyramid.lateral] == [16, 24]
    torch.testing.assert_close(made.finest(images), finest)
    torch.testing.assert_close(made(images)[0], pyramid[0])


def test_no_level_left_is_refused() -> None:
    with pytest.raises(ConfigError, match="must have a level of the backbone; got 3 levels of which 3 are skipped"):
        ImageEncoder(8, widths=(8, 16, 24), skip_levels=3)


def test_two_levels_are_joined_as_published() -> None:
    # Spec occflownet 1.2: the coarse level enlarged with its corners on the fine one's corners, behind the fine one.
    joined = JoinedLevels((2, 3), 4)
    fine, coarse = torch.randn(1, 2, 4, 6), torch.arange(6.0).reshape(1, 1, 2, 3).expand(1, 3, 2, 3)
    seen: list[torch.Tensor] = []
    joined.join[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    (level,) = joined([fine, coarse])
    assert level.shape == (1, 4, 4, 6)
    assert torch.equal(seen[0][:, :2], fine)
    enlarged = seen[0][0, 2]
    assert enlarged[[0, 0, -1, -1], [0, -1, 0, -1]].tolist() == [0.0, 2.0, 3.0, 5.0]
    torch.testing.assert_close(enlarged[1, 1], torch.tensor(3 * 1 / 3 + 1 * 2 / 5))
    assert [type(layer).__name__ for layer in joined.join] == 2 * ["Conv2d", "BatchNorm2d", "ReLU"]
