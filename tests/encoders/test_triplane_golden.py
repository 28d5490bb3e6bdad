"""The published triplane encoder's own outputs and gradients (golden case tpv_pop3d_a)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lexivox.data.types import Cameras
from lexivox.encoders.triplane import TriplaneEncoder
from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.transform import RigidTransform
from lexivox.heads.pointwise import PointwiseHead
from lexivox.weights.keys import published_names

TOLERANCE = 2e-4


class Case:
    """The golden arrays, our modules loaded from them, and what came out."""

    def __init__(self, file: Path):
        with np.load(file, allow_pickle=False) as archive:
            self.arrays = {name: archive[name] for name in archive.files}
        y, x, z, channels, heads, _, levels, layers = self["meta/dims"].tolist()
        low, high = self["meta/pc_range"][:3].tolist(), self["meta/pc_range"][3:].tolist()
        size = tuple((b - a) / n for a, b, n in zip(low, high, (x, y, z), strict=True))
        self.grid = VoxelGrid(tuple(low), size, (x, y, z), "lidar")
        self.encoder = TriplaneEncoder(
            self.grid,
            channels=channels,
            num_heads=heads,
            num_layers=layers,
            num_levels=levels,
            anchors=tuple(self["meta/anchors"].tolist()),
            points_per_anchor=2,
            num_cameras=3,
        ).eval()
        self.occupancy = PointwiseHead(32, 64, 2, decoder_channels=32)
        self.language = PointwiseHead(32, 64, 48)
        self.load(self.encoder, "encoder.triplane.")
        self.load(self.occupancy, "heads.occupancy.")
        self.load(self.language, "heads.language.")
        self.cameras = cameras_from_matrices(self["in/lidar2img"], tuple(self["meta/image_hw"].tolist()))
        self.features = [self[f"in/feat{i}"].clone().requires_grad_() for i in range(levels)]

    def __getitem__(self, name: str) -> Tensor:
        array = self.arrays[name]
        return torch.from_numpy(array.astype(np.float32) if array.dtype == np.float16 else array)

    def load(self, module: torch.nn.Module, place: str) -> None:
        """``place``: where a whole model has the module."""
        names = published_names([place + name for name in module.state_dict()])
        module.load_state_dict({ours.removeprefix(place): self[f"sd/{theirs}"] for ours, theirs in names.items()})

    def xyz(self, points_vox: Tensor, grid: VoxelGrid) -> Tensor:
        return points_vox[0] * torch.tensor(grid.voxel_size_m) + torch.tensor(grid.lower_m)


def cameras_from_matrices(lidar2img: Tensor, image_hw: tuple[int, int]) -> Cameras:
    """A 4x4 projection cut into a 3x3 and a shift: geometry only, the images are blank."""
    left = lidar2img[..., :3, :3]
    shift = torch.linalg.solve(left, lidar2img[..., :3, 3])
    batch, views = lidar2img.shape[:2]
    turn = torch.eye(3, dtype=torch.float64).expand(batch, views, 3, 3)
    blank = torch.zeros(batch, views, 3, *image_hw, dtype=torch.uint8)
    return Cameras(blank, left, RigidTransform(turn, shift), tuple("abc"[:views]))


@pytest.fixture(scope="module")
def case(golden: Path) -> Case:
    return Case(golden / "tpv_pop3d_a.npz")


def close(ours: Tensor, golden: Tensor, tolerance: float = TOLERANCE) -> None:
    torch.testing.assert_close(ours.detach(), golden, atol=tolerance, rtol=0.0)


@pytest.mark.parametrize(("plane", "name"), [(0, "hw"), (1, "zh"), (2, "wz")])
def test_anchors_project_as_published(case: Case, plane: int, name: str) -> None:
    uv, visible = case.encoder.project_anchors(plane, case.cameras)
    assert torch.equal(visible[0], case[f"b0/ref_valid_{name}"])
    expected = case[f"b0/ref_uv_{name}"]
    near = (expected.abs() < 3).all(-1)
    close(uv[0][near], expected[near], 1e-5)


def test_reference_points_equal_the_published_buffers(case: Case) -> None:
    lower, extent = (
        torch.tensor(case.grid.lower_m),
        torch.tensor(case.grid.upper_m) - torch.tensor(case.grid.lower_m),
    )
    for plane, name in enumerate(("hw", "zh", "wz")):
        theirs = case[f"sd/tpv_head.encoder.ref_3d_{name}"][0].transpose(0, 1)
        close((getattr(case.encoder, f"reference_{plane}") - lower) / extent, theirs, 1e-6)


def test_layers_and_planes(case: Case) -> None:
    outputs: dict[str, Tensor] = {}
    for i, layer in enumerate(case.encoder.layers):
        layer.register_forward_hook(lambda _m, _i, out, i=i: outputs.update({f"layer{i}": out}))
    first = case.encoder.layers[0]
    first.self_attention.register_forward_hook(lambda _m, _i, out: outputs.update(self_attention=out))
    first.cross_attention.register_forward_hook(lambda _m, _i, out: outputs.update(cross=out))
    with torch.no_grad():
        field = case.encoder(case.features, case.cameras)
    close(outputs["self_attention"], case["b0/layer0_self_attention_hw"])
    close(outputs["cross"], case["b0/layer0_cross_attention"])
    planes = {"hw": field.xy.transpose(2, 3), "zh": field.yz.transpose(2, 3), "wz": field.xz}
    for i in range(len(case.encoder.layers)):
        if f"b0/layer{i}_out_hw" in case.arrays:
            expected = torch.cat([case[f"b0/layer{i}_out_{name}"] for name in planes], 1)
            close(outputs[f"layer{i}"], expected)
    for name, plane in planes.items():
        close(plane.flatten(2).transpose(1, 2), case[f"b0/plane_{name}"])


def test_logits_and_gradients(case: Case) -> None:
    field = case.encoder(case.features, case.cameras)
    volume = field.dense()[0].flatten(1).T
    xyz = case.xyz(case["in/points_vox"], case.grid)
    points = field.sample(xyz, torch.zeros(len(xyz), dtype=torch.int64))
    occ_vox = case.occupancy(volume).T.unflatten(1, case.grid.shape)
    occ_pts, lang_pts = case.occupancy(points), case.language(points)
    close(occ_vox, case["b0/occ_logits_vox"])
    close(case.language(volume).T.unflatten(1, case.grid.shape), case["b0/lang_vox"])
    close(occ_pts, case["b0/occ_logits_pts"])
    close(lang_pts, case["b0/lang_pts"])

    loss = (occ_vox * case["grad/cot_occ_vox"]).sum() + (occ_pts * case["grad/cot_occ_pts"]).sum()
    loss = loss + (lang_pts * case["grad/cot_lang_pts"]).sum()
    loss.backward()
    for i, feature in enumerate(case.features):
        gradient_close(feature.grad[0], case[f"grad/feat{i}"])
    check_parameter_gradients(case)


def gradient_close(ours: Tensor, golden: Tensor) -> None:
    close(ours, golden, 2e-3 * float(golden.abs().max()))


def check_parameter_gradients(case: Case) -> None:
    parameters = {f"encoder.triplane.{name}": p for name, p in case.encoder.named_parameters()}
    checked = 0
    for ours, theirs in published_names(parameters).items():
        gradient = parameters[ours].grad
        assert gradient is not None, ours
        norm = float(case[f"grad_l2/{theirs}"])
        assert float(gradient.norm()) == pytest.approx(norm, rel=2e-3, abs=1e-6), theirs
        if f"grad/{theirs}" in case.arrays:
            gradient_close(gradient, case[f"grad/{theirs}"])
            checked += 1
    assert checked == 6


def test_planes_enlarged_three_times(case: Case) -> None:
    with torch.no_grad():
        field = case.encoder(case.features, case.cameras).upsampled(3)
        assert field.grid == case.grid.refine(3)
        logits = case.occupancy(field.dense()[0].flatten(1).T).T.unflatten(1, field.grid.shape)
        close(logits[:, ::3, ::3, ::3], case["scale3/occ_logits_vox_every3rd"])
        close(logits[:, :9, :9, :9], case["scale3/occ_logits_vox_corner"])
        xyz = case.xyz(case["scale3/points_vox"], field.grid)
        points = field.sample(xyz, torch.zeros(len(xyz), dtype=torch.int64))
        close(case.occupancy(points), case["scale3/occ_logits_pts"])
        close(case.language(points), case["scale3/lang_pts"])
