"""The full-size recipes: published sizes and settings; every cell of Table 1 trains."""

from __future__ import annotations

import inspect
import math
import os
from pathlib import Path

import pytest
import torch

from lexivox.config import ExperimentConfig, LanguageConfig, LidarOccupancyConfig, StreetTeacherConfig, build_model
from lexivox.config_text import with_overrides
from lexivox.data.synthetic import DriveSpec, write_nuscenes
from lexivox.errors import WeightsError
from lexivox.experiment import Experiment
from lexivox.geometry.grid import POP3D
from lexivox.recipes import RECIPES, TABLE1, pop3d, pop3d_released, within_memory
from lexivox.recipes.pop3d import published_encoder, released_encoder
from lexivox.train.data import TrainingSteps
from lexivox.train.loop import loss_terms
from lexivox.train.optim import adamw

PUBLISHED = ("pop3d", "pop3d_released", *TABLE1)


# -------------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("depth", "parameters", "learnt"), [(101, 64_626_752, 64_299_008), (50, 44_576_629, 44_301_109)]
)
def test_the_network_has_the_published_parameters(depth, parameters, learnt):
    config = pop3d().changed(encoder=published_encoder(depth, weights=None))
    with torch.device("meta"):
        encoder = config.encoder.build(config.grid.build())
        heads = [config.heads.occupancy.build(256, 2), config.heads.language.build(256, 512)]
    found = [p for module in (encoder, *heads) for p in module.parameters()]
    assert sum(p.numel() for p in found) == parameters
    assert sum(p.numel() for p in found if p.requires_grad) == learnt


def test_the_learning_rate_is_the_papers_and_the_script_has_half():
    """Erratum 1."""
    assert pop3d().train.lr == 2e-4
    assert pop3d_released().train == pop3d().train.model_copy(update={"lr": 1e-4})


def test_the_optimiser_and_schedule_are_published():
    """Errata 2 and 34: AdamW with decay on everything, and absolute ends of the schedule."""
    train = pop3d().train
    assert (train.steps, train.batch_size) == (12 * 3516, 8) == (42_192, 8)
    assert (train.weight_decay, train.decay_all, train.backbone_lr_scale) == (0.01, True, 0.1)
    assert (train.lr_min, train.warmup_steps, train.clip_norm) == (1e-6, 500, 35.0)
    assert train.precision == "float32"
    assert (train.lr, train.lr_for_batch) == (2e-4, 8)


def test_the_grid_is_the_papers():
    assert pop3d().grid.build() == POP3D


