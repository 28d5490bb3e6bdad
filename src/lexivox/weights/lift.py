"""Published lift-splat models: BEVDet4D-stereo detectors to start from, and whole occupancy networks (spec 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from lexivox.errors import WeightsError
from lexivox.weights.keys import published_names
from lexivox.weights.lift_keys import IMAGE_BRANCH, LIFT, VOLUME_BRANCH
from lexivox.weights.match import fill

ADVICE = "Its backbone, widths, bins and keyframes must be the encoder's, and encoder.norm 'batch'; docs/lifting.md: "


def fill_lift_encoder(encoder: nn.Module, found: Mapping[str, Tensor], path: str | Path) -> tuple[str, ...]:
    """Fill a :class:`lexivox.encoders.lift_splat.LiftSplatEncoder`: from a detector the way from images to voxels, from
    an occupancy network also what follows over voxels.

    Args:
        found: what :func:`lexivox.weights.checkpoint.read_checkpoint` gave.
        path: where that came from, for messages.

    Returns:
        Names in the file that were left out: heads, and a detector's network over its flat map.

    Raises:
        WeightsError: an array of the branches is missing, unknown or of another shape; nothing was copied.
    """
    final = found.get("final_conv.conv.weight")
    branches = IMAGE_BRANCH + (VOLUME_BRANCH if final is not None and final.dim() == 5 else ())
    names = published_names(encoder.state_dict(), LIFT)
    wanted = {ours: theirs for ours, theirs in names.items() if theirs.startswith(branches)}
    taken = {
        ours: array for name in found if name.startswith(branches) for ours, array in _converted(name, found[name])
    }
    fill(encoder, wanted, taken, "BEVDet weights", f"{ADVICE}{path}")
    return tuple(name for name in found if not name.startswith(branches))


def fill_heads(heads: nn.ModuleDict, found: Mapping[str, Tensor], path: str | Path) -> tuple[str, ...]:
    """Fill heads from linear layers that stand one after the other in a file, known by their shapes.

    Files of different authors name their heads differently; an MLP of known widths is told apart by them alone.

    Returns:
        The published names that were taken.

    Raises:
        WeightsError: no chain of layers fits a head, or more than one.
    """
    taken: list[str] = []
    for name, head in heads.items():
        own = head.state_dict()
        chains = _chains(found, [tuple(array.shape) for array in own.values()])
        if len(chains) != 1:
            shapes = " - ".join(str(array.shape[1]) for array in own.values() if array.dim() == 2)
            raise WeightsError(
                f"published weights must hold one MLP that fits the head '{name}', {shapes}; got {len(chains)}. "
                f"Give the model the published heads: {path}"
            )
        for array, theirs in zip(own.values(), chains[0], strict=True):
            array.copy_(found[theirs].reshape(array.shape))
        taken += chains[0]
    return tuple(taken)


def _chains(found: Mapping[str, Tensor], shapes: Sequence[tuple[int, ...]]) -> list[tuple[str, ...]]:
    """Names of arrays that follow each other in a file with these shapes; kernels of 1 x 1 convolutions are linear."""
    names = list(found)
    given = [_linear_shape(found[name]) for name in names]
    starts = range(len(names) - len(shapes) + 1)
    return [tuple(names[i : i + len(shapes)]) for i in starts if given[i : i + len(shapes)] == list(shapes)]


def _linear_shape(array: Tensor) -> tuple[int, ...]:
    shape = tuple(array.shape)
    return shape[:2] if len(shape) > 2 and set(shape[2:]) == {1} else shape


def _converted(name: str, array: Tensor) -> list[tuple[str, Tensor]]:
    """A published array as ours: none, itself, or its parts.

    Volumes are (z, y, x) there and (x, y, z) here, and so are kernels over them. Swin's queries, keys and values are
    one layer there; when it halves the image, channels are the outer and the four pixels the inner order.
    """
    if name.endswith("relative_position_index"):
        return []
    if ".w_msa.qkv." in name:
        parts = zip("qkv", array.chunk(3), strict=True)
        return [(name.replace(".qkv.", f".qkv.{part}."), rows) for part, rows in parts]
    if name.startswith("img_backbone.stages.") and ".downsample." in name:
        pixels = array.unflatten(-1, (-1, 4))[..., [0, 2, 1, 3]]  # theirs go along the row, ours down the column
        return [(name, pixels.transpose(-1, -2).flatten(-2))]
    return [(name, array.permute(0, 1, 4, 3, 2) if array.dim() == 5 else array)]
