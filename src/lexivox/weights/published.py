"""Whole published models: POP-3D, TPVFormer as the supervised model with a class per voxel, and BEVDet's family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from lexivox.errors import WeightsError
from lexivox.weights.keys import DERIVED, PLANES, modern_name, published_names
from lexivox.weights.lift import fill_heads, fill_lift_encoder
from lexivox.weights.lift_keys import VOLUME_BRANCH
from lexivox.weights.match import fill

LIFTING = "encoder.depth_net."
"""Models with such arrays lift images."""

ADVICE = "Import it with the recipe it was trained with; docs/weights.md says what fits what: "


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What became of the arrays of a file.

    Attributes:
        num_arrays: filled.
        num_parameters: numbers in those of them that are parameters.
        renamed: old names that were read as new ones.
        dropped: names that were not taken, because the model computes them or has no such part.
    """

    num_arrays: int
    num_parameters: int
    renamed: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()


def fill_published(model: nn.Module, found: Mapping[str, Tensor], path: str | Path) -> ImportReport:
    """Fill a model of ours with a released checkpoint: of POP-3D or TPVFormer, or, where it lifts images, of BEVDet's
    family (OccFlowNet, BEVStereo4D-Occ and others).

    Args:
        found: what :func:`lexivox.weights.checkpoint.read_checkpoint` gave.
        path: where that came from, for messages.
        model: a :class:`lexivox.model.OccupancyModel` of the published architecture. Its occupancy head takes
            POP-3D's two logits, or its semantic head TPVFormer's classes.

    Raises:
        WeightsError: the file and the model differ in any name or shape, or the file's reference points lie
            elsewhere than the model's, that is, it was trained on another grid.
    """
    if any(name.startswith(LIFTING) for name in model.state_dict()):
        return _fill_lifting(model, found, path)
    given = {modern_name(name): tensor for name, tensor in found.items()}
    if len(given) < len(found):
        raise WeightsError(f"a checkpoint must name every array once; got old and new names of one. Check: {path}")
    own = model.state_dict()
    arrays = {name: tensor for name, tensor in given.items() if name not in DERIVED}
    fill(model, published_names(own), arrays, "published weights", f"{ADVICE}{path}")
    _check_reference_points(model, given, path)
    return ImportReport(
        num_arrays=len(own),
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        renamed=tuple(name for name in found if modern_name(name) != name),
        dropped=tuple(name for name in given if name in DERIVED),
    )


def _fill_lifting(model: nn.Module, found: Mapping[str, Tensor], path: str | Path) -> ImportReport:
    left = fill_lift_encoder(model.encoder, found, path)  # type: ignore[arg-type]
    if any(name.startswith(VOLUME_BRANCH) for name in left) or not any(n.startswith(VOLUME_BRANCH) for n in found):
        raise WeightsError(
            "a published model must have a network over voxels; got a detector, which an encoder can start from. "
            f"Set encoder.weights to the file and train: {path}"
        )
    taken = fill_heads(model.heads, {name: found[name] for name in left}, path)  # type: ignore[arg-type]
    return ImportReport(
        num_arrays=len(model.state_dict()),
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        dropped=tuple(name for name in left if name not in taken),
    )


def _check_reference_points(model: nn.Module, given: dict[str, Tensor], path: str | Path) -> None:
    """Where the pillars' anchors lie, in [0, 1] of the box: the one thing that shapes do not tell."""
    lower, upper = (torch.tensor(bound) for bound in (model.grid.lower_m, model.grid.upper_m))  # type: ignore[union-attr]
    for plane, name in enumerate(PLANES):
        key = f"tpv_head.encoder.ref_3d_{name}"
        if key in given:
            ours = model.get_buffer(f"encoder.triplane.reference_{plane}").cpu()  # (Q, D, 3)
            theirs = given[key][0].transpose(0, 1).float()
            if ours.shape != theirs.shape or not torch.allclose((ours - lower) / (upper - lower), theirs, atol=1e-5):
                raise WeightsError(
                    f"reference points of the weights must be the model's; got others in {key}. Their grid or "
                    f"anchors differ from the recipe's: {path}"
                )
