"""Boxes and mask files."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from lexivox.annotate.masks import BoxSegmenter, PixelBox, read_mask
from lexivox.errors import ConfigError, DataError


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def test_a_box_is_the_pixels_that_it_touches():
    mask = PixelBox(1.5, 0.0, 3.0, 1.2).mask((4, 5))
    assert mask.nonzero().tolist() == [[0, 1], [0, 2], [1, 1], [1, 2]]
    image = torch.zeros(3, 4, 5, dtype=torch.uint8)
    assert torch.equal(BoxSegmenter().mask(image, PixelBox(-9.0, -9.0, 99.0, 99.0)), torch.ones(4, 5, dtype=torch.bool))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2,3", "box must be four numbers x0,y0,x1,y1; got '1,2,3'"),
        ("1,2,3,x", "box must be four numbers"),
        ("3,2,1,4", "box must run from its upper left to its lower right corner; got 3,2,1,4"),
        ("1,2,3,inf", "box must have finite numbers"),
        ("nan,2,3,4", "box must have finite numbers"),
    ],
)
def test_wrong_boxes(text, message):
    with pytest.raises(ConfigError, match=message):
        PixelBox.parse(text)


def test_a_box_beside_the_image_is_refused():
    with pytest.raises(ConfigError, match="box must lie on the image of 5x4 pixels; got 5,0,9,2"):
        PixelBox.parse("5,0,9,2").mask((4, 5))


def test_masks_are_read_from_files_and_bytes(tmp_path):
    pixels = np.zeros((4, 5), dtype=np.uint8)
    pixels[1, 2] = 7
    (tmp_path / "m.png").write_bytes(png(pixels))
    for source in (tmp_path / "m.png", png(pixels)):
        assert read_mask(source, (4, 5)).nonzero().tolist() == [[1, 2]]
    rgba = np.full((4, 5, 4), 255, dtype=np.uint8)
    rgba[1:, :, 3] = 0  # transparent is not the object
    assert read_mask(png(rgba), (4, 5)).sum() == 5


def test_wrong_masks(tmp_path):
    with pytest.raises(DataError, match="mask must have the size of its image, 9x8; got 5x4"):
        read_mask(png(np.zeros((4, 5), dtype=np.uint8)), (8, 9))
    with pytest.raises(DataError, match="mask must be a readable PNG; got UnidentifiedImageError"):
        read_mask(b"GIF89a", (4, 5))
    with pytest.raises(DataError, match="mask must be a readable PNG"):
        read_mask(png(np.random.default_rng(0).integers(0, 9, (40, 50), dtype=np.uint8))[:-200], (40, 50))
    with pytest.raises(DataError, match="mask must be a PNG file; got none"):
        read_mask(tmp_path / "none.png", (4, 5))
