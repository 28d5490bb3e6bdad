from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lexivox.backbones.pixels import convert_first_convolution
from lexivox.backbones.resnet import ResNet
from lexivox.config import ImageConfig
from lexivox.encoders.image import ImageEncoder
from lexivox.encoders.preprocess import PREPROCESSING
from lexivox.errors import WeightsError
from lexivox.weights.backbones import fill_image_encoder


def encoder(pixels: str = "bgr", seed: int = 0, **options) -> ImageEncoder:
    torch.manual_seed(seed)
    backbone = ResNet(50, out_stages=(2, 3), **options)
    return ImageEncoder(8, num_levels=3, backbone=backbone, preprocess=PREPROCESSING[pixels], is_separable=False)


def detector_state(made: ImageEncoder) -> dict[str, Tensor]:
    """As FCOS3D's file has it: a further pyramid level and the detector's head beside what we take."""
    state = {f"img_backbone.{name}": t for name, t in made.backbone.state_dict().items()}
    for name, tensor in made.pyramid.state_dict().items():
        kind, number, rest = name.split(".")
        state[f"img_neck.{'lateral' if kind == 'lateral' else 'fpn'}_convs.{number}.conv.{rest}"] = tensor
    return state | {"img_neck.fpn_convs.3.conv.weight": torch.zeros(1), "bbox_head.conv_cls.weight": torch.zeros(1)}


def moco_state(made: ImageEncoder) -> dict[str, Tensor]:
    encoder_q = {f"module.encoder_q.{n}": t for n, t in made.backbone.state_dict().items() if "conv_offset" not in n}
    encoder_k = {name.replace("encoder_q", "encoder_k"): -tensor for name, tensor in encoder_q.items()}
    others = {"module.queue": torch.zeros(2, 3), "module.encoder_q.fc.0.weight": torch.zeros(4, 4)}
    return encoder_q | encoder_k | others


def saved(state: dict[str, Tensor], path: Path) -> Path:
    torch.save({"state_dict": state, "arch": "resnet50"}, path)
    return path


def test_a_detector_fills_backbone_and_neck(tmp_path: Path) -> None:
    source, target = encoder(seed=1, dcn_stages=(3,)), encoder(dcn_stages=(3,))
    source.backbone.layer3[0].conv2.conv_offset.weight.data.normal_()
    left_out = fill_image_encoder(target, saved(detector_state(source), tmp_path / "fcos3d.pth"))
    assert left_out == ("img_neck.fpn_convs.3.conv.weight", "bbox_head.conv_cls.weight")
    for name, tensor in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], tensor), name


def test_the_detectors_own_prefixes_are_read(tmp_path: Path) -> None:
    source, target = encoder(seed=1), encoder()
    state = {name.removeprefix("img_"): tensor for name, tensor in detector_state(source).items()}
    fill_image_encoder(target, saved(state, tmp_path / "fcos3d.pth"))
    assert torch.equal(target.pyramid.lateral[0].weight, source.pyramid.lateral[0].weight)


def test_moco_on_rgb_pixels_is_taken_as_it_is(tmp_path: Path) -> None:
    source, target = encoder("rgb", 1), encoder("rgb", dcn_stages=(3,))
    neck = target.pyramid.state_dict()
    left_out = fill_image_encoder(target, saved(moco_state(source), tmp_path / "moco.pth"))
    assert {name.split(".")[0] for name in left_out} == {"encoder_k", "queue", "encoder_q"}
    own = target.backbone.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in source.backbone.state_dict().items())
    assert not own["layer3.0.conv2.conv_offset.weight"].any()
    assert all(torch.equal(neck[name], tensor) for name, tensor in target.pyramid.state_dict().items())


