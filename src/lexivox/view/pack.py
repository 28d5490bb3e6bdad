"""Scenes and runs as JSON for the page: numbers quantised, deflated and written in base64.

Voxels cost 6 bytes and 1 byte per layer before deflation; their order is kept, so a later answer to a query
needs one byte per voxel and no indices.
"""

from __future__ import annotations

import base64
import io
import math
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from jaxtyping import UInt8

from lexivox.errors import DataError
from lexivox.geometry.grid import VoxelGrid
from lexivox.grounding.regions import Region
from lexivox.view.colors import quantize
from lexivox.view.hits import centers, top_hits
from lexivox.view.scene import (
    ClassLayer,
    Curve,
    HeatLayer,
    Layer,
    NamedImage,
    PointCloud,
    RunReport,
    ScoreTable,
    VoxelScene,
    VoxelSet,
)
from lexivox.view.surround import surround_order

MAX_IMAGE_PX = 960
MAX_POINTS = 120_000
MAX_CURVE_STEPS = 600
MAX_REGIONS = 60
_MAGIC = {b"\xff\xd8\xff": "jpeg", b"\x89PNG": "png"}

Json = dict[str, Any]


def pack_scene(scene: VoxelScene) -> Json:
    """Everything the page needs to show one keyframe."""
    grid = scene.grid
    sets = [scene.voxels()] + ([scene.truth] if scene.truth is not None else [])
    return {
        "title": scene.title,
        "grid": {
            "lower": grid.lower_m,
            "size": grid.voxel_size_m,
            "shape": grid.shape,
            "frame": grid.frame,
            "ground": scene.ground_m,
        },
        "sets": [pack_voxels(grid, voxels) for voxels in sets],
        "images": [pack_image(scene.images[i]) for i in surround_order([im.name for im in scene.images])],
        "points": None if scene.points is None else pack_points(grid, scene.points),
    }


def pack_voxels(grid: VoxelGrid, voxels: VoxelSet) -> Json:
    layers = [pack_layer(grid, voxels.index, layer) for layer in voxels.layers]
    planes = np.ascontiguousarray(voxels.index.T).astype("<u2")  # all x, all y, all z: deflates far better
    return {"name": voxels.name, "count": len(voxels.index), "index": deflated(planes), "layers": layers}


def pack_layer(grid: VoxelGrid, index: np.ndarray, layer: Layer) -> Json:
    if isinstance(layer, ClassLayer):
        palette = [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in layer.palette.tolist()]
        label = deflated(layer.label.astype(np.uint8))
        return {
            "kind": "class",
            "name": layer.name,
            "classes": layer.classes,
            "palette": palette,
            "value": label,
        }
    return pack_heat(grid, index, layer)


def pack_heat(grid: VoxelGrid, index: np.ndarray, layer: HeatLayer) -> Json:
    """Scores in 255 steps between ``lo`` and ``hi``, the best places with their exact scores, and what was found."""
    value, low, high = quantize(layer.score)
    rows = top_hits(grid, index, layer.score)
    hits = [
        {"row": int(row), "score": float(layer.score[row]), "xyz": [round(v, 2) for v in xyz]}
        for row, xyz in zip(rows, centers(grid, index[rows]).tolist(), strict=True)
    ]
    found = {"regions": [_pack_region(index, region) for region in layer.regions[:MAX_REGIONS]]}
    found |= {"verdict": None if layer.verdict is None else asdict(layer.verdict), "places": len(layer.regions)}
    return {"kind": "heat", "name": layer.name, "lo": low, "hi": high, "value": deflated(value), "hits": hits} | found


def _pack_region(index: np.ndarray, region: Region) -> Json:
    """The row of its best voxel, its size in voxels, and its box with the corners to draw."""
    box = region.box
    return {
        "row": int((index == region.index[0].numpy()).all(axis=1).argmax()),
        "score": region.score,
        "count": len(region),
        "xyz": [round(v, 2) for v in box.center],
        "size": [round(v, 2) for v in box.size_m],
        "corners": [[round(v, 2) for v in corner] for corner in box.corners().tolist()],
    }


