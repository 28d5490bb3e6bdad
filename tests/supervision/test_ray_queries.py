"""Questions along rays are asked at the right places, and answered by the right heads."""

from __future__ import annotations

from dataclasses import replace

import torch
from helpers import make_sample
from torch import nn

from lexivox.data.collate import collate
from lexivox.data.labels import occupancy_from_lidar
from lexivox.data.types import FREE, IGNORED, OCCUPIED, Clip, LabelledPoints, LidarSweep, Rays, Sample
from lexivox.fields import CoordinateField
from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.transform import RigidTransform
from lexivox.model import Scene
from lexivox.supervision.ray_points import PlaceRule, holds_return, occupied_wins
from lexivox.supervision.ray_queries import RayQueries

GRID = VoxelGrid((-12.0, -12.0, -2.0), (1.0, 1.0, 1.0), (24, 24, 6), "ego")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rays_to(ends: list[list[float]], origin=(0.0, 0.0, 0.5)) -> Rays:
    begin, end = torch.tensor([origin] * len(ends)), torch.tensor(ends)
    way, zero = end - begin, torch.zeros(len(ends), dtype=torch.int64)
    depth = way.norm(dim=1)
    return Rays(begin, way / depth[:, None], depth, zero, zero, torch.zeros(len(ends)), torch.ones(len(ends)))


class Answer(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, xyz):
        return self.answer(xyz)


def scene(**heads) -> Scene:
    return Scene(CoordinateField(GRID, 0, 1), {name: Answer(answer) for name, answer in heads.items()}, 1)


# ------------------------------------------------------------------------------------------------------- places


def test_free_places_lie_between_sensor_and_return():
    """A return 10 m ahead, margin 0.5: four places, one in each quarter of the first 9.5 m; two in the last 2 m."""
    rule = PlaceRule(num_free=6, near_share=1 / 3, near_m=2.0, margin_m=0.5, snap=0.0)
    xyz, row = rule.free(GRID, rays_to([[10.0, 0.0, 0.5]]), generator())
    assert row.tolist() == [0] * 6
    assert torch.equal(xyz[:, 1:], torch.tensor([[0.0, 0.5]] * 6))
    assert (xyz[:4, 0] / 9.5 * 4).floor().tolist() == [0.0, 1.0, 2.0, 3.0]
    assert ((xyz[4:, 0] - 7.5) / 1.0).floor().tolist() == [0.0, 1.0]


def test_a_return_beyond_the_grid_frees_all_of_the_way():
    rule = PlaceRule(num_free=4, near_share=0.0)
    xyz, _ = rule.free(GRID, rays_to([[50.0, 0.0, 0.5]]), generator())
    assert (xyz[:, 0] / 12.0 * 4).floor().tolist() == [0.0, 1.0, 2.0, 3.0]


def test_rays_from_outside_are_asked_inside_only_and_those_that_miss_never():
    rule = PlaceRule(num_free=3, near_share=0.0)
    xyz, row = rule.free(GRID, rays_to([[0.0, 0.0, 0.5], [-20.0, 30.0, 0.5]], origin=(-20.0, 0.0, 0.5)), generator())
    assert row.tolist() == [0, 0, 0]
    assert bool(GRID.contains(xyz).all())


def test_a_return_nearer_than_the_margin_frees_nothing():
    xyz, row = PlaceRule(margin_m=1.0).free(GRID, rays_to([[0.5, 0.0, 0.5]]), generator())
    assert len(xyz) == len(row) == 0


def test_returns_are_asked_at_or_behind_the_surface():
    hits = PlaceRule(thickness_m=0.4).hits(rays_to([[8.0, 0.0, 0.5]] * 100), generator())
    assert 8.0 <= float(hits[:, 0].min()) < 8.05
    assert 8.35 < float(hits[:, 0].max()) <= 8.4


def test_snapping_moves_places_to_centres():
    xyz = torch.tensor([[0.3, 0.9, 0.1]] * 50)
    centre = torch.tensor([0.5, 0.5, 0.5])
    assert torch.equal(PlaceRule(snap=1.0).snapped(GRID, xyz, generator()), centre.expand(50, 3))
    assert torch.equal(PlaceRule(snap=0.0).snapped(GRID, xyz, generator()), xyz)
    share = (PlaceRule(snap=0.3).snapped(GRID, xyz, generator()) == centre).all(1).float().mean()
    assert 0.1 < float(share) < 0.5


def test_a_voxel_with_a_return_is_never_free():
    places = LabelledPoints(
        torch.tensor([[0.1, 0.5, 0.5], [3.5, 0.5, 0.5], [0.9, 0.5, 0.5], [0.1, 0.5, 0.5]]),
        torch.tensor([0, 0, 0, 1]),
        torch.tensor([FREE, FREE, OCCUPIED, FREE]),
        torch.ones(4),
    )
    kept = occupied_wins(GRID, places, torch.tensor([[3.9, 0.9, 0.9]]), torch.tensor([0]))
    assert kept.label.tolist() == [OCCUPIED, FREE]  # the last place is in another sample
    assert kept.batch.tolist() == [0, 1]


# -------------------------------------------------------------------------------------------------- supervision


def prepared(supervision: RayQueries, count: int = 2):
    return supervision.prepare(collate([make_sample(i) for i in range(count)], GRID), generator())


