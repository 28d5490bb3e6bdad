from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from lexivox.errors import ConfigError, WeightsError
from lexivox.teachers.base import ImageTeacher
from lexivox.teachers.class_text import ClassTextTeacher
from lexivox.teachers.espnet import (
    CITYSCAPES_NAMES,
    EspDown,
    EspNet,
    EspNetBackbone,
    EspNetSegmenter,
    load_espnet,
    preprocess,
)
from lexivox.teachers.text import TableTextEncoder

ROAD, BUILDING, VEGETATION, SKY, CAR = (
    CITYSCAPES_NAMES.index(name) for name in ("road", "building", "vegetation", "sky", "car")
)


@pytest.fixture(scope="module")
def weights(realdata):
    return realdata / "image_nets" / "espnet" / "decoder_espnet_p_2_q_8.npz"


def test_network_has_the_published_size_and_shapes() -> None:
    network = EspNet().eval()
    assert sum(value.numel() for value in network.parameters()) == 364_569
    with torch.no_grad():
        assert network(torch.zeros(2, 3, 64, 128)).shape == (2, 20, 64, 128)


def test_backbone_is_frozen_and_gives_two_levels() -> None:
    backbone = EspNetBackbone(EspNet()).train()
    assert not any(module.training for module in backbone.modules())
    fine, coarse = backbone(torch.zeros(2, 3, 64, 128))
    assert (fine.shape, coarse.shape) == ((2, 151, 16, 32), (2, 256, 8, 16))
    assert backbone.channels == (151, 256)
    assert not fine.requires_grad
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


def test_pyramid_adds_branches_up_hierarchically() -> None:
    block = EspDown(3, 10).eval()
    outputs = {2: torch.tensor(1.0), 4: torch.tensor(10.0), 8: torch.tensor(100.0), 16: torch.tensor(1000.0)}
    for dilation, value in outputs.items():
        torch.nn.init.zeros_(block.get_submodule(f"d{dilation}").conv.weight)
        block.get_submodule(f"d{dilation}").forward = lambda x, value=value: value.expand(1, 2, 4, 4)
    sums = block.branches(torch.zeros(1, 3, 8, 8))[0, 2:, 0, 0]
    assert sums.tolist() == [1, 1, 11, 11, 111, 111, 1111, 1111]  # d2, d2+d4, d2+d4+d8, all four


def test_preprocessing_by_hand() -> None:
    red = torch.zeros(1, 3, 2, 4, dtype=torch.uint8)
    red[:, 0] = 255
    blue, _, third = preprocess(red, (2, 4))[0, :, 0, 0].tolist()
    assert blue == pytest.approx(-72.39 / 45.32 / 255, abs=1e-6)
    assert third == pytest.approx((255 - 73.16) / 44.91 / 255, abs=1e-6)


def test_real_street_is_read_plausibly(weights, realdata) -> None:
    """PandaSet front camera, frame 40: sky above, road below, trees on the right, a car in the middle."""
    picture = realdata / "pandaset" / "002" / "camera" / "front_camera" / "40.jpg"
    image = torch.from_numpy(np.array(Image.open(picture))).permute(2, 0, 1)[None]
    probs = EspNetSegmenter(weights).probs(image)
    assert probs.shape == (1, 19, 64, 128)
    assert torch.allclose(probs.sum(dim=1), torch.ones(1, 64, 128), atol=1e-5)
    label = probs[0].argmax(dim=0)  # cell = 15 x 16.9 px of the full image
    assert (label[52:62, 30:90] == ROAD).float().mean() > 0.95
    assert (label[2:10, 2:15] == SKY).float().mean() > 0.8
    assert (label[18:28, 75:88] == VEGETATION).float().mean() > 0.95
    assert (label[32:38, 58:68] == CAR).float().mean() > 0.8


def test_wrong_weights_are_refused(tmp_path, weights) -> None:
    with pytest.raises(WeightsError, match="must be its published npz"):
        load_espnet(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", a=np.zeros(3, np.float32))
    with pytest.raises(WeightsError, match="others, first a"):
        load_espnet(tmp_path / "other.npz")
    with pytest.raises(WeightsError, match="every array of the network"):
        load_espnet(weights.with_name("encoder_espnet_p_2_q_8.npz"))


class HalfSegmenter:
    """Left half surely the first class, right half between both."""

    fingerprint = "half"

    def probs(self, images: torch.Tensor) -> torch.Tensor:
        probs = torch.zeros(len(images), 2, 1, 2)
        probs[:, 0, :, 0] = 1.0
        probs[:, :, :, 1] = 0.5
        return probs


def test_class_text_teacher_mixes_centred_vectors() -> None:
    encoder = TableTextEncoder(["car", "tree"], torch.tensor([[1.0, 0.0], [0.0, 1.0]]), "toy")
    teacher = ClassTextTeacher(HalfSegmenter(), ["car", "tree"], encoder)
    assert isinstance(teacher, ImageTeacher)
    features = teacher.features(torch.zeros(1, 3, 4, 8, dtype=torch.uint8))
    # centre (0.5, 0.5): car = (1, -1) / sqrt(2), tree its opposite; an even mixture vanishes
    assert torch.allclose(features[0, :, 0, 0], torch.tensor([0.5**0.5, -(0.5**0.5)]))
    assert torch.allclose(features[0, :, 0, 1], torch.zeros(2), atol=1e-7)
    assert torch.allclose(teacher.text_encoder().encode(["car"])[0], features[0, :, 0, 0])
    assert teacher.space == teacher.text_encoder().space
    assert "half" in teacher.fingerprint


def test_class_text_teacher_needs_a_name_per_class() -> None:
    encoder = TableTextEncoder(["a", "b", "c"], torch.eye(3), "toy")
    with pytest.raises(ConfigError, match="at least two"):
        ClassTextTeacher(HalfSegmenter(), ["a"], encoder)
    teacher = ClassTextTeacher(HalfSegmenter(), ["a", "b", "c"], encoder)
    with pytest.raises(ConfigError, match=r"segmenter \(2\); got 3"):
        teacher.features(torch.zeros(1, 3, 4, 8, dtype=torch.uint8))


def test_words_find_cityscapes_classes(minilm) -> None:
    """The development list of synonyms of the real-data teacher: what each word must be nearest to."""
    wanted = {
        "automobile": "car",
        "lorry": "truck",
        "pedestrian": "person",
        "tree": "vegetation",
        "house": "building",
        "street": "road",
        "motorbike": "motorcycle",
    }
    teacher = ClassTextTeacher(HalfSegmenter(), CITYSCAPES_NAMES, minilm)
    nearest = (teacher.text_encoder().encode(list(wanted)) @ teacher.class_vectors.T).argmax(dim=1)
    assert [CITYSCAPES_NAMES[index] for index in nearest] == list(wanted.values())
