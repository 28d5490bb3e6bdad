"""A model predicts from images alone, and what must not matter does not."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from helpers import IMAGE_HW, make_sample
from tiny_training import GRID, tiny_model

from lexivox import model as model_module
from lexivox.config import DepthBinsConfig, DepthNetConfig, ImageConfig, LiftSplatConfig, VolumeConfig
from lexivox.data.collate import collate
from lexivox.data.transforms import resize_images, turn
from lexivox.data.types import Clip, LidarSweep, Sample
from lexivox.errors import ConfigError, ShapeError
from lexivox.heads.pointwise import PointwiseHead
from lexivox.model import OccupancyModel
from lexivox.prediction import Prediction

FREE = 3


@pytest.fixture
def model() -> OccupancyModel:
    return tiny_model().eval()


def semantic_model(seed: int = 0) -> OccupancyModel:
    base = tiny_model(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        heads = {"semantic": PointwiseHead(base.encoder.channels, 16, 5)}
    return OccupancyModel(GRID, base.encoder, heads, IMAGE_HW, free_class=FREE).eval()


def same(one, two) -> bool:
    return torch.equal(one.occupancy, two.occupancy) and all(
        torch.equal(one.read_occupied(h), two.read_occupied(h)) for h in ("occupancy", "language")
    )


def test_only_the_images_are_looked_at(model):
    sample = make_sample()
    none = torch.zeros(0, dtype=torch.int64)
    blind = replace(
        sample,
        lidar=LidarSweep(torch.zeros(0, 3), torch.zeros(0), none, none),
        global_from_ego=sample.global_from_ego.inverse(),
        point_labels=None,
        boxes=None,
        point_features=None,
    )
    assert same(model.predict(sample), model.predict(blind))
    dark = replace(sample, views=tuple(replace(v, image=torch.zeros_like(v.image)) for v in sample.views))
    assert not same(model.predict(sample), model.predict(dark))


def test_a_prediction_is_probabilities_on_the_grid(model):
    prediction = model.predict(make_sample())
    assert prediction.token == "sample-0"
    assert prediction.grid == GRID
    assert prediction.occupancy.shape == GRID.shape
    assert 0.0 <= float(prediction.occupancy.min()) <= float(prediction.occupancy.max()) <= 1.0
    logit = model.encode(collate([make_sample()], GRID)).read_dense("occupancy")
    torch.testing.assert_close(prediction.occupancy, logit.softmax(1)[0, 1].detach(), atol=1e-4, rtol=1e-4)


def test_refined_voxels_read_the_same_field(model):
    coarse, fine = model.predict(make_sample()), model.predict(make_sample(), refine=2)
    assert fine.grid == GRID.refine(2)
    assert fine.occupancy.shape == tuple(2 * n for n in GRID.shape)
    centres = GRID.centers().reshape(-1, 3)[::7]
    torch.testing.assert_close(coarse.read_at("language", centres), fine.read_at("language", centres))
    # Three pieces per axis: the middle one has the centre of the whole.
    middle = model.predict(make_sample(), refine=3).occupancy[1::3, 1::3, 1::3]
    torch.testing.assert_close(middle, coarse.occupancy, atol=1e-5, rtol=1e-5)


def test_a_refinement_must_be_a_whole_number(model):
    with pytest.raises(ShapeError):
        model.predict(make_sample(), refine=0)


def test_the_threshold_decides(model):
    sample = make_sample()
    middle = float(model.predict(sample).occupancy.median())
    few, all_ = model.predict(sample, threshold=middle), model.predict(sample, threshold=0.0)
    assert 0 < len(few.occupied_index) < len(all_.occupied_index) == GRID.num_voxels


def test_chunks_change_nothing(model, monkeypatch):
    whole = model.predict(make_sample())
    monkeypatch.setattr(model_module, "CHUNK", 100)
    parts = model.predict(make_sample())
    torch.testing.assert_close(whole.occupancy, parts.occupancy)
    torch.testing.assert_close(whole.read_occupied("language"), parts.read_occupied("language"))


def test_images_are_brought_to_the_models_size(model):
    sample = make_sample()
    tall = replace(sample, views=tuple(replace(v, image=v.image.repeat(1, 2, 1)) for v in sample.views))
    assert model.predict(tall).occupancy.shape == GRID.shape


def test_no_point_at_all(model):
    assert model.predict(make_sample()).read_at("language", torch.zeros(0, 3)).shape == (0, 8)
    assert model.predict(make_sample(), threshold=1.0).read_occupied("language").shape == (0, 8)


# ------------------------------------------------------------------------------------------------- invariances


@torch.no_grad()
@pytest.mark.parametrize("head", ["occupancy", "language"])
def test_a_batch_of_two_equals_two_of_one(model, head):
    samples = [make_sample(0), make_sample(1)]
    together = model.encode(collate(samples, GRID)).read_dense(head)
    for number, sample in enumerate(samples):
        alone = model.encode(collate([sample], GRID)).read_dense(head)
        torch.testing.assert_close(together[number : number + 1], alone, atol=1e-4, rtol=1e-4)


def test_the_order_of_cameras_changes_nothing(model):
    sample = make_sample(num_views=4)
    shuffled = replace(sample, views=tuple(sample.views[i] for i in (2, 0, 3, 1)))
    one, two = model.predict(sample), model.predict(shuffled)
    torch.testing.assert_close(one.occupancy, two.occupancy, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_moving_world_and_grid_together_changes_nothing(quarters):
    """The axes of a car are turned by quarters, and the square grid with them: pixels still read the same.

    Planes and coordinates belong to the axes of the grid, so this is the law of the pixel-aligned parts.
    """
    planar = tiny_model().encoder
    planar.triplane, planar.num_frequencies = None, None
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = OccupancyModel(GRID, planar, {"occupancy": PointwiseHead(planar.channels, 16, 2)}, IMAGE_HW).eval()
    sample = make_sample()
    # The axes turn about the LiDAR: it must stand over the middle of the grid for the grid to fall on itself.
    over_the_middle = replace(sample.ego_from_lidar, translation=torch.tensor([0.0, 0.0, 1.8]).double())
    sample = replace(sample, ego_from_lidar=over_the_middle)
    straight = model.predict(sample)
    turned = model.predict(turn(sample, quarters * math.pi / 2))
    # A voxel at (x, y) before the turn lies at (-y, x) after one quarter.
    expected = torch.rot90(straight.occupancy, quarters, (0, 1))
    torch.testing.assert_close(turned.occupancy, expected, atol=1e-4, rtol=1e-4)


def test_where_the_car_stands_in_the_city_changes_nothing(model):
    sample = make_sample()
    moved = replace(sample, global_from_ego=sample.global_from_ego @ sample.global_from_ego)
    assert same(model.predict(sample), model.predict(moved))


# --------------------------------------------------------------------------------------------- modes and errors


@pytest.mark.parametrize("training", [True, False])
def test_predict_leaves_the_mode_and_the_gradients_alone(training):
    model = tiny_model().train(training)
    prediction = model.predict(make_sample())
    assert all(module.training is training for module in model.modules())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not prediction.occupancy.requires_grad
    assert not prediction.read_occupied("language").requires_grad
    again = model.eval().predict(make_sample())
    assert torch.equal(again.occupancy, prediction.occupancy)


def test_a_frozen_norm_stays_frozen(model):
    model.train()
    model.encoder.image.eval()
    model.predict(make_sample())
    assert not any(module.training for module in model.encoder.image.modules())
    assert model.training


def test_a_failed_prediction_leaves_the_mode(model, monkeypatch):
    def fail(batch):
        raise RuntimeError

    model.train()
    monkeypatch.setattr(model.encoder, "forward", fail)
    with pytest.raises(RuntimeError):
        model.predict(make_sample())
    assert model.training


def test_unknown_heads_are_named(model):
    scene = model.encode(collate([make_sample()], GRID))
    with pytest.raises(ConfigError, match=r"head must be one of \['language', 'occupancy'\]; got 'flow'"):
        scene.read("flow", torch.zeros(1, 3), torch.zeros(1, dtype=torch.int64))
    with pytest.raises(ConfigError, match="got 'semantic'"):
        model.predict(make_sample()).read_at("semantic", torch.zeros(1, 3))
    with pytest.raises(ConfigError, match="must be asked with a vocabulary"):
        model.predict(make_sample()).labels()


def test_a_semantic_head_answers_with_classes():
    model = semantic_model()
    prediction = model.predict(make_sample(), threshold=0.75)
    prob = model.encode(collate([make_sample()], GRID)).read_dense("semantic").softmax(1)[0].detach()
    torch.testing.assert_close(prediction.occupancy, 1.0 - prob[FREE], atol=1e-4, rtol=1e-4)
    labels, occupied = prediction.labels(), prediction.occupancy > 0.75
    assert bool((labels[~occupied] == FREE).all())
    assert bool((labels[occupied] != FREE).all())
    prob[FREE] = -1.0
    assert torch.equal(labels[occupied], prob.argmax(0)[occupied])


def density_model() -> OccupancyModel:
    base = tiny_model()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        heads = {
            "density": PointwiseHead(base.encoder.channels, 16, 1),
            "semantic": PointwiseHead(base.encoder.channels, 16, 5),
        }
    return OccupancyModel(GRID, base.encoder, heads, IMAGE_HW, free_class=5, threshold=0.3).eval()


def test_a_density_head_answers_for_occupancy():
    model = density_model()
    scene = model.encode(collate([make_sample()], GRID))
    xyz, batch = GRID.centers().reshape(-1, 3)[::5], torch.zeros(len(GRID.centers().reshape(-1, 3)[::5])).long()
    logit = scene.read("occupancy", xyz, batch)
    assert not bool(logit[:, 0].any())
    torch.testing.assert_close(logit[:, 1], scene.read("density", xyz, batch)[:, 0])
    prediction = model.predict(make_sample())
    torch.testing.assert_close(prediction.occupancy, scene.read_dense("density")[0, 0].sigmoid(), atol=1e-4, rtol=1e-4)


def test_classes_beside_a_density_head_leave_free_to_it(tmp_path):
    """Five classes and free, which is the sixth: a voxel is free by its probability alone, by the model's threshold."""
    prediction = density_model().predict(make_sample())
    assert prediction.threshold == 0.3
    labels = prediction.labels()
    assert torch.equal(labels == 5, prediction.occupancy <= 0.3)
    assert int(labels.min()) >= 0
    occupied = prediction.occupied_index
    rows = prediction.read_occupied("semantic").argmax(1)
    assert torch.equal(labels[tuple(occupied.T)], rows)
    again = Prediction.load(prediction.save(tmp_path / "map.npz"))
    assert torch.equal(again.labels() == 5, labels == 5)
    assert float((again.labels() == labels).float().mean()) > 0.95  # logits are kept in float16


