"""What a model says about one keyframe: an occupancy map that can be asked in words."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lexivox.array_files import DAMAGES
from lexivox.errors import ConfigError, DataError
from lexivox.files import write_atomically
from lexivox.geometry.grid import VoxelGrid
from lexivox.geometry.transform import RigidTransform
from lexivox.grounding.answer import Answer
from lexivox.grounding.ask import Asker, check_top
from lexivox.grounding.calibration import Calibration
from lexivox.grounding.phrase import Rule, parse_phrase
from lexivox.ops.assign import assign_best_query
from lexivox.teachers.base import TextEncoder
from lexivox.teachers.text import text_encoder_from_spec, text_encoder_spec
from lexivox.teachers.vocabulary import Vocabulary, embed

Read = Callable[[str, Tensor], Tensor]

FORMAT = "lexivox-prediction-1"


@dataclass(slots=True)
class Prediction:
    """Occupancy of a grid, and whatever heads can say about its points, evaluated when asked.

    Attributes:
        token: the keyframe.
        grid: where the volume lies.
        occupancy: probability that each voxel is occupied.
        threshold: occupied where the probability is above it.
        text_encoder: the words that the language features understand.
        free_class: the class of the ``semantic`` head that means free.
        calibration: what scores of queries mean, measured by ``lexivox calibrate``; ``None`` = nobody knows.
        global_from_grid: pose of the grid in the recording's global frame, where it is known.
    """

    token: str
    grid: VoxelGrid
    occupancy: Float[Tensor, "X Y Z"]
    threshold: float = 0.5
    text_encoder: TextEncoder | None = None
    free_class: int | None = None
    calibration: Calibration | None = None
    global_from_grid: RigidTransform | None = None
    _read: Read | None = None
    _rows: dict[str, Tensor] = field(default_factory=dict)
    _asker: Asker | None = None

    @classmethod
    def from_reader(cls, *, read: Read, **known: object) -> Prediction:
        return cls(**known, _read=read)  # type: ignore[arg-type]

    @property
    def occupied_index(self) -> Int64[Tensor, "N 3"]:
        """Indices of the occupied voxels, in x, y, z order."""
        return (self.occupancy > self.threshold).nonzero()

    @property
    def occupied_xyz(self) -> Float[Tensor, "N 3"]:
        return self.grid.xyz_from_index(self.occupied_index)

    def read_occupied(self, head: str) -> Float[Tensor, "N K"]:
        """Output of a head at the occupied voxels' centres; computed once.

        Raises:
            ConfigError: the model has no such head, or a loaded prediction was saved without it.
        """
        if head not in self._rows:
            self._rows[head] = self.read_at(head, self.occupied_xyz)
        return self._rows[head]

    def read_at(self, head: str, xyz: Float[Tensor, "P 3"]) -> Float[Tensor, "P K"]:
        """Output of a head at any points of the grid's frame.

        Raises:
            ConfigError: the prediction was loaded from a file, which keeps occupied voxels only.
        """
        if self._read is None:
            raise ConfigError(
                f"a prediction from a file must hold '{head}' to answer; it does not, or not at these points. "
                "Predict again with the model."
            )
        return self._read(head, xyz)

    def labels(self, vocabulary: Vocabulary | None = None) -> Int64[Tensor, "X Y Z"]:
        """Class of every voxel: index into the vocabulary's classes, or its number of classes where free.

        Without a vocabulary the ``semantic`` head answers, in the numbers of the table it was trained on.
        """
        if vocabulary is None:
            rows, free = self._semantic_classes()
        else:
            rows, free = self._language_classes(vocabulary), vocabulary.num_classes
        volume = torch.full(self.grid.shape, free, dtype=torch.int64)
        index = self.occupied_index
        volume[index[:, 0], index[:, 1], index[:, 2]] = rows
        return volume

    def _language_classes(self, vocabulary: Vocabulary) -> Int64[Tensor, "N"]:
        if vocabulary.embeddings is None:
            vocabulary = embed(vocabulary, self._require_text_encoder())
        assert vocabulary.embeddings is not None
        class_of_query = torch.tensor(vocabulary.class_of_query)
        return assign_best_query(self.read_occupied("language"), vocabulary.embeddings, class_of_query)

    def _semantic_classes(self) -> tuple[Int64[Tensor, "N"], int]:
        if self.free_class is None:
            raise ConfigError("labels of an open-vocabulary model must be asked with a vocabulary; got none.")
        # An occupied voxel is something.
        return best_class(self.read_occupied("semantic"), {self.free_class}), self.free_class

    def query(
        self,
        text: str,
        negatives: Sequence[str] | str = (),
        *,
        rule: Rule = "best",
        prompts: Sequence[str] | str = (),
        false_alarm_rate: float = 0.05,
    ) -> Answer:
        """Rank the occupied voxels by how well they fit a phrase, and say whether it is here at all.

        Args:
            text: ``"car, automobile, not: truck"``: phrasings of one thing, and what is not meant.
            negatives: more of what is not meant.
            rule: the best fitting phrasing counts, or the mean of their vectors.
            prompts: sentence templates with ``{}``; empty = those of the text encoder.
            false_alarm_rate: how often absent things may count as here; used by a calibrated run.

        Raises:
            ConfigError: no word to look for, or a model without a language head or text encoder.
        """
        return self.asker.ask(parse_phrase(text, negatives, rule, prompts), false_alarm_rate)

    def query_many(
        self,
        texts: Sequence[str],
        negatives: Sequence[str] | str = (),
        *,
        top: int = 100,
        rule: Rule = "best",
        prompts: Sequence[str] | str = (),
        false_alarm_rate: float = 0.05,
    ) -> list[Answer]:
        """Ask many phrases at once, each as :meth:`query` does, keeping the best ``top`` voxels of each.

        Memory is bounded by ``top``, not by the map. Scores are made in bfloat16 products (about 3e-4 off).

        Raises:
            ConfigError: what :meth:`query` raises, or a single string.
        """
        if isinstance(texts, str):
            raise ConfigError(f"texts must be a list of phrases; got one string, {texts[:40]!r}. Use query().")
        phrases = [parse_phrase(text, negatives, rule, prompts) for text in texts]
        return list(self.asker.ask_many(phrases, false_alarm_rate, check_top(top)))

    def fit(self, text: str) -> Float[Tensor, "N"]:
        """Cosine of every occupied voxel with a phrase, in x, y, z order of the voxels.

        Raises:
            ConfigError: what :meth:`query` raises.
        """
        return self.asker.cosine(parse_phrase(text))

    @property
    def asker(self) -> Asker:
        """The occupied voxels, ready to be asked; prepared once."""
        if self._asker is None:
            encoder, rows = self._require_text_encoder(), self.read_occupied("language")
            self._asker = Asker(self.grid, self.occupied_index, rows, encoder, self.calibration)
        return self._asker

    def _require_text_encoder(self) -> TextEncoder:
        if self.text_encoder is None:
            raise ConfigError("a prediction must have a text encoder to be asked in words; got none.")
        return self.text_encoder

    def save(self, path: str | Path) -> Path:
        """Write one .npz: occupancy, features of the occupied voxels (float16), and how words were encoded."""
        arrays = {
            "occupancy": self.occupancy.numpy().astype(np.float16),
            "index": self.occupied_index.numpy().astype(np.int16),
        }
        for head in ("language", "semantic"):
            if head in self._rows or (self._read is not None and self._has(head)):
                arrays[f"head/{head}"] = self.read_occupied(head).numpy().astype(np.float16)
        spec, tensors = ({}, {}) if self.text_encoder is None else text_encoder_spec(self.text_encoder)
        arrays |= {f"text/{name}": tensor.numpy() for name, tensor in tensors.items()}
        if self.calibration is not None:
            arrays["calibration/vectors"] = self.calibration.rivals.vectors.half().numpy()
        arrays["meta"] = np.frombuffer(json.dumps(self._meta(spec)).encode(), dtype=np.uint8)
        return write_atomically(Path(path), lambda file: np.savez_compressed(file, **arrays))  # type: ignore[arg-type]

    def _has(self, head: str) -> bool:
        names = getattr(getattr(self._read, "__self__", None), "names", ())
        return head in names

    def _meta(self, text_spec: dict) -> dict:
        grid = self.grid
        return {
            "format": FORMAT,
            "token": self.token,
            "threshold": self.threshold,
            "free_class": self.free_class,
            "text": text_spec,
            "calibration": None if self.calibration is None else self.calibration.to_json(),
            "global_from_grid": None if self.global_from_grid is None else self.global_from_grid.matrix().tolist(),
            "grid": {
                "lower_m": grid.lower_m,
                "voxel_size_m": grid.voxel_size_m,
                "shape": grid.shape,
                "frame": grid.frame,
            },
        }

    @classmethod
    def load(cls, path: str | Path) -> Prediction:
        """Read what :meth:`save` wrote; runs no code from the file.

        Raises:
            DataError: no such file, or not a prediction.
        """
        path = Path(path)
        try:
            # Opened here, because np.load leaves a damaged file open.
            with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
                return cls._from_arrays({name: file[name] for name in file.files})
        except DAMAGES as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise DataError(f"a prediction must be an .npz written by save(); got {reason}. Check {path}.") from None

    @classmethod
    def _from_arrays(cls, arrays: dict[str, np.ndarray]) -> Prediction:
        meta = json.loads(arrays["meta"].tobytes())
        if meta["format"] != FORMAT:
            raise ValueError(f"format {meta['format']!r}")
        grid = _grid_from_meta(meta["grid"])
        if arrays["occupancy"].shape != grid.shape:
            raise ValueError(f"occupancy of {arrays['occupancy'].shape} on a grid of {grid.shape}")
        tensors = {n[5:]: torch.from_numpy(a) for n, a in arrays.items() if n.startswith("text/")}
        return cls(
            token=meta["token"],
            grid=grid,
            occupancy=_exact_threshold(arrays, meta["threshold"]),
            threshold=meta["threshold"],
            text_encoder=text_encoder_from_spec(meta["text"], tensors) if meta["text"] else None,
            free_class=meta["free_class"],
            calibration=_calibration(meta.get("calibration"), arrays),
            global_from_grid=_pose(meta.get("global_from_grid")),
            _rows={n[5:]: torch.from_numpy(a).float() for n, a in arrays.items() if n.startswith("head/")},
        )


def best_class(logits: Float[Tensor, "P K"], never: Collection[int]) -> Int64[Tensor, "P"]:
    """The likeliest class of each row but those ``never`` meant; beside a head for geometry free has no logit."""
    kept = torch.tensor([number not in never for number in range(logits.shape[1])], device=logits.device)
    return logits.masked_fill(~kept, -torch.inf).argmax(dim=-1)


def _grid_from_meta(meta: dict) -> VoxelGrid:
    lower_m, voxel_size_m = (tuple(float(v) for v in meta[name]) for name in ("lower_m", "voxel_size_m"))
    return VoxelGrid(lower_m, voxel_size_m, tuple(meta["shape"]), meta["frame"])  # type: ignore[arg-type]


def _calibration(known: dict | None, arrays: dict[str, np.ndarray]) -> Calibration | None:
    return None if known is None else Calibration.from_json(known, torch.from_numpy(arrays["calibration/vectors"]))


def _pose(matrix: list | None) -> RigidTransform | None:
    return None if matrix is None else RigidTransform.from_matrix(torch.tensor(matrix, dtype=torch.float64))


def _exact_threshold(arrays: dict[str, np.ndarray], threshold: float) -> Tensor:
    """Undo what float16 did to probabilities beside the threshold: the stored index says who was occupied."""
    occupancy = torch.from_numpy(arrays["occupancy"]).float()
    occupied = torch.zeros(occupancy.shape, dtype=torch.bool)
    index = torch.from_numpy(arrays["index"]).long()
    occupied[index[:, 0], index[:, 1], index[:, 2]] = True
    above = torch.nextafter(torch.tensor(threshold), torch.tensor(1.0))
    return torch.where(occupied, occupancy.clamp_min(float(above)), occupancy.clamp_max(threshold))
