"""MaskCLIP+ from generated state dicts under the published names (spec pop3d 8.3)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from lexivox.config import ClipTeacherConfig
from lexivox.errors import ConfigError, WeightsError
from lexivox.teachers.base import ImageTeacher
from lexivox.teachers.maskclip_plus import (
    _IGNORED,
    MaskClipPlus,
    MaskClipPlusTeacher,
    _depth,
    load_maskclip_plus,
)
from lexivox.teachers.text import TableTextEncoder

WORDS = TableTextEncoder(["car"], torch.ones(1, 512), "clip-512@0")


def published(depth: int) -> dict[str, torch.Tensor]:
    """A state dict typed from the key table: names and shapes, small random values."""
    device = torch.get_default_device()
    draw = {} if device.type == "meta" else {"generator": torch.Generator().manual_seed(depth)}
    arrays: dict[str, torch.Tensor] = {}

    def conv(name: str, *shape: int) -> None:
        fan = shape[1] * shape[2] * shape[3]
        arrays[name] = torch.randn(shape, **draw) * fan**-0.5

    def norm(name: str, channels: int) -> None:
        arrays[f"{name}.weight"] = torch.ones(channels)
        arrays[f"{name}.bias"] = torch.zeros(channels)
        arrays[f"{name}.running_mean"] = torch.zeros(channels)
        arrays[f"{name}.running_var"] = torch.ones(channels)
        arrays[f"{name}.num_batches_tracked"] = torch.tensor(7)

    for place, (channels, out) in zip((0, 3, 6), ((3, 32), (32, 32), (32, 64)), strict=True):
        conv(f"backbone.stem.{place}.weight", out, channels, 3, 3)
        norm(f"backbone.stem.{place + 1}", out)
    channels = 64
    for stage, blocks in enumerate({50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}[depth], start=1):
        width = 32 * 2**stage
        for block in range(blocks):
            name = f"backbone.layer{stage}.{block}"
            for number, (side, a, b) in enumerate(((1, channels, width), (3, width, width), (1, width, 4 * width)), 1):
                conv(f"{name}.conv{number}.weight", b, a, side, side)
                norm(f"{name}.bn{number}", b)
            if block == 0:
                conv(f"{name}.downsample.0.weight", 4 * width, channels, 1, 1)
                norm(f"{name}.downsample.1", 4 * width)
            channels = 4 * width
    for branch in range(4):
        conv(f"decode_head.decode_module.aspp_modules.{branch}.conv.weight", 512, 2048, 3, 3)
        norm(f"decode_head.decode_module.aspp_modules.{branch}.bn", 512)
    arrays["decode_head.text_embeddings"] = torch.zeros(171, 512)
    arrays["decode_head._iter_counter"] = torch.zeros(1)
    arrays["decode_head.clip.visual.proj"] = torch.zeros(2, 2)
    arrays["decode_head.proj.weight"] = torch.zeros(512, 768, 1, 1)
    return arrays


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("plus") / "maskclip_plus.pth"
    torch.save({"state_dict": published(50), "meta": {"epoch": 1}}, path)
    return path


def test_depth_is_counted_in_the_checkpoint(checkpoint) -> None:
    network = load_maskclip_plus(checkpoint)
    assert len(network.backbone.layer3) == 6
    assert not any(p.requires_grad for p in network.parameters())
    with torch.device("meta"):  # shapes alone: the larger one weighs a quarter of a gigabyte
        deep = {name: array for name, array in published(101).items() if not name.startswith(_IGNORED)}
        assert _depth(deep, "file") == 101
        own = MaskClipPlus(101).state_dict()
    assert {name: array.shape for name, array in own.items()} == {name: array.shape for name, array in deep.items()}


def test_the_last_stages_are_dilated_and_keep_the_size() -> None:
    with torch.device("meta"):
        network = MaskClipPlus(50)
    blocks = [network.backbone.get_submodule(f"layer{stage}.{block}.conv2") for stage, block in
              ((2, 0), (3, 0), (3, 1), (4, 0), (4, 1))]  # fmt: skip
    assert [block.stride[0] for block in blocks] == [2, 1, 1, 1, 1]
    assert [block.dilation[0] for block in blocks] == [1, 1, 2, 2, 4]
    assert [part["conv"].dilation[0] for part in network.decode_head["decode_module"].aspp_modules] == [6, 12, 18, 24]


def test_the_head_sums_its_branches_by_hand(checkpoint) -> None:
    arrays = published(50)
    x = torch.randn(1, 2048, 5, 6, generator=torch.Generator().manual_seed(0))
    expected = torch.zeros(1, 512, 5, 6)
    for branch, dilation in enumerate((6, 12, 18, 24)):
        weight = arrays[f"decode_head.decode_module.aspp_modules.{branch}.conv.weight"]
        own = F.conv2d(x, weight, padding=dilation, dilation=dilation) / (1 + 1e-5) ** 0.5
        expected += own.clamp_min(0)
    head = load_maskclip_plus(checkpoint).decode_head["decode_module"]
    assert torch.allclose(head(x), expected, atol=1e-4)


def test_a_teacher_of_an_eighth_of_the_enlarged_image(checkpoint) -> None:
    teacher = MaskClipPlusTeacher(WORDS, checkpoint, fit_hw=(64, 128))
    assert isinstance(teacher, ImageTeacher)
    image = torch.randint(0, 256, (1, 3, 45, 80), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pixels = teacher.prepare(image)
    assert pixels.shape == (1, 3, 64, 114)
    grey = pixels * torch.tensor([58.395, 57.12, 57.375])[:, None, None]
    grey += torch.tensor([123.675, 116.28, 103.53])[:, None, None]
    assert torch.allclose(grey, grey.round(), atol=1e-3)
    features = teacher.features(image)
    assert features.shape == (1, 512, 8, 15)  # 114 / 8 rounded up three times, as 1820 becomes 228
    assert (features >= 0).all()
    assert features.isfinite().all()
    assert teacher.fingerprint != MaskClipPlusTeacher(WORDS, checkpoint).fingerprint


def test_a_missing_file_is_said_before_anything_is_computed(tmp_path) -> None:
    with pytest.raises(WeightsError, match="weights must be a file; got No such file"):
        _ = MaskClipPlusTeacher(WORDS, tmp_path / "none.pth").fingerprint


def test_other_checkpoints_are_refused(tmp_path) -> None:
    arrays = published(50)
    del arrays["backbone.layer4.0.conv2.weight"]
    arrays["auxiliary_head.conv.weight"] = torch.zeros(1)
    torch.save(arrays, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"MaskCLIP\+ .* got 2 others, first auxiliary_head.conv.weight"):
        load_maskclip_plus(tmp_path / "other.pth")
    torch.save({"backbone.layer3.0.conv1.weight": torch.zeros(1)}, tmp_path / "short.pth")
    with pytest.raises(WeightsError, match=r"must have 6 \(ResNet-50\) or 23 \(ResNet-101\) blocks in layer3; got 1"):
        load_maskclip_plus(tmp_path / "short.pth")


def test_texts_must_be_as_wide_as_the_features(checkpoint, tmp_path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, tmp_path / "model.safetensors")
    for dim, fits in ((512, True), (768, False)):
        (tmp_path / "config.json").write_text(f'{{"model_type": "clip", "projection_dim": {dim}}}')
        config = ClipTeacherConfig(kind="maskclip_plus", weights=str(checkpoint), checkpoint=str(tmp_path))
        if fits:
            teacher, encoder = config.build()
            assert teacher.space == encoder.space
        else:
            with pytest.raises(ConfigError, match="must be CLIP ViT-B/16's with 512 channels; got 768"):
                config.build()
    with pytest.raises(ConfigError, match=r"teacher 'maskclip_plus' .* \(weights, fit_hw\); got no weights"):
        ClipTeacherConfig(kind="maskclip_plus", checkpoint=str(tmp_path)).build()
