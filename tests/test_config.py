"""A config survives YAML, overrides are checked like everything else, and every legal combination trains."""

from __future__ import annotations

import itertools
import re

import pytest
import torch
import yaml
from helpers import IMAGE_HW, make_sample

from lexivox.config import (
    AugmentConfig,
    CameraDepthConfig,
    CameraEncoderConfig,
    Config,
    DepthBinsConfig,
    DepthNetConfig,
    ExperimentConfig,
    GridConfig,
    HeadConfig,
    HeadsConfig,
    ImageConfig,
    LanguageConfig,
    LidarOccupancyConfig,
    LiftSplatConfig,
    NuscenesData,
    RayQueriesConfig,
    RaysConfig,
    SemanticConfig,
    StreetTeacherConfig,
    TrainConfig,
    TriplaneConfig,
    VolumeConfig,
    build_model,
)
from lexivox.config_text import load_config, validated, with_overrides
from lexivox.errors import ConfigError, DataError, LexivoxError
from lexivox.recipes import RECIPES, supervised
from lexivox.train.data import TrainingSteps
from lexivox.train.loop import Trainer

DIM = 8
OCCUPANCY, LANGUAGE = LidarOccupancyConfig(max_voxels=100), LanguageConfig()
SEMANTIC = SemanticConfig(num_classes=18, free_label=17, max_voxels=100, max_points=50)
FEW = RaysConfig(per_sample=100)
RAYS = RayQueriesConfig(rays=FEW)
LABELLED_RAYS = RayQueriesConfig(rays=FEW, semantic_weight=1.0)
SMALL = HeadConfig(hidden=8)


def tiny(**parts) -> ExperimentConfig:
    image = ImageConfig(image_hw=IMAGE_HW, widths=(8, 8, 8), channels=8, num_levels=2)
    planes = TriplaneConfig(num_heads=2, anchors=(2, 2, 2))
    defaults = {
        "name": "tiny",
        "grid": GridConfig(lower_m=(-12, -12, -2), voxel_size_m=(3, 3, 2), shape=(8, 8, 2), frame="ego"),
        "data": NuscenesData(root="nowhere"),
        "encoder": CameraEncoderConfig(image=image, triplane=planes, depth_bins=3, depth_channels=2),
        "heads": HeadsConfig(occupancy=HeadConfig(hidden=8), language=HeadConfig(hidden=8)),
        "teacher": StreetTeacherConfig(),
        "supervision": [OCCUPANCY, LANGUAGE],
        "augment": AugmentConfig(turn_deg=30.0),
        "train": TrainConfig(steps=1, warmup_steps=0),
        "vocabulary": {"car": ["car"]},
    }
    return ExperimentConfig(**(defaults | parts))


def one_line(refusal: pytest.ExceptionInfo) -> str:
    message = str(refusal.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


# -------------------------------------------------------------------------------------------------------- YAML


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("variant", [lambda config: config, supervised], ids=["plain", "supervised"])
def test_every_recipe_survives_yaml(name, variant, tmp_path):
    config = variant(RECIPES[name]())
    path = tmp_path / "run.yaml"
    path.write_text(config.to_yaml())
    assert load_config(path) == config
    assert load_config(path).to_yaml() == config.to_yaml()
    assert "!!" not in config.to_yaml()


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_says_what_it_is(name):
    config = RECIPES[name]("some/where")
    assert config.name == name
    assert config.data.root == "some/where"
    assert RECIPES[name].__doc__
    assert set(config.queries)
    assert config.grid.build().shape == config.grid.shape


def test_a_config_is_frozen_and_changed_by_copy():
    config = tiny()
    with pytest.raises(ValueError, match="frozen"):
        config.name = "other"
    assert config.changed(name="other").name == "other"
    assert config.name == "tiny"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "a config must be a YAML file; got while parsing"),
        ("- 1\n- 2\n", "a config must be a mapping of options; got list"),
        ("", "a config must be a mapping of options; got NoneType"),
        ("just text", "a config must be a mapping of options; got str"),
        ("name: tiny\n", "option 'grid' must be valid"),
        ("!!python/object/apply:os.system ['true']", "a config must be a YAML file; got could not determine"),
        ("\x00", "a config must be a YAML file"),
    ],
)
def test_files_that_are_no_config(tmp_path, text, message):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(LexivoxError) as refusal:
        load_config(path)
    assert message in one_line(refusal)