# -------------------------------------------------------------------------------------------- images of the past


def looking_back() -> OccupancyModel:
    """An encoder that lifts the keyframe before the current one too, and compares each with the one before it."""
    config = LiftSplatConfig(
        image=ImageConfig(image_hw=IMAGE_HW, widths=(8, 8, 8), channels=8, num_levels=1, skip_levels=1),
        bins=DepthBinsConfig(far_m=13.0, count=6),
        depth_net=DepthNetConfig(channels=8, aspp_channels=8),
        context_channels=4,
        volume=VolumeConfig(widths=(4, 8), blocks=(1, 1), joined_channels=4, channels=8),
        past=1,
        stereo=True,
    )
    encoder = config.build(GRID)
    return OccupancyModel(GRID, encoder, {"occupancy": PointwiseHead(8, 16, 2)}, IMAGE_HW).eval()


def occupancy(model: OccupancyModel, sample: Sample | Clip) -> torch.Tensor:
    return model.predict(sample).occupancy


def test_a_clip_brings_the_past_along():
    model, now = looking_back(), make_sample(0)
    assert (model.image_offsets, tiny_model().image_offsets) == ((-2, -1), ())
    past = [replace(make_sample(seed), global_from_ego=now.global_from_ego) for seed in (2, 1)]
    alone = occupancy(model, now)
    torch.testing.assert_close(occupancy(model, Clip(now)), alone)
    seen = occupancy(model, Clip(now, (-2, -1), tuple(past)))
    assert not torch.allclose(seen, alone, atol=1e-5)
    # Keyframes that nobody asked for change nothing, and neither do images that were not brought.
    torch.testing.assert_close(occupancy(model, Clip(now, (-2, -1, 3), (*past, make_sample(3)))), seen)
    blind = tuple(replace(s, views=tuple(replace(v, image=v.image[:0]) for v in s.views)) for s in past)
    torch.testing.assert_close(occupancy(model, Clip(now, (-2, -1), blind)), alone, atol=1e-5, rtol=1e-4)


def test_images_of_a_clip_are_brought_to_the_models_size():
    model, now = looking_back(), make_sample(0)
    clip = Clip(now, (-1,), (make_sample(1),))
    larger = resize_images(clip, (2 * IMAGE_HW[0], 2 * IMAGE_HW[1]))
    assert occupancy(model, larger).shape == GRID.shape
