"""The official lift, depth network, stereo cost volume, pooling and depth loss (golden case lss_bevstereo)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lexivox.data.types import Cameras
from lexivox.encoders.depth_net import DepthNet, camera_numbers
from lexivox.geometry.frustum import DepthBins, cell_pixels, frustum_points, pixel_motion, viewing_rays
from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.transform import RigidTransform
from lexivox.ops.cost_volume import cost_volume
from lexivox.ops.voxel_pool import PoolPlan, voxel_pool
from lexivox.supervision.camera_depth import depth_loss
from lexivox.weights.keys import published_names
from lexivox.weights.lift_keys import DEPTH_NET
from lexivox.weights.match import fill

BINS, IMAGE_HW, CELLS_HW = DepthBins(1.0, 13.0, 24), (64, 176), (4, 11)
GRID = VoxelGrid((-12.0, -9.6, -1.0), (0.8, 0.8, 0.8), (30, 24, 8), "ego")


class Case:
    """The stored arrays, and what our conventions make of the published calibration."""

    def __init__(self, file: Path) -> None:
        with np.load(file, allow_pickle=False) as stored:
            self.arrays = {name: torch.from_numpy(stored[name]) for name in stored.files}

    def __getitem__(self, name: str) -> Tensor:
        return self.arrays[name]

    @property
    def image_from_cam(self) -> Tensor:
        """Intrinsics with the image's augmentation folded in."""
        folded = torch.eye(3, dtype=torch.float64).repeat(2, 2, 1, 1)
        folded[..., :2, :2] = self["in/post_rots"][..., :2, :2]
        folded[..., :2, 2] = self["in/post_trans"][..., :2]
        return folded @ self["in/intrinsics"].double()

    @property
    def grid_from_cam(self) -> RigidTransform:
        """Poses with the world's augmentation folded in."""
        world = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1, 1)
        world[:, 0, :3, :3] = self["in/bda"]
        return RigidTransform.from_matrix(world @ self["in/sensor2keyego"].double())

    def plan(self) -> PoolPlan:
        rays = viewing_rays(cell_pixels(CELLS_HW, IMAGE_HW, "corners"), self.image_from_cam)
        xyz = frustum_points(rays, BINS.depths_m("corners"), self.grid_from_cam)
        return PoolPlan.of(xyz, GRID, truncate=True)

    def costs(self) -> Tensor:
        motion = pixel_motion(
            self.image_from_cam,
            RigidTransform.from_matrix(self["in/current_to_previous_sensor"].double()),
            self.image_from_cam,
        )
        flat = motion[0].flatten(0, 1), motion[1].flatten(0, 1)
        features = self["in/stereo_current"], self["in/stereo_previous"]
        return cost_volume(*features, flat, BINS.depths_m("corners"), IMAGE_HW, "corners")

    def depth_net(self) -> DepthNet:
        made = DepthNet(24, 24, 6, 24, halvings=2, norm="batch", aspp_channels=8, dropout=0.5)
        prefix = "sd/depth_net."
        given = {name.removeprefix(prefix): x for name, x in self.arrays.items() if name.startswith(prefix)}
        fill(made, published_names(made.state_dict(), DEPTH_NET), given, "golden weights", "")
        return made.eval()


@pytest.fixture(scope="module")
def case(golden: Path) -> Case:
    return Case(golden / "lss_bevstereo.npz")


def rows(maps: Tensor) -> Tensor:
    """``(N, C, h, w)`` to one row for each pixel."""
    return maps.movedim(1, -1).flatten(0, 2)


def official(volume: Tensor) -> Tensor:
    return volume.permute(0, 1, 4, 3, 2)