def test_every_sweep_keeps_its_own_returns_from_being_called_free():
    """A return of the sweep before at (3.9, 0.9, 0.9), of the current one at (-3, 0, 0), one of nobody outside.

    A ray of the sweep before may not free the voxel of the first, nor that of the second for the current sweep.
    """
    now, then = sweep_with([[-3.0, 0.5, 0.5]]), sweep_with([[3.9, 0.9, 0.9], [99.0, 0.0, 0.0]])
    batch = collate([Clip(now, (-1,), (then,))], GRID)
    xyz = torch.tensor([[3.1, 0.2, 0.3], [3.1, 0.2, 0.3], [-2.5, 0.9, 0.1], [-2.5, 0.9, 0.1], [11.9, 11.9, 3.9]])
    offset = torch.tensor([-1, 0, -1, 0, -1])
    held = holds_return(batch, xyz, torch.zeros(5, dtype=torch.int64), offset)
    assert held.tolist() == [True, False, False, True, False]


def sweep_with(xyz: list[list[float]]) -> Sample:
    """Returns in the ego frame of a car that never moves."""
    sample, zero = make_sample(), torch.zeros(len(xyz), dtype=torch.int64)
    still = RigidTransform.identity()
    lidar = LidarSweep(torch.tensor(xyz), torch.zeros(len(xyz)), zero, zero)
    return replace(sample, lidar=lidar, ego_from_lidar=still, point_labels=None, point_features=None, boxes=None)


def test_targets_agree_with_labels_of_voxels():
    """Free places lie in voxels that exact traversal frees; returns in those it calls occupied."""
    supervision = RayQueries(places=PlaceRule(snap=1.0, thickness_m=0.0, margin_m=1e-3))
    batch = prepared(supervision)
    places = batch.targets.ray_occupancy
    for item in range(2):
        volume = occupancy_from_lidar(GRID, batch.lidar_origin[item], batch.lidar.xyz[batch.lidar.batch == item])
        rows = places.batch == item
        index = GRID.index_from_xyz(places.xyz[rows])
        assert torch.equal(volume[tuple(index.T)].long(), places.label[rows])
        assert {FREE, OCCUPIED, IGNORED} == set(places.label[rows].tolist())


def test_a_perfect_answer_costs_nothing_and_a_wrong_one_much():
    supervision = RayQueries(lovasz=1.0, unobserved_weight=0.0, semantic_weight=1.0)
    batch = prepared(supervision)
    places, classes = batch.targets.ray_occupancy, batch.targets.ray_semantic

    def terms(sign):
        said = sign * 20.0 * ((places.label == OCCUPIED).float() - 0.5)
        named = sign * 40.0 * torch.nn.functional.one_hot(classes.label.clamp_max(16), 17).float()
        return supervision(scene(density=lambda xyz: said[:, None], semantic=lambda xyz: named), batch)

    good, bad = terms(1.0), terms(-1.0)
    assert set(good) == {"rays/free", "rays/hit", "rays/lovasz", "rays/semantic"}
    for name in good:
        assert float(good[name]) < 1e-3
        assert float(bad[name]) > 0.5


def test_terms_of_geometry_are_one_weighted_mean():
    """Two free places and a return of weight 2 at even odds: (2 ln 2 + 2 ln 2) / 4, half of it from the return."""
    supervision = RayQueries(unobserved_weight=0.0)
    batch = prepared(supervision)
    places = LabelledPoints(torch.zeros(3, 3), torch.zeros(3).long(), torch.tensor([FREE, FREE, OCCUPIED]))
    places = replace(places, weight=torch.tensor([1.0, 1.0, 2.0]))
    batch = replace(batch, targets=replace(batch.targets, ray_occupancy=places))
    terms = supervision(scene(occupancy=lambda xyz: torch.zeros(len(xyz), 2)), batch)
    half = torch.tensor(2.0).log() / 2
    torch.testing.assert_close(terms, {"rays/free": half, "rays/hit": half})


def test_points_without_a_label_teach_no_class():
    raw = collate([make_sample(0), make_sample(1)], GRID).targets.point_label
    batch = prepared(RayQueries(semantic_weight=1.0))
    assert bool((raw == 0).any())
    assert 0 not in batch.targets.ray_semantic.label
    assert IGNORED in batch.targets.ray_semantic.label


def test_a_batch_without_labels_teaches_no_class_but_keeps_the_term():
    supervision = RayQueries(semantic_weight=1.0)
    samples = [replace(make_sample(0), point_labels=None)]
    batch = supervision.prepare(collate(samples, GRID), generator())
    weight = torch.ones((), requires_grad=True)
    terms = supervision(
        scene(occupancy=lambda xyz: torch.zeros(len(xyz), 2), semantic=lambda xyz: weight * xyz.new_ones(len(xyz), 17)),
        batch,
    )
    assert float(terms["rays/semantic"].detach()) == 0.0
    terms["rays/semantic"].backward()
    assert float(weight.grad) == 0.0


def test_draws_depend_on_the_generator_alone():
    batch = collate([make_sample(0)], GRID)
    first, again = (RayQueries().prepare(batch, generator(3)).targets.ray_occupancy for _ in range(2))
    assert torch.equal(first.xyz, again.xyz)
    other = RayQueries().prepare(batch, generator(4)).targets.ray_occupancy
    assert first.xyz.shape != other.xyz.shape or not torch.equal(first.xyz, other.xyz)
