"""Images to three planes: learned queries on each plane read the images where their pillars project.

POP-3D and TPVFormer (spec POP-3D 2.3 to 2.6), with every size a plain argument. Planes are token lists in the
published order, so that published weights fit as they are: ``xy`` is [y, x], ``yz`` is [z, y], ``xz`` [x, z].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lexivox.data.types import Cameras
from lexivox.errors import ShapeError
from lexivox.fields import TriplaneField
from lexivox.geometry.camera import image_from_grid, is_visible, project_packed
from lexivox.geometry.grid import VoxelGrid
from lexivox.ops.attention import ImageCrossAttention, PlaneSelfAttention, SeenQueries

PLANES = (("y", "x", "z"), ("z", "y", "x"), ("x", "z", "y"))
"""Of each plane: the axis of its rows, of its columns, and the one its pillars run along."""

PILLAR_MARGIN_M = 0.5
"""The outermost anchors of a pillar stand this far inside the box, whatever the voxel size (spec 2.4)."""


class TriplaneLayer(nn.Module):
    """Self-attention, image cross-attention and a small MLP, each with its residual and then a norm."""

    def __init__(
        self, self_attention: PlaneSelfAttention, cross_attention: ImageCrossAttention, channels: int,
        ffn_channels: int, dropout: float,
    ):  # fmt: skip
        super().__init__()
        self.self_attention = self_attention
        self.cross_attention = cross_attention
        self.ffn = nn.Sequential(
            nn.Linear(channels, ffn_channels),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(ffn_channels, channels),
            nn.Dropout(dropout),
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))

    def forward(
        self,
        queries: Float[Tensor, "B Q C"],
        position: Float[Tensor, "_ C"],
        reference: Float[Tensor, "_ 2"],
        plane_hw: Sequence[tuple[int, int]],
        seen: Sequence[SeenQueries],
        tokens: Float[Tensor, "N T C"],
        level_hw: Sequence[tuple[int, int]],
    ) -> Float[Tensor, "B Q C"]:
        lengths = [h * w for h, w in plane_hw]
        top, *sides = queries.split(lengths, dim=1)
        top = self.self_attention(top, position, reference, plane_hw[0])
        queries = self.norms[0](torch.cat([top, *sides], 1))
        queries = self.norms[1](self.cross_attention(queries.split(lengths, 1), seen, tokens, level_hw))
        return self.norms[2](queries + self.ffn(queries))


class TriplaneEncoder(nn.Module):
    """A pyramid of image features and the cameras' geometry to a :class:`TriplaneField`.

    Args:
        grid: resolution and box of the planes.
        channels: of the pyramid, the queries and the planes; a multiple of ``2 * num_heads``.
        num_levels: levels of the pyramid that are read, the first ones.
        anchors: places along the pillars of the planes xy, yz, xz that look at the images.
        points_per_anchor: learned places read around each anchor, per head and level.
        spread_self_attention: start the points of self-attention on a star around the query, as Deformable DETR and
            the paper's own cross-attention do. The released code starts all of them at the query's place, where
            the points of a head get equal gradients and never part; False reproduces it.
        num_cameras: a learned vector for each camera slot, which fixes number and order of the cameras (as
            published); None for any rig in any order.
        checkpointing: keep no activations of a layer and compute it again in the backward pass.
    """

    def __init__(
        self,
        grid: VoxelGrid,
        *,
        channels: int = 48,
        num_heads: int = 4,
        num_layers: int = 1,
        num_levels: int = 2,
        anchors: tuple[int, int, int] = (4, 8, 8),
        points_per_anchor: int = 1,
        self_attention_points: int = 4,
        spread_self_attention: bool = True,
        ffn_channels: int | None = None,
        num_cameras: int | None = None,
        dropout: float = 0.0,
        checkpointing: bool = False,
    ):
        super().__init__()
        if channels % (2 * num_heads):
            raise ShapeError(f"channels must be a multiple of {2 * num_heads}, twice num_heads; got {channels}.")
        self.grid, self.channels, self.num_levels = grid, channels, num_levels
        self.checkpointing, self.spread_self_attention = checkpointing, spread_self_attention
        sizes = dict(zip("xyz", grid.shape, strict=True))
        self.plane_hw = [(sizes[row], sizes[column]) for row, column, _ in PLANES]
        self.plane_queries = nn.ParameterList(torch.empty(h * w, channels) for h, w in self.plane_hw)
        self.row_position = nn.Parameter(torch.empty(self.plane_hw[0][0], channels // 2))
        self.column_position = nn.Parameter(torch.empty(self.plane_hw[0][1], channels // 2))
        self.level_embedding = nn.Parameter(torch.empty(num_levels, channels))
        self.camera_embedding = nn.Parameter(torch.empty(num_cameras, channels)) if num_cameras else None
        self.layers = nn.ModuleList(
            TriplaneLayer(
                PlaneSelfAttention(channels, num_heads, self_attention_points, dropout),
                ImageCrossAttention(channels, num_heads, num_levels, anchors, points_per_anchor, dropout),
                channels, ffn_channels or 2 * channels, dropout,
            )
            for _ in range(num_layers)
        )  # fmt: skip
        for plane in range(3):
            self.register_buffer(f"reference_{plane}", pillar_points(grid, plane, anchors[plane]), persistent=False)
        self.register_buffer("own_place", _plane_places(self.plane_hw[0]), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initial values as published (spec 2.6)."""
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        for module in self.modules():
            if isinstance(module, PlaneSelfAttention | ImageCrossAttention):
                module.reset_parameters()
            if isinstance(module, PlaneSelfAttention) and not self.spread_self_attention:
                nn.init.zeros_(module.sampling_offsets.bias)
        nn.init.normal_(self.level_embedding)
        if self.camera_embedding is not None:
            nn.init.normal_(self.camera_embedding)

    def forward(self, pyramid: Sequence[Float[Tensor, "B V C _ _"]], cameras: Cameras) -> TriplaneField:
        levels = list(pyramid[: self.num_levels])
        self._check(levels)
        batch = levels[0].shape[0]
        seen = [self.project(plane, cameras) for plane in range(3)]
        tokens, level_hw = self._tokens(levels), [(f.shape[-2], f.shape[-1]) for f in levels]
        position = self._position()
        queries = torch.cat(list(self.plane_queries)).expand(batch, -1, -1)
        for layer in self.layers:
            inputs = (queries, position, self.own_place, self.plane_hw, seen, tokens, level_hw)
            again = self.checkpointing and torch.is_grad_enabled()
            queries = checkpoint(layer, *inputs, use_reentrant=False) if again else layer(*inputs)
        return self.field_from_tokens(queries)

    def project(self, plane: int, cameras: Cameras) -> SeenQueries:
        """Which queries of a plane each camera sees, and where their anchors lie in its image."""
        uv, visible = self.project_anchors(plane, cameras)
        return SeenQueries.from_projection(uv, visible)

    def project_anchors(self, plane: int, cameras: Cameras) -> tuple[Tensor, Tensor]:
        """Anchors ``(B, V, Q, D, 2)`` in [0, 1] of the image and whether each is visible ``(B, V, Q, D)``."""
        points = getattr(self, f"reference_{plane}")  # (Q, D, 3) metres
        matrix = image_from_grid(cameras.image_from_cam, cameras.cam_from_grid).to(points)
        batch, queries = matrix.shape[0], points.shape[:2]
        xyz = points.reshape(1, -1, 3).expand(batch, -1, -1).flatten(0, 1)
        owner = torch.arange(batch, device=xyz.device).repeat_interleave(points.shape[0] * points.shape[1])
        uv, depth_m = project_packed(xyz, owner, matrix)  # (B * Q * D, V, 2)
        visible = is_visible(uv, depth_m, cameras.image_hw)
        height, width = cameras.image_hw
        uv = (uv / uv.new_tensor([width, height])).unflatten(0, (batch, *queries))
        return uv.permute(0, 3, 1, 2, 4), visible.unflatten(0, (batch, *queries)).permute(0, 3, 1, 2)

    def field_from_tokens(self, tokens: Float[Tensor, "B Q C"]) -> TriplaneField:
        """Split the token list into planes and turn them to the field's axis order."""
        planes = [
            plane.transpose(1, 2).unflatten(2, hw)
            for plane, hw in zip(tokens.split([h * w for h, w in self.plane_hw], 1), self.plane_hw, strict=True)
        ]
        yx, zy, xz = planes
        return TriplaneField(self.grid, xy=yx.transpose(2, 3), yz=zy.transpose(2, 3), xz=xz)

    def _tokens(self, levels: Sequence[Tensor]) -> Float[Tensor, "N T C"]:
        """Pixels of all levels as tokens of each camera, marked with their level and their camera."""
        rows = [
            level.flatten(3).transpose(2, 3) + self.level_embedding[i].to(level.dtype) for i, level in enumerate(levels)
        ]
        tokens = torch.cat(rows, 2)  # (B, V, T, C)
        if self.camera_embedding is not None:
            tokens = tokens + self.camera_embedding[:, None].to(tokens.dtype)
        return tokens.flatten(0, 1)

    def _position(self) -> Float[Tensor, "Q C"]:
        """The top plane's position code: the column's half, then the row's (spec 2.3)."""
        height, width = self.plane_hw[0]
        column = self.column_position[None].expand(height, -1, -1)
        row = self.row_position[:, None].expand(-1, width, -1)
        return torch.cat([column, row], -1).flatten(0, 1)

    def _check(self, levels: Sequence[Tensor]) -> None:
        got = [tuple(level.shape) for level in levels]
        if len(levels) < self.num_levels or any(shape[2] != self.channels for shape in got):
            raise ShapeError(
                f"image pyramid must have {self.num_levels} levels of {self.channels} channels; got {got}. "
                "Match channels and num_levels of the image and triplane encoders."
            )
        if self.camera_embedding is not None and got[0][1] != len(self.camera_embedding):
            raise ShapeError(
                f"cameras must be {len(self.camera_embedding)}, one per camera embedding; got {got[0][1]}. "
                "Give the cameras the encoder was made for, or make it with num_cameras=None."
            )


