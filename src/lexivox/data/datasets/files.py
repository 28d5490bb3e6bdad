"""Reads images and point records; a damaged file becomes one clear line that names sensor and sample."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from lexivox.errors import DataError

_log = logging.getLogger(__name__)


def read_image(path: Path, who: str, image_hw: tuple[int, int] | None = None) -> UInt8[Tensor, "3 H W"]:
    """Decode an image to RGB.

    Args:
        path: a JPEG or PNG file.
        who: sensor and sample for messages, e.g. ``"CAM_FRONT of sample 0a1b"``.
        image_hw: the size that the calibration was made for, checked when given.

    Raises:
        DataError: the file is missing, damaged or of another size.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            pixels = np.array(image.convert("RGB"))  # a copy: torch wants memory that it may write
    except FileNotFoundError:
        raise DataError(f"image of {who} must exist; got none. Complete the data set: {path}") from None
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for damaged files
        reason = str(error).split(str(path))[0].strip(" '\"")
        raise DataError(f"image of {who} must be readable; got: {reason}. Fetch it again: {path}") from error
    if image_hw is not None and pixels.shape[:2] != image_hw:
        raise DataError(
            f"image of {who} must have the size of its calibration, {image_hw[1]}x{image_hw[0]}; "
            f"got {pixels.shape[1]}x{pixels.shape[0]}. Restore the original images: {path}"
        )
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def read_no_image(path: Path, who: str) -> UInt8[Tensor, "0 H W"]:
    """The size of an image from its header, as an image without channels; pixels are not decoded.

    Raises:
        DataError: the file is missing or damaged.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            width, height = image.size
    except FileNotFoundError:
        raise DataError(f"image of {who} must exist; got none. Complete the data set: {path}") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"image of {who} must be readable; got: {error}. Fetch it again: {path}") from error
    return torch.zeros(0, height, width, dtype=torch.uint8)


def read_records(path: Path, dtype: str, columns: int, who: str) -> np.ndarray:
    """Read a binary file of records without header as ``(rows, columns)``.

    Raises:
        DataError: the file is missing, or its size is not a whole number of records.
    """
    try:
        values = np.fromfile(path, dtype=np.uint8)
    except FileNotFoundError:
        raise DataError(f"file of {who} must exist; got none. Complete the data set: {path}") from None
    size = np.dtype(dtype).itemsize * columns
    if values.size % size:
        raise DataError(
            f"file of {who} must hold whole records of {size} bytes; got {values.size} bytes. "
            f"It is cut short or not of this format; fetch it again: {path}"
        )
    return values.view(dtype).reshape(-1, columns)


def finite_rows(xyz: np.ndarray, who: str) -> Bool[np.ndarray, " P"]:
    """True for points to keep; says in the log how many are not finite.

    Raises:
        DataError: no point is left.
    """
    is_finite = np.asarray(np.isfinite(xyz).all(axis=1))
    dropped = len(xyz) - int(is_finite.sum())
    if dropped == len(xyz):
        raise DataError(
            f"cloud of {who} must hold at least one finite point; got {len(xyz)} points, "
            f"{dropped} of them not finite. Fetch the file again or leave the sample out."
        )
    if dropped:
        _log.warning("dropped %d of %d points that are not finite: %s", dropped, len(xyz), who)
    return is_finite
