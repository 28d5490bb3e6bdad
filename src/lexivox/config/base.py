"""What every config class shares: frozen, strict, plain numbers."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Weight = Annotated[float, Field(ge=0.0)]


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Signal(Config):
    """What a training signal asks of the recording beyond images and points; nothing, unless its class says so."""

    @property
    def teaches_classes(self) -> bool:
        """It teaches the ``semantic`` head."""
        return False

    @property
    def uses_point_labels(self) -> bool:
        """It needs the classes of LiDAR points."""
        return self.teaches_classes

    @property
    def uses_features(self) -> bool:
        """It needs the teacher's features."""
        return False

    @property
    def uses_boxes(self) -> bool:
        return False

    @property
    def finds_boxes(self) -> bool:
        """It needs boxes of what moves, found in the sweeps themselves."""
        return False

    @property
    def uses_voxel_labels(self) -> bool:
        return False

    @property
    def horizon(self) -> tuple[int, ...]:
        """The neighbouring keyframes it looks at, as offsets."""
        return ()