def test_no_file_no_text_and_a_folder(tmp_path):
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00\x80")
    for path in (tmp_path / "none.yaml", tmp_path, binary):
        with pytest.raises(DataError, match="a config must be a YAML file; got") as refusal:
            load_config(path)
        assert str(path) in one_line(refusal)


# ---------------------------------------------------------------------------------------------- unknown and unfit


def paths_of(value: object, path: tuple = ()) -> list[tuple]:
    """Where a config holds a mapping of options (not the user's own words)."""
    found = [path] if isinstance(value, dict) else []
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        if key not in ("vocabulary", "queries"):
            found += paths_of(child, (*path, key))
    return found


RAW = tiny(heads=HeadsConfig(semantic=HeadConfig()), supervision=[OCCUPANCY, LANGUAGE, SEMANTIC]).model_dump(
    mode="json"
)


@pytest.mark.parametrize("path", paths_of(RAW), ids=lambda path: ".".join(map(str, path)) or "top")
def test_unknown_options_are_refused_everywhere(path):
    raw = yaml.safe_load(yaml.safe_dump(RAW))
    place = raw
    for key in path:
        place = place[key]
    place["surprise"] = 1
    with pytest.raises(ConfigError) as refusal:
        validated(raw)
    assert "surprise" in one_line(refusal)
    assert re.search("Extra inputs are not permitted|Unexpected keyword argument", str(refusal.value))


def test_a_missing_option_is_named_without_the_whole_config():
    raw = yaml.safe_load(RECIPES["pop3d_tiny"]().to_yaml())
    del raw["name"]
    with pytest.raises(ConfigError, match="option 'name' must be valid") as refusal:
        validated(raw)
    one_line(refusal)


@pytest.mark.parametrize(
    ("override", "read", "value"),
    [
        ("train.lr=1e-3", lambda c: c.train.lr, 1e-3),
        ("train.steps=7", lambda c: c.train.steps, 7),
        ("encoder.image.image_hw=[64, 96]", lambda c: c.encoder.image.image_hw, (64, 96)),
        ("encoder.image.image_hw.1=96", lambda c: c.encoder.image.image_hw[1], 96),
        ("encoder.triplane=null", lambda c: c.encoder.triplane, None),
        ("encoder.triplane.num_layers=2", lambda c: c.encoder.triplane.num_layers, 2),
        ("supervision.0.weight=3", lambda c: c.supervision[0].weight, 3.0),
        ("supervision.1={kind: language, loss: mse}", lambda c: c.supervision[1].loss, "mse"),
        ("heads.semantic={hidden: 8}", lambda c: c.heads.semantic.hidden, 8),
        ("teacher={kind: clip, checkpoint: a=b}", lambda c: c.teacher.checkpoint, "a=b"),
        ("data.root=/some/where", lambda c: c.data.root, "/some/where"),
        ("data.val_split=[scene-1, scene-2]", lambda c: c.data.val_split, ["scene-1", "scene-2"]),
        ("vocabulary.boat=[ship, barge]", lambda c: c.vocabulary["boat"], ["ship", "barge"]),
        (" train.seed =4", lambda c: c.train.seed, 4),
    ],
)
def test_overrides(override, read, value):
    config = tiny()
    assert read(with_overrides(config, [override])) == value
    assert with_overrides(config, []) == config


