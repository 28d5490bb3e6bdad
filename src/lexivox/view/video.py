"""A drive as a short film: camera images, what the map shows through the same cameras, and the map itself."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import UInt8

from lexivox.errors import ConfigError
from lexivox.files import write_atomically
from lexivox.view.colors import BACKGROUND, INK, Theme
from lexivox.view.figure import GAP_PX, LEGEND_PX, draw_legend, text_font
from lexivox.view.picture import render_scene
from lexivox.view.rendered import DEPTH, rendered_sheet
from lexivox.view.scene import ClassLayer, Layer, VoxelScene, layer_named

FORMATS = {".webp": "WEBP", ".gif": "GIF", ".png": "PNG"}
"""Files that hold moving pictures and that Pillow writes; ``.mp4`` needs ffmpeg."""

TITLE_PX = 30


def drive_frames(
    scenes: Sequence[VoxelScene], layer: str | None = None, *, width_px: int = 1120, theme: Theme = "light"
) -> list[UInt8[np.ndarray, "H W 3"]]:
    """One picture for each keyframe, all of one size with one legend.

    On the left a strip for every camera: image, depth, and the layer. On the right the map from behind the car.

    Args:
        layer: what colours voxels, by default the first layer.

    Raises:
        ConfigError: no scene, or one without the layer.
    """
    if not scenes:
        raise ConfigError("a film must show at least one keyframe; got none.")
    legend = _joined([layer_named(scene.voxels(), layer) for scene in scenes])
    return [_frame(scene, layer, legend, width_px, theme) for scene in scenes]


def write_video(frames: Sequence[UInt8[np.ndarray, "H W 3"]], path: Path | str, frame_s: float = 0.5) -> Path:
    """Write moving pictures that start again at their end; the kind is that of the name's ending.

    Args:
        frames: of one size.
        path: ``.webp`` (small), ``.gif``, ``.png`` (exact), or ``.mp4`` where ffmpeg is installed.
        frame_s: how long each is shown.

    Raises:
        ConfigError: another ending, or no ffmpeg.
        DataError: the file cannot be written.
    """
    from PIL import Image

    path = Path(path)
    check_video(path)
    if path.suffix == ".mp4":
        return write_atomically(path, lambda file: file.write(_mp4(frames, frame_s)), "film")
    first, *others = [Image.fromarray(frame) for frame in frames]
    options = {"save_all": True, "append_images": others, "duration": round(1000 * frame_s), "loop": 0}
    if path.suffix == ".webp":
        options |= {"quality": 82, "method": 4}

    def write(file: BinaryIO) -> None:
        first.save(file, FORMATS[path.suffix], **options)

    return write_atomically(path, write, "film")


def check_video(path: Path) -> None:
    """Before a model runs: can this film be written?

    Raises:
        ConfigError: the ending names no format, or ffmpeg is missing.
    """
    if path.suffix not in (*FORMATS, ".mp4"):
        raise ConfigError(f"a film must end in {', '.join(FORMATS)} or .mp4; got '{path.name}'.")
    if path.suffix == ".mp4" and shutil.which("ffmpeg") is None:
        raise ConfigError("ffmpeg must be installed to write .mp4; got none. Write .webp instead.")


def _frame(
    scene: VoxelScene, layer: str | None, legend: Layer | None, width_px: int, theme: Theme
) -> UInt8[np.ndarray, "H W 3"]:
    from PIL import Image, ImageDraw

    half = (width_px - GAP_PX) // 2
    left = rendered_sheet(scene, (DEPTH, layer), width_px=half, theme=theme)
    right = render_scene(scene, layer, size_wh=(width_px - GAP_PX - half, len(left)), theme=theme)
    height = TITLE_PX + len(left) + LEGEND_PX
    page = Image.new("RGB", (width_px, height + height % 2), BACKGROUND[theme])  # films want even sizes
    ImageDraw.Draw(page).text((10, 7), scene.title, font=text_font(15), fill=INK[theme])
    page.paste(Image.fromarray(left), (0, TITLE_PX))
    page.paste(Image.fromarray(right), (half + GAP_PX, TITLE_PX))
    draw_legend(page, TITLE_PX + len(left), legend, theme)
    return np.array(page)


def _joined(layers: Sequence[Layer | None]) -> Layer | None:
    """One layer that holds the values of all: its legend does not change from picture to picture."""
    known = [layer for layer in layers if layer is not None]
    if not known:
        return None
    first = known[0]
    if isinstance(first, ClassLayer):
        return replace(first, label=np.concatenate([layer.label for layer in known if isinstance(layer, ClassLayer)]))
    return replace(first, score=np.concatenate([layer.score for layer in known if not isinstance(layer, ClassLayer)]))


def _mp4(frames: Sequence[UInt8[np.ndarray, "H W 3"]], frame_s: float) -> bytes:
    height, width = frames[0].shape[:2]
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "film.mp4"
        command = [
            "ffmpeg", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}",
            "-r", f"{1 / frame_s:g}", "-i", "-", "-pix_fmt", "yuv420p", "-movflags", "+faststart", str(made),
        ]  # fmt: skip
        subprocess.run(command, input=b"".join(frame.tobytes() for frame in frames), check=True)
        return made.read_bytes()