def test_images_are_padded_and_projections_divided_by_the_padded_size():
    """Erratum 5."""
    image = pop3d().encoder.image
    assert (image.image_hw, image.pad_multiple, image.scale) == ((900, 1600), 32, 1.0)
    assert -(-900 // image.pad_multiple) * image.pad_multiple == 928


def test_losses_are_published():
    """Errata 6 and 28; spec 4.3: raw features, a row for each camera of a point, rounded pixels."""
    rays, language = pop3d().supervision
    assert isinstance(rays, LidarOccupancyConfig)
    assert isinstance(language, LanguageConfig)
    assert (rays.target, rays.max_voxels, rays.outside, rays.enet_share) == ("dense", 0, "clamp", 0.0)
    assert (rays.weight, rays.lovasz, rays.occupied_weight, rays.balance) == (1.0, 1.0, 1.0, 0.0)
    assert (language.loss, language.weight, language.voxel_weight) == ("mse", 1.0, 0.0)
    assert (language.outside, language.views, language.pixels) == ("clamp", "each", "chained")
    assert (language.unit, language.max_points, pop3d().train.points_per_sample) == (False, 0, 0)


def test_nothing_but_colours_and_grid_mask_is_augmented():
    augment = pop3d().augment
    assert (augment.distort, augment.grid_mask_prob) == (True, 0.7)
    assert (augment.mirror_prob, augment.turn_deg, augment.color, augment.drop_view_prob) == (0.0, 0.0, 0.0, 0.0)


def test_scores_are_made_as_published():
    assert all(RECIPES[name]().protocol.name == "published" for name in PUBLISHED)


def test_the_74_queries_are_asked():
    assert sum(len(phrases) for phrases in pop3d().vocabulary.values()) == 74


def test_resnet50_sees_the_colours_of_its_weights():
    """Erratum 23: MoCo's own layout and colours, where the released code has the detector's."""
    large, small = (RECIPES[name]().encoder.image for name in ("pop3d", "pop3d_table1a_lambda100"))
    assert (large.backbone, large.style, large.pixels) == ("resnet101", "caffe", "bgr")
    assert (small.backbone, small.style, small.pixels) == ("resnet50", "pytorch", "rgb")


def test_the_released_encoder_differs_in_its_start_alone():
    """Errata 23; the released start of self-attention. Table 1's ResNet-50 as released is the detector's layout."""
    ours, released = pop3d().encoder, pop3d_released().encoder
    assert released.triplane == ours.triplane.model_copy(update={"spread_self_attention": False})
    assert released.image == ours.image.model_copy(update={"convert_weights": False})
    small = released_encoder(published_encoder(50)).image
    assert (small.style, small.pixels, small.convert_weights) == ("caffe", "bgr", False)


# --------------------------------------------------------------------------------------------------------- Table 1


def varied(config: ExperimentConfig) -> tuple:
    """What Table 1 varies."""
    heads, image = config.heads, config.encoder.image
    language = next(s for s in config.supervision if isinstance(s, LanguageConfig))
    return language.weight, image.backbone, image.scale, heads.occupancy.num_layers, heads.language.num_layers


def test_every_cell_has_its_recipe():
    r50, r101 = "resnet50", "resnet101"
    expected = {
        "a_lambda100": (1.0, r50, 0.5, 2, 2),
        "a_lambda050": (0.5, r50, 0.5, 2, 2),
        "a_lambda025": (0.25, r50, 0.5, 2, 2),
        "b_rn50_half": (1.0, r50, 0.5, 2, 2),
        "b_rn101_half": (1.0, r101, 0.5, 2, 2),
        "b_rn50_full": (1.0, r50, 1.0, 2, 2),
        "b_rn101_full": (1.0, r101, 1.0, 2, 2),
        "c_occ2_ft2": (1.0, r101, 0.5, 2, 2),
        "c_occ2_ft3": (1.0, r101, 0.5, 2, 3),
        "c_occ3_ft2": (1.0, r101, 0.5, 3, 2),
        "c_occ3_ft3": (1.0, r101, 0.5, 3, 3),
    }
    assert {name.removeprefix("pop3d_table1"): varied(RECIPES[name]()) for name in TABLE1} == expected


def test_cells_differ_from_the_base_in_nothing_else():
    base = RECIPES["pop3d_table1a_lambda100"]()
    for name in TABLE1:
        config = RECIPES[name]()
        same = {"grid", "data", "teacher", "augment", "train", "vocabulary", "queries"}
        assert all(getattr(config, part) == getattr(base, part) for part in same), name
        assert config.data.train_every == 2
        assert config.train.steps == 6 * (28_130 // 2 // 8)


def test_recipes_of_the_table_are_short_and_name_their_published_score():
    for name, numbers in TABLE1.items():
        lines = inspect.getsource(RECIPES[name]).strip().splitlines()
        assert len(lines) <= 8, name
        assert f"published mIoU {100 * numbers['mIoU'].value:.1f}" in (RECIPES[name].__doc__ or "")


def test_the_two_published_values_of_one_setting_stand_for_its_noise():
    """Erratum 29."""
    twice = [TABLE1[name]["mIoU"].value for name in ("pop3d_table1b_rn101_half", "pop3d_table1c_occ2_ft2")]
    assert varied(RECIPES["pop3d_table1b_rn101_half"]()) == varied(RECIPES["pop3d_table1c_occ2_ft2"]())
    assert sorted(twice) == [0.151, 0.154]


def test_memory_presets_change_how_and_not_what():
    for preset in ("24GB", "12GB"):
        config = within_memory(pop3d(), preset)
        assert config.train.precision == "bfloat16"
        assert config.train.checkpointing == {"12GB": "all", "24GB": "heads"}[preset]
        unchanged = {"grid", "data", "heads", "supervision", "augment"}
        assert all(getattr(config, part) == getattr(pop3d(), part) for part in unchanged)


# ------------------------------------------------------------------------------------------------------- one step


def step(config: ExperimentConfig, root: Path, out: Path, overrides: tuple[str, ...]) -> dict[str, float]:
    """Terms of the first step of an experiment with random weights and the shipped teacher; nothing is written."""
    ours = ("encoder.image.weights=null", "train.steps=1", "train.batch_size=1", "train.workers=0", *overrides)
    config = with_overrides(config.changed(teacher=StreetTeacherConfig()), [f"data.root={root}", *ours])
    experiment = Experiment(config, out / config.name, cache_dir=out / "cache")
    experiment.make_targets()
    supervisions, train = [supervision.build() for supervision in config.supervision], config.train
    steps = TrainingSteps(
        experiment.train_samples, config.grid.build(), supervisions, config.augment.build(), 1, 0, train.seed, 1
    )
    model = build_model(config, experiment.teacher.dim, None).train()
    optimizer = adamw(model, 1e-5, train.weight_decay, train.backbone_lr_scale, decay_all=train.decay_all)
    terms = loss_terms(model, supervisions, steps[0])
    torch.stack(list(terms.values())).sum().backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), train.clip_norm)
    before = model.heads["language"].classifier.weight.detach().clone()
    optimizer.step()
    assert not torch.equal(before, model.heads["language"].classifier.weight)
    return {name: float(term.detach()) for name, term in terms.items()} | {"grad_norm": float(norm)}


