"""Networks that are only ever read: built without drawing random weights, filled strictly, frozen."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from lexivox.errors import WeightsError

Network = TypeVar("Network", bound=nn.Module)


def frozen(build: Callable[[], Network], arrays: Mapping[str, Tensor], name: str) -> Network:
    """The network of ``build`` with exactly these weights, in eval mode; no random number is drawn.

    Args:
        build: makes the network; called under the meta device.
        arrays: state dict; counters of seen batches may be missing.
        name: of the weights, for the error message.

    Raises:
        WeightsError: an array is missing, unknown or of another shape.
    """
    with torch.device("meta"):
        network = build()
    wanted = network.state_dict()
    counters = {key: torch.tensor(0) for key in wanted if key.endswith("num_batches_tracked")}
    found = {**counters, **arrays}
    wrong = {key for key in wanted.keys() | found.keys() if _shape(wanted, key) != _shape(found, key)}
    if wrong:
        raise WeightsError(
            f"{name} weights must hold every array of the network and no other; got {len(wrong)} others, "
            f"first {min(wrong)}. Take the file that belongs to it."
        )
    network.load_state_dict(found, assign=True)
    return network.eval().requires_grad_(False)


def _shape(arrays: Mapping[str, Tensor], key: str) -> tuple[int, ...] | None:
    return tuple(arrays[key].shape) if key in arrays else None


def weights_fingerprint(network: nn.Module, *more: Tensor) -> str:
    """Eight hex digits of all weights and of ``more``."""
    digest = hashlib.sha256()
    for value in (*network.state_dict().values(), *more):
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:8]
