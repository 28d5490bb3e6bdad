"""Segment Anything, on a tiny model with random weights that the test makes and saves."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from lexivox.annotate.masks import PixelBox
from lexivox.annotate.sam import SamSegmenter
from lexivox.errors import ConfigError

transformers = pytest.importorskip("transformers", reason="no transformers")
SIDE = 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    config = transformers.SamConfig(
        vision_config={
            "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": SIDE, "patch_size": 8,
            "mlp_dim": 64, "output_channels": 16, "window_size": 4, "global_attn_indexes": [1], "num_pos_feats": 8,
        },
        prompt_encoder_config={
            "hidden_size": 16, "image_size": SIDE, "patch_size": 8, "mask_input_channels": 8,
            "image_embedding_size": SIDE // 8,
        },
        mask_decoder_config={
            "hidden_size": 16, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16,
        },
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("sam") / "tiny-sam"
    transformers.SamModel(config).save_pretrained(folder)
    return folder


def picture(height: int = 40, width: int = 90) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_image_and_mask_are_sized_as_the_library_does(folder):
    from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

    processor = SamImageProcessorPil(
        size={"longest_edge": SIDE}, pad_size={"height": SIDE, "width": SIDE}, mask_size={"longest_edge": 16}
    )
    image, box = picture(), PixelBox(20.0, 5.0, 70.0, 35.0)
    theirs = processor(image.permute(1, 2, 0).numpy(), return_tensors="pt")
    segmenter = SamSegmenter(folder)
    torch.testing.assert_close(segmenter._prepare(image), theirs["pixel_values"], atol=0.03, rtol=0)
    model = transformers.SamModel.from_pretrained(folder).eval()
    with torch.no_grad():
        boxes = torch.tensor(box.corners)[None, None] * SIDE / 90
        out = model(theirs["pixel_values"], input_boxes=boxes, multimask_output=False)
    (expected,) = processor.post_process_masks(
        out.pred_masks, theirs["original_sizes"], theirs["reshaped_input_sizes"],
        pad_size={"height": SIDE, "width": SIDE},
    )  # fmt: skip
    mask = segmenter.mask(image, box)
    assert mask.shape == (40, 90)
    assert np.mean(mask.numpy() == np.asarray(expected)[0, 0]) > 0.98
    assert 0 < int(mask.sum()) < mask.numel()


def test_an_image_is_embedded_once(folder, monkeypatch):
    segmenter, image, calls = SamSegmenter(folder), picture(), []
    embed = segmenter._model.get_image_embeddings
    monkeypatch.setattr(segmenter._model, "get_image_embeddings", lambda pixels: calls.append(1) or embed(pixels))
    first = segmenter.mask(image, PixelBox(20.0, 5.0, 70.0, 35.0))
    assert torch.equal(first, segmenter.mask(image, PixelBox(20.0, 5.0, 70.0, 35.0)))
    segmenter.mask(image, PixelBox(0.0, 0.0, 10.0, 10.0))
    assert len(calls) == 1
    segmenter.mask(picture(), PixelBox(0.0, 0.0, 10.0, 10.0))
    assert len(calls) == 2


def test_it_says_its_name_and_refuses_others(folder, tmp_path):
    assert SamSegmenter(folder).name == "Segment Anything (tiny-sam)"
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    with pytest.raises(ConfigError, match="segmenter must be a checkpoint of model type 'sam'; got 'clip'"):
        SamSegmenter(tmp_path)
    with pytest.raises(ConfigError, match="box must lie on the image of 90x40 pixels"):
        SamSegmenter(folder).mask(picture(), PixelBox(95.0, 0.0, 99.0, 9.0))
