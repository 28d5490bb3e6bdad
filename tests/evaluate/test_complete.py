"""Runs against complete voxels and against measured distances, on a small synthetic street."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch
from scored import Drive, Guess, Words

from lexivox.data.benchmark_classes import OCC3D
from lexivox.data.classes import NUSCENES16, PANDASET9
from lexivox.data.collate import grid_from_lidar
from lexivox.data.synthetic import SyntheticDrive
from lexivox.data.types import IGNORED, Sample
from lexivox.data.visibility import seen_by_camera, seen_by_lidar
from lexivox.errors import DataError, ShapeError
from lexivox.evaluate.complete import MASKS_NOTE, LidarPlaces, voxel_classes
from lexivox.evaluate.evaluation import Evaluation, Part
from lexivox.evaluate.methods import FixedMap, MapAnswer, ModelMethod
from lexivox.evaluate.protocol import DepthProtocol, Occ3dProtocol
from lexivox.evaluate.ray_depth import LidarRays, first_depth, lidar_rays, rendered_depth
from lexivox.evaluate.run import evaluate
from lexivox.evaluate.truth import sweep_points
from lexivox.fields import DenseField
from lexivox.geometry.grid import VoxelGrid
from lexivox.model import OccupancyModel
from lexivox.teachers.vocabulary import embed, vocabulary

GRID = VoxelGrid((-16.0, -16.0, -1.0), (1.0, 1.0, 1.0), (32, 32, 6), "ego")
BOTH = (Occ3dProtocol(), DepthProtocol())


@pytest.fixture(scope="module")
def street() -> Drive:
    return Drive(tuple(SyntheticDrive(5, 4, image_hw=(24, 40), num_azimuths=90, grid=GRID)))


@dataclass(frozen=True)
class Perfect:
    """Says what is true."""

    def answer(self, sample: Sample, sweep) -> MapAnswer:
        return MapAnswer(sample.voxel_labels.label, 17)


def scored(data, protocols=BOTH, part=None, method=None) -> Evaluation:
    methods = {"perfect": method or Perfect(), "average": FixedMap(data[0].voxel_labels.label, 17)}
    return evaluate(methods, data, GRID, NUSCENES16, protocols=protocols, part=part)


# --------------------------------------------------------------------------------------------------- occ3d


def test_a_perfect_map_scores_one_under_every_mask(street):
    table = scored(street).table()
    assert table.protocols == (
        "occ3d/none", "occ3d/lidar", "occ3d/camera", "rayiou/occ3d", "occ3d-moving/camera",
        "depth-rendered/1-80m", "depth-first/1-80m",
    )  # fmt: skip
    for mask in ("none", "lidar", "camera"):
        for metric in ("miou", "miou_dynamic", "miou_static", "iou_occupied"):
            assert table.value("perfect", f"occ3d/{mask}", metric) == 1.0
            assert table.value("average", f"occ3d/{mask}", metric) < 1.0
    for metric in ("rayiou", "rayiou_1m", "rayiou_dynamic", "rayiou_static", "rayiou_occupied"):
        assert table.value("perfect", "rayiou/occ3d", metric) == 1.0
        assert table.value("average", "rayiou/occ3d", metric) < 1.0
    moving = table.rows[0].under("occ3d-moving/camera")
    assert moving.counts["moving_voxels"] > 20
    assert (moving.values["iou"], moving.values["iou_class"], moving.values["trail"]) == (1.0, 1.0, 0.0)
    assert MASKS_NOTE in table.notes


def test_masks_are_made_of_the_keyframes_own_rays(street):
    sample = street[0]
    solid = sample.voxel_labels.label != 17
    by_lidar, by_camera = seen_by_lidar(sample, GRID), seen_by_camera(sample, GRID, solid)
    counts = {
        mask: scored(street).table().rows[0].under(f"occ3d/{mask}").counts["voxels"] for mask in ("none", "camera")
    }
    assert 0 < counts["camera"] < counts["none"] == 4 * GRID.num_voxels
    points = grid_from_lidar(sample, GRID).apply(sample.lidar.xyz)
    inside = GRID.contains(points)
    assert by_lidar.view(-1)[GRID.flat_from_index(GRID.index_from_xyz(points[inside].double()))].all()
    below = torch.zeros(GRID.shape, dtype=torch.bool)
    below[..., 0] = True  # z from -1 to 0 holds the ground: rays end there
    assert by_camera[..., 0].any()
    assert not (by_camera & ~solid & below).any()


def test_masks_that_labels_bring_are_used(street):
    def masked(sample, number):
        seen = torch.zeros(GRID.shape, dtype=torch.bool)
        seen[:number] = True
        return replace(sample, voxel_labels=replace(sample.voxel_labels, seen_by_lidar=seen, seen_by_camera=~seen))

    table = scored(Drive(tuple(masked(sample, 3) for sample in street)), protocols=(Occ3dProtocol(),)).table()
    voxels = {mask: table.rows[0].under(f"occ3d/{mask}").counts["voxels"] for mask in ("none", "lidar", "camera")}
    layer = 32 * 6 * 4
    assert voxels == {"none": 32 * layer, "lidar": 3 * layer, "camera": 29 * layer}
    assert MASKS_NOTE not in table.notes


@pytest.mark.parametrize("count", [2, 3])
def test_parts_add_up_to_the_whole(street, count):
    whole = scored(street)
    parts = [scored(street, part=Part(number, count)) for number in range(1, count + 1)]
    merged, *others = [Evaluation.from_json(part.to_json(), NUSCENES16) for part in parts]
    for part in others:
        merged = merged.merge(part)
    merged.require_whole()
    assert merged.table() == whole.table()
    assert merged.split.grid == GRID


def test_rays_start_where_the_lidar_was_over_the_whole_drive(street):
    places = LidarPlaces(street)
    expected = [(s.global_from_ego @ s.ego_from_lidar).translation for s in street]
    assert torch.equal(places.of_drive(2), torch.stack(expected))
    two = Drive((street[0], replace(street[1], drive="another"), street[2]))
    assert torch.equal(LidarPlaces(two).of_drive(2), torch.stack([expected[0], expected[2]]))


def test_noise_is_a_class_of_its_own():
    assert voxel_classes(NUSCENES16) == OCC3D
    assert voxel_classes(PANDASET9) == PANDASET9


def test_voxels_that_nobody_knows_count_nowhere_and_stop_no_ray(street):
    label = street[0].voxel_labels.label.clone()
    unknown = torch.rand(label.shape, generator=torch.Generator().manual_seed(1)) < 0.3
    label[unknown] = IGNORED
    sample = replace(street[0], voxel_labels=replace(street[0].voxel_labels, label=label))

    class Known:
        def answer(self, sample, sweep):
            return MapAnswer(torch.where(label == IGNORED, 17, label), 17)

    table = evaluate({"perfect": Known()}, Drive((sample,)), GRID, NUSCENES16, protocols=(Occ3dProtocol(),)).table()
    assert table.value("perfect", "occ3d/none", "miou") == 1.0
    assert table.value("perfect", "rayiou/occ3d", "rayiou") == 1.0
    assert table.rows[0].under("occ3d/none").counts["voxels"] == int((~unknown).sum())


def test_wrong_labels_and_maps_are_named(street):
    sample = street[0]
    with pytest.raises(DataError, match=f"must have voxel labels to be scored as occ3d; got none in {sample.token}"):
        evaluate({"m": Perfect()}, Drive((replace(sample, voxel_labels=None),)), GRID, NUSCENES16, protocols=BOTH)
    finer = GRID.refine(2)
    with pytest.raises(ShapeError, match=r"voxel labels must lie on the grid of the run, \(64, 64, 12\)"):
        evaluate({"m": Perfect()}, street, finer, NUSCENES16, protocols=(Occ3dProtocol(),))
    with pytest.raises(
        ShapeError, match=r"map of 'm' for .* must have the shape of the grid, \(32, 32, 6\); got \(8, 8, 3\)"
    ):
        evaluate({"m": Guess()}, street, GRID, NUSCENES16, protocols=(Occ3dProtocol(),))


# --------------------------------------------------------------------------------------------------- depth


def rays(*targets: tuple[float, float, float]) -> LidarRays:
    """From (0.5, 0.5, 2) to targets."""
    origin = torch.tensor([0.5, 0.5, 2.0], dtype=torch.float64)
    way = torch.tensor(targets, dtype=torch.float64) - origin
    depth_m = way.norm(dim=1)
    return LidarRays(origin, way / depth_m[:, None], depth_m)


def test_depth_by_hand():
    """A wall fills 4 <= x < 5; the grid ends at x = 16 and at z = 5."""
    opacity = torch.zeros(GRID.shape)
    opacity[20] = 1.0
    asked = rays((9.0, 0.5, 2.0), (0.5, 0.5, 9.0))
    assert first_depth(GRID, opacity, 0.5, asked).tolist() == pytest.approx(
        [4.0, 3.0]
    )  # the middle of the wall, the exit
    # An opacity of 1 is an extinction of -ln 0.0003 = 8.11 per metre: on average 0.123 m deep, and 0.0003 goes through.
    through = 3.5 * 0.9997 + (1 - 0.0003 * 9.11) / 8.11 + 0.0003 * 15.5
    assert rendered_depth(GRID, opacity, asked).tolist() == pytest.approx([through, 3.0], abs=1e-4)
    # Half of the light stops in the wall, at extinction ln 2: on average (1 - ln 2) / ln 2 behind its face; the rest
    # goes on to the border, 15.5 m away.
    opacity[20] = 0.5
    inside = (1 - torch.tensor(2.0).log()) / torch.tensor(2.0).log()
    expected = 0.5 * (3.5 + float(inside)) + 0.5 * 15.5
    assert rendered_depth(GRID, opacity, asked)[0].item() == pytest.approx(expected, abs=1e-4)
    assert first_depth(GRID, opacity, 0.5, asked)[0].item() == pytest.approx(15.5)


def test_only_returns_that_a_camera_sees_inside_the_grid_are_asked(street: Drive):
    sample = street[0]
    sweep = sweep_points(sample, GRID)
    asked = lidar_rays(sample, sweep)
    chosen = sweep.visible.any(dim=0) & GRID.contains(sweep.xyz)
    assert len(asked.depth_m) == int(chosen.sum()) > 50
    ends = asked.origin + asked.depth_m[:, None] * asked.directions
    torch.testing.assert_close(ends.float(), sweep.xyz[chosen], atol=1e-5, rtol=0)


def test_depth_needs_no_label_and_prefers_the_truth(street: Drive):
    bare = Drive(tuple(replace(s, point_labels=None, boxes=None) for s in street))
    table = scored(bare, protocols=(DepthProtocol(),)).table()
    perfect, average = (row.under("depth-first/1-80m").values for row in table.rows)
    assert perfect["abs_rel"] < 0.15  # voxels of a metre stand in the way of what passes close by
    assert perfect["abs_rel"] < average["abs_rel"]


def test_finer_truth_is_nearer_to_the_lidar():
    errors = []
    for factor in (1, 2, 4):
        grid = GRID.refine(factor)
        data = Drive(tuple(SyntheticDrive(5, 1, image_hw=(24, 40), num_azimuths=90, grid=grid)))
        table = evaluate({"perfect": Perfect()}, data, grid, NUSCENES16, protocols=(DepthProtocol(),)).table()
        errors.append([table.value("perfect", f"depth-{how}/1-80m", "mae_m") for how in ("rendered", "first")])
    for coarse, fine in pairwise(errors):
        assert fine[0] < 0.75 * coarse[0]
        assert fine[1] < 0.75 * coarse[1]
    assert max(errors[-1]) < 0.4


def test_a_method_without_a_map_has_no_depth(street: Drive):
    class Points:
        def volume(self) -> None:
            return None

        def solid(self) -> None:
            return None

        def at(self, points) -> None:
            return None

    class OnlyPoints:
        def answer(self, sample, sweep) -> Points:
            return Points()

    evaluation = evaluate({"points": OnlyPoints()}, street, GRID, NUSCENES16, protocols=BOTH)
    assert evaluation.table().rows[0].scores == ()


def test_the_definition_is_part_of_the_name():
    assert DepthProtocol(max_depth_m=40.0).scores[0] == "depth-rendered/1-40m"
    assert (DepthProtocol().name, DepthProtocol(max_depth_m=40.0).name) == ("depth", "custom")
    assert (Occ3dProtocol().name, Occ3dProtocol(path_s=3.0).name) == ("occ3d", "custom")


# -------------------------------------------------------------------------------------------------- models


class Plain(torch.nn.Module):
    """Encodes nothing but the place."""

    def forward(self, batch):
        volume = batch.grid.centers().movedim(-1, 0)[None] / 8.0
        return DenseField(batch.grid, volume.expand(batch.size, -1, -1, -1, -1))


def model_of(**heads: int) -> OccupancyModel:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        made = {name: torch.nn.Linear(3, channels) for name, channels in heads.items()}
    return OccupancyModel(GRID, Plain(), made, fit=(24, 40), free_class=17 if "semantic" in heads else None)


@pytest.mark.parametrize(
    "heads",
    [
        {"occupancy": 2, "language": Words.dim},
        {"density": 1, "language": Words.dim},
        {"semantic": 18},
        {"density": 1, "semantic": 17},
    ],
    ids=" and ".join,
)
def test_models_of_every_kind_are_scored(street, heads):
    """Counts equal those of the model's own map, whichever heads made it."""
    model = model_of(**heads)
    words = embed(vocabulary({"car": ["car"], "driveable_surface": ["road"]}), Words()) if "language" in heads else None
    table = evaluate({"model": ModelMethod(model, NUSCENES16, words)}, street, GRID, NUSCENES16, protocols=BOTH).table()
    occupied, total = 0, 0
    for sample in street:
        prediction, true = model.predict(sample), sample.voxel_labels.label != 17
        said = prediction.occupancy > prediction.threshold
        occupied, total = occupied + int((said & true).sum()), total + int((said | true).sum())
    assert table.value("model", "occ3d/none", "iou_occupied") == pytest.approx(occupied / total)
    assert 0 < occupied < total
    for protocol in table.protocols:
        scores = table.rows[0].under(protocol)
        assert scores.counts["samples"] == 4
        assert any(value is not None for value in scores.values.values())