def test_moco_on_bgr_pixels_answers_the_same(tmp_path: Path) -> None:
    # Spec POP-3D errata 23.
    source, target = encoder("rgb", 1), encoder("bgr")
    fill_image_encoder(target, saved(moco_state(source), tmp_path / "moco.pth"))
    pictures = torch.randint(0, 256, (2, 3, 33, 45), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    stems = [e.backbone.conv1(e.preprocess(pictures, like=torch.zeros(1))) for e in (source, target)]
    torch.testing.assert_close(stems[1], stems[0], atol=1e-4, rtol=1e-4)


def test_the_released_trainer_did_not_convert(tmp_path: Path) -> None:
    source, target = encoder("rgb", 1), encoder("bgr")
    fill_image_encoder(target, saved(moco_state(source), tmp_path / "moco.pth"), convert=False)
    assert torch.equal(target.backbone.conv1.weight, source.backbone.conv1.weight)


def test_conversion_there_and_back() -> None:
    weight = torch.randn(4, 3, 7, 7)
    rgb, bgr = PREPROCESSING["rgb"], PREPROCESSING["bgr"]
    there = convert_first_convolution(weight, rgb, bgr)
    torch.testing.assert_close(there[:, 2], weight[:, 0] / 58.395)  # red is last, and no longer divided
    torch.testing.assert_close(convert_first_convolution(there, bgr, rgb), weight)
    assert torch.equal(convert_first_convolution(weight, bgr, replace(bgr, pad_multiple=32)), weight)


def test_a_plain_classifier_is_read_without_its_classifier(tmp_path: Path) -> None:
    source, target = encoder("rgb", 1), encoder("rgb")
    state = source.backbone.state_dict() | {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    torch.save(state, tmp_path / "r50.pth")
    assert fill_image_encoder(target, tmp_path / "r50.pth") == ("fc.weight", "fc.bias")
    assert torch.equal(target.backbone.layer1[0].conv1.weight, source.backbone.layer1[0].conv1.weight)


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    state = detector_state(encoder(dcn_stages=(3,)))
    without_offsets = {name: tensor for name, tensor in state.items() if "conv_offset" not in name}
    short = {name: tensor for name, tensor in state.items() if ".layer2.1." not in name}
    deformable, plain = encoder(dcn_stages=(3,)), encoder()
    cases = [
        (
            deformable,
            without_offsets,
            r"FCOS3D weights must hold .*12 missing \(img_backbone.layer3.0.conv2.conv_offset",
        ),
        (plain, state, r"12 unknown \(img_backbone.layer3.0.conv2.conv_offset.weight"),
        (deformable, short, r"15 missing \(img_backbone.layer2.1.conv1.weight"),
        (deformable, {"head.weight": torch.zeros(1)}, "got no conv1.weight of any, so 0 arrays fit; the first name is"),
    ]
    for target, given, message in cases:
        with pytest.raises(WeightsError, match=message):
            fill_image_encoder(target, saved(given, tmp_path / "a.pth"))


def test_counters_of_seen_batches_may_be_missing(tmp_path: Path) -> None:
    source, target = encoder(seed=1), encoder()
    state = {name: t for name, t in detector_state(source).items() if "num_batches_tracked" not in name}
    fill_image_encoder(target, saved(state, tmp_path / "a.pth"))
    assert torch.equal(target.backbone.bn1.weight, source.backbone.bn1.weight)


def test_a_config_starts_from_its_file_and_a_loaded_run_does_not_ask_for_it(tmp_path: Path) -> None:
    config = ImageConfig(
        image_hw=(32, 64), backbone="resnet50", weights=str(tmp_path / "moco.pth"), pixels="bgr", convert_weights=False
    )
    source = ResNet(50)
    saved({f"module.encoder_q.{name}": t for name, t in source.state_dict().items()}, tmp_path / "moco.pth")
    assert torch.equal(config.build().backbone.conv1.weight, source.conv1.weight)
    missing = config.model_copy(update={"weights": str(tmp_path / "nowhere.pth")})
    assert not torch.equal(missing.build(fetch_weights=False).backbone.conv1.weight, source.conv1.weight)
    with pytest.raises(WeightsError, match="weights must be a checkpoint file; got none"):
        missing.build()
