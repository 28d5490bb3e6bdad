"""The rendering signal as released: the official renderer's recorded losses and gradients, from rays to terms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_rendering import batch_with, volume_scene
from torch import Tensor

from lexivox.config import RenderingConfig
from lexivox.data.types import Rays
from lexivox.geometry.grid import VoxelGrid
from lexivox.recipes import occflownet_2d, released
from lexivox.recipes.occflownet import MOVING
from lexivox.supervision.rendering import Rendering

NAMES = {
    "render/depth": "loss_render_depth",
    "render/semantic": "loss_render_semantics",
    "render/distortion": "loss_dist",
}


class Golden:
    """One recorded run of the official renderer as a scene and rays, in our order of axes."""

    def __init__(self, folder: Path, part: str):
        with np.load(folder / "occflownet_render.npz", allow_pickle=False) as archive:
            self.settings = {n: archive[f"settings/{n}"] for n in ("pc_range", "near_far", "proposal_fine_samples")}
            names = [n for n in archive.files if n.startswith(part)]
            self.case = {n.removeprefix(f"{part}/"): torch.from_numpy(archive[n]) for n in names}
        x, y, z = self.settings["pc_range"][:3].tolist()
        self.grid = VoxelGrid((x, y, z), (0.4, 0.4, 0.4), (22, 22, 8), "ego")
        self.density, self.logits = (self.volume(n).requires_grad_() for n in ("density", "semantic_logits"))

    def __getitem__(self, name: str) -> Tensor:
        return self.case[name]

    def volume(self, name: str) -> Tensor:
        return self[name].permute(0, 4, 3, 2, 1).contiguous()

    def rays(self, now: int) -> Rays:
        """Frames are numbered; the current one is ``now``."""
        item, frame, camera = self["ray_batch_frame_cam"].long().T
        label = self["ray_class_label"].long()
        return Rays(
            origins=self["ray_origins_table"][item, frame, camera],
            directions=self["ray_directions"],
            depth_m=self["ray_depth_label"],
            batch=item,
            offset=frame - now,
            time_s=0.5 * (frame - now),
            weight=self["class_weight"][label],
            label=label,
        )

    def signal(self) -> Rendering:
        """The released recipe's, at the sizes of the recording."""
        config = released(occflownet_2d()).supervision[0]
        assert isinstance(config, RenderingConfig)
        (near, far), (proposals, samples) = (self.settings[n].tolist() for n in ("near_far", "proposal_fine_samples"))
        sampling = {"near_m": near, "far_m": far, "num_proposals": proposals, "num_samples": samples}
        light = {"sampling": config.sampling.model_copy(update=sampling), "eps": 0.0, "distortion": 0.01}
        return config.model_copy(update=light).build()

    def terms(self, signal: Rendering, now: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
        volume = torch.cat([torch.logit(self.density), self.logits], dim=1)
        batch = batch_with(self.rays(now), self.grid)
        monkeypatch.setattr(torch, "rand", lambda *shape, **options: self["jitter_uniform01"])
        return signal(volume_scene(volume, self.grid, semantic=(1, 18)), batch)


@pytest.mark.parametrize("part", ["plain", "filter"])
def test_official_losses_and_gradients(part, golden, monkeypatch):
    """Classes that move are looked through from the frames before and after (1 is the current one of three)."""
    official = Golden(golden, part)
    signal = official.signal()
    assert signal.optics.transparent == tuple(official.case.get("ignored_classes", torch.tensor(MOVING)).tolist())
    terms = official.terms(signal, int(part == "filter"), monkeypatch)
    expected = {name: official[theirs] for name, theirs in NAMES.items() if theirs in official.case}
    for name, value in expected.items():
        torch.testing.assert_close(terms[name].detach(), value, atol=0.0, rtol=1e-4)
    total = torch.stack([terms[name] for name in expected]).sum()
    slopes = torch.autograd.grad(total, (official.density, official.logits))
    for ours, name in zip(slopes, ("grad_density", "grad_semantic_logits"), strict=True):
        theirs = official.volume(name)
        torch.testing.assert_close(ours, theirs, atol=2e-3 * float(theirs.abs().max()), rtol=0.0)


@pytest.mark.parametrize("change", [{"average": "weighted"}, {"weigh_depth": False}, {"blend": "probs"}])
def test_the_choices_are_needed_for_the_numbers(change, golden, monkeypatch):
    official = Golden(golden, "plain")
    terms = official.terms(replace(official.signal(), **change), 0, monkeypatch)
    gaps = [abs(float(terms[n].detach()) / float(official[t]) - 1.0) for n, t in NAMES.items()]
    assert max(gaps) > 1e-3
