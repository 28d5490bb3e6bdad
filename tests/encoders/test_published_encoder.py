"""The published encoder whole, ResNet to planes, with few voxels and small images."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lexivox.backbones.resnet import ResNet
from lexivox.encoders.camera import CameraEncoder
from lexivox.encoders.image import ImageEncoder
from lexivox.encoders.preprocess import Preprocessing
from lexivox.encoders.triplane import TriplaneEncoder
from tests.rig import GRID, batch_of, points, ring, take

PUBLISHED = Preprocessing(std=(1.0, 1.0, 1.0), is_bgr=True, pad_multiple=32)
IMAGE_HW = (40, 70)


def encoder(bfloat16: bool = False) -> CameraEncoder:
    """Offsets of the deformable convolutions stirred: at zero they would hide mistakes."""
    torch.manual_seed(0)
    backbone = ResNet(50, style="caffe", dcn_stages=(3, 4), frozen_stages=1)
    for name, parameter in backbone.named_parameters():
        if "conv_offset" in name:
            parameter.data.normal_(std=0.02)
    image = ImageEncoder(
        16, num_levels=4, backbone=backbone, preprocess=PUBLISHED, is_separable=False, bfloat16=bfloat16
    )
    planes = TriplaneEncoder(
        GRID,
        channels=16,
        num_heads=2,
        num_layers=2,
        num_levels=4,
        anchors=(2, 3, 3),
        points_per_anchor=2,
        num_cameras=3,
    )
    return CameraEncoder(GRID, image=image, triplane=planes, pixel_aligned=False).eval()


def read(made: CameraEncoder, cameras, item: int = 0) -> Tensor:
    with torch.no_grad():
        return made(batch_of(cameras)).sample(points(50), torch.full((50,), item, dtype=torch.int64))


def test_batch_of_two_equals_two_of_one() -> None:
    made, cameras = encoder(), ring(2, 3, IMAGE_HW)
    for b in range(2):
        alone = read(made, take(cameras, slice(b, b + 1)))
        torch.testing.assert_close(read(made, cameras, b), alone, atol=1e-3, rtol=1e-3)


def test_cameras_may_change_places_with_their_embeddings() -> None:
    made, cameras, order = encoder(), ring(1, 3, IMAGE_HW), [2, 0, 1]
    expected = read(made, cameras)
    assert not torch.allclose(read(made, take(cameras, views=order)), expected, atol=1e-3)
    made.triplane.camera_embedding.data = made.triplane.camera_embedding.data[order]
    torch.testing.assert_close(read(made, take(cameras, views=order)), expected, atol=1e-3, rtol=1e-3)


def test_bfloat16_is_close() -> None:
    exact, rough = read(encoder(), ring(1, 3, IMAGE_HW)), read(encoder(bfloat16=True), ring(1, 3, IMAGE_HW))
    assert rough.dtype == torch.float32
    assert float((rough - exact).abs().mean()) < 0.05 * float(exact.abs().mean())


@pytest.mark.parametrize("part", ["backbone", "triplane"])
def test_checkpointing_changes_no_gradient(part: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        made = encoder().train()
        (made.image.backbone if part == "backbone" else made.triplane).checkpointing = checkpointing
        field = made(batch_of(ring(1, 3, IMAGE_HW)))
        field.sample(points(50), torch.zeros(50, dtype=torch.int64)).square().sum().backward()
        gradients.append([p.grad for p in made.parameters() if p.requires_grad])
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-4, rtol=1e-3)


def test_every_array_that_may_learn_does() -> None:
    made = encoder().train()
    field = made(batch_of(ring(1, 3, IMAGE_HW)))
    field.sample(points(200), torch.zeros(200, dtype=torch.int64)).square().sum().backward()
    without = [n for n, p in made.named_parameters() if p.requires_grad and p.grad is None]
    frozen = [n for n, p in made.named_parameters() if not p.requires_grad and p.grad is not None]
    assert (without, frozen) == ([], [])
