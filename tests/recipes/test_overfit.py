"""Small recipes learn a tiny synthetic drive by heart, large ones take a step: the whole of training, in seconds."""

from __future__ import annotations

import math

import pytest
import torch

from lexivox.config import NuscenesData, StreetTeacherConfig
from lexivox.config_text import with_overrides
from lexivox.data.datasets import open_dataset
from lexivox.data.synthetic import DriveSpec, write_nuscenes
from lexivox.experiment import Experiment, load
from lexivox.geometry.grid import VoxelGrid
from lexivox.recipes import RECIPES, occflownet_2d, occflownet_2d_flow, occflownet_2d_flow_3d, released, weak
from lexivox.supervision.scene_flow import SceneFlow
from lexivox.train.log import read_log
from lexivox.train.loop import LOG_FILE

SMALL = (
    "grid.voxel_size_m=[1.6, 1.6, 1.6]",
    "grid.shape=[32, 32, 4]",
    "encoder.image.image_hw=[96, 176]",
    "encoder.triplane.coarsen=1",
    "data.val_split=train",
    "augment={mirror_prob: 0.0, color: 0.0}",
    "train.steps=45",
    "train.warmup_steps=5",
    "train.backbone_lr_scale=1.0",
    "train.checkpoint_every=1000",
)


@pytest.fixture(scope="module")
def city(tmp_path_factory):
    root = tmp_path_factory.mktemp("overfit") / "city"
    config = with_overrides(RECIPES["weak_tiny"](str(root)), SMALL)
    write_nuscenes(root, [DriveSpec(7, 3, "train")], image_hw=(96, 176), grid=config.grid.build())
    return root


def learnt(name: str, city, folder, *overrides: str):
    """First and last mean of the terms of a run, and its scores on what it was trained on."""
    config = with_overrides(RECIPES[name](str(city)), [*SMALL, *overrides])
    experiment = Experiment(config, folder)
    model = experiment.train()
    log = read_log(folder / LOG_FILE)
    first, last = (
        {term: sum(row[term] for row in rows) / len(rows) for term in rows[0]} for rows in (log[:5], log[-5:])
    )
    scored = experiment.evaluate(model).rows[0].scores
    return first, last, next(s.values for s in scored if s.protocol == "pop3d-occupancy/exact")


@pytest.mark.slow
def test_ray_queries_and_language_learn_a_drive(city, tmp_path):
    first, last, values = learnt("weak_tiny", city, tmp_path)
    assert last["loss"] < 0.5 * first["loss"]
    assert last["rays/hit"] + last["rays/free"] < 0.3
    assert values["iou_occupied"] > 0.5
    assert values["iou_free"] > 0.8
    assert values["miou_present_occupied"] > 0.12  # asked in words


@pytest.mark.slow
def test_rendering_and_voxels_learn_a_drive(city, tmp_path):
    first, last, values = learnt("occflownet_tiny", city, tmp_path)
    assert last["loss"] < 0.4 * first["loss"]
    assert last["render/ending"] < 0.5 * first["render/ending"]
    assert values["iou_occupied"] > 0.5
    assert values["iou_free"] > 0.8
    assert values["miou_present_occupied"] > 0.18
    prediction = load(tmp_path).predict(open_dataset("nuscenes", city, "train")[0])
    assert torch.equal(prediction.labels() == 17, prediction.occupancy <= 0.5)


def test_what_moves_is_sought_once_for_all_runs(city, tmp_path, monkeypatch):
    """Shown while it is sought; the next run, and every data worker, reads it."""
    config, cache = with_overrides(RECIPES["weak_tiny"](str(city)), [*SMALL, "train.steps=2"]), tmp_path / "cache"
    shown: list[tuple[str, int, int]] = []
    Experiment(config, tmp_path / "first", cache).make_targets(lambda *progress: shown.append(progress))
    assert [row for row in shown if row[0] == "finding what moves"] == [("finding what moves", n, 3) for n in (1, 2, 3)]
    monkeypatch.setattr(SceneFlow, "things", lambda *_: pytest.fail("sought again"))
    Experiment(config, tmp_path / "second", cache).train()


SHRUNK = (
    "grid.voxel_size_m=[1.6, 1.6, 1.6]",
    "grid.shape=[50, 50, 4]",
    "encoder.image.image_hw=[64, 176]",
    "encoder.image.weights=null",
    "encoder.image.channels=32",
    "encoder.bins.count=22",
    "encoder.depth_net.channels=32",
    "train.steps=1",
    "train.batch_size=1",
    "train.workers=0",
    "queries={}",
    "vocabulary={}",
)
"""A full-size recipe with every part it has, at a twentieth of the numbers."""


@pytest.fixture(scope="module")
def wide_city(tmp_path_factory):
    root = tmp_path_factory.mktemp("wide") / "city"
    grid = VoxelGrid((-40.0, -40.0, -1.0), (1.6, 1.6, 1.6), (50, 50, 4), "ego")
    write_nuscenes(root, [DriveSpec(5, 4, "train")], image_hw=(180, 320), grid=grid)
    return root


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe", [occflownet_2d, occflownet_2d_flow, lambda r: released(occflownet_2d_flow_3d(r)), weak]
)
def test_a_full_size_recipe_takes_a_step(recipe, wide_city, tmp_path):
    """Stereo over keyframes, jittered images, rays of seven keyframes, flow or filter, voxels: all at once."""
    config = recipe(str(wide_city))
    teacher = config.teacher and StreetTeacherConfig()
    config = config.changed(data=NuscenesData(root=str(wide_city), synthetic=True), teacher=teacher)
    terms: list[dict[str, float]] = []
    model = Experiment(with_overrides(config, SHRUNK), tmp_path).train(lambda step, steps, logged: terms.append(logged))
    assert all(math.isfinite(value) for value in terms[0].values())
    prediction = model.predict(open_dataset("nuscenes", wide_city, "train")[1])
    assert bool(torch.isfinite(prediction.occupancy).all())