def pack_points(grid: VoxelGrid, cloud: PointCloud) -> Json:
    """Points in 65535 steps over their own box; every n-th one when there are very many."""
    keep = np.isfinite(cloud.xyz).all(axis=-1)
    xyz = cloud.xyz[keep].astype(np.float64)
    step = max(1, math.ceil(len(xyz) / MAX_POINTS))
    xyz = xyz[::step]
    low = xyz.min(axis=0) if len(xyz) else np.zeros(3)
    extent = np.maximum(np.ptp(xyz, axis=0), 1e-6) if len(xyz) else np.ones(3)
    planes = np.ascontiguousarray(np.round((xyz - low) / extent * 65535).T).astype("<u2")
    color = None if cloud.color is None else deflated(np.ascontiguousarray(cloud.color[keep][::step]))
    return {
        "count": len(xyz),
        "lower": low.tolist(),
        "extent": extent.tolist(),
        "value": deflated(planes),
        "color": color,
    }


def pack_image(image: NamedImage) -> Json:
    """An image as a data URI; pixels become a JPEG of at most 960 pixels width.

    Raises:
        DataError: bytes that are neither JPEG nor PNG.
    """
    data = image.data if isinstance(image.data, bytes) else jpeg_bytes(image.data)
    for magic, kind in _MAGIC.items():
        if data.startswith(magic):
            text = base64.b64encode(data).decode("ascii")
            return {"name": image.name, "src": f"data:image/{kind};base64,{text}"}
    raise DataError(f"image {image.name!r} must be a JPEG or PNG; got bytes that begin with {data[:4]!r}.")


def jpeg_bytes(pixels: UInt8[np.ndarray, "H W 3"], quality: int = 82, max_width_px: int = MAX_IMAGE_PX) -> bytes:
    """A JPEG, made smaller where the image is wider than ``max_width_px``."""
    from PIL import Image

    picture = Image.fromarray(pixels)
    if picture.width > max_width_px:
        height = round(picture.height * max_width_px / picture.width)
        picture = picture.resize((max_width_px, height), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality, optimize=True)
    return stream.getvalue()


def pack_report(report: RunReport) -> Json:
    """A whole run; the scenes are packed in order."""
    return {
        "title": report.title,
        "scenes": [pack_scene(scene) for scene in report.scenes],
        "tables": [_table(table) for table in report.tables],
        "queries": [
            {
                "text": q.text,
                "ap": finite(q.average_precision),
                "random": finite(q.random_precision),
                "layer": q.layer,
            }
            for q in report.queries
        ],
        "curves": [_curve(curve) for curve in report.curves],
        "seconds": _pairs(report.seconds),
        "facts": _pairs(report.facts),
        "notes": report.notes,
        "pictures": [pack_image(picture) for picture in report.pictures],
        "charts": [f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}" for svg in report.charts],
    }


def finite(value: Any) -> Any:
    """``None`` instead of a float that JSON cannot hold."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def cell_text(value: float | int | str | None) -> str:
    """A cell as people read it: three digits for a float, a dash for what was not measured."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _table(table: ScoreTable) -> Json:
    rows = [{"name": name, "cells": [cell_text(c) for c in cells]} for name, cells in table.rows.items()]
    return {"title": table.title, "columns": table.columns, "rows": rows, "note": table.note}


def _curve(curve: Curve) -> Json:
    step = max(1, math.ceil(len(curve.steps) / MAX_CURVE_STEPS))
    steps, values = _mean_of(curve.steps, step), _mean_of(curve.values, step)
    return {"name": curve.name, "steps": steps, "values": [finite(v) for v in values]}


def _mean_of(values: np.ndarray, step: int) -> list[float]:
    """Means of every ``step`` neighbours, so that a thinned curve still tells the truth."""
    whole = len(values) // step * step
    blocks = values[:whole].astype(np.float64).reshape(-1, step)
    return [float(f"{v:.6g}") for v in blocks.mean(axis=1)]


def _pairs(mapping: Mapping[str, Any]) -> list[list[Any]]:
    return [[key, finite(value)] for key, value in mapping.items()]


def deflated(values: np.ndarray) -> str:
    """The bytes of an array, deflated, in base64; the page's ``unpack`` turns them back."""
    return base64.b64encode(zlib.compress(values.tobytes(), 6)).decode("ascii")
