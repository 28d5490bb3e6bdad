"""What the page of ``lexivox annotate`` asks: keyframes, images, points in a box, and to save what was chosen.

Requests name keyframes by number, cameras and annotations by name: none is ever part of a path.
"""

from __future__ import annotations

import base64
import binascii
import threading
from collections import OrderedDict
from http import HTTPStatus
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from lexivox.annotate.keyframe import Keyframe, segment
from lexivox.annotate.masks import BoxSegmenter, PixelBox, Segmenter, read_mask
from lexivox.annotate.page import annotate_page
from lexivox.annotate.points import Clean
from lexivox.annotate.store import AnnotationStore
from lexivox.data.types import SampleDataset
from lexivox.errors import ConfigError
from lexivox.view.local import Answer, RefusedError, json_answer, not_found, whole
from lexivox.view.pack import deflated, jpeg_bytes
from lexivox.view.surround import surround_order

KEPT_KEYFRAMES = 3
JPEG_QUALITY, MAX_WIDTH_PX = 90, 4096
MAX_QUERY = 200
MAX_NUMBER = 1e9
"""NaN and numbers that fit no float are refused with those beyond it."""


class AnnotateSite:
    """The annotator's page and its answers. One request at a time works on the data.

    Args:
        dataset: what is annotated.
        store: where annotations go.
        segmenter: turns a box into a mask; by default the box is the mask.
        title: of the page.
    """

    max_body_bytes = 2 * 1024 * 1024

    def __init__(
        self, dataset: SampleDataset, store: AnnotationStore, segmenter: Segmenter | None = None, title: str = "lexivox"
    ) -> None:
        self.dataset, self.store, self.segmenter, self.title = dataset, store, segmenter or BoxSegmenter(), title
        self._lock = threading.RLock()
        self._kept: OrderedDict[int, Keyframe] = OrderedDict()

    def get(self, path: str, wish: dict[str, str]) -> Answer:
        """The page, a keyframe, one of its images, or the points of one of its annotations."""
        if path == "/":
            return "text/html; charset=utf-8", annotate_page(self.title, self._overview()).encode()
        frame = self._frame(wish.get("frame", "0"))
        with self._lock:
            if path == "/keyframe":
                return json_answer(pack_keyframe(self._keyframe(frame)))
            if path == "/image":
                view = self._keyframe(frame).view(wish.get("camera", ""))[1]
                pixels = view.image.permute(1, 2, 0).contiguous().numpy()
                return "image/jpeg", jpeg_bytes(pixels, JPEG_QUALITY, MAX_WIDTH_PX)
            if path == "/points":
                return json_answer(self._points(frame, wish.get("query", "")))
        raise not_found()

    def post(self, path: str, wish: dict[str, Any]) -> Answer:
        """Points in a box or mask; save or remove an annotation."""
        routes = {"/propose": self._propose, "/save": self._save, "/remove": self._remove}
        if path not in routes:
            raise not_found()
        frame = self._frame(wish.get("frame"))
        with self._lock:
            return json_answer(routes[path](frame, wish))

    # ------------------------------------------------------------------------------------------------ reading

    def _frame(self, value: Any) -> int:
        frame = whole(value)
        if frame >= len(self.dataset):
            raise ConfigError(f"frame must lie in 0..{len(self.dataset) - 1}; got {frame}.")
        return frame

    def _keyframe(self, frame: int) -> Keyframe:
        if frame not in self._kept:
            self._kept[frame] = Keyframe.of(self.dataset[frame])
        self._kept.move_to_end(frame)
        while len(self._kept) > KEPT_KEYFRAMES:
            self._kept.popitem(last=False)
        return self._kept[frame]

    def _overview(self) -> dict[str, Any]:
        frames = [
            {"token": token, "drive": drive}
            for token, drive in zip(self.dataset.tokens, self.dataset.drives, strict=True)
        ]
        segmenter = {"segmenter": self.segmenter.name, "boxIsMask": isinstance(self.segmenter, BoxSegmenter)}
        return {"title": self.title, "frames": frames, **segmenter, **self._annotations()}

    def _annotations(self) -> dict[str, Any]:
        """Those of keyframes that the data set has, and how many others the folder holds."""
        number = {token: frame for frame, token in enumerate(self.dataset.tokens)}
        read = self.store.read()
        own = [
            {"frame": number[a.token], "query": a.query, "split": a.split, "count": int(a.mask.sum())}
            for a in read
            if a.token in number
        ]
        return {"annotations": own, "others": len(read) - len(own)}

    def _points(self, frame: int, query: str) -> dict[str, Any]:
        token = self.dataset.tokens[frame]
        for annotation in self.store.read():
            if (annotation.token, annotation.query) == (token, query):
                return {"points": annotation.mask.nonzero()[:, 0].tolist(), "split": annotation.split}
        raise ConfigError(f"annotation must exist; got keyframe {token}, query {query!r}.")

    # ------------------------------------------------------------------------------------------------ working

    def _propose(self, frame: int, wish: dict[str, Any]) -> dict[str, Any]:
        keyframe, camera = self._keyframe(frame), _text(wish, "camera")
        mask = self._mask(keyframe, camera, wish)
        found = keyframe.propose(camera, mask, _clean(wish))
        return {
            "inside": found.index.tolist(),
            "kept": found.kept.tolist(),
            "clusters": found.num_clusters,
            "mask": pack_mask(mask),
        }

    def _mask(self, keyframe: Keyframe, camera: str, wish: dict[str, Any]) -> Bool[Tensor, "H W"]:
        if "png" not in wish:
            return segment(keyframe, camera, _box(wish), self.segmenter)
        try:
            content = base64.b64decode(_text(wish, "png"), validate=True)
        except binascii.Error:
            raise _bad("Mask must be a PNG in base64.") from None
        return read_mask(content, keyframe.view(camera)[1].image_hw)

    def _save(self, frame: int, wish: dict[str, Any]) -> dict[str, Any]:
        query, replaces = _text(wish, "query"), wish.get("replaces")
        if len(query) > MAX_QUERY:
            raise _bad(f"Query must have at most {MAX_QUERY} characters.")
        if not (replaces is None or isinstance(replaces, str)):
            raise _bad('A string "replaces" is the query of the annotation that is changed.')
        annotation = self._keyframe(frame).annotation(query, _text(wish, "split"), _rows(wish))
        self.store.put(annotation, replaces)
        return {"query": annotation.query, **self._annotations()}

    def _remove(self, frame: int, wish: dict[str, Any]) -> dict[str, Any]:
        self.store.remove(self.dataset.tokens[frame], _text(wish, "query"))
        return self._annotations()


