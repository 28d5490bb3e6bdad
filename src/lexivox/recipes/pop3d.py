"""POP-3D: open-vocabulary occupancy from images, learnt from LiDAR rays and a frozen image-text teacher."""

from __future__ import annotations

from typing import Literal

from lexivox.config import (
    AugmentConfig,
    CameraEncoderConfig,
    ClipTeacherConfig,
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
from lexivox.data.queries import NUSCENES16_QUERIES, PANDASET9_QUERIES
from lexivox.evaluate.protocol import PUBLISHED

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
        encoder=small_encoder((160, 288)),
        heads=small_heads(),
        teacher=StreetTeacherConfig(),
        supervision=small_supervision(),
        train=small_training(steps=450),
        vocabulary=STREET_VOCABULARY,
        queries=STREET_QUERIES,
    )


def small_encoder(image_hw: tuple[int, int]) -> CameraEncoderConfig:
    return CameraEncoderConfig(
        image=ImageConfig(image_hw=image_hw, backbone="street"), triplane=TriplaneConfig(coarsen=2)
    )


def small_supervision() -> list[SupervisionConfig]:
    """Rays, and the teacher at LiDAR points and at the centres of their voxels, where the map is read."""
    rays = LidarOccupancyConfig(max_voxels=16_000, occupied_weight=2.0, balance=1.0)
    return [rays, LanguageConfig(weight=3.0, voxel_weight=1.2)]


def small_heads() -> HeadsConfig:
    return HeadsConfig(occupancy=HeadConfig(num_layers=3), language=HeadConfig(num_layers=3))


def small_training(steps: int, balance_power: float = 0.9, ema: float = 0.0, weight_decay: float = 0.01) -> TrainConfig:
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
            num_frequencies=5,
        ),
        heads=small_heads(),
        teacher=EspnetTeacherConfig(weights=espnet),
        supervision=[
            LidarOccupancyConfig(max_voxels=16_000, occupied_weight=2.0),
            LanguageConfig(voxel_weight=0.5),
        ],
        # Nine keyframes from nearly one place: without turning the world a network learns the place by heart.
        augment=AugmentConfig(turn_deg=30.0),
        train=small_training(steps=800, balance_power=0.5, ema=0.99, weight_decay=0.05),
        vocabulary={name: list(phrases) for name, phrases in PANDASET9_QUERIES.items()},
        queries={
            "car": ["car"],
            "automobile": ["car"],
            "tree": ["vegetation"],
            "building": ["building"],
            "road": ["road"],
        },
    )


# ----------------------------------------------------------------------------------------------- as published

KEYFRAMES, BATCH = 28_130, 8
"""Of the training split of nuScenes; one keyframe on each of eight GPUs."""

RESNET101, RESNET50 = "data/r101_dcn_fcos3d_pretrain.pth", "data/moco_v2_800ep_pretrain.pth.tar"
"""Where the recipes look for the weights that image encoders start from; ``None`` starts from random ones."""

NUSCENES_QUERIES = {
    "automobile": ["car"],
    "lorry": ["truck"],
    "coach": ["bus"],
    "bike": ["bicycle"],
    "human": ["pedestrian"],
    "street": ["driveable_surface"],
    "pavement": ["sidewalk"],
    "lawn": ["terrain"],
    "house": ["manmade"],
    "foliage": ["vegetation"],
}
"""Words that are not among the 74 queries -> the classes of nuScenes they mean."""


def pop3d(root: str = "data/nuscenes") -> ExperimentConfig:
    """The paper's system on nuScenes: ResNet-101 at 900x1600, 12 epochs, eight keyframes a step."""
    return ExperimentConfig(
        name="pop3d",
        grid=GridConfig(
            lower_m=(-51.2, -51.2, -5.0), voxel_size_m=(1.024, 1.024, 1.0), shape=(100, 100, 8), frame="lidar"
        ),
        data=NuscenesData(root=root),
        encoder=published_encoder(),
        heads=published_heads(),
        teacher=published_teacher(),
        supervision=published_supervision(),
        # Distortion and GridMask are all; nothing is mirrored or turned (spec 1.4).
        augment=AugmentConfig(mirror_prob=0.0, color=0.0, distort=True, grid_mask_prob=0.7),
        train=published_training(epochs=12),
        vocabulary={name: list(phrases) for name, phrases in NUSCENES16_QUERIES.items()},
        queries=NUSCENES_QUERIES,
        protocol=PUBLISHED,
    )


def pop3d_released(root: str = "data/nuscenes") -> ExperimentConfig:
    """``pop3d`` as released: half its learning rate, 1e-4 (erratum 1), and the encoder's start to the letter."""
    config = pop3d(root)
    train = config.train.model_copy(update={"lr": 1e-4})
    return config.changed(name="pop3d_released", encoder=released_encoder(published_encoder()), train=train)