def test_later_overrides_win():
    assert with_overrides(tiny(), ["train.steps=2", "train.steps=3"]).train.steps == 3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.lr", "--set must read option=value; got 'train.lr'"),
        ("", "--set must read option=value; got ''"),
        ("=3", "option"),
        ("train.stepz=3", "option 'train.stepz' must be valid; got 3: Extra inputs"),
        ("trains.steps=3", "option must exist; got 'trains.steps'"),
        ("train.steps.more=3", "option must exist"),
        ("supervision.9.weight=3", "option must exist; got 'supervision.9.weight'"),
        ("supervision.x=3", "option must exist; got 'supervision.x'"),
        ("supervision.-1.weight=3", "option must exist"),
        ("supervision=[]", "option 'supervision' must be valid"),
        ("train.steps=many", "option 'train.steps' must be valid; got 'many'"),
        ("train.steps=0", "option 'train.steps' must be valid; got 0"),
        ("train.steps=1.5", "option 'train.steps' must be valid; got 1.5"),
        ("train.lr=-1", "option 'train.lr' must be valid; got -1"),
        ("train.lr=.inf", "option 'train.lr' must be valid; got inf"),
        ("supervision.0.weight=.nan", "option 'supervision.0.weight' must be valid; got nan"),
        ("train.steps=[1", "--set must read option=value in YAML; got 'train.steps=[1'"),
        ("encoder.image.image_hw=[64]", "option 'encoder.image.image_hw.1' must be valid"),
        ("encoder.num_frequencies=-1", "option 'encoder.num_frequencies' must be valid"),
        ("encoder.kind=lidar", "option 'encoder' must be valid"),
        ("data.kind=kitti", "option 'data' must be valid"),
        ("grid.frame=global", "option 'grid.frame' must be valid"),
        ("supervision.0.kind=magic", "option 'supervision.0' must be valid"),
    ],
)
def test_overrides_that_cannot_be(override, message):
    with pytest.raises(ConfigError) as refusal:
        with_overrides(tiny(), [override])
    assert message in one_line(refusal)


@pytest.mark.parametrize(
    "override",
    [
        "grid.voxel_size_m=[0, 1, 1]",
        "encoder.triplane.coarsen=3",
        "encoder.triplane.num_heads=3",
        "encoder.image.skip_levels=3",
        "encoder={kind: camera, image: {image_hw: [32, 48]}, triplane: null, pixel_aligned: false, depth_bins: 0}",
        "heads.semantic={hidden: 8}",
    ],
)
def test_options_that_do_not_fit_each_other_are_one_line(override):
    config = with_overrides(tiny(), [override])
    with pytest.raises(LexivoxError) as refusal:
        build_model(config, DIM, None)
    one_line(refusal)


# -------------------------------------------------------------------------------------------------- combinations


def encoders() -> list[tuple[str, CameraEncoderConfig | LiftSplatConfig]]:
    image, planes = tiny().encoder.image, tiny().encoder.triplane
    made = []
    for triplane, pixels, depths, places in itertools.product((False, True), repeat=4):
        if triplane or pixels or depths:
            config = CameraEncoderConfig(
                image=image,
                triplane=planes if triplane else None,
                pixel_aligned=pixels,
                depth_bins=3 if depths else 0,
                depth_channels=2,
                num_frequencies=1 if places else None,
            )
            parts = zip(("planes", "pixels", "depths", "places"), (triplane, pixels, depths, places), strict=True)
            made.append(("+".join(name for name, is_on in parts if is_on), config))
    return [*made, ("lifted", lifted())]


def lifted() -> LiftSplatConfig:
    return LiftSplatConfig(
        image=tiny().encoder.image,
        bins=DepthBinsConfig(far_m=13.0, count=6),
        depth_net=DepthNetConfig(channels=8, aspp_channels=8),
        context_channels=4,
        volume=VolumeConfig(widths=(4, 8), blocks=(1, 1), joined_channels=4, channels=8),
    )


LEARNT = [
    (HeadsConfig(language=None), [OCCUPANCY]),
    (HeadsConfig(), [OCCUPANCY, LANGUAGE]),
    (HeadsConfig(occupancy=None, language=None, semantic=HeadConfig(hidden=8)), [SEMANTIC]),
    (HeadsConfig(language=None, semantic=HeadConfig(hidden=8)), [OCCUPANCY, SEMANTIC]),
    (HeadsConfig(semantic=HeadConfig(hidden=8)), [OCCUPANCY, LANGUAGE, SEMANTIC]),
    (HeadsConfig(occupancy=None, density=SMALL), [RAYS, LANGUAGE]),
    (HeadsConfig(occupancy=None, density=SMALL, language=None, semantic=SMALL), [LABELLED_RAYS]),
]


