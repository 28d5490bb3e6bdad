from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lexivox.data.types import Cameras
from lexivox.encoders.camera import CameraEncoder
from lexivox.encoders.image import ImageEncoder
from lexivox.encoders.preprocess import PREPROCESSING, Preprocessing
from lexivox.encoders.triplane import TriplaneEncoder
from lexivox.fields import PixelField
from lexivox.geometry.camera import image_from_grid
from lexivox.geometry.transform import RigidTransform
from tests.rig import GRID, batch_of, points, ring

LIKE = torch.zeros(1)
BGR32 = replace(PREPROCESSING["bgr"], pad_multiple=32)


def images(count: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


def test_golden_network_input(golden: Path) -> None:
    with np.load(golden / "pop3d_eval_labels.npz", allow_pickle=False) as archive:
        bgr = torch.from_numpy(archive["pre/image_bgr_uint8"])
        expected = torch.from_numpy(archive["pre/network_input_chw"])
        scale = float(archive["pre/scale_rate"])
    ours = replace(BGR32, scale=scale)(bgr.flip(-1).permute(2, 0, 1)[None], like=LIKE)[0]
    torch.testing.assert_close(ours, expected, atol=2e-3, rtol=0.0)
    assert torch.equal(ours == 0, expected == 0)


def test_golden_projections(golden: Path) -> None:
    with np.load(golden / "pop3d_eval_labels.npz", allow_pickle=False) as archive:
        case = {name.removeprefix("pre/"): torch.from_numpy(archive[name]) for name in archive.files if "pre/" in name}
    lidar_from_cam = RigidTransform(case["sensor2lidar_rotation"][None], case["sensor2lidar_translation"][None])
    blank = torch.zeros(1, 6, 3, 90, 160, dtype=torch.uint8)
    cameras = Cameras(blank, case["cam_intrinsic"][None], lidar_from_cam.inverse(), tuple("abcdef"))
    seen = replace(BGR32, scale=float(case["scale_rate"])).cameras(cameras)
    ours = image_from_grid(seen.image_from_cam, seen.cam_from_grid)[0]
    torch.testing.assert_close(ours, case["lidar2img_scaled"][:, :3], atol=1e-6, rtol=1e-6)


def test_what_is_added_is_exactly_zero_and_nothing_else_moves() -> None:
    picture = images(2, 30, 45)
    out = BGR32(picture, like=LIKE)
    assert out.shape == (2, 3, 32, 64)
    assert not out[:, :, 30:].any()
    assert not out[:, :, :, 45:].any()
    mean = torch.tensor([103.53, 116.28, 123.675]).reshape(3, 1, 1)  # blue, green, red
    torch.testing.assert_close(out[:, :, :30, :45], picture.flip(1).float() - mean, atol=0.0, rtol=0.0)


def test_published_sizes() -> None:
    # Spec POP-3D 1.4.
    cameras = replace(ring(1, 1), images=torch.zeros(1, 1, 1, 1, 1, dtype=torch.uint8).expand(1, 1, 3, 900, 1600))
    assert BGR32.cameras(cameras).image_hw == (928, 1600)
    assert replace(BGR32, scale=0.5).cameras(cameras).image_hw == (480, 800)


def test_cameras_without_a_change_of_size_stay() -> None:
    cameras = ring()
    assert Preprocessing().cameras(cameras) is cameras
    assert BGR32.cameras(cameras) is cameras  # 32 x 64 already


def test_a_scaled_image_is_seen_by_scaled_intrinsics() -> None:
    cameras = ring()
    scaled = Preprocessing(scale=0.5).cameras(cameras)
    assert scaled.image_hw == (16, 32)
    expected = cameras.image_from_cam * torch.tensor([0.5, 0.5, 1.0])[:, None]
    torch.testing.assert_close(scaled.image_from_cam, expected)


def encoder(pad_multiple: int) -> CameraEncoder:
    torch.manual_seed(0)
    triplane = TriplaneEncoder(GRID, channels=16, num_heads=2, anchors=(2, 3, 3))
    image = ImageEncoder(16, widths=(8, 16), preprocess=Preprocessing(pad_multiple=pad_multiple))
    return CameraEncoder(GRID, image=image, triplane=triplane)


def test_projections_are_divided_by_the_padded_size() -> None:
    """Padding beforehand with the mean colour, so that nothing is left to pad, must change nothing."""
    cameras = ring(1, 3, (32, 64))
    made = encoder(48)
    padded = torch.zeros(1, 3, 3, 48, 96)
    padded += torch.tensor(Preprocessing().mean).reshape(3, 1, 1)
    padded[..., :32, :64] = cameras.images.float()
    by_hand = [level.unflatten(0, (1, 3)) for level in made.image.pyramid(made.image.backbone(standard(padded[0])))]
    blank = torch.zeros(1, 3, 3, 48, 96, dtype=torch.uint8)
    assert made.triplane is not None
    planes = made.triplane(by_hand, replace(cameras, images=blank)).sample(points(40), torch.zeros(40).long())
    field = made(batch_of(cameras)).sample(points(40), torch.zeros(40).long())
    torch.testing.assert_close(field[:, :16], planes, atol=1e-5, rtol=1e-5)


def standard(pixels: Tensor) -> Tensor:
    made = Preprocessing()
    return (pixels - torch.tensor(made.mean).reshape(3, 1, 1)) / torch.tensor(made.std).reshape(3, 1, 1)


def test_points_on_the_padding_count_as_seen() -> None:
    cameras = ring(1, 1, (32, 64))
    wide = BGR32.cameras(replace(cameras, images=torch.zeros(1, 1, 3, 32, 65, dtype=torch.uint8)))
    assert wide.image_hw == (32, 96)
    xyz = points(4000)
    owner = torch.zeros(len(xyz), dtype=torch.int64)
    count = [
        int(PixelField(GRID, torch.ones(1, 1, 1, 4, 8), c).sample(xyz, owner).count_nonzero()) for c in (cameras, wide)
    ]
    assert count[1] > count[0] > 0


@pytest.mark.parametrize("kind", ["rgb", "bgr", "as_is"])
def test_the_dtype_is_that_of_the_network(kind: str) -> None:
    assert PREPROCESSING[kind](images(1, 4, 4), like=LIKE.double()).dtype == torch.float64