def published_teacher() -> ClipTeacherConfig:
    """MaskCLIP+ for images, its depth read off the file (erratum 20); CLIP ViT-B/16 with 85 templates for words."""
    weights = "data/maskclip_plus_vit16_deeplabv2_r101-d8_512x512_8k_coco-stuff164k.pth"
    return ClipTeacherConfig(
        kind="maskclip_plus", weights=weights, checkpoint="data/clip-vit-base-patch16", prompts="clip85"
    )


def published_encoder(
    depth: Literal[50, 101] = 101, scale: float = 1.0, weights: str | None = RESNET101
) -> CameraEncoderConfig:
    """A ResNet with deformable convolutions, a full pyramid, three layers of triplane attention, and nothing else.

    Images are 900x1600 as recorded, made smaller by ``scale``, padded to multiples of 32: 928x1600 is what projections
    are divided by (erratum 5). ResNet-101 is that of a detector: Caffe's layout, blue first. For ResNet-50 the released
    code puts MoCo's weights, which know RGB and the stride on the 3x3, into the same layout (erratum 23); here it has
    MoCo's own layout and colours.
    """
    own = {"style": "caffe", "pixels": "bgr"} if depth == 101 else {"style": "pytorch", "pixels": "rgb"}
    image = ImageConfig(
        image_hw=(900, 1600),
        scale=scale,
        pad_multiple=32,
        backbone=f"resnet{depth}",  # type: ignore[arg-type]
        weights=weights,
        dcn_stages=(3, 4),
        frozen_stages=1,
        channels=256,
        num_levels=4,
        separable=False,
        bfloat16=False,
        **own,  # type: ignore[arg-type]
    )
    triplane = TriplaneConfig(
        num_heads=8, num_layers=3, anchors=(4, 32, 32), points_per_anchor=2, num_cameras=6, dropout=0.1
    )
    return CameraEncoderConfig(image=image, triplane=triplane, pixel_aligned=False, depth_bins=0, num_frequencies=None)


def released_encoder(encoder: CameraEncoderConfig) -> CameraEncoderConfig:
    """The same encoder with every choice as the released code makes it, also those that can be made better.

    Self-attention's points start at one place, and MoCo's weights are put into ResNet-50 as they are, though that sees
    blue first and has its stride elsewhere (erratum 23). docs/weights.md lists what differs and what does not.
    """
    planes = encoder.triplane and encoder.triplane.model_copy(update={"spread_self_attention": False})
    image = encoder.image.model_copy(update={"style": "caffe", "pixels": "bgr", "convert_weights": False})
    return encoder.model_copy(update={"image": image, "triplane": planes})


def published_heads(occupancy_layers: int = 2, language_layers: int = 2) -> HeadsConfig:
    """N_occ and N_ft Linear layers before the classifier, as the code counts them (erratum 3)."""
    return HeadsConfig(
        occupancy=HeadConfig(hidden=512, num_layers=occupancy_layers, decoder_channels=256),
        language=HeadConfig(hidden=1024, num_layers=language_layers),
    )


def published_supervision(language: float = 1.0) -> list[SupervisionConfig]:
    """Every voxel occupied or free, and raw teacher features by mean squared error, ``language`` being the lambda.

    A point seen by two cameras counts twice; pixels are rounded; points outside are moved onto the border (erratum 6).
    """
    return [
        LidarOccupancyConfig(target="dense", max_voxels=0, outside="clamp"),
        LanguageConfig(
            loss="mse", weight=language, outside="clamp", views="each", pixels="chained", unit=False, max_points=0
        ),
    ]


def published_training(epochs: int, every: int = 1) -> TrainConfig:
    """AdamW at 2e-4 (paper and config; erratum 1), warm-up and least rate absolute for all groups (erratum 34).

    An epoch drops the last keyframes that do not fill a step. With another batch the rate is scaled linearly.
    """
    keyframes = -(-KEYFRAMES // every)
    return TrainConfig(
        steps=epochs * (keyframes // BATCH),
        batch_size=BATCH,
        lr=2e-4,
        lr_for_batch=BATCH,
        lr_min=1e-6,
        warmup_steps=500,
        weight_decay=0.01,
        decay_all=True,
        backbone_lr_scale=0.1,
        clip_norm=35.0,
        checkpoint_every=500,
        workers=1,
        points_per_sample=0,
        balance_power=0.0,
    )


def within_memory(config: ExperimentConfig, preset: Literal["24GB", "12GB"]) -> ExperimentConfig:
    """The same experiment for a smaller GPU; what it computes stays the same, up to bfloat16.

    24GB: bfloat16 where it does no harm, and hidden activations of the heads are computed again in the backward pass.
    12GB: those of the encoder too. Smaller still, as users of the released code do it: a recipe of Table 1 with
    ResNet-50 at 450x800.
    """
    image = config.encoder.image.model_copy(update={"bfloat16": True})
    train = {"precision": "bfloat16", "checkpointing": "all" if preset == "12GB" else "heads"}
    return config.changed(
        name=f"{config.name}_{preset.lower()}",
        encoder=config.encoder.model_copy(update={"image": image}),
        train=config.train.model_copy(update=train),
    )
