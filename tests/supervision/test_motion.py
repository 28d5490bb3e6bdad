"""What moved between keyframes: the inverse warp against a slow twin, the published scatter, and real boxes."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from helpers import make_sample
from reference.motion import to_now as slow_to_now

from lexivox.data.collate import collate
from lexivox.data.datasets import open_dataset
from lexivox.data.motion import UNLABELLED
from lexivox.data.synthetic.drive import SyntheticDrive
from lexivox.data.transforms import each_sample, mirror, turn
from lexivox.data.types import Boxes, Clip
from lexivox.errors import ConfigError
from lexivox.geometry.boxes import box_of_points
from lexivox.geometry.grid import OCC3D, VoxelGrid
from lexivox.geometry.transform import RigidTransform
from lexivox.supervision.motion import box_motion, match_tracks
from lexivox.supervision.scatter_flow import scatter_nearest

GRID = VoxelGrid((-8.0, -8.0, -1.0), (0.4, 0.4, 0.4), (40, 40, 10), "ego")
CAR = 4


def boxes_of(*rows: tuple[int, tuple[float, float, float], float, float], size=(2.0, 1.2, 1.2)) -> Boxes:
    """From rows of track, centre, yaw, speed."""
    return Boxes(
        center=torch.tensor([row[1] for row in rows]).reshape(-1, 3),
        size_m=torch.tensor(size).expand(len(rows), 3),
        yaw_rad=torch.tensor([row[2] for row in rows]),
        velocity=torch.tensor([[row[3], 0.0] for row in rows]).reshape(-1, 2),
        label=torch.full((len(rows),), CAR),
        track=torch.tensor([row[0] for row in rows], dtype=torch.int64),
    )


def clip_of(now: Boxes, *others: tuple[int, Boxes]) -> Clip:
    """The car stands, so that ego frames of all keyframes are one."""

    def sample(offset: int, boxes: Boxes):
        return replace(make_sample(offset), boxes=boxes, timestamp_ns=1_000_000_000 + 500_000_000 * offset)

    return Clip(sample(0, now), tuple(o for o, _ in others), tuple(sample(*other) for other in others))


def motion_of(now: Boxes, then: Boxes, **options):
    return box_motion(collate([clip_of(now, (1, then))], GRID), (1,), **options)


def ask(motion, xyz: torch.Tensor, offset: int = 1):
    numbers = torch.zeros(len(xyz), dtype=torch.int64)
    return motion.to_now(xyz, numbers, numbers + offset)


def centers() -> torch.Tensor:
    return GRID.centers().reshape(-1, 3)


def random_boxes(seed: int, tracks: list[int]) -> Boxes:
    generator = torch.Generator().manual_seed(seed)
    count = len(tracks)
    rand = torch.rand(count, 8, generator=generator)
    velocity = torch.where(rand[:, 6:] < 0.2, torch.nan, rand[:, 6:] * 2 - 0.8)
    return Boxes(
        center=rand[:, :3] * torch.tensor([14.0, 14.0, 1.0]) - torch.tensor([7.0, 7.0, 0.0]),
        size_m=torch.tensor([[2.5, 1.5, 1.4]]).expand(count, 3), yaw_rad=rand[:, 3] * 6,
        velocity=velocity, label=torch.tensor(tracks) + 1, track=torch.tensor(tracks),
    )  # fmt: skip


def as_rows(boxes: Boxes) -> dict:
    columns = (boxes.center, boxes.size_m, boxes.yaw_rad, boxes.velocity.norm(dim=-1), boxes.label)
    return dict(zip(boxes.track.tolist(), zip(*(c.tolist() for c in columns), strict=True), strict=True))


def test_every_answer_equals_the_slow_twins():
    """Two samples, two neighbours; overlapping, standing, appearing and vanishing boxes, also of unknown speed."""
    clips = []
    for item in range(2):
        now = random_boxes(item, [*range(12)])
        parked = replace(now, center=now.center + 0.05)
        other = random_boxes(item + 10, [*range(4, 16)])
        mixed = Boxes(*(torch.cat([getattr(parked, f)[:3], getattr(other, f)]) for f in Boxes.__slots__))
        clips.append(clip_of(now, (-1, other), (2, mixed)))
    batch = collate(clips, GRID)
    motion = box_motion(batch, (-1, 2))
    generator = torch.Generator().manual_seed(9)
    xyz = torch.rand(3000, 3, generator=generator) * torch.tensor([17.0, 17.0, 4.2]) - torch.tensor([8.5, 8.5, 1.1])
    item, offset = torch.arange(3000) % 2, torch.tensor([-1, 2])[torch.arange(3000) // 2 % 2]
    found = motion.to_now(xyz, item, offset)
    rows = [
        slow_to_now(
            tuple(point), as_rows(batch.at(o).boxes[b]), as_rows(batch.boxes[b]), 0.5, 0.5 * o, 0.2, GRID
        ) if bool(GRID.contains(torch.tensor(point))) else (tuple(point), False, False, False, UNLABELLED)
        for point, b, o in zip(xyz.tolist(), item.tolist(), offset.tolist(), strict=True)
    ]  # fmt: skip
    place, *flags = (torch.tensor(column) for column in zip(*rows, strict=True))
    torch.testing.assert_close(found.xyz, place, atol=1e-4, rtol=0)
    answers = (found.is_moved, found.is_vacant, found.is_unknown, found.box_label)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(answers, flags, strict=True))
    assert min(int(flag.sum()) for flag in flags[:3]) > 50


def warped(motion, volume: torch.Tensor) -> torch.Tensor:
    """The volume as it was then, read through the inverse warp at voxel centres."""
    moved = ask(motion, centers())
    flat = GRID.flat_from_index(GRID.index_from_xyz(moved.xyz))
    return torch.where(moved.is_vacant | moved.is_unknown, 0.0, volume.flatten(1)[:, flat]).view_as(volume)


def volume_of(boxes: Boxes) -> torch.Tensor:
    """Some value in voxels of the boxes, 0 outside."""
    held = box_of_points(centers(), boxes.center, boxes.size_m, boxes.yaw_rad, 0.0)
    value = torch.rand(len(held), generator=torch.Generator().manual_seed(1)) + 0.5
    return torch.where(held >= 0, value, 0.0).view(1, *GRID.shape)


@pytest.mark.parametrize("shift", [(1.2, 0.0), (-0.8, 2.0), (0.4, 0.4)])
def test_moved_by_whole_voxels_scatter_and_inverse_warp_agree(shift):
    """Spec occflownet 13, test 7."""
    now = boxes_of((1, (-1.0, 0.6, 0.4), 0.0, 2.0))
    then = boxes_of((1, (-1.0 + shift[0], 0.6 + shift[1], 0.4), 0.0, 2.0))
    motion, volume = motion_of(now, then, margin_m=0.1), volume_of(now)
    forward = scatter_nearest(volume, None, GRID, motion.pairs, scale=1.0, margin_m=0.0)
    assert volume.count_nonzero() == forward.count_nonzero() == 5 * 3 * 3
    torch.testing.assert_close(warped(motion, volume), forward)
    torch.testing.assert_close(forward[0], volume[0].roll((round(shift[0] / 0.4), round(shift[1] / 0.4)), (0, 1)))


def test_moved_by_a_fraction_depth_is_right_to_5_cm():
    """Rays at the other keyframe against the box where it was; the field is the box where it is now, then asked through
    the warp. A car of 2 m is 0.93 m and 0.3 rad further."""
    now, then = boxes_of((1, (1.0, 0.5, 0.6), 0.0, 2.0)), boxes_of((1, (1.93, 0.81, 0.6), 0.3, 2.0))
    motion = motion_of(now, then)
    origin = torch.tensor([-6.0, 0.0, 0.9])
    angle = torch.linspace(-0.05, 0.2, 60)
    direction = torch.stack([angle.cos(), angle.sin(), torch.full_like(angle, -0.02)], -1)
    steps = torch.arange(4.0, 12.0, 0.01)
    xyz = (origin + steps[:, None, None] * direction).transpose(0, 1).reshape(-1, 3)
    moved = ask(motion, xyz)
    solid = (box_of_points(moved.xyz, now.center, now.size_m, now.yaw_rad) >= 0) & ~moved.is_vacant
    truth = box_of_points(xyz, then.center, then.size_m, then.yaw_rad) >= 0
    found, expected = (hit.view(60, -1).int().argmax(1) * 0.01 for hit in (solid, truth))
    hits = truth.view(60, -1).any(1)
    assert hits.sum() > 20
    assert (found - expected)[hits].abs().max() <= 0.05
    assert not solid.view(60, -1)[~hits].any()  # no ghost beside it, where it stands now


def test_a_rotated_box_leaves_no_hole_but_scattered_does():
    now, then = boxes_of((1, (0.2, 0.2, 0.4), 0.0, 2.0)), boxes_of((1, (0.2, 2.2, 0.4), math.radians(40), 2.0))
    motion, volume = motion_of(now, then), volume_of(now)
    held_then = (box_of_points(centers(), then.center, then.size_m, then.yaw_rad) >= 0).view(1, *GRID.shape)
    assert (warped(motion, volume)[held_then] > 0).double().mean() > 0.9
    forward = scatter_nearest(volume, None, GRID, motion.pairs, scale=1.0, margin_m=0.0)
    assert (forward[held_then] > 0).double().mean() < 0.9


def test_one_that_had_not_come_was_not_there_and_one_that_left_is_unknown():
    here = boxes_of((1, (0.0, 0.0, 0.6), 0.0, 3.0), (2, (4.0, 0.0, 0.6), 0.0, 0.0))
    gone = boxes_of((3, (-4.0, 0.0, 0.6), 0.0, 3.0), (5, (-4.0, 4.0, 0.6), 0.0, 0.1))
    moved = ask(motion_of(here, gone), here.center)
    assert moved.is_vacant.tolist() == [True, False]  # the second has no box then, but stands: it was there
    moved = ask(motion_of(here, gone), gone.center)
    assert moved.is_unknown.tolist() == [True, False]
    assert moved.box_label.tolist() == [CAR, UNLABELLED]
    assert torch.equal(moved.xyz, gone.center)


def test_where_a_box_left_the_grid_nothing_is_known():
    motion = motion_of(boxes_of((1, (7.5, 0.0, 0.6), 0.0, 9.0)), boxes_of((1, (4.0, 0.0, 0.6), 0.0, 9.0)))
    moved = ask(motion, torch.tensor([[4.2, 0.0, 0.6], [4.8, 0.0, 0.6]]))
    assert moved.is_moved.tolist() == [True, False]
    assert moved.is_unknown.tolist() == [False, True]


def test_parked_cars_stay_where_they_are():
    now, then = boxes_of((1, (0.0, 0.0, 0.6), 0.0, 0.1)), boxes_of((1, (0.15, 0.05, 0.6), 0.02, 0.1))
    moved = ask(motion_of(now, then), centers())
    assert torch.equal(moved.xyz, centers())
    assert not (moved.is_moved | moved.is_vacant | moved.is_unknown).any()


def test_now_and_keyframes_beyond_the_horizon_do_not_move():
    motion = motion_of(boxes_of((1, (0.0, 0.0, 0.6), 0.0, 3.0)), boxes_of((1, (2.0, 0.0, 0.6), 0.0, 3.0)))
    for offset in (0, -1):
        moved = ask(motion, centers(), offset)
        assert torch.equal(moved.xyz, centers())
        assert not (moved.is_moved | moved.is_vacant).any()


def test_without_boxes_of_anyone_nothing_moves():
    none = boxes_of()
    moved = ask(motion_of(none, none), centers())
    assert torch.equal(moved.xyz, centers())
    empty = box_motion(collate([clip_of(none)], GRID), (1, 2))
    assert torch.equal(ask(empty, centers()).xyz, centers())


def test_only_chosen_classes_move():
    now, then = boxes_of((1, (0.0, 0.0, 0.6), 0.0, 3.0)), boxes_of((1, (2.0, 0.0, 0.6), 0.0, 3.0))
    assert ask(motion_of(now, then, labels=(CAR,)), then.center).is_moved.all()
    assert not ask(motion_of(now, then, labels=(CAR + 1,)), then.center).is_moved.any()


@pytest.mark.parametrize(
    ("change", "signs"),
    [(mirror, (1.0, -1.0, 1.0)), (lambda s: mirror(s, "front-back"), (-1.0, 1.0, 1.0)), (lambda s: turn(s, 0.4), None)],
    ids=["mirror", "reverse", "turn"],
)
def test_a_changed_world_moves_alike(change, signs):
    """A place carried over and then augmented = augmented and then carried over."""
    now, then = boxes_of((1, (0.3, 1.0, 0.6), 0.2, 3.0)), boxes_of((1, (2.0, 0.4, 0.6), 0.9, 3.0))
    plain = clip_of(now, (1, then))
    changed = each_sample(plain, change)
    if signs is not None:

        def augment(xyz):
            return xyz * torch.tensor(signs)
    else:
        augment = (changed.current.global_from_ego.inverse() @ plain.current.global_from_ego).apply
    grid = replace(GRID, lower_m=(-12.0, -12.0, -1.0), shape=(60, 60, 10))
    before = ask(box_motion(collate([plain], grid), (1,)), centers())
    after = ask(box_motion(collate([changed], grid), (1,)), augment(centers()))
    torch.testing.assert_close(after.xyz, augment(before.xyz), atol=1e-4, rtol=0)
    assert (after.is_moved == before.is_moved).double().mean() > 0.999
    assert before.is_moved.any()


def test_a_motion_travels_with_a_batch():
    motion = motion_of(boxes_of((1, (0.0, 0.0, 0.6), 0.0, 3.0)), boxes_of((1, (2.0, 0.0, 0.6), 0.0, 3.0)))
    assert motion.to("meta").then.first.is_meta
    assert motion.to("meta").pairs.center_now.is_meta


# ------------------------------------------------------------------------------------------------ as published


def test_the_scatter_moves_only_voxels_of_the_predicted_class():
    now, then = boxes_of((1, (-1.0, 0.6, 0.6), 0.0, 2.0)), boxes_of((1, (0.6, 0.6, 0.6), 0.0, 2.0))
    volume, motion = volume_of(now), motion_of(now, then)
    predicted = torch.full(GRID.shape, CAR)
    predicted[:18] = 0  # x below -0.8
    forward = scatter_nearest(volume, predicted, GRID, motion.pairs, scale=1.0, margin_m=0.0)
    assert torch.equal(forward[:, :18], volume[:, :18])
    expected = volume.roll(4, 1)
    torch.testing.assert_close(forward[:, 22:], expected[:, 22:])
    assert not forward[:, 18:22][predicted[18:22][None] == CAR].any()


def test_scattered_voxels_pile_up_at_the_border_as_their_mean():
    """Centres at x = 7.0, 7.4, 7.8 go 0.8 m further: 7.8, 8.2 and 8.6, of which the last two are clamped to 7.8."""
    now = boxes_of((1, (7.4, 0.2, 0.6), 0.0, 2.0), size=(1.2, 0.4, 0.4))
    then = boxes_of((1, (8.2, 0.2, 0.6), 0.0, 2.0), size=(1.2, 0.4, 0.4))
    volume = torch.zeros(1, *GRID.shape)
    volume[0, 37:40, 20, 4] = torch.tensor([1.0, 2.0, 6.0])
    pairs = match_tracks(now, then, 0)
    forward = scatter_nearest(volume, None, GRID, pairs, scale=1.0, margin_m=0.0)
    assert forward[0, 37:40, 20, 4].tolist() == [0.0, 0.0, 3.0]


def test_an_instance_absent_then_stays_as_a_ghost_when_scattered():
    now = boxes_of((1, (0.0, 0.0, 0.4), 0.0, 2.0))
    motion = motion_of(now, boxes_of())
    volume = volume_of(now)
    assert torch.equal(scatter_nearest(volume, None, GRID, motion.pairs), volume)
    assert not warped(motion, volume).any()


def test_gradients_of_the_scatter_flow_to_where_values_came_from():
    now, then = boxes_of((1, (-1.0, 0.6, 0.6), 0.0, 2.0)), boxes_of((1, (0.6, 0.6, 0.6), 0.0, 2.0))
    volume = volume_of(now).requires_grad_()
    pairs = match_tracks(now, then, 0)
    scatter_nearest(volume, None, GRID, pairs, scale=1.0, margin_m=0.0)[0, 21, 21, 4].backward()
    assert volume.grad.nonzero().tolist() == [[0, 17, 21, 4]]


# ------------------------------------------------------------------------------------------------ whole recordings


def test_what_moves_in_the_synthetic_city_lands_on_itself():
    """Returns of moving actors at a neighbour, carried over, lie where the truth now has something of their class."""
    drive = SyntheticDrive(3, 4, image_hw=(8, 16), num_azimuths=360, grid=OCC3D)
    samples = [drive[i] for i in (0, 1, 3)]
    batch = collate([Clip(samples[1], (-1, 2), (samples[0], samples[2]))], OCC3D)
    motion = box_motion(batch, (-1, 2))
    speeds = {actor.track: actor.speed for actor in drive.actors}
    label = batch.voxel_labels[0].label
    landed = []
    for moment, sample in zip(batch.around, (samples[0], samples[2]), strict=True):
        speed = torch.tensor([speeds.get(track, 0.0) for track in sample.point_labels.instance.tolist()])
        xyz = moment.lidar.xyz[speed > 1.0]
        moved = ask(motion, xyz, moment.offset)
        own = moved.is_moved & OCC3D.contains(moved.xyz)
        x, y, z = OCC3D.index_from_xyz(moved.xyz[own]).unbind(-1)
        landed.append(label[x, y, z] == moment.point_label[speed > 1.0][own])
        standing = OCC3D.contains(moment.lidar.xyz) & (speed == 0)
        assert ask(motion, moment.lidar.xyz[standing], moment.offset).is_moved.double().mean() < 0.01
    assert len(torch.cat(landed)) > 300
    assert torch.cat(landed).double().mean() > 0.97


def test_boxes_must_be_there():
    bare = replace(make_sample(), boxes=None)
    with pytest.raises(ConfigError, match="motion of boxes must have boxes at every keyframe; got none"):
        box_motion(collate([Clip(bare, (1,), (bare,))], GRID), (1,))


def test_cuboids_of_a_real_drive_carry_their_points(realdata):
    """PandaSet: what is in a moving cuboid goes into the same cuboid of now."""
    dataset = open_dataset("pandaset", realdata / "pandaset", boxes=True, cameras=["front_camera"], keyframes=[45, 50])
    samples = [dataset[0], dataset[1]]
    batch = collate([Clip(samples[0], (1,), (samples[1],))], OCC3D)
    motion = box_motion(batch, (1,))
    then = batch.at(1)
    moved = ask(motion, then.lidar.xyz)
    assert int(moved.is_moved.sum()) > 100
    now = batch.boxes[0]
    held = box_of_points(moved.xyz[moved.is_moved], now.center, now.size_m + 0.4, now.yaw_rad, 0.05)
    assert (held >= 0).double().mean() > 0.95
    assert isinstance(samples[0].global_from_ego, RigidTransform)
