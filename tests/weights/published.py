"""The published architecture as a config, at full size and small, and checkpoints under the published names."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from lexivox.config import (
    CameraEncoderConfig,
    ExperimentConfig,
    GridConfig,
    HeadConfig,
    HeadsConfig,
    ImageConfig,
    TriplaneConfig,
    build_model,
)
from lexivox.model import OccupancyModel
from lexivox.recipes import pop3d, pop3d_tiny
from lexivox.recipes.pop3d import published_encoder, released_encoder
from lexivox.weights.keys import DERIVED, PLANES, published_names


def full(depth: int = 101) -> ExperimentConfig:
    """The recipe with the released encoder."""
    return pop3d().changed(encoder=released_encoder(published_encoder(depth, weights=None)))


def small() -> ExperimentConfig:
    """The same parts, small: every rule for names is used."""
    image = ImageConfig(
        image_hw=(30, 60), widths=(8, 16), channels=16, num_levels=3, pad_multiple=16, separable=False, bfloat16=False
    )
    planes = TriplaneConfig(num_heads=2, num_layers=2, anchors=(2, 3, 3), num_cameras=3)
    grid = GridConfig(lower_m=(-8.0, -6.0, -1.0), voxel_size_m=(1.6, 1.5, 1.0), shape=(10, 8, 4), frame="ego")
    heads = HeadsConfig(occupancy=HeadConfig(hidden=8), language=HeadConfig(hidden=8))
    return pop3d_tiny().changed(grid=grid, encoder=encoder(image, planes), heads=heads)


def encoder(image: ImageConfig, planes: TriplaneConfig) -> CameraEncoderConfig:
    """Planes alone, as published."""
    return CameraEncoderConfig(image=image, triplane=planes, pixel_aligned=False, depth_bins=0, num_frequencies=None)


def model_of(config: ExperimentConfig, channels: int = 512) -> OccupancyModel:
    return build_model(config, channels, None, fetch_weights=False).eval()


def published_state(model: OccupancyModel, seed: int = 1) -> dict[str, Tensor]:
    """The model's arrays, stirred, under the published names, with the buffers that the published model keeps."""
    generator = torch.Generator().manual_seed(seed)
    names = published_names(model.state_dict())
    state = {names[name]: _stirred(tensor, generator) for name, tensor in model.state_dict().items()}
    return state | derived(model)


def derived(model: OccupancyModel) -> dict[str, Tensor]:
    X, Y, _ = model.grid.shape
    lower, upper = torch.tensor(model.grid.lower_m), torch.tensor(model.grid.upper_m)
    buffers = dict.fromkeys(DERIVED, torch.zeros(1)) | {DERIVED[0]: torch.zeros(1, Y, X)}
    for plane, name in enumerate(PLANES):
        places = model.get_buffer(f"encoder.triplane.reference_{plane}")
        buffers[f"tpv_head.encoder.ref_3d_{name}"] = ((places - lower) / (upper - lower)).transpose(0, 1)[None]
    return buffers


def _stirred(tensor: Tensor, generator: torch.Generator) -> Tensor:
    if not tensor.is_floating_point():
        return tensor.clone()
    return tensor + 0.01 * tensor.abs().mean() * torch.randn(tensor.shape, generator=generator)


def save(state: dict[str, Tensor], path: Path, prefix: str = "module.", wrapped: bool = True) -> Path:
    """As trainers write it."""
    named = {prefix + name: tensor for name, tensor in state.items()}
    torch.save({"state_dict": named, "epoch": 12} if wrapped else named, path)
    return path


def equal_states(a: nn.Module, b: nn.Module) -> bool:
    other = b.state_dict()
    return all(torch.equal(tensor, other[name]) for name, tensor in a.state_dict().items())