def pillar_points(grid: VoxelGrid, plane: int, num_anchors: int) -> Float[Tensor, "Q D 3"]:
    """Anchors of every pillar of a plane in metres of the grid's frame (spec 2.4)."""
    axes = {name: i for i, name in enumerate("xyz")}
    row, column, pillar = (axes[name] for name in PLANES[plane])
    rows, columns = ((torch.arange(grid.shape[a]) + 0.5) / grid.shape[a] for a in (row, column))
    length_m = grid.shape[pillar] * grid.voxel_size_m[pillar]
    margin_m = min(PILLAR_MARGIN_M, length_m / 2)
    along = torch.linspace(margin_m, length_m - margin_m, num_anchors, dtype=torch.float64) / length_m
    unit = torch.empty(len(rows), len(columns), num_anchors, 3, dtype=torch.float64)
    unit[..., row] = rows[:, None, None].double()
    unit[..., column] = columns[None, :, None].double()
    unit[..., pillar] = along
    lower, upper = torch.tensor(grid.lower_m).double(), torch.tensor(grid.upper_m).double()
    return (lower + unit * (upper - lower)).float().flatten(0, 1)


def _plane_places(plane_hw: tuple[int, int]) -> Float[Tensor, "Q 2"]:
    """Cell centres of a plane in [0, 1], (x along the width, y)."""
    height, width = plane_hw
    y, x = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
    return torch.stack([x, y], -1).flatten(0, 1)