TERMS = {"lidar_occupancy": "occupancy", "ray_queries": "rays"}
"""First word of the terms of each kind, where it is another."""


def train_one_step(config: ExperimentConfig, folder) -> dict[str, float]:
    model = build_model(config, DIM if config.heads.language else 0, None)
    steps = TrainingSteps(
        [make_sample(i, num_points=120) for i in range(2)],
        config.grid.build(),
        [supervision.build() for supervision in config.supervision],
        config.augment.build(),
        config.train.batch_size,
        config.train.points_per_sample,
        config.train.seed,
        config.train.steps,
    )
    logged: list[dict[str, float]] = []
    Trainer(model, steps, config.train.options(), folder).run(lambda step, count, terms: logged.append(terms))
    prediction = model.predict(make_sample())
    assert bool(torch.isfinite(prediction.occupancy).all())
    return logged[-1]


@pytest.mark.parametrize(("heads", "supervision"), LEARNT, ids=lambda part: "")
@pytest.mark.parametrize(("name", "encoder"), encoders(), ids=lambda part: part if isinstance(part, str) else "")
def test_every_combination_of_slots_trains(name, encoder, heads, supervision, tmp_path):
    terms = train_one_step(tiny(encoder=encoder, heads=heads, supervision=supervision), tmp_path)
    kinds = {term.split("/")[0] for term in terms} - {"loss"}
    assert kinds == {TERMS.get(s.kind, s.kind) for s in supervision}


@pytest.mark.parametrize(
    "override",
    [
        "grid.frame=lidar",
        "train.batch_size=2",
        "train.precision=bfloat16",
        "train.ema=0.9",
        "encoder.triplane.coarsen=2",
        "encoder.triplane.num_layers=2",
        "encoder.image.backbone=street",
        "supervision.0.target=sampled100",
        "supervision.0.target=dense",
        "supervision.1.loss=mse",
        "augment={mirror_prob: 1.0, turn_deg: 90, color: 1.0, drop_view_prob: 1.0}",
    ],
)
def test_every_other_option_trains(override, tmp_path):
    terms = train_one_step(with_overrides(tiny(), [override]), tmp_path)
    assert all(torch.isfinite(torch.tensor(value)) for value in terms.values())


@pytest.mark.parametrize(
    "override",
    [
        "encoder.norm=batch",
        "encoder.past=1",
        "encoder.stereo=true",
        "encoder.rules={learn_past: true, past_statistics: true}",
        "encoder.align_corners=true",
        "encoder.bins.spacing=log",
        "encoder.depth_net.dropout=0.5",
        "encoder.rules={places: corners, truncate: true, is_relative: false, native_scale: 0.5, native_top_px: 3}",
        "supervision.1.pixel=round",
    ],
)
def test_every_option_of_lifting_trains(override, tmp_path):
    config = tiny(encoder=lifted(), heads=HeadsConfig(language=None), supervision=[OCCUPANCY, CameraDepthConfig()])
    config = with_overrides(config, [override])
    terms = train_one_step(config, tmp_path)
    assert config.encoder.image_offsets == config.encoder.build(config.grid.build()).image_offsets
    assert 0.0 < terms["camera_depth/bce"] < 1.0
    assert all(torch.isfinite(torch.tensor(value)) for value in terms.values())


def test_two_builds_are_equal_and_leave_the_random_state():
    state = torch.random.get_rng_state()
    one, two = (build_model(tiny(), DIM, None) for _ in range(2))
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    other = build_model(with_overrides(tiny(), ["train.seed=1"]), DIM, None)
    assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_supervision_without_its_head_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"head must be one of \['occupancy'\]; got 'language'"):
        train_one_step(tiny(heads=HeadsConfig(language=None)), tmp_path)


def test_every_config_class_has_a_short_docstring_or_inherits_none():
    described = [c for c in Config.__subclasses__() if c.__doc__]
    assert len(described) >= 8
