"""The one idea in one file: an encoder turns a batch into a field, heads read the field at points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from lexivox.data.collate import collate
from lexivox.data.image_fit import ImageFit
from lexivox.data.types import Batch, Clip, Sample
from lexivox.errors import ConfigError, ShapeError
from lexivox.fields import FeatureField
from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.transform import RigidTransform
from lexivox.grounding.calibration import Calibration
from lexivox.prediction import Prediction
from lexivox.teachers.base import TextEncoder

CHUNK = 65_536
"""Points that a head reads at once outside training; bounds memory on fine grids."""


@dataclass(frozen=True, slots=True)
class Scene:
    """An encoded batch: ask a head by name about any point of the world."""

    field: FeatureField
    heads: Mapping[str, nn.Module]
    size: int

    def read(self, head: str, xyz: Float[Tensor, "P 3"], batch: Int64[Tensor, "P"]) -> Float[Tensor, "P K"]:
        """Output of a head at points in the grid's frame. Geometry has one name, ``occupancy`` (2 logits: free,
        occupied): a ``density`` head (1 logit) answers it too.

        Raises:
            ConfigError: the model has no such head.
        """
        return answer(self.heads, head, self.field.sample(xyz, batch))

    def read_dense(self, head: str) -> Float[Tensor, "B K X Y Z"]:
        """Output of a head at all voxel centres."""
        volume = self.field.dense().movedim(1, -1)  # (B, X, Y, Z, C)
        rows = answer(self.heads, head, volume.flatten(0, -2))
        return rows.unflatten(0, volume.shape[:-1]).movedim(-1, 1)


def answer(heads: Mapping[str, nn.Module], name: str, features: Float[Tensor, "P C"]) -> Float[Tensor, "P K"]:
    """What a head says about features. The logit of ``density`` is that of occupied beside 0 for free.

    Raises:
        ConfigError: there is no such head.
    """
    if name == "occupancy" and name not in heads and "density" in heads:
        occupied = heads["density"](features)
        return torch.cat([torch.zeros_like(occupied), occupied], dim=-1)
    if name not in heads:
        raise ConfigError(f"head must be one of {sorted(heads)}; got '{name}'. Add it to the recipe.")
    return heads[name](features)


class OccupancyModel(nn.Module):
    """Encoder and heads over one grid.

    Args:
        grid: where predictions live; batches must be collated for it.
        encoder: ``Batch -> FeatureField``.
        heads: modules ``(P, C) -> (P, K)``. Known names: ``occupancy`` (2 logits: free, occupied) or ``density`` (its
            logit of occupied alone), ``language`` (D channels in the space of ``text_encoder``), ``semantic`` (one
            logit per class of a table; without the last one, free, beside a head for geometry).
        fit: brings images to their size before they are encoded; a bare size squashes them.
        text_encoder: the words that the language head understands.
        free_class: the class of the ``semantic`` head that means free.
        threshold: predictions call a voxel occupied where its probability is above it.
    """

    def __init__(
        self,
        grid: VoxelGrid,
        encoder: nn.Module,
        heads: Mapping[str, nn.Module],
        fit: ImageFit | tuple[int, int],
        text_encoder: TextEncoder | None = None,
        free_class: int | None = None,
        threshold: float = 0.5,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.encoder = encoder
        self.heads = nn.ModuleDict(dict(heads))
        self.fit = fit if isinstance(fit, ImageFit) else ImageFit(fit)
        self.text_encoder = text_encoder
        self.free_class, self.threshold = free_class, threshold
        self.calibration: Calibration | None = None
        """What scores of queries mean; ``load`` sets it where a run was calibrated."""

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def image_offsets(self) -> tuple[int, ...]:
        """The neighbouring keyframes whose images the encoder looks at; ``predict`` a ``Clip`` that has them."""
        return getattr(self.encoder, "image_offsets", ())

    def encode(self, batch: Batch) -> Scene:
        """Raises:
        ShapeError: the batch is in another frame than the model's grid.
        """
        if batch.grid.frame != self.grid.frame:
            raise ShapeError(
                f"a batch must be in the frame of the model's grid, '{self.grid.frame}'; got '{batch.grid.frame}'. "
                "Collate it for the model's grid."
            )
        field = self.encoder(batch)
        return Scene(field, dict(self.heads.items()), batch.size)

    @torch.inference_mode()
    def predict(self, sample: Sample | Clip, refine: int = 1, threshold: float | None = None) -> Prediction:
        """The map of one keyframe, from its images alone.

        Args:
            sample: a keyframe; its LiDAR, if any, is not looked at. A clip brings past images along for an encoder
                that looks at them (``image_offsets``); without, the current ones are repeated.
            refine: cut every voxel into this many pieces along each axis; the field is continuous.
            threshold: occupied where the probability is above it; the model's own if None.
        """
        clip = sample if isinstance(sample, Clip) else Clip(sample)
        current, grid = clip.current, self.grid.refine(refine)
        batch = collate([self.fit.fitted(clip)], self.grid).to(self.device)
        with _evaluating(self):
            reader = _Reader(self.encode(batch), grid, self.device)
        return Prediction.from_reader(
            token=current.token,
            grid=grid,
            occupancy=self._occupancy(reader),
            read=reader.read,
            text_encoder=self.text_encoder,
            free_class=self.free_class,
            calibration=self.calibration,
            global_from_grid=_global_from_grid(current, grid),
            threshold=self.threshold if threshold is None else threshold,
        )

    def _occupancy(self, reader: _Reader) -> Float[Tensor, "X Y Z"]:
        if "occupancy" in self.heads or "density" in self.heads:
            return reader.read_grid("occupancy").softmax(dim=-1)[..., 1]
        return 1.0 - reader.read_grid("semantic").softmax(dim=-1)[..., self.free_class]


def _global_from_grid(sample: Sample, grid: VoxelGrid) -> RigidTransform:
    return sample.global_from_ego if grid.frame == "ego" else sample.global_from_ego @ sample.ego_from_lidar


def set_checkpointing(model: nn.Module, which: Literal["none", "heads", "all"]) -> None:
    """Switch on, in the heads or everywhere, that activations are not kept but computed again in the backward pass.

    It changes memory and time, never a result beyond rounding. Parts that can do it have a ``checkpointing`` switch:
    heads, layers of the triplane encoder, blocks of image backbones. Those built with it on stay on.
    """
    for name, module in model.named_modules():
        if hasattr(module, "checkpointing") and (which == "all" or (which == "heads" and name.startswith("heads."))):
            module.checkpointing = True  # pyright: ignore[reportArgumentType] (a switch, no submodule)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside; afterwards every module is in its own mode again, also a frozen one."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


class _Reader:
    """Reads the heads of an encoded keyframe in chunks and brings the rows to the CPU."""

    def __init__(self, scene: Scene, grid: VoxelGrid, device: torch.device) -> None:
        self.scene, self.grid, self.device = scene, grid, device

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.scene.heads)

    @torch.inference_mode()
    def read(self, head: str, xyz: Float[Tensor, "P 3"]) -> Float[Tensor, "P K"]:
        rows = []
        for part in xyz.to(self.device).split(CHUNK):
            batch = torch.zeros(len(part), dtype=torch.int64, device=self.device)
            rows.append(self.scene.read(head, part, batch).float().cpu())
        if not rows:
            empty = torch.zeros(0, dtype=torch.int64, device=self.device)
            return self.scene.read(head, xyz.to(self.device), empty).float().cpu()
        return torch.cat(rows)

    def read_grid(self, head: str) -> Float[Tensor, "X Y Z K"]:
        return self.read(head, self.grid.centers().reshape(-1, 3)).unflatten(0, self.grid.shape)
