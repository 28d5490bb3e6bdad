"""Rendering by samples: the official renderer's recorded numbers, and what is repaired by default."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck

from lexivox.geometry.grid import VoxelGrid
from lexivox.ops.render import distortion_loss, render_weights
from lexivox.ops.render_sampled import (
    PUBLISHED,
    Sampling,
    edges_between,
    importance_samples,
    proposal_edges,
    read_extinction,
    render_sampled,
    segments_from_edges,
)
from lexivox.ops.render_volume import Rendered, render_volume, without_classes

GRID = VoxelGrid((-4.0, -2.0, -1.0), (0.5, 0.5, 0.5), (16, 8, 4), "ego")


class Golden:
    """One recorded run of the official renderer, in our order of axes."""

    def __init__(self, folder: Path, part: str):
        with np.load(folder / "occflownet_render.npz", allow_pickle=False) as archive:
            settings = {n: archive[f"settings/{n}"] for n in ("pc_range", "near_far", "proposal_fine_samples")}
            names = [n for n in archive.files if n.startswith(part)]
            self.case = {n.removeprefix(f"{part}/"): torch.from_numpy(archive[n]) for n in names}
        x, y, z = settings["pc_range"][:3].tolist()
        self.grid = VoxelGrid((x, y, z), (0.4, 0.4, 0.4), (22, 22, 8), "ego")
        near_far, numbers = settings["near_far"].tolist(), settings["proposal_fine_samples"].tolist()
        self.sampling = replace(
            PUBLISHED, near_m=near_far[0], far_m=near_far[1], num_proposals=numbers[0], num_samples=numbers[1]
        )
        self.density = self.volume("density")[:, 0].requires_grad_()
        self.logits = self.volume("semantic_logits").requires_grad_()
        self.batch, self.frame, camera = self["ray_batch_frame_cam"].long().T
        self.origins = self["ray_origins_table"][self.batch, self.frame, camera]
        self.extinction, self.seen = self.density, self.batch
        if part == "filter":  # rays of the frames before and after look at the copy without moving classes
            static = without_classes(self.density, self.logits, self["ignored_classes"])
            self.extinction = torch.cat([self.density, static])
            self.seen = self.batch + 2 * (self.frame != 1)

    def __getitem__(self, name: str) -> Tensor:
        return self.case[name]

    def volume(self, name: str) -> Tensor:
        return self[name].permute(0, 4, 3, 2, 1).contiguous()

    def render(self) -> Rendered:
        rays = self.origins, self["ray_directions"], self.batch
        return render_sampled(
            self.grid,
            self.extinction,
            {"logits": self.logits},
            *rays,
            self.sampling,
            jitter=self["jitter_uniform01"],
            seen=self.seen,
            background="none",
        )

    def losses(self, rendered: Rendered) -> dict[str, Tensor]:
        label = self["ray_class_label"].long()
        weight = self["class_weight"][label]
        entropy = F.cross_entropy(rendered.features["logits"], label, reduction="none")
        losses = {
            "loss_render_depth": 0.05 * (weight * (rendered.depth_m - self["ray_depth_label"]) ** 2).mean(),
            "loss_render_semantics": (weight * entropy).mean(),
        }
        if "loss_dist" in self.case:
            losses["loss_dist"] = 0.01 * distortion_loss(rendered.weights.weight, rendered.segments).mean()
        return losses


@pytest.fixture(params=["plain", "filter"])
def official(request, golden: Path) -> Golden:
    return Golden(golden, request.param)


def near(ours: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(ours.detach().view(expected.shape), expected, atol=tolerance, rtol=0.0)


def test_official_proposals(official: Golden) -> None:
    edges = proposal_edges(len(official.batch), official.sampling, official["jitter_uniform01"], like=official.origins)
    near(edges[:, :-1], official["proposal_t_start"], 1e-4)
    proposals = segments_from_edges(edges)
    xyz = proposals.middles(official.origins, official["ray_directions"])
    read = read_extinction(official.grid, official.extinction, xyz, official.seen[proposals.ray], official.sampling)
    near(read, official["proposal_density"], 1e-4)
    near(render_weights(read, proposals).transmittance, official["proposal_transmittance"], 1e-4)


def test_official_rendering(official: Golden) -> None:
    rendered = official.render()
    near(rendered.segments.start_m, official["sample_t_start"], 1e-4)
    near(rendered.segments.stop_m, official["sample_t_end"], 1e-4)
    near(rendered.weights.weight, official["sample_weight"], 1e-4)
    near(rendered.depth_m, official["depth"], 5e-4)
    near(rendered.features["logits"], official["semantics"], 5e-4)


def test_official_losses_and_gradients(official: Golden) -> None:
    losses = official.losses(official.render())
    for name, loss in losses.items():
        torch.testing.assert_close(loss.detach(), official[name], atol=0.0, rtol=1e-4)
    total = torch.stack(list(losses.values())).sum()
    gradients = torch.autograd.grad(total, (official.density, official.logits))
    for ours, name in zip(gradients, ("grad_density", "grad_semantic_logits"), strict=True):
        expected = official.volume(name)
        near(ours, expected, 2e-3 * float(expected.abs().max()))


def test_official_filter_takes_moving_classes_out(golden: Path) -> None:
    official = Golden(golden, "filter")
    assert torch.equal(official.extinction[2:].detach(), official.volume("static_density")[:, 0])


def test_the_filter_is_needed_for_the_numbers(golden: Path) -> None:
    """A check that can fail: with one density for all frames the recorded depth is missed by metres."""
    official = Golden(golden, "filter")
    official.seen = official.batch
    assert (official.render().depth_m.detach() - official["depth"]).abs().max() > 0.5


@pytest.mark.parametrize("change", [{"grid_align": "centers"}, {"leftover": "spread"}])
def test_the_switches_are_needed_for_the_numbers(golden: Path, change: dict[str, str]) -> None:
    official = Golden(golden, "plain")
    official.sampling = replace(official.sampling, **change)
    assert (official.render().depth_m.detach() - official["depth"]).abs().max() > 0.05


def some_rays(count: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    origins = torch.randn(count, 3, generator=generator) * torch.tensor([1.5, 0.8, 0.3])
    towards = F.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    return origins, towards, torch.arange(count) % 2


def test_thin_air_is_sampled_evenly_and_as_published_only_at_its_end() -> None:
    sampling = Sampling(num_proposals=10, num_samples=20, far_m=10.05)
    edges = proposal_edges(3, sampling, None, like=torch.zeros(1))
    air = render_weights(torch.zeros(30), segments_from_edges(edges))
    even = importance_samples(edges, air, sampling)
    torch.testing.assert_close(even[0], 0.05 + (torch.arange(20) + 0.5) / 2)
    last = importance_samples(edges, air, replace(sampling, leftover="last"))
    assert (last >= 9.05).all()
    borders = edges_between(even, sampling)
    assert borders[0, 0] == pytest.approx(0.05)
    assert borders[0, -1] == pytest.approx(10.05)


def test_centres_are_read_exactly_and_as_published_shifted() -> None:
    """A3: half a voxel at the border, nothing in the middle, 0.15 m in between on the published grid."""
    volume = torch.rand(1, *GRID.shape, generator=torch.Generator().manual_seed(0))
    index = torch.cartesian_prod(*map(torch.arange, GRID.shape))
    centers, batch = GRID.xyz_from_index(index), torch.zeros(len(index)).long()
    read = read_extinction(GRID, volume, centers, batch, Sampling())
    torch.testing.assert_close(read, volume.flatten())
    corner = torch.tensor([GRID.lower_m]) + 1e-6
    assert read_extinction(GRID, volume, corner, batch[:1], Sampling()) == pytest.approx(float(volume[0, 0, 0, 0]))
    assert read_extinction(GRID, volume, corner - 1e-3, batch[:1], Sampling()) == 0.0
    # the published grid reads, at the centre of voxel 0, a sixteenth of voxel 0's neighbour: 15 / 16 of a voxel a step
    ramp = torch.arange(16.0).view(1, 16, 1, 1).expand(1, *GRID.shape).contiguous()
    shifted = read_extinction(GRID, ramp, centers, batch, replace(PUBLISHED)).view(GRID.shape)[:, 4, 2]
    assert float(shifted[0]) == pytest.approx(0.5 * 15 / 16, abs=1e-5)
    assert float(shifted[8]) == pytest.approx(8.5 * 15 / 16, abs=1e-5)


def test_samples_come_near_the_exact_integral() -> None:
    """Of a volume that is the same everywhere, where interpolation changes nothing."""
    volume = torch.full((2, *GRID.shape), 0.7)
    origins, towards, batch = some_rays()
    sampling = Sampling(num_proposals=200, num_samples=400, far_m=12.0)
    logits = torch.ones(2, 3, *GRID.shape)
    ours = render_sampled(GRID, volume, {"f": logits}, origins, towards, batch, sampling, background="none")
    exact = render_volume(
        GRID, volume, {"f": logits}, origins, towards, batch, 12.0, density="sigmoid_per_metre", background="none"
    )
    torch.testing.assert_close(ours.opacity, exact.opacity, atol=0.03, rtol=0.0)
    torch.testing.assert_close(ours.depth_m, exact.depth_m, atol=0.06, rtol=0.0)
    torch.testing.assert_close(ours.features["f"], ours.opacity[:, None].expand(-1, 3), atol=1e-5, rtol=0.0)


def test_background_and_jitter() -> None:
    origins, towards, batch = some_rays()
    empty = torch.zeros(2, *GRID.shape)
    rendered = render_sampled(GRID, empty, {}, origins, towards, batch, Sampling(far_m=9.0))
    assert rendered.depth_m.tolist() == [9.0] * 40
    moved = proposal_edges(40, Sampling(), torch.full((40, 49), 0.999), like=origins)
    still = proposal_edges(40, Sampling(), None, like=origins)
    assert torch.equal(moved[:, [0, -1]], still[:, [0, -1]])
    torch.testing.assert_close(moved[:, 1:-1] - still[:, 1:-1], torch.full((40, 49), 0.499 * 39.95 / 50))


def test_each_ray_sees_its_own_sample_whatever_the_batch() -> None:
    origins, towards, batch = some_rays()
    generator = torch.Generator().manual_seed(1)
    volume = torch.rand(2, *GRID.shape, generator=generator)
    logits = torch.randn(2, 4, *GRID.shape, generator=generator)
    both = render_sampled(GRID, volume, {"f": logits}, origins, towards, batch)
    for sample in range(2):
        own = batch == sample
        alone = render_sampled(
            GRID,
            volume[sample : sample + 1],
            {"f": logits[sample : sample + 1]},
            origins[own],
            towards[own],
            torch.zeros(20).long(),
        )
        torch.testing.assert_close(alone.depth_m, both.depth_m[own], atol=1e-5, rtol=0.0)
        torch.testing.assert_close(alone.features["f"], both.features["f"][own], atol=1e-5, rtol=0.0)


def test_no_rays_at_all() -> None:
    nothing = torch.zeros(0, 3)
    volumes = {"f": torch.ones(1, 3, *GRID.shape)}
    rendered = render_sampled(GRID, torch.ones(1, *GRID.shape), volumes, nothing, nothing, torch.zeros(0).long())
    assert rendered.depth_m.shape == (0,)
    assert rendered.features["f"].shape == (0, 3)


@pytest.mark.parametrize("sampling", [PUBLISHED, Sampling()], ids=["published", "default"])
def test_gradcheck(sampling: Sampling) -> None:
    """Where the samples are has no gradient; features read at fixed ones do. Density moves them, so a wall is given."""
    small = VoxelGrid((0.0, 0.0, 0.0), (0.5, 0.5, 0.5), (3, 2, 2), "ego")
    logits = torch.randn(1, 2, 3, 2, 2, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    density = torch.rand(1, 3, 2, 2, generator=torch.Generator().manual_seed(1)).double()
    origins, towards = torch.tensor([[0.1, 0.3, 0.3]]).double(), torch.tensor([[0.96, 0.28, 0.0]]).double()
    sampling = replace(sampling, near_m=0.05, far_m=1.5, num_proposals=6, num_samples=9)
    batch = torch.zeros(1).long()

    def features(logits):
        return render_sampled(small, density, {"f": logits}, origins, towards, batch, sampling).features["f"]

    assert gradcheck(features, logits)
    edges = edges_between(torch.linspace(0.1, 1.4, 9).double()[None], sampling)
    steps = segments_from_edges(edges)

    def depth(density):
        read = read_extinction(small, density, steps.middles(origins, towards), batch[steps.ray], sampling)
        return steps.sum(render_weights(read, steps).weight * steps.middle_m)

    assert gradcheck(depth, density.requires_grad_())
