"""What a score means: how high phrases score that are not there, measured on held-out keyframes without labels.

A phrase counts as present when at least ``count`` voxels beat the threshold. Phrases of things that no street
holds are asked of every keyframe; the threshold for a false-alarm rate is the conformal quantile of their scores,
so the rate holds for any model, however its scores are distributed (split conformal prediction).
"""

from __future__ import annotations

import json
import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from lexivox.errors import ConfigError, DataError
from lexivox.files import write_atomically
from lexivox.grounding.absent import ABSENT_THINGS
from lexivox.grounding.rivals import ABSENT, Rivals, score_rivals
from lexivox.ops.cosine import cosine_rows, inverse_lengths
from lexivox.teachers.base import TextEncoder
from lexivox.teachers.vocabulary import Vocabulary

FORMAT = "lexivox-calibration-1"
JSON_FILE, TENSOR_FILE = "calibration.json", "calibration.safetensors"
COUNT = 3
"""Voxels that must fit: a single one may be an accident of the network."""

KEPT = 2000
"""Order statistics kept: more would only lengthen the file."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """The scores of what is not there, and the rivals under which they were measured.

    Attributes:
        space: of the text encoder; in another space the numbers mean nothing.
        rivals: what every phrase competes with.
        null: scores of absent things, one per thing and keyframe, rising; thinned evenly to at most 2000.
        count: voxels that must beat the threshold.
        voxel_m3: size of the voxels they were counted in.
        keyframes: how many were asked.
    """

    space: str
    rivals: Rivals
    null: tuple[float, ...]
    count: int
    voxel_m3: float
    keyframes: int

    def p_value(self, score: float, phrasings: int = 1) -> float:
        """Share of absent things that score at least as high; small = hardly an accident.

        The best of several phrasings has several chances, which is paid for (Sidak's correction).
        """
        above = len(self.null) - bisect_left(self.null, score)
        single = (above + 1) / (len(self.null) + 1)
        return 1.0 - (1.0 - single) ** phrasings if phrasings > 1 else single

    def threshold(self, false_alarm_rate: float, phrasings: int = 1) -> float:
        """Score that must be beaten so that absent things pass at this rate at most.

        Raises:
            ConfigError: a rate outside 0..1, or one too small for the number of scores measured.
        """
        if not 0.0 < false_alarm_rate < 1.0:
            raise ConfigError(f"false_alarm_rate must lie between 0 and 1; got {false_alarm_rate}. Try 0.05.")
        single = 1.0 - (1.0 - false_alarm_rate) ** (1.0 / phrasings)
        allowed = math.floor(single * (len(self.null) + 1) + 1e-9) - 1
        if allowed < 0:
            raise ConfigError(
                f"false_alarm_rate must be at least {phrasings / (len(self.null) + 1):.2g} for {phrasings} phrasings "
                f"under {len(self.null)} measured scores; got {false_alarm_rate}. Calibrate on more keyframes."
            )
        return self.null[len(self.null) - 1 - min(allowed, len(self.null) - 1)]

    def thresholds(self) -> dict[float, float]:
        """Threshold of the usual false-alarm rates, as far as enough scores were measured to promise them."""
        return {rate: self.threshold(rate) for rate in (0.01, 0.05, 0.1, 0.2) if rate * (len(self.null) + 1) >= 1}

    def count_for(self, voxel_m3: float) -> int:
        """The same volume in voxels of another size, at least one."""
        return max(1, round(self.count * self.voxel_m3 / voxel_m3))

    def require_space(self, encoder: TextEncoder) -> None:
        """Raises:
        ConfigError: the encoder's vectors live in another space.
        """
        if encoder.space != self.space:
            raise ConfigError(
                f"a calibration must be of the text encoder's space '{encoder.space}'; got '{self.space}'. "
                "Calibrate the run again: lexivox calibrate RUN."
            )

    # --------------------------------------------------------------------------------------------------- files

    def to_json(self) -> dict:
        """Everything but the vectors."""
        rivals = self.rivals
        return {
            "format": FORMAT,
            "space": self.space,
            "keyframes": self.keyframes,
            "voxels_that_must_fit": self.count,
            "voxel_m3": self.voxel_m3,
            "temperature": rivals.temperature,
            "threshold": {str(rate): threshold for rate, threshold in self.thresholds().items()},
            "rivals": list(rivals.words),
            "class_of": rivals.class_of.tolist(),
            "null": [round(score, 5) for score in self.null],
        }

    @classmethod
    def from_json(cls, known: dict, vectors: Float[Tensor, "C D"]) -> Calibration:
        """Raises:
        DataError: another format, or parts that do not fit together.
        """
        try:
            if known["format"] != FORMAT:
                raise ValueError(f"format {known['format']!r}")
            class_of = torch.tensor(known["class_of"], dtype=torch.int64)
            rivals = Rivals(tuple(known["rivals"]), class_of, vectors.half(), float(known["temperature"]))
            null = tuple(float(score) for score in known["null"])
            if not len(rivals.words) == len(class_of) == len(vectors) or list(null) != sorted(null) or not null:
                raise ValueError("parts that do not fit together")
            if not rivals.temperature > 0 or not all(math.isfinite(score) for score in null):
                raise ValueError("numbers that are not finite")
            count, size = int(known["voxels_that_must_fit"]), float(known["voxel_m3"])
            return cls(str(known["space"]), rivals, null, count, size, int(known["keyframes"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(
                f"a calibration must be of the format {FORMAT}; got {reason}. Make it again: lexivox calibrate RUN."
            ) from None

    def save(self, run_dir: Path) -> Path:
        """Write ``calibration.json`` and, beside it, the rivals' vectors."""
        text = json.dumps(self.to_json(), indent=1).encode()
        tensors = save({"vectors": self.rivals.vectors.half().contiguous()})
        write_atomically(run_dir / TENSOR_FILE, lambda file: file.write(tensors))
        return write_atomically(run_dir / JSON_FILE, lambda file: file.write(text))

    @classmethod
    def load(cls, run_dir: Path) -> Calibration | None:
        """What :meth:`save` wrote, ``None`` where nothing was.

        Raises:
            DataError: a damaged or foreign file.
        """
        if not (run_dir / JSON_FILE).is_file():
            return None
        try:
            known = json.loads((run_dir / JSON_FILE).read_text(encoding="utf-8"))
            vectors = load((run_dir / TENSOR_FILE).read_bytes())["vectors"]
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise DataError(
                f"a calibration must be readable; got {str(error).splitlines()[0][:120]}. "
                f"Make it again with lexivox calibrate: {run_dir / JSON_FILE}."
            ) from None
        return cls.from_json(known, vectors)


# -------------------------------------------------------------------------------------------------- measuring


class Calibrator:
    """Collects the scores of absent things, keyframe by keyframe.

    Args:
        encoder: of the model.
        vocabulary: the run's classes, which compete too; ``None`` for a run without words of its own.
        absent: things that the recordings surely do not hold. Each is asked while the others compete.

    Raises:
        ConfigError: fewer than 20 absent things.
    """

    def __init__(
        self, encoder: TextEncoder, vocabulary: Vocabulary | None = None, absent: Sequence[str] = ABSENT_THINGS
    ) -> None:
        if len(set(absent)) < 20:
            raise ConfigError(f"absent things must be at least 20; got {len(set(absent))}. Name more of them.")
        self.space, self.num_absent = encoder.space, len(absent)
        known = vocabulary.texts if vocabulary is not None else ()
        classes = vocabulary.class_of_query if vocabulary is not None else ()
        words = (*absent, *known)
        class_of = torch.tensor([ABSENT] * len(absent) + list(classes))
        self.rivals = Rivals(words, class_of, encoder.encode(list(words)).half().cpu(), math.nan)
        self.maps: list[tuple[Tensor, Tensor]] = []
        self.voxel_m3 = math.nan

    def update(self, features: Float[Tensor, "N D"], voxel_m3: float) -> None:
        """Count one keyframe: language features of its occupied voxels."""
        self.voxel_m3 = voxel_m3
        if len(features):
            self.maps.append((features.cpu(), inverse_lengths(features).cpu()))

    def result(self) -> Calibration:
        """Raises:
        DataError: no keyframe with occupied voxels.
        """
        if not self.maps:
            raise DataError("a calibration must see at least one occupied voxel; got none. Train longer first.")
        rivals = Rivals(self.rivals.words, self.rivals.class_of, self.rivals.vectors, self._temperature())
        null = torch.cat([self._peaks(rivals, *rows) for rows in self.maps]).sort().values
        if len(null) > KEPT:
            null = null[torch.linspace(0, len(null) - 1, KEPT).round().long()]
        # Rounded as the file rounds, so that a run answers the same before and after it was saved.
        scores = tuple(round(float(score), 5) for score in null)
        return Calibration(self.space, rivals, scores, COUNT, self.voxel_m3, len(self.maps))

    def _temperature(self) -> float:
        """How far the scores of absent things lie apart in a voxel: the natural unit of a space."""
        absent = self.rivals.vectors[: self.num_absent].float()
        spread = [cosine_rows(*rows, absent).std(dim=0).mean() for rows in self.maps]
        return round(max(float(torch.stack(spread).mean()), 1e-3), 5)

    def _peaks(self, rivals: Rivals, features: Tensor, inverse: Tensor) -> Float[Tensor, "M"]:
        """The ``COUNT``-th best margin of every absent thing in one keyframe."""
        absent = rivals.vectors[: self.num_absent].float()
        competing = torch.stack([rivals.competing(vector[None]) for vector in absent])
        against = score_rivals(rivals, features, inverse).soft_best(competing)
        return peak(cosine_rows(features, inverse, absent) - against, COUNT)


def peak(score: Float[Tensor, "M N"], count: int) -> Float[Tensor, "M"]:
    """The ``count``-th best score of every row; of fewer voxels the worst, so that a small map is no excuse."""
    return score.topk(min(count, score.shape[1]), dim=1).values[:, -1]
