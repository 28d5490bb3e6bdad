"""POP-3D: open-vocabulary occupancy from images, learnt from LiDAR rays and a frozen image-text teacher."""

from __future__ import annotations

from lexivox.config import (
    AugmentConfig,
    CameraEncoderConfig,
    EspnetTeacherConfig,
    ExperimentConfig,
    GridConfig,
    HeadConfig,
    HeadsConfig,
    ImageConfig,
    LanguageConfig,
    LidarOccupancyConfig,
    NuscenesData,
    PandasetData,
    SemanticConfig,
    StreetTeacherConfig,
    SupervisionConfig,
    TrainConfig,
    TriplaneConfig,
)
from lexivox.data.classes import NUSCENES16
from lexivox.data.queries import PANDASET9_QUERIES

STREET_VOCABULARY = {
    "barrier": ["barrier"],
    "bicycle": ["bicycle"],
    "bus": ["bus"],
    "car": ["car", "car wheel"],
    "motorcycle": ["motorcycle"],
    "pedestrian": ["person on foot"],
    "traffic_cone": ["traffic cone"],
    "truck": ["truck"],
    "driveable_surface": ["road"],
    "sidewalk": ["sidewalk"],
    "terrain": ["grass"],
    "manmade": ["building", "door", "window", "pole", "traffic sign"],
    "vegetation": ["tree"],
}
"""The nuScenes classes that occur in the synthetic city, in plain words."""

STREET_QUERIES = {
    "automobile": ["car", "car window", "tyre"],
    "sports car": ["car", "car window", "tyre"],
    "lorry": ["truck"],
    "pavement": ["sidewalk", "kerb"],
    "footpath": ["sidewalk", "kerb"],
    "street": ["road", "lane marking"],
    "asphalt": ["road", "lane marking"],
    "lawn": ["grass"],
    "meadow": ["grass"],
    "foliage": ["tree crown", "tree trunk"],
    "oak": ["tree crown", "tree trunk"],
    "house": ["building wall", "door", "window"],
    "skyscraper": ["building wall", "door", "window"],
    "person walking": ["pedestrian"],
    "human": ["pedestrian"],
    "bike": ["bicycle"],
    "lamp post": ["pole"],
}
"""Words that are neither class names nor in the teacher's vocabulary -> the concepts of the city they mean."""


def pop3d_tiny(root: str = "runs/demo/city") -> ExperimentConfig:
    """POP-3D's parts at a size that trains on two CPU cores within minutes, on the synthetic city."""
    return ExperimentConfig(
        name="pop3d_tiny",
        # The ground lies just under the top of a layer, so that grazing rays do not free the voxels they end in.
        grid=GridConfig(lower_m=(-25.6, -25.6, -1.4), voxel_size_m=(0.8, 0.8, 0.8), shape=(64, 64, 8), frame="ego"),
        data=NuscenesData(root=root, synthetic=True),
        encoder=_small_encoder((160, 288)),
        heads=_small_heads(),
        teacher=StreetTeacherConfig(),
        supervision=_small_supervision(),
        train=_small_training(steps=450),
        vocabulary=STREET_VOCABULARY,
        queries=STREET_QUERIES,
    )


def _small_encoder(image_hw: tuple[int, int]) -> CameraEncoderConfig:
    return CameraEncoderConfig(
        image=ImageConfig(image_hw=image_hw, backbone="street"), triplane=TriplaneConfig(coarsen=2)
    )


def _small_supervision() -> list[SupervisionConfig]:
    """Rays, and the teacher at LiDAR points and at the centres of their voxels, where the map is read."""
    rays = LidarOccupancyConfig(max_voxels=16_000, occupied_weight=2.0, balance=1.0)
    return [rays, LanguageConfig(weight=3.0, voxel_weight=1.2)]


def _small_heads() -> HeadsConfig:
    return HeadsConfig(occupancy=HeadConfig(num_layers=3), language=HeadConfig(num_layers=3))


def _small_training(
    steps: int, balance_power: float = 0.9, ema: float = 0.0, weight_decay: float = 0.01
) -> TrainConfig:
    """The pretrained backbone learns slowly, as published; rare things that the teacher sees weigh more."""
    return TrainConfig(
        steps=steps,
        lr=4e-3,
        backbone_lr_scale=0.1,
        ema=ema,
        weight_decay=weight_decay,
        precision="bfloat16",
        balance_power=balance_power,
    )


def supervised(config: ExperimentConfig) -> ExperimentConfig:
    """The same network and budget *with* labels: one head with a class per voxel, as TPVFormer has it."""
    head = config.heads.occupancy or HeadConfig()
    labels = SemanticConfig(num_classes=NUSCENES16.num_classes, free_label=NUSCENES16.free or 0)
    return config.changed(
        name=f"{config.name}_supervised",
        heads=HeadsConfig(occupancy=None, language=None, semantic=head),
        supervision=[labels],
    )


def pop3d_pandaset(
    root: str = "data/pandaset", espnet: str = "data/espnet.npz", sequence: str = "002"
) -> ExperimentConfig:
    """One real drive without labels: twelve keyframes of PandaSet, an ESPNet as teacher, 3 held out."""
    return ExperimentConfig(
        name="pop3d_pandaset",
        grid=GridConfig(lower_m=(-25.6, -25.6, -1.6), voxel_size_m=(0.8, 0.8, 0.8), shape=(64, 64, 8), frame="ego"),
        data=PandasetData(
            root=root,
            sequence=sequence,
            train_keyframes=[0, 5, 10, 15, 20, 25, 30, 35, 40],
            val_keyframes=[45, 50, 55],
        ),
        encoder=CameraEncoderConfig(
            image=ImageConfig(image_hw=(288, 512), backbone="espnet", weights=espnet),
            triplane=TriplaneConfig(coarsen=2),
        ),
        heads=_small_heads(),
        teacher=EspnetTeacherConfig(weights=espnet),
        supervision=[
            LidarOccupancyConfig(max_voxels=16_000, occupied_weight=2.0),
            LanguageConfig(voxel_weight=0.5),
        ],
        # Nine keyframes from nearly one place: without turning the world a network learns the place by heart.
        augment=AugmentConfig(turn_deg=30.0),
        train=_small_training(steps=800, balance_power=0.5, ema=0.99, weight_decay=0.05),
        vocabulary={name: list(phrases) for name, phrases in PANDASET9_QUERIES.items()},
        queries={
            "car": ["car"],
            "automobile": ["car"],
            "tree": ["vegetation"],
            "building": ["building"],
            "road": ["road"],
        },
    )
