"""Rigid transforms, named by the frames they connect: ``ego_from_lidar`` takes lidar coordinates to ego ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lexivox.errors import ShapeError


@dataclass(frozen=True, slots=True)
class RigidTransform:
    """A rotation followed by a translation: ``xyz_a = rotation @ xyz_b + translation``.

    Poses are composed in float64; :meth:`apply` works in the dtype of the points. Leading dimensions batch
    several transforms, e.g. ``(B, V)`` for the cameras of a batch.
    """

    rotation: Float[Tensor, "*batch 3 3"]
    translation: Float[Tensor, "*batch 3"]

    @classmethod
    def identity(cls) -> RigidTransform:
        return cls(torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))

    @classmethod
    def from_matrix(cls, matrix: Float[Tensor, "*batch 4 4"]) -> RigidTransform:
        matrix = matrix.to(torch.float64)
        return cls(matrix[..., :3, :3], matrix[..., :3, 3])

    @classmethod
    def from_quaternion(cls, wxyz: Sequence[float], translation: Sequence[float]) -> RigidTransform:
        """From a quaternion (w, x, y, z), as files store it; it need not be normalised.

        Raises:
            ShapeError: the quaternion has no length.
        """
        quaternion = torch.as_tensor(wxyz, dtype=torch.float64)
        norm = float(quaternion.norm())
        if not norm > 0.0:
            raise ShapeError(f"a quaternion must have a length above 0; got {list(wxyz)}. Check the pose.")
        w, x, y, z = (quaternion / norm).tolist()
        rotation = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
        return cls(
            torch.tensor(rotation, dtype=torch.float64),
            torch.as_tensor(translation, dtype=torch.float64),
        )

    @classmethod
    def from_yaw(cls, yaw_rad: float, translation: Sequence[float] = (0.0, 0.0, 0.0)) -> RigidTransform:
        """A turn about z, counter-clockwise seen from above, then a shift in metres."""
        yaw = torch.tensor(yaw_rad, dtype=torch.float64)
        zero, one = torch.zeros_like(yaw), torch.ones_like(yaw)
        c, s = torch.cos(yaw), torch.sin(yaw)
        rotation = torch.stack([c, -s, zero, s, c, zero, zero, zero, one]).reshape(3, 3)
        return cls(rotation, torch.as_tensor(translation, dtype=torch.float64))

    @classmethod
    def stack(cls, transforms: Sequence[RigidTransform]) -> RigidTransform:
        return cls(
            torch.stack([t.rotation for t in transforms]),
            torch.stack([t.translation for t in transforms]),
        )

    def __matmul__(self, other: RigidTransform) -> RigidTransform:
        """``a_from_c = a_from_b @ b_from_c``."""
        turned = torch.einsum("...ij,...j->...i", self.rotation, other.translation)
        return RigidTransform(self.rotation @ other.rotation, turned + self.translation)

    def __getitem__(self, index: int | slice | Tensor | tuple) -> RigidTransform:
        return RigidTransform(self.rotation[index], self.translation[index])

    def inverse(self) -> RigidTransform:
        rotation = self.rotation.transpose(-1, -2)
        return RigidTransform(rotation, -torch.einsum("...ij,...j->...i", rotation, self.translation))

    def apply(self, xyz: Float[Tensor, "*points 3"]) -> Float[Tensor, "*out 3"]:
        """Move points ``(P, 3)``; a batched transform ``(*batch)`` gives ``(*batch, P, 3)``."""
        rotation, translation = self.rotation.to(xyz), self.translation.to(xyz)
        return xyz @ rotation.transpose(-1, -2) + translation[..., None, :]

    def matrix(self) -> Float[Tensor, "*batch 4 4"]:
        top = torch.cat([self.rotation, self.translation[..., None]], dim=-1)
        bottom = top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*top.shape[:-2], 1, 4)
        return torch.cat([top, bottom], dim=-2)

    def to(self, target: torch.device | torch.dtype | str) -> RigidTransform:
        return RigidTransform(self.rotation.to(target), self.translation.to(target))