@pytest.fixture(scope="module")
def city(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("city")
    return write_nuscenes(out / "city", [DriveSpec(7, 1, "train")], image_hw=(60, 96), grid=POP3D)


def test_missing_weights_are_told_before_targets_are_made(city, tmp_path):
    config = RECIPES["pop3d_table1a_lambda100"]().changed(teacher=StreetTeacherConfig())
    config = with_overrides(config, [f"data.root={city}", "encoder.image.weights=nowhere.pth"])
    with pytest.raises(WeightsError, match="weights must be a checkpoint file; got none"):
        Experiment(config, tmp_path / "run", cache_dir=tmp_path / "cache").train()
    assert not list(tmp_path.glob("cache/**/*.safetensors"))


TWINS = ("pop3d_table1b_rn50_half", "pop3d_table1c_occ2_ft2")
"""Cells that are another cell again, as the settings above say."""


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in PUBLISHED if name not in TWINS])
def test_every_recipe_takes_a_step(name, city):
    small = (
        "encoder.image.image_hw=[60, 96]",
        "grid.shape=[20, 20, 4]",
        "grid.voxel_size_m=[5.12, 5.12, 2]",
        "data.train_every=1",
    )
    terms = step(RECIPES[name](), city, city.parent, small)
    assert all(math.isfinite(terms[key]) for key in ("occupancy/ce", "occupancy/lovasz", "language", "grad_norm"))
    assert terms["grad_norm"] > 0


FULL_SIZE = "LEXIVOX_FULL_SIZE"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(FULL_SIZE not in os.environ, reason=f"set {FULL_SIZE}=1; it takes 6 GB and a minute of CPU time")
def test_a_full_size_step_on_real_keyframes(realdata, tmp_path):
    """ResNet-50 at 450x800 with everything as published, on images of 900x1600 as recorded."""
    terms = step(
        RECIPES["pop3d_table1a_lambda100"](), realdata / "nuscenes", tmp_path, ("data.train_split=[scene-0061]",)
    )
    # Random logits: cross-entropy near log 2 or above, and a Lovász term between 0 and 1.
    assert 0.3 < terms["occupancy/ce"] < 5.0
    assert 0.0 < terms["occupancy/lovasz"] < 1.0
    assert 0.0 < terms["grad_norm"] < 1e4
