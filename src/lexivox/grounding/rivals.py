"""The words that a phrase must beat in a voxel: things that are surely absent, and the run's other classes.

A cosine alone says little: every voxel has some cosine with every phrase. What counts is how much better a
phrase fits than whatever else the voxel could be. LERF compares with four fixed words in pairs; here all rivals
compete at once in a softmax, and rivals that mean the same as the phrase stay out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lexivox.ops.cosine import cosine_rows

SAME = 0.8
"""Cosine from which an absent thing counts as another name of the phrase."""

ABSENT = -1
"""Class number of things that are surely absent."""


@dataclass(frozen=True, slots=True)
class Rivals:
    """Words and how strictly they compete.

    Attributes:
        words: C phrases.
        class_of: the class of each word in the run's vocabulary, ``ABSENT`` for things that no recording holds.
        vectors: unit rows in the text encoder's space.
        temperature: of the softmax, in units of cosine.
    """

    words: tuple[str, ...]
    class_of: Int64[Tensor, "C"]
    vectors: Float[Tensor, "C D"]
    temperature: float

    def competing(self, wanted: Float[Tensor, "M D"]) -> Bool[Tensor, "C"]:
        """True for the rivals of a phrase: not its own class, the one that holds the nearest word, nor its synonyms."""
        alike = (F.normalize(self.vectors.float(), dim=-1) @ wanted.T.to(self.vectors.device)).amax(dim=-1)
        known = self.class_of != ABSENT
        own = torch.zeros_like(known)
        if bool(known.any()):
            own = self.class_of == self.class_of[torch.where(known, alike, -torch.inf).argmax()]
        return ~torch.where(known, own, alike >= SAME)


@dataclass(frozen=True, slots=True)
class RivalScores:
    """What the rivals score in every voxel, prepared once per map.

    Attributes:
        weight: ``exp((cosine - best) / temperature)`` of every voxel and rival.
        best: the best rival's cosine in every voxel.
    """

    rivals: Rivals
    weight: Float[Tensor, "N C"]
    best: Float[Tensor, "N"]

    def soft_best(self, competing: Bool[Tensor, "M C"]) -> Float[Tensor, "M N"]:
        """Soft maximum of the competing rivals' cosines: their log-sum-exp at the temperature; -inf for none."""
        total = (self.weight @ competing.to(self.weight).T).T
        return self.best + self.rivals.temperature * total.clamp_min(1e-37).log()


def score_rivals(rivals: Rivals, features: Float[Tensor, "N D"], inverse: Float[Tensor, "N"]) -> RivalScores:
    cosine = cosine_rows(features, inverse, rivals.vectors.float().to(features.device)).T
    best = cosine.amax(dim=-1) if cosine.shape[1] else cosine.new_zeros(len(cosine))
    return RivalScores(rivals, ((cosine - best[:, None]) / rivals.temperature).exp(), best)


def margin(
    wanted: Float[Tensor, "M N"], unwanted: Float[Tensor, "K N"], against: Float[Tensor, "N"] | None, temperature: float
) -> Float[Tensor, "N"]:
    """How much better a phrase fits than all that it competes with, in units of cosine; above 0 where it wins.

    Args:
        wanted, unwanted: cosines of its phrasings and of its own negatives.
        against: soft maximum of its rivals at the temperature. Without rivals the best negative alone counts.
    """
    fit = wanted.amax(dim=0)
    if against is None:
        return fit - unwanted.amax(dim=0) if len(unwanted) else fit
    if len(unwanted):
        against = torch.logaddexp(against / temperature, (unwanted / temperature).logsumexp(dim=0)) * temperature
    return fit - against
