"""RayIoU: the official tool's rays, distances and scores; laws; bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lexivox.data.benchmark_classes import OCC3D, SEMANTICKITTI
from lexivox.errors import ConfigError, DataError, ShapeError
from lexivox.evaluate.rayiou import RayIouScore, lidar_origins_in_ego, ray_directions, ray_origins
from lexivox.geometry.grid import OCC3D as GRID
from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.transform import RigidTransform

ORIGINS = {0: 12, 1: 28, 2: 2}
SMALL = VoxelGrid((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (10, 4, 2), "ego")


@pytest.fixture(scope="module")
def case(golden, realdata):
    g = np.load(golden / "rayiou.npz", allow_pickle=False)
    (path,) = (realdata / "occ3d_nuscenes_label").glob("*/labels.npz")
    label = torch.from_numpy(np.load(path, allow_pickle=False)["semantics"])
    return g, {0: label, 1: label.flip(1), 2: label}


def test_official_directions(case):
    g, _ = case
    assert ray_directions().shape == (14040, 3)
    assert np.array_equal(ray_directions().numpy(), g["rays"])


@pytest.mark.parametrize("frame", [12, 28, 2])
def test_official_origins(case, frame):
    g, _ = case
    poses = [
        [
            RigidTransform.from_quaternion(rotation, translation).matrix()
            for rotation, translation in zip(
                g[f"poses/{name}_rotation"].tolist(), g[f"poses/{name}_translation"].tolist(), strict=True
            )
        ]
        for name in ("ego2global", "lidar2ego")
    ]
    origins = ray_origins(lidar_origins_in_ego(*poses, frame))
    np.testing.assert_allclose(origins.numpy(), g[f"origins/frame{frame}"], atol=1e-12)


@pytest.mark.parametrize("sample", [0, 1])
def test_official_rays(case, sample):
    g, labels = case
    score = RayIouScore(OCC3D, GRID)
    rays = score._rays(torch.from_numpy(g[f"origins/frame{ORIGINS[sample]}"]))
    volumes = {"gt": labels[sample], "pred": torch.from_numpy(g[f"pred{sample}"])}
    for side, volume in volumes.items():
        voxel, distance_m = score._first(volume, rays)
        assert np.array_equal(volume.reshape(-1)[voxel].numpy(), g[f"s{sample}/{side}_ray_label"])
        assert np.array_equal(distance_m.numpy(), g[f"s{sample}/{side}_ray_depth_m"])


def test_official_scores(case):
    g, labels = case
    whole = None
    for sample, frame in ORIGINS.items():
        score = RayIouScore(OCC3D, GRID)
        origins = torch.from_numpy(g[f"origins/frame{frame}"])
        score.update(torch.from_numpy(g[f"pred{sample}"]), labels[sample], origins)
        check(score, g, f"s{sample}")
        whole = score if whole is None else whole.merge(score)
    check(whole, g, "all")


def check(score, g, name):
    result = score.compute()
    assert result.values["rayiou"] == pytest.approx(float(g[f"{name}/rayiou"]), abs=1e-12)
    at = [result.values[f"rayiou_{t}m"] for t in (1, 2, 4)]
    assert at == pytest.approx(g[f"{name}/rayiou_at_1_2_4m"].tolist(), abs=1e-12)
    np.testing.assert_allclose(score.iou()[:, :17].numpy(), g[f"{name}/class_rayiou_3x17"], atol=1e-12)
    assert result.counts["rays"] == int(g[f"{name}/counted_rays"])


def volume(**walls):
    """A free volume with walls at x = key."""
    label = torch.full(SMALL.shape, 17)
    for place, number in walls.items():
        label[int(place[1:])] = number
    return label


def one_ray():
    return RayIouScore(OCC3D, SMALL, torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64))


def test_hand_computed():
    origins = torch.tensor([[0.5, 0.5, 0.5]])
    score = one_ray()
    score.update(volume(x6=4), volume(x4=4), origins)  # a car seen 2 m too far
    assert score.hits[:, 4].tolist() == [0, 0, 1]
    score.update(volume(x4=4), volume(x4=4), origins)
    score.update(volume(x4=3), volume(x4=4), origins)  # a bus instead
    # Cars: 3 true, 2 predicted; 1, 1 and 2 hits. Buses: 0 true, 1 predicted, 0 hits.
    car = [1 / 4, 1 / 4, 2 / 3]
    assert score.iou()[:, 4].tolist() == pytest.approx(car)
    assert score.compute().values["rayiou"] == pytest.approx(sum(car) / 6)
    assert score.compute().counts == {"samples": 3, "rays": 3}


def test_means_apart():
    """Cars and buses move by themselves, barriers do not; a wrong class at the right distance is still something."""
    origins = torch.tensor([[0.5, 0.5, 0.5]])
    score = one_ray()
    for said, true in ((4, 4), (3, 4), (1, 1), (1, 17)):
        score.update(volume(x4=said), volume(x4=true), origins)
    values = score.compute().values
    # Cars: 1 of 2, none false. Buses: 0 of 1 false. Barriers: 1 of 1; the one in thin air is no ray that counts.
    assert values["rayiou_dynamic"] == pytest.approx((1 / 2 + 0) / 2)
    assert values["rayiou_static"] == 1.0
    assert values["rayiou_occupied"] == 1.0
    score.update(volume(x6=4), volume(x4=4), origins)  # 2 m too far: found at 4 m only, and false below
    assert score.compute().values["rayiou_occupied"] == pytest.approx((3 / 5 + 3 / 5 + 4 / 4) / 3)


def test_bricks_are_walked_in_metres():
    """Half as high as long: a ray that climbs 1 m in 2 m meets, at x = 4 m, the layer two to three metres up."""
    bricks = VoxelGrid((0.0, 0.0, 0.0), (1.0, 1.0, 0.5), (10, 2, 8), "ego")
    climb = torch.tensor([[2.0, 0.0, 1.0]], dtype=torch.float64) / 5**0.5
    score = RayIouScore(OCC3D, bricks, climb)
    label = torch.full(bricks.shape, 17)
    label[4] = 4
    voxel, away_m = score._first(label, score._rays(torch.tensor([[0.5, 0.5, 0.125]]).double()))
    assert label.reshape(-1)[voxel].tolist() == [4]
    # It enters at x = 4, z = 1.875 and leaves that voxel through its top, z = 2: 1.875 m up and 3.75 m on.
    assert away_m.tolist() == pytest.approx([1.875 * 5**0.5])


def test_rays_that_meet_nothing_in_truth_do_not_count():
    score = one_ray()
    score.update(volume(x4=4), volume(), torch.tensor([[0.5, 0.5, 0.5]]))
    assert score.compute().counts["rays"] == 0
    assert score.compute().values["rayiou"] is None


def test_bad_input_names_the_sample():
    origins = torch.tensor([[0.5, 0.5, 0.5]])
    score = one_ray()
    with pytest.raises(
        ShapeError, match=r"the prediction of s7 must have the grid's shape \(10, 4, 2\); got \(4, 10, 2\)"
    ):
        score.update(volume().transpose(0, 1), volume(), origins, token="s7")
    with pytest.raises(DataError, match="classes of the label of s7 must be whole numbers from 0 to 17"):
        score.update(volume(), volume(x1=255), origins, token="s7")
    with pytest.raises(ShapeError, match="ray origins of s7 must lie inside the grid along x and y"):
        score.update(volume(), volume(), origins - 5.0, token="s7")
    with pytest.raises(ConfigError, match="classes of RayIoU must include free; got semantickitti"):
        RayIouScore(SEMANTICKITTI, SMALL)
