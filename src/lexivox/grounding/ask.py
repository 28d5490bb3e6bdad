"""Asks the occupied voxels of one map: rows are read once per question, whatever can be kept is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lexivox.errors import ConfigError, DataError
from lexivox.geometry.grid import VoxelGrid
from lexivox.grounding.answer import Answer, Verdict
from lexivox.grounding.calibration import Calibration, peak
from lexivox.grounding.phrase import Phrase, PhraseVectors, encode_phrases
from lexivox.grounding.rivals import RivalScores, margin, score_rivals
from lexivox.ops.cosine import cosine_rows, inverse_lengths
from lexivox.teachers.base import TextEncoder

SCORES_AT_ONCE = 2**22
"""Cosines held in memory at a time (16 MiB): ten thousand questions need no more than a few."""


@dataclass
class Asker:
    """The language rows of one map, ready to be asked.

    Args:
        grid, index: where the rows lie.
        features: language features, any length.
        encoder: the words that they understand.
        calibration: what scores mean, if anybody measured it.

    Raises:
        ConfigError: the calibration is of another space.
        DataError: no row at all has a usable feature.
    """

    grid: VoxelGrid
    index: Int64[Tensor, "N 3"]
    features: Float[Tensor, "N D"]
    encoder: TextEncoder
    calibration: Calibration | None = None
    inverse: Float[Tensor, "N"] = field(init=False)

    def __post_init__(self) -> None:
        if self.calibration is not None:
            self.calibration.require_space(self.encoder)
        self.inverse = inverse_lengths(self.features)
        if len(self.inverse) and not bool((self.inverse > 0).any()):
            raise DataError(
                f"language features must be finite and not all zero; got none such in {len(self.inverse)} voxels. "
                "Check the images of the keyframe and the weights of the run."
            )

    @cached_property
    def num_unusable(self) -> int:
        return int((self.inverse == 0).sum())

    @cached_property
    def _rivals(self) -> RivalScores | None:
        if self.calibration is None:
            return None
        return score_rivals(self.calibration.rivals, self.features, self.inverse)

    @property
    def _temperature(self) -> float:
        return 1.0 if self.calibration is None else self.calibration.rivals.temperature

    def cosine(self, phrase: Phrase) -> Float[Tensor, "N"]:
        """Cosine of every voxel with a phrase, in the voxels' own order; negatives and rivals play no part.

        A voxel without a usable feature has the score -inf here and everywhere.
        """
        [vectors] = encode_phrases([phrase], self.encoder)
        return self._usable(cosine_rows(self.features, self.inverse, vectors.wanted).amax(dim=0))

    def ask(self, phrase: Phrase, false_alarm_rate: float) -> Answer:
        """The full ranking for one phrase."""
        [vectors] = encode_phrases([phrase], self.encoder)
        cosine = cosine_rows(self.features, self.inverse, torch.cat([vectors.wanted, vectors.unwanted]))
        [against] = self._against([vectors])
        score, verdict = self._judge(vectors, cosine, against, false_alarm_rate)
        return self._answer(phrase, score, verdict, len(score))

    def ask_many(self, phrases: Sequence[Phrase], false_alarm_rate: float, top: int) -> Iterator[Answer]:
        """The best ``top`` voxels for each of many phrases, in bounded memory.

        Products are made in bfloat16: several times as fast, scores differ from :meth:`ask` by around 3e-4.
        """
        for vectors, part in self._parts(phrases):
            rows = torch.cat([torch.cat([v.wanted, v.unwanted]) for v in vectors])
            cosine = cosine_rows(self.features, self.inverse, rows, exact=False)
            sizes = [len(v.wanted) + len(v.unwanted) for v in vectors]
            rivals = self._against(vectors)
            for phrase, vector, own, against in zip(part, vectors, cosine.split(sizes), rivals, strict=True):
                score, verdict = self._judge(vector, own, against, false_alarm_rate)
                yield self._answer(phrase, score, verdict, top)

    def _parts(self, phrases: Sequence[Phrase]) -> Iterator[tuple[list[PhraseVectors], list[Phrase]]]:
        """Phrases in groups whose cosines fit into memory together."""
        room = max(1, SCORES_AT_ONCE // max(1, len(self.index)))
        part: list[Phrase] = []
        for number, phrase in enumerate(phrases):
            part.append(phrase)
            filled = sum(len(p.texts) + len(p.negatives) for p in part)
            if filled >= room or number + 1 == len(phrases):
                yield encode_phrases(part, self.encoder), part
                part = []

    def _against(self, phrases: Sequence[PhraseVectors]) -> Sequence[Tensor | None]:
        """What the rivals of every phrase score in every voxel; ``None`` without a calibration."""
        if self._rivals is None:
            return [None] * len(phrases)
        competing = [self._rivals.rivals.competing(phrase.wanted) for phrase in phrases]
        return list(self._rivals.soft_best(torch.stack(competing)))

    def _judge(
        self,
        vectors: PhraseVectors,
        cosine: Float[Tensor, "M N"],
        against: Float[Tensor, "N"] | None,
        false_alarm_rate: float,
    ) -> tuple[Float[Tensor, "N"], Verdict | None]:
        wanted, unwanted = cosine.split([len(vectors.wanted), len(vectors.unwanted)])
        score = self._usable(margin(wanted, unwanted, against, self._temperature))
        if self.calibration is None:
            return score, None
        chances = len(vectors.wanted)
        threshold = self.calibration.threshold(false_alarm_rate, chances)
        best = -torch.inf
        if len(score):
            best = float(peak(score[None], self.calibration.count_for(self.grid.voxel_m3)))
        p_value = self.calibration.p_value(best, chances)
        return score, Verdict(best > threshold, p_value, false_alarm_rate, threshold, int((score > threshold).sum()))

    def _usable(self, score: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
        return torch.where(self.inverse > 0, score, -torch.inf)

    def _answer(self, phrase: Phrase, score: Float[Tensor, "N"], verdict: Verdict | None, count: int) -> Answer:
        if count < len(score):
            best, order = score.topk(count)
        else:
            best, order = score.sort(descending=True, stable=True)
        is_margin = self.calibration is not None or bool(phrase.negatives)
        measure = "margin" if is_margin else "cosine"
        return Answer(str(phrase), measure, best, self.index[order], self.grid, verdict, self.num_unusable)


def check_top(top: int) -> int:
    """Raises:
    ConfigError: below 1.
    """
    if top < 1:
        raise ConfigError(f"top must be at least 1; got {top}. Say how many voxels of each answer to keep.")
    return top
