"""Every training signal alone and all of them together: one step, and every parameter hears of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers import IMAGE_HW, make_sample

from lexivox.config import (
    CameraEncoderConfig,
    DenseConfig,
    ExperimentConfig,
    GridConfig,
    HeadConfig,
    HeadsConfig,
    ImageConfig,
    LanguageConfig,
    LidarOccupancyConfig,
    NuscenesData,
    PlacesConfig,
    RayQueriesConfig,
    RaysConfig,
    RenderingConfig,
    SupervisionConfig,
    TrainConfig,
    TriplaneConfig,
    build_model,
)
from lexivox.data.collate import collate
from lexivox.data.types import Boxes, Clip, Sample, VoxelLabels
from lexivox.errors import ConfigError
from lexivox.geometry.transform import RigidTransform
from lexivox.supervision.base import prepare_all
from lexivox.train.loop import loss_terms

DIM, SMALL = 8, HeadConfig(hidden=8)
RAYS = RaysConfig(per_sample=200, reach=1)
QUERIES = RayQueriesConfig(rays=RAYS)
FULL_QUERIES = RayQueriesConfig(rays=RAYS, flow="boxes", semantic_weight=1.0, language_weight=1.0, lovasz=1.0)
RENDERING = RenderingConfig(rays=RAYS)
FULL_RENDERING = RenderingConfig(
    rays=RaysConfig(per_sample=200, reach=1, origin="camera", class_weights="occ3d_voxels", outside="keep"),
    flow="boxes",
    match_class=True,
    ending=1.0,
    opacity=0.1,
    distortion=0.1,
    semantic=1.0,
    language=1.0,
)
FILTER = RenderingConfig(rays=RaysConfig(reach=1, per_sample=200, moving="class"), transparent=(3, 4), semantic=1.0)
DENSE = DenseConfig(free_label=17)
FULL_DENSE = DenseConfig(free_label=17, lovasz=1.0, sem_scal=1.0, geo_scal=1.0, focal=2.0, mask="lidar")

ALONE = {
    "queries": [QUERIES],
    "all queries": [FULL_QUERIES],
    "rendering": [RENDERING],
    "all rendering": [FULL_RENDERING],
    "filter": [FILTER],
    "speed filter": [RenderingConfig(rays=RaysConfig(reach=1, per_sample=200, moving="speed"))],
    "filter by boxes": [
        RenderingConfig(rays=RAYS, flow="boxes", follow=False),
        RayQueriesConfig(rays=RAYS, flow="boxes", follow=False),
    ],
    "flow from sweeps": [kind(rays=RAYS, flow="sweeps") for kind in (RenderingConfig, RayQueriesConfig)],
    "published density": [RenderingConfig(rays=RAYS, density="sigmoid_per_metre", background="exit", far_m=40.0)],
    "dense": [DENSE],
    "all dense": [FULL_DENSE],
    "together": [LidarOccupancyConfig(), LanguageConfig(), FULL_QUERIES, FULL_RENDERING, FULL_DENSE],
}


def experiment(supervision: list[SupervisionConfig], **parts) -> ExperimentConfig:
    image = ImageConfig(image_hw=IMAGE_HW, widths=(8, 8, 8), channels=8, num_levels=2)
    defaults = {
        "name": "tiny",
        "grid": GridConfig(lower_m=(-12, -12, -2), voxel_size_m=(2, 2, 2), shape=(12, 12, 3), frame="ego"),
        "data": NuscenesData(root="nowhere"),
        "encoder": CameraEncoderConfig(image=image, triplane=TriplaneConfig(num_heads=2, anchors=(2, 2, 2))),
        "heads": HeadsConfig(
            occupancy=None,
            density=SMALL,
            language=SMALL if any(s.uses_features for s in supervision) else None,
            semantic=SMALL if any(s.teaches_classes for s in supervision) else None,
        ),
        "supervision": supervision,
        "train": TrainConfig(steps=1, warmup_steps=0),
    }
    return ExperimentConfig(**(defaults | parts))


def clip_of(config: ExperimentConfig, number: int) -> Clip:
    """Three keyframes; everything that any supervision may ask for."""
    grid = config.grid.build()
    generator = torch.Generator().manual_seed(number)
    label = torch.randint(0, 18, grid.shape, generator=generator)
    seen = torch.rand(grid.shape, generator=generator) < 0.5
    voxels = VoxelLabels(grid, label, torch.zeros(*grid.shape, 2), 17, seen_by_lidar=seen, seen_by_camera=seen)
    return Clip(replace(keyframe(number, 0), voxel_labels=voxels), (-1, 1), (keyframe(number, -1), keyframe(number, 1)))


def keyframe(number: int, offset: int) -> Sample:
    sample = make_sample(10 * number + offset + 1)
    boxes = Boxes(
        torch.tensor([[4.0 + 2.0 * offset, 3.0, 0.5]]), torch.tensor([[4.0, 2.0, 2.0]]), torch.zeros(1),
        torch.tensor([[4.0, 0.0]]), torch.tensor([4]), torch.tensor([7]),
    )  # fmt: skip
    pose = RigidTransform.from_yaw(0.7, (100.0 + offset, -20.0, 0.5))
    return replace(sample, boxes=boxes, global_from_ego=pose, timestamp_ns=1_000_000_000 + 500_000_000 * offset)


def batch_and_model(config: ExperimentConfig, size: int = 2):
    signals = [supervision.build() for supervision in config.supervision]
    clips = [clip_of(config, number) for number in range(size)]
    batch, generator = collate(clips, config.grid.build()), torch.Generator().manual_seed(0)
    batch = prepare_all(signals, batch, generator)
    return batch, build_model(config, DIM, None), signals


@pytest.mark.parametrize("name", ALONE)
def test_every_parameter_hears_of_every_signal(name):
    config = experiment(ALONE[name])
    batch, model, signals = batch_and_model(config)
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):  # attention starts from zeros that stop gradients
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
            parameter.add_(0.02 * noise)
    terms = loss_terms(model, signals, batch)
    assert all(bool(torch.isfinite(term)) for term in terms.values()), terms
    torch.stack(list(terms.values())).sum().backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert not silent


def test_terms_are_named_after_their_signal():
    batch, model, signals = batch_and_model(experiment(ALONE["together"]))
    terms = set(loss_terms(model, signals, batch))
    assert terms == {
        "occupancy/ce", "occupancy/lovasz", "occupancy/unobserved", "language",
        "rays/free", "rays/hit", "rays/lovasz", "rays/unobserved", "rays/semantic", "rays/language",
        "render/depth", "render/ending", "render/opacity", "render/distortion", "render/semantic", "render/language",
        "dense/geometry", "dense/semantic", "dense/lovasz", "dense/sem_scal", "dense/geo_scal",
    }  # fmt: skip


def test_two_of_a_kind_have_their_own_targets():
    """Neither hears of the other: each gives the terms that it gives alone, whoever stands before it."""
    far, near = (RenderingConfig(rays=RaysConfig(per_sample=0, reach=reach)) for reach in (1, 0))
    asked, tight = (RayQueriesConfig(rays=RAYS, places=PlacesConfig(num_free=n, snap=0.0)) for n in (6, 2))
    batch, model, signals = batch_and_model(experiment([far, near, asked, tight]))
    terms = loss_terms(model.eval(), signals, batch)
    assert set(terms) == {f"{name}{end}" for name in ("render/depth", "rays/free", "rays/hit", "rays/unobserved")
                          for end in ("", "#2")}  # fmt: skip
    counts = [len(own.rays.batch) for own in batch.signal_targets[:2]]
    assert counts[0] > counts[1] > 0
    for signal, end in ((far, ""), (near, "#2")):  # all rays: nothing is drawn
        alone, _, built = batch_and_model(experiment([signal]))
        assert torch.equal(loss_terms(model, built, alone)["render/depth"], terms[f"render/depth{end}"])
    free = [int((own.ray_occupancy.label == 0).sum()) for own in batch.signal_targets[2:]]
    assert free[0] > 2 * free[1] > 0


def test_a_signal_prepares_from_what_was_sensed():
    """Points that one language signal leaves out still teach the other."""
    kept, dropped = LanguageConfig(), LanguageConfig(outside="drop")
    for order in ([kept, dropped], [dropped, kept]):
        batch, _, _ = batch_and_model(experiment(order))
        found = {s.outside: len(own.language.xyz) for s, own in zip(order, batch.signal_targets, strict=True)}
        assert found["keep"] > found["drop"] > 0


def test_language_signals_read_the_teacher_in_one_way():
    fine, coarse = LanguageConfig(), LanguageConfig(outside="drop", weight=2.0)
    assert experiment([fine, coarse]).language == fine
    assert experiment([FULL_QUERIES]).language == fine
    assert experiment([QUERIES]).language is None
    with pytest.raises(ConfigError, match=r"read the teacher in one way; got different ones. Give all the same views,"):
        _ = experiment([fine, LanguageConfig(views="each")]).language


def test_signals_say_what_they_need():
    assert FULL_QUERIES.horizon == FULL_RENDERING.horizon == (-1, 1)
    assert RaysConfig(reach=3).horizon == (-3, -2, -1, 1, 2, 3)
    needs = [
        (s.teaches_classes, s.uses_features, s.uses_boxes, s.uses_voxel_labels)
        for s in (QUERIES, FULL_RENDERING, DENSE)
    ]
    assert needs == [(False, False, False, False), (True, True, True, False), (True, False, False, True)]
    assert ALONE["speed filter"][0].uses_boxes


def test_labels_of_points_are_opened_only_where_somebody_reads_them():
    """Labels of voxels alone need none; a filter, weights or a draw by class do, though they teach no class."""
    assert not any(signal.uses_point_labels for signal in (QUERIES, RENDERING, DENSE, LidarOccupancyConfig()))
    assert FULL_QUERIES.uses_point_labels
    for part in ({"moving": "class"}, {"class_weights": "lidarseg_rays"}, {"balanced": True}):
        assert RenderingConfig(rays=RaysConfig(reach=1, **part)).uses_point_labels


def test_features_are_carried_along_only_where_somebody_asks():
    asked = [signal.build().choice.features for signal in (QUERIES, FULL_QUERIES, RENDERING, FULL_RENDERING)]
    assert asked == [False, True, False, True]
    batch, _, _ = batch_and_model(experiment([RENDERING]), size=1)
    (own,) = batch.signal_targets
    assert own.rays.feature is None
    assert own.rays.label is not None


def test_nothing_leaks_through_images():
    """Neighbouring keyframes teach, but the encoder does not see them: images of others change nothing."""
    config = experiment(ALONE["all rendering"])
    batch, model, signals = batch_and_model(config)
    assert len(batch.around) == 2
    dark = tuple(
        replace(m, cameras=replace(m.cameras, images=torch.zeros_like(m.cameras.images))) for m in batch.around
    )
    one, two = (loss_terms(model.eval(), signals, b) for b in (batch, replace(batch, around=dark)))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_flow_moves_what_boxes_hold():
    """Returns in the box of the neighbours are asked where the box is now, 2 m per keyframe further on or back."""
    still, flow = (RayQueriesConfig(rays=RAYS, flow=kind, places=PlacesConfig(snap=0.0)) for kind in ("none", "boxes"))
    xyz = []
    for config in (still, flow):
        batch, _, _ = batch_and_model(experiment([config]), size=1)
        xyz.append(batch.signal_targets[0].ray_occupancy.xyz)
    assert xyz[0].shape != xyz[1].shape or not torch.equal(xyz[0], xyz[1])


def test_a_semantic_head_needs_a_teacher_of_classes():
    config = experiment([QUERIES], heads=HeadsConfig(occupancy=None, density=SMALL, language=None, semantic=SMALL))
    with pytest.raises(ConfigError, match="a semantic head must have semantic supervision; got none"):
        build_model(config, DIM, None)
