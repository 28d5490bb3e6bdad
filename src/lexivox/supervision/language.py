"""Language features distilled from a frozen teacher at LiDAR points (POP-3D eq. 7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lexivox.data.types import Batch
from lexivox.errors import DataError
from lexivox.model import Scene
from lexivox.ops.losses import feature_cosine, feature_mse

LanguageLoss = Literal["cosine", "mse"]


@dataclass(frozen=True, slots=True)
class LanguageDistillation:
    """Pulls the ``language`` head towards the teacher's features, carried by the samples.

    Attributes:
        loss: ``"mse"`` is the published one; ``"cosine"`` asks for the direction only, which is all that a query
            with a unit vector reads.
        weight: of the term; the paper's lambda.
    """

    loss: LanguageLoss = "cosine"
    weight: float = 1.0

    def prepare(self, batch: Batch, generator: torch.Generator) -> Batch:
        if batch.targets.language is None:
            raise DataError(
                f"samples must carry teacher features for the language loss; got none in {batch.tokens[0]}. "
                "Make targets with the recipe's teacher."
            )
        return batch

    def __call__(self, scene: Scene, batch: Batch) -> dict[str, Tensor]:
        language = batch.targets.language
        assert language is not None, "prepare() checks it"
        predicted = scene.read("language", language.xyz, language.batch).float()
        distill = feature_cosine if self.loss == "cosine" else feature_mse
        return {"language": self.weight * distill(predicted, language.feature, language.weight)}
