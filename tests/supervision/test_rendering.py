"""Rendered rays teach where things are: the wall of the specification, terms by hand, moving things."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from helpers import make_sample
from torch import Tensor, nn

from lexivox.data.collate import collate
from lexivox.data.motion import UNLABELLED, BoxPairs, Motion
from lexivox.data.types import IGNORED, Rays
from lexivox.fields import CoordinateField, DenseField
from lexivox.geometry.grid import VoxelGrid
from lexivox.model import Scene
from lexivox.supervision.march import Optics, march
from lexivox.supervision.ray_geometry import RayGeometry
from lexivox.supervision.rays import RayChoice
from lexivox.supervision.rendering import Rendering, ending_chance

GRID = VoxelGrid((0.0, -2.0, -2.0), (0.4, 0.4, 0.4), (40, 10, 10), "ego")


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def rays_of(origins: Tensor, ends: Tensor, **known) -> Rays:
    way = ends - origins
    depth, zero = way.norm(dim=1), torch.zeros(len(ends), dtype=torch.int64)
    parts = {"batch": zero, "offset": zero, "time_s": torch.zeros(len(ends)), "weight": torch.ones(len(ends))}
    return Rays(origins=origins, directions=way / depth[:, None], depth_m=depth, **(parts | known))


def batch_with(rays: Rays, grid: VoxelGrid = GRID):
    batch = collate([make_sample()], grid)
    return replace(batch, targets=replace(batch.targets, rays=rays))


class Channels(nn.Module):
    """A head that hands on some channels of the field."""

    def __init__(self, first: int, last: int):
        super().__init__()
        self.first, self.last, self.scale = first, last, torch.ones(())

    def forward(self, rows):
        return rows[:, self.first : self.last] * self.scale


def volume_scene(volume: Tensor, grid: VoxelGrid = GRID, **heads: tuple[int, int]) -> Scene:
    """Heads that read channels of a volume (B, C, X, Y, Z); ``density`` is channel 0."""
    return Scene(
        DenseField(grid, volume),
        {name: Channels(*span) for name, span in ({"density": (0, 1)} | heads).items()},
        len(volume),
    )


# ---------------------------------------------------------------------------------------------------- the wall


def wall_rays(count: int = 400) -> Rays:
    """From x = 0 to a wall at x = 10 m, under many angles, as a LiDAR or cameras see it."""
    draw = torch.rand(count, 4, generator=generator())
    origins = torch.cat([torch.zeros(count, 1), 1.2 * draw[:, :2] - 0.6], 1)
    ends = torch.cat([torch.full((count, 1), 10.0), 3.6 * draw[:, 2:] - 1.8], 1)
    return rays_of(origins, ends)


def fit(supervision: Rendering, rays: Rays, steps: int = 200) -> Tensor:
    """A free volume of logits, fitted by rendered depth alone."""
    volume = torch.full((1, 1, *GRID.shape), -3.0, requires_grad=True)
    optimizer = torch.optim.Adam([volume], lr=0.2)
    batch = batch_with(rays)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.stack(list(supervision(volume_scene(volume), batch).values())).sum().backward()
        optimizer.step()
    return volume.detach()[0, 0].sigmoid()


def first_occupied_m(prob: Tensor, threshold: float = 0.5) -> Tensor:
    """Near face of the first occupied voxel along x, for the columns in the middle; infinite without one."""
    columns = prob[:, 3:7, 3:7].flatten(1) > threshold
    first = columns.float().argmax(0).float() * 0.4
    return torch.where(columns.any(0), first, torch.inf)


@pytest.mark.parametrize(
    "supervision",
    [
        Rendering(),
        Rendering(depth=10.0, depth_loss="huber_log"),
        Rendering(depth=0.0, ending=1.0),
    ],
    ids=["defaults", "huber_log", "ending"],
)
def test_a_wall_at_ten_metres_stands_at_ten_metres(supervision):
    """Acceptance 5: from depth alone, with the defaults, the first occupied voxel lies at 10 m +- one voxel."""
    first = first_occupied_m(fit(supervision, wall_rays()))
    assert bool(((first >= 10.0 - 0.4 - 1e-4) & (first <= 10.0 + 0.4 + 1e-4)).all()), first


def test_the_published_density_smears_the_wall():
    """Parity (A1, A6): with at most one extinction per metre a wall has a mean depth of a metre or more, so the first
    occupied voxel stands in front of it, or the surface is never solid."""
    published = Rendering(optics=Optics(density="sigmoid_per_metre", far_m=40.0), background="none")
    prob = fit(published, wall_rays())
    absorbed = 1 - math.exp(-0.4)  # of a full voxel, against all of it by default
    assert absorbed == pytest.approx(0.33, abs=0.01)
    first = first_occupied_m(prob)
    assert float(first.min()) < 10.0 - 0.8, first


def test_fog_passes_for_a_wall_when_the_rest_counts_at_the_exit():
    """Why A6 is not a default: a tenth of the light at 16 m and the rest spread before 10 m have the mean of a wall."""
    prob = fit(Rendering(background="exit"), wall_rays())
    assert bool((first_occupied_m(prob) > 10.4 + 1e-4).all())
    opaque = fit(Rendering(background="exit", opacity=0.1), wall_rays())
    assert float(opaque[26:, 3:7, 3:7].mean()) > float(prob[26:, 3:7, 3:7].mean())


def test_camera_z_pulls_the_wall_nearer():
    """A2: z is shorter than the way by the cosine; at 45 degrees 10 m of way are 7.07 m of z."""
    rays = wall_rays()
    cosine = rays.directions[:, 0]
    published = replace(rays, depth_m=rays.depth_m * cosine)
    assert float((published.depth_m / rays.depth_m).min()) < 0.97
    torch.testing.assert_close(published.depth_m, torch.full_like(cosine, 10.0))


# ------------------------------------------------------------------------------------------------------- terms


def straight(count: int = 1, depth_m: float = 10.2, **known) -> Rays:
    """Rays along x through the middle of voxels (y = z = 0.2)."""
    origins = torch.tensor([[0.0, 0.2, 0.2]] * count)
    return rays_of(origins, origins + torch.tensor([depth_m, 0.0, 0.0]), **known)


def solid_at(*cells: int, channels: int = 1) -> Tensor:
    """Nothing but full voxels at these places along x."""
    volume = torch.zeros(1, channels, *GRID.shape)
    volume[:, 0] = -30.0
    volume[:, 0, list(cells)] = 30.0
    return volume


def test_geometry_by_hand():
    """A full voxel from 10.0 to 10.4 m. Its extinction is 30 / 0.4 m: the mean depth is 10 + 0.4 / 30 = 10.0133 m."""
    rays = straight(depth_m=10.2)
    supervision = Rendering(depth=1.0, depth_loss="mse", ending=1.0, opacity=1.0, tolerance_m=0.4)
    terms = supervision(volume_scene(solid_at(25)), batch_with(rays))
    assert float(terms["render/depth"]) == pytest.approx((10.2 - 10.01333) ** 2, rel=1e-3)
    assert float(terms["render/ending"]) == pytest.approx(0.0, abs=1e-4)
    assert float(terms["render/opacity"]) == pytest.approx(0.0, abs=1e-4)


def test_half_a_wall_twice_has_the_right_mean_and_the_wrong_end():
    """Voxels 15 and 35 with opacity 0.5 and 1: the mean depth is about 10 m, yet no ray ends there."""
    volume = solid_at(35)
    volume[:, 0, 15] = 0.0
    rays = straight(depth_m=10.1)
    terms = Rendering(depth=1.0, ending=1.0)(volume_scene(volume), batch_with(rays))
    assert float(terms["render/depth"]) < 0.1
    assert float(terms["render/ending"]) > 5.0


def test_the_chance_of_an_end_spreads_evenly_inside_a_segment():
    """The voxel of 10.0 to 10.4 m stops everything; a window of 10.3 +- 0.1 covers half of it, 10.2 +- 0.4 all."""
    followed = march(volume_scene(solid_at(25)), GRID, straight(), None, Optics())
    assert float(ending_chance(followed, torch.tensor([10.3]), 0.1)) == pytest.approx(0.5, abs=1e-3)
    assert float(ending_chance(followed, torch.tensor([10.2]), 0.4)) == pytest.approx(1.0, abs=1e-3)
    assert float(ending_chance(followed, torch.tensor([3.0]), 0.4)) == pytest.approx(0.0, abs=1e-3)


def test_a_ray_that_leaves_the_grid_wants_nothing_in_its_way():
    rays = straight(depth_m=30.0)
    supervision = Rendering(RayChoice(RayGeometry(outside="keep")), depth=1.0, ending=1.0, opacity=1.0)
    empty = supervision(volume_scene(solid_at()), batch_with(rays))
    blocked = supervision(volume_scene(solid_at(20)), batch_with(rays))
    assert float(empty["render/opacity"]) == pytest.approx(0.0, abs=1e-4)
    assert float(blocked["render/opacity"]) > 5.0
    assert float(blocked["render/depth"]) == float(blocked["render/ending"]) == 0.0  # nothing returned from inside


def test_the_background_counts_or_not():
    """Thin air: as published the depth is 0; by default it is where the ray leaves, 16 m."""
    rays, air = straight(depth_m=10.0), volume_scene(solid_at())
    terms = [
        Rendering(depth=1.0, depth_loss="mse", background=kind)(air, batch_with(rays)) for kind in ("none", "exit")
    ]
    assert [float(t["render/depth"]) for t in terms] == pytest.approx([100.0, 36.0], rel=1e-4)


def test_behind_the_return_nothing_is_read():
    rays = straight(depth_m=10.2)
    whole = march(volume_scene(solid_at()), GRID, rays, None, Optics())
    short = march(volume_scene(solid_at()), GRID, rays, None, Optics(behind_m=2.0))
    assert (len(whole.segments), len(short.segments)) == (40, 31)
    assert float(short.segments.exit_m) == pytest.approx(12.2)
    assert float(march(volume_scene(solid_at()), GRID, rays, None, Optics(far_m=4.1)).segments.exit_m) == pytest.approx(
        4.1
    )


@pytest.mark.parametrize("blend", ["logits", "probs"])
def test_classes_by_hand(blend):
    """Half of the ray ends at class 0 (logits 4, 0), half behind it at class 1 (0, 4); what was seen is class 0."""
    volume = solid_at(25, channels=3)
    volume[:, 0, 20] = 0.0  # opacity 0.5
    volume[:, 1, 20] = volume[:, 2, 25] = 4.0
    rays = straight(label=torch.tensor([0]))
    term = Rendering(depth=0.0, semantic=1.0, blend=blend)(volume_scene(volume, semantic=(1, 3)), batch_with(rays))
    assert set(term) == {"render/semantic"}
    # Logits: (2, 2), so log 2. Probabilities: 0.5 * 0.982 + 0.5 * 0.018 = 0.5, log 2 too.
    assert float(term["render/semantic"]) == pytest.approx(math.log(2.0), abs=1e-3)


def test_blended_probabilities_are_not_shouted_down():
    """Nine tenths of a ray end at a class that is only just class 0, a tenth behind it at a certain class 1."""
    volume = solid_at(25, channels=3)
    volume[:, 0, 20] = math.log(9.0)
    volume[:, 1, 20], volume[:, 2, 25] = 2.0, 40.0
    scene, rays = volume_scene(volume, semantic=(1, 3)), straight(label=torch.tensor([0]))
    probs, logits = (
        float(Rendering(depth=0.0, semantic=1.0, blend=blend)(scene, batch_with(rays))["render/semantic"])
        for blend in ("probs", "logits")
    )
    assert probs == pytest.approx(-math.log(0.9 * 0.8808), abs=1e-3)
    assert logits == pytest.approx(math.log1p(math.exp(4.0 - 1.8)), abs=1e-3)  # as if class 1 had been seen


def test_rays_without_a_label_teach_no_class():
    volume = torch.randn(1, 3, *GRID.shape, generator=generator()).requires_grad_()
    supervision = Rendering(depth=0.0, semantic=1.0)
    for rays in (straight(), straight(label=torch.tensor([IGNORED]))):
        scene = volume_scene(volume, semantic=(1, 3))
        scene.heads["semantic"].scale.requires_grad_()
        term = supervision(scene, batch_with(rays))["render/semantic"]
        assert float(term.detach()) == 0.0
        term.backward()
        assert float(scene.heads["semantic"].scale.grad) == 0.0


@pytest.mark.parametrize("kind", ["cosine", "langocc"])
def test_language_is_blended_and_made_unit(kind):
    """Halves of a ray end at (1, 0) and (0, 1) of any length: together (1, 1) / sqrt 2, the teacher says (1, 0)."""
    volume = solid_at(25, channels=3)
    volume[:, 0, 20] = 0.0
    volume[:, 1, 20], volume[:, 2, 25] = 3.0, 0.1
    rays = straight(2, feature=torch.tensor([[1.0, 0.0], [0.0, 0.0]]))  # the teacher says nothing of the second
    supervision = Rendering(depth=0.0, language=1.0, language_loss=kind)
    term = float(supervision(volume_scene(volume, language=(1, 3)), batch_with(rays))["render/language"])
    cosine = math.sqrt(0.5)
    assert term == pytest.approx(1 - cosine if kind == "cosine" else (2 - 2 * cosine) ** 2, abs=1e-3)


def test_features_are_read_where_rays_end_and_nowhere_else():
    read = []

    def semantic(rows: Tensor) -> Tensor:
        read.append(rows)
        return rows[:, :2] * 0.0

    class Spy(nn.Module):
        def forward(self, rows):
            return semantic(rows)

    field = CoordinateField(GRID, 0, 1)
    solid = nn.Module()
    solid.forward = lambda rows: torch.where(rows[:, :1] > 0.25, 30.0, -30.0)  # type: ignore[method-assign]
    scene = Scene(field, {"density": solid, "semantic": Spy()}, 1)
    rays = straight(5, label=torch.zeros(5, dtype=torch.int64))
    Rendering(depth=0.0, semantic=1.0)(scene, batch_with(rays))
    assert [len(rows) for rows in read] == [1]


def test_every_voxel_is_read_once():
    rows = []

    class Spy(nn.Module):
        def forward(self, features):
            rows.append(len(features))
            return features[:, :1]

    march(Scene(CoordinateField(GRID, 0, 1), {"density": Spy()}, 1), GRID, straight(7), None, Optics())
    assert rows == [40]


def test_class_weights_count_for_depth_when_published():
    rays = straight(2, weight=torch.tensor([3.0, 1.0]))
    rays = replace(rays, depth_m=torch.tensor([12.0133, 10.0133]))
    plain, weighed = (
        float(supervision(volume_scene(solid_at(25)), batch_with(rays))["render/depth"])
        for supervision in (Rendering(depth=1.0, depth_loss="mse", weigh_depth=w) for w in (False, True))
    )
    assert (plain, weighed) == pytest.approx((2.0, 3.0), rel=1e-3)


def test_a_plain_average_divides_by_the_number_of_rays():
    """Squares 4 and 0 of rays that weigh 3 and 1: 12 / 4 weighted, 12 / 2 plain; two classes alike cost log 2."""
    rays = straight(2, weight=torch.tensor([3.0, 1.0]), label=torch.tensor([0, 0]))
    rays = replace(rays, depth_m=torch.tensor([12.0133, 10.0133]))
    for average, depth, entropy in (("weighted", 3.0, 1.0), ("plain", 6.0, 2.0)):
        signal = Rendering(depth=1.0, depth_loss="mse", weigh_depth=True, average=average, semantic=1.0, blend="logits")
        terms = signal(volume_scene(solid_at(25, channels=3), semantic=(1, 3)), batch_with(rays))
        assert float(terms["render/depth"]) == pytest.approx(depth, rel=1e-3)
        assert float(terms["render/semantic"]) == pytest.approx(entropy * math.log(2.0), rel=1e-4)


# ------------------------------------------------------------------------------------------------------ motion


def driving(then_x: float | None = 5.0, now_x: float | None = 9.0, label: int = 1) -> Motion:
    """At the keyframes beside, a thing 2 m long stood around x = 5 m; now it stands 4 m further on."""
    place = [[0.0 if x is None else x, 0.0, 0.2] for x in (then_x, now_x)] * 2
    then, now = torch.tensor(place[::2]), torch.tensor(place[1::2])
    pairs = BoxPairs(
        group=torch.tensor([0, 1]),
        center_then=then,
        yaw_then=torch.zeros(2),
        center_now=now,
        yaw_now=torch.zeros(2),
        half_m=torch.tensor([[1.0, 1.5, 1.5]] * 2),
        label=torch.tensor([label] * 2),
        has_then=torch.tensor([then_x is not None] * 2),
        has_now=torch.tensor([now_x is not None] * 2),
    )
    return Motion.of_pairs(GRID, (-1, 1), 1, pairs, margin_m=0.0)


def car_and_wall(channels: int = 3) -> Tensor:
    """Now a car from 8 to 10 m, a wall from 12 m on. Class 1 and class 0."""
    volume = solid_at(*range(20, 25), *range(30, 40), channels=channels)
    volume[:, 2, 20:25] = volume[:, 1, 30:] = 5.0
    return volume


def depth_m(rays: Rays, motion: Motion | None, optics: Optics | None = None) -> list[float]:
    followed = march(volume_scene(car_and_wall(), semantic=(1, 3)), GRID, rays, motion, optics or Optics())
    return followed.weights.moment_m.tolist()


def test_flow_puts_things_where_they_were_and_takes_them_from_where_they_are():
    """The ray of now sees the car at 8 m. That of another keyframe sees it at 4 m."""
    rays = straight(2, offset=torch.tensor([0, 1]))
    assert depth_m(rays, driving()) == pytest.approx([8.0, 4.0], abs=0.05)
    assert depth_m(rays, None) == pytest.approx([8.0, 8.0], abs=0.05)


def test_where_no_car_is_predicted_nothing_moves():
    """Published: a box moves voxels of its class only. Here the box is said to be of class 0, so the car stays."""

    rays = straight(2, offset=torch.tensor([0, 1]))
    assert depth_m(rays, driving(), Optics(match_class=True)) == pytest.approx([8.0, 4.0], abs=0.05)
    assert depth_m(rays, driving(label=0), Optics(match_class=True)) == pytest.approx([8.0, 8.0], abs=0.05)
    found = driving(label=UNLABELLED)  # in the sweeps: nobody knows what it is
    assert depth_m(rays, found, Optics(match_class=True)) == pytest.approx([8.0, 4.0], abs=0.05)


def test_a_filter_by_boxes_looks_through_what_moves():
    """The same boxes, not followed: the ray of another keyframe sees the wall, whatever is predicted."""
    rays = straight(2, offset=torch.tensor([0, 1]))
    assert depth_m(rays, driving(), Optics(follow=False)) == pytest.approx([8.0, 12.0], abs=0.05)


def test_the_filter_looks_through_what_is_predicted_to_move():
    """Spec 3.2, second half: rays of other keyframes see no car; the ray of now does."""
    rays = straight(2, offset=torch.tensor([0, -1]))
    assert depth_m(rays, None, Optics(transparent=(1,))) == pytest.approx([8.0, 12.0], abs=0.05)


@pytest.mark.parametrize("transparent", [(), (1,)])
def test_with_the_filter_a_moved_thing_gets_no_gradient_from_other_keyframes(transparent):
    """Acceptance 8."""
    volume = car_and_wall().requires_grad_()
    rays = straight(1, depth_m=12.2, offset=torch.tensor([1]))
    volume.data[:, 0, 20:25] = 1.0  # not quite solid, so that light and gradients pass
    scene = volume_scene(volume, semantic=(1, 3))
    sum(Rendering(depth=1.0, optics=Optics(transparent=transparent))(scene, batch_with(rays)).values()).backward()
    assert bool(volume.grad[0, 0, 20:25].any()) is (not transparent)
    assert bool(volume.grad[0, 0, 30:].any())


def test_returns_without_a_counterpart_are_left_out():
    """At the other keyframe a thing stood where the ray ended that is nowhere now."""
    rays = straight(2, depth_m=8.2, offset=torch.tensor([0, 1]))
    terms = Rendering(depth=1.0, depth_loss="mse", motion=lambda batch: Unknown())(
        volume_scene(car_and_wall()), batch_with(rays)
    )
    assert float(terms["render/depth"]) == pytest.approx(0.187**2, rel=0.05)  # that of now alone


# -------------------------------------------------------------------------------------------------- whole batch


def test_a_batch_of_two_is_the_mean_of_two_of_one():
    volumes = torch.randn(2, 4, *GRID.shape, generator=generator())
    labels = torch.arange(3)
    own = [straight(3, depth_m=depth, label=labels) for depth in (6.2, 11.0)]
    both = Rays(**{name: torch.cat([getattr(r, name) for r in own]) for name in ("origins", "directions", "depth_m",
        "offset", "time_s", "weight", "label")}, batch=torch.tensor([0, 0, 0, 1, 1, 1]))  # fmt: skip
    supervision = Rendering(ending=1.0, opacity=1.0, distortion=1.0, semantic=1.0)
    one, two = (supervision(volume_scene(volumes[i : i + 1], semantic=(1, 4)), batch_with(own[i])) for i in range(2))
    together = supervision(volume_scene(volumes, semantic=(1, 4)), batch_with(both))
    assert set(together) == {f"render/{n}" for n in ("depth", "ending", "opacity", "distortion", "semantic")}
    for name in together:
        torch.testing.assert_close(together[name], (one[name] + two[name]) / 2)


def test_no_ray_at_all():
    volume = torch.randn(1, 4, *GRID.shape, generator=generator()).requires_grad_()
    rays = straight(3, label=torch.zeros(3, dtype=torch.int64), feature=torch.ones(3, 2))
    none = Rays(**{name: getattr(rays, name)[:0] for name in Rays.__dataclass_fields__})
    supervision = Rendering(ending=1.0, opacity=1.0, distortion=1.0, semantic=1.0, language=1.0)
    scene = volume_scene(volume, semantic=(1, 4), language=(1, 3))
    for head in scene.heads.values():
        head.scale.requires_grad_()
    total = torch.stack(list(supervision(scene, batch_with(none)).values())).sum()
    total.backward()
    assert float(total.detach()) == 0.0
    assert all(head.scale.grad is not None for head in scene.heads.values())


def test_prepare_chooses_rays_of_the_batch():
    supervision = Rendering(RayChoice(RayGeometry(origin="camera"), rays_per_sample=50))
    batch = supervision.prepare(collate([make_sample()], GRID), generator())
    assert len(batch.targets.rays.depth_m) <= 50
    assert batch.targets.rays.label is not None