def close(found: Tensor, stored: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(found, stored, atol=tolerance, rtol=0)


def test_places_of_the_frustum(case) -> None:
    uv = cell_pixels(CELLS_HW, IMAGE_HW, "corners").expand(24, *CELLS_HW, 2)
    depth = BINS.depths_m("corners")[:, None, None, None].expand(24, *CELLS_HW, 1)
    close(torch.cat([uv, depth], dim=-1).float(), case["frustum_16"], 1e-4)
    rays = viewing_rays(uv[0], case.image_from_cam)
    xyz = frustum_points(rays, BINS.depths_m("corners"), case.grid_from_cam)
    close(xyz, case["frustum_xyz_key_ego"].movedim(2, 4), 1e-4)


def test_points_fall_into_the_same_voxels(case) -> None:
    plan = case.plan()
    assert (len(plan.point), len(plan.voxel)) == (case["pool/kept_points"], case["pool/touched_voxels"])
    ours = plan.voxel_of_point.reshape(2, 2, *CELLS_HW, 24).movedim(-1, 2)
    X, Y, Z = GRID.shape
    b, zyx = ours // GRID.num_voxels, GRID.index_from_flat(ours % GRID.num_voxels)
    theirs = ((b * Z + zyx[..., 2]) * Y + zyx[..., 1]) * X + zyx[..., 0]
    assert torch.equal(torch.where(ours < 0, -1, theirs), case["pool/voxel_of_point_flat_bzyx"].long())


def test_rounding_down_loses_only_what_lies_below(case) -> None:
    rays = viewing_rays(cell_pixels(CELLS_HW, IMAGE_HW, "corners"), case.image_from_cam)
    plan = PoolPlan.of(frustum_points(rays, BINS.depths_m("corners"), case.grid_from_cam), GRID)
    lost = case.plan().voxel_of_point != plan.voxel_of_point
    assert int(lost.sum()) == int(case["pool/points_only_kept_by_truncation"])
    assert bool((plan.voxel_of_point[lost] == -1).all())


def test_pooling_alone(case) -> None:
    depth, feat = case["pool/depth"].requires_grad_(), case["pool/feat"].requires_grad_()
    pooled = official(voxel_pool(rows(feat.flatten(0, 1)), rows(depth.flatten(0, 1)), case.plan()))
    close(pooled.detach(), case["pool/out_bczyx"], 2e-4)
    (pooled * case["pool/cotangent"]).sum().backward()
    close(depth.grad, case["pool/grad_depth"], 1e-3)
    close(feat.grad, case["pool/grad_feat"], 1e-3)


def test_cost_volume(case) -> None:
    close(case.costs(), case["cost_volume"], 2e-4)


def test_from_features_to_voxels_and_back(case) -> None:
    features = case["in/features"].requires_grad_()
    logits, context = case.depth_net()(features.flatten(0, 1), case["mlp_input_27"].flatten(0, 1), case.costs())
    close(torch.cat([logits, context], dim=1).detach(), case["depth_logits_and_context"], 2e-4)
    prob = logits.softmax(dim=1)
    close(prob.detach(), case["depth_prob"], 2e-4)
    pooled = official(voxel_pool(rows(context), rows(prob), case.plan()))
    close(pooled.detach(), case["pooled_bczyx"], 2e-4)
    (pooled * case["cotangent"]).sum().backward()
    close(features.grad, case["grad_features"], 1e-3)


def test_the_numbers_of_a_camera_stand_in_the_published_order(case) -> None:
    # Our calibration has its augmentation inside: intrinsics and pose as recorded must be found at their places.
    pose = RigidTransform.from_matrix(case["in/sensor2keyego"].double()).inverse()
    cameras = Cameras(torch.zeros(2, 2, 3, *IMAGE_HW, dtype=torch.uint8), case["in/intrinsics"], pose, ("a", "b"))
    numbers = camera_numbers(cameras, is_relative=False)
    for part in (slice(0, 4), slice(15, 27)):
        close(numbers[..., part], case["mlp_input_27"][..., part], 1e-3)
    # An image that was scaled by 0.11 and cut off by 38 px at the top, and is told to have been.
    folded = torch.tensor([[0.11, 0.0, 0.0], [0.0, 0.11, -38.0], [0.0, 0.0, 1.0]]) @ case["in/intrinsics"]
    scaled = Cameras(cameras.images, folded, pose, cameras.names)
    told = camera_numbers(scaled, is_relative=False, native_scale=0.11, native_top_px=38.0)
    close(told[..., :4], case["mlp_input_27"][..., :4], 1e-2)
    close(told[0, 0, 4:10], torch.tensor([0.11, 0.0, 0.0, 0.0, 0.11, -38.0]), 1e-6)


def test_depth_loss(case) -> None:
    cells = case["depth_loss/gt_depth"].unflatten(3, (11, 16)).unflatten(2, (4, 16)).movedim(3, 4).flatten(4)
    label = BINS.index(torch.where(cells > 0, cells, torch.inf).amin(dim=-1))
    assert torch.equal(label.flatten() + 1, case["depth_loss/one_hot_argmax_plus1"])
    prob = case["depth_prob"].clone().requires_grad_()
    loss = 0.05 * depth_loss(prob.unflatten(0, (2, 2)), label)
    close(loss.detach(), case["depth_loss/loss_weighted_0.05"], 1e-5)
    loss.backward()
    close(prob.grad, case["depth_loss/grad_depth_prob"], 1e-5)