# ------------------------------------------------------------------------------------------------- packing


def pack_keyframe(keyframe: Keyframe) -> dict[str, Any]:
    """Points in the ego frame with colours, and of every camera which points it sees where."""
    sample = keyframe.sample
    order = surround_order([view.name for view in sample.views])
    return {
        "token": sample.token,
        "drive": sample.drive,
        "count": sample.lidar.num_points,
        "ground": keyframe.ground_m,
        "xyz": deflated(keyframe.xyz_ego.numpy().astype("<f4")),
        "rgb": deflated(keyframe.colors().numpy()),
        "cameras": [_pack_camera(keyframe, row) for row in order],
    }


def _pack_camera(keyframe: Keyframe, row: int) -> dict[str, Any]:
    view, seen = keyframe.sample.views[row], keyframe.visible[row]
    return {
        "name": view.name,
        "width": view.image_hw[1],
        "height": view.image_hw[0],
        "index": deflated(seen.nonzero()[:, 0].numpy().astype("<u4")),
        "uv": deflated(keyframe.uv[row][seen].numpy().astype("<f4")),
    }


def pack_mask(mask: Bool[Tensor, "H W"]) -> dict[str, Any] | None:
    """The part of a mask that is not empty: its corner, its size and one byte per pixel."""
    rows, columns = mask.any(dim=1).nonzero()[:, 0], mask.any(dim=0).nonzero()[:, 0]
    if not len(rows):
        return None
    top, left = int(rows[0]), int(columns[0])
    part = mask[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1]
    size = {"width": part.shape[1], "height": part.shape[0]}
    return {"left": left, "top": top, **size, "value": deflated(part.numpy().astype(np.uint8))}


# ------------------------------------------------------------------------------------------------- checking


def _bad(text: str) -> RefusedError:
    return RefusedError(HTTPStatus.BAD_REQUEST, text)


def _text(wish: dict[str, Any], name: str) -> str:
    value = wish.get(name)
    if not isinstance(value, str):
        raise _bad(f'Request must hold a string "{name}".')
    return value


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < MAX_NUMBER:
        raise _bad(f"{name} must be a number.")
    return float(value)


def _box(wish: dict[str, Any]) -> PixelBox:
    box = wish.get("box")
    if not isinstance(box, list) or len(box) != 4:
        raise _bad('Request must hold a list "box" of four numbers, or a "png".')
    return PixelBox(*(_number(value, "Box") for value in box))


def _clean(wish: dict[str, Any]) -> Clean:
    asked, default = wish.get("clean", {}), Clean()
    if not isinstance(asked, dict) or not isinstance(asked.get("enabled", True), bool):
        raise _bad('Request may hold an object "clean".')
    return Clean(
        asked.get("enabled", default.enabled),
        whole(asked.get("min_cluster_size", default.min_cluster_size), "min_cluster_size"),
        _number(asked.get("reach_m", default.reach_m), "reach_m"),
        whole(asked.get("rank", default.rank), "rank"),
    )


def _rows(wish: dict[str, Any]) -> Tensor:
    points = wish.get("points")
    if not isinstance(points, list) or not all(type(point) is int and abs(point) < 2**31 for point in points):
        raise _bad('Request must hold a list "points" of whole numbers.')
    return torch.tensor(points, dtype=torch.int64)
