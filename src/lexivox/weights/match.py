"""Filling a network strictly, with messages that name what does not fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from lexivox.errors import WeightsError

SHOWN = 3
"""Names of each kind that a message lists."""


def differences(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """What is missing, unknown or of another shape, the first names of each; empty if nothing is."""
    missing = [name for name in wanted if name not in given]
    unknown = [name for name in given if name not in wanted]
    reshaped = [
        f"{name} {tuple(given[name].shape)} for {tuple(array.shape)}"
        for name, array in wanted.items()
        if name in given and given[name].shape != array.shape
    ]
    kinds = (("missing", missing), ("unknown", unknown), ("of another shape", reshaped))
    return "; ".join(f"{len(names)} {kind} ({_listed(names)})" for kind, names in kinds if names)


def fill(network: nn.Module, names: Mapping[str, str], given: Mapping[str, Tensor], what: str, advice: str) -> None:
    """Copy published arrays into a network; every one of both sides must have its partner.

    Args:
        names: own name -> published name, for the arrays of ``network`` that are to be filled.
        given: published arrays, of which none may be left over; counters of seen batches may be missing.
        what: of the weights, for the message.
        advice: the last sentence of the message.

    Raises:
        WeightsError: an array is missing, unknown or of another shape; nothing was copied.
    """
    own = network.state_dict()
    wanted = {theirs: own[ours] for ours, theirs in names.items()}
    counters = {name: own[ours] for ours, name in names.items() if name.endswith("num_batches_tracked")}
    found = {**counters, **given}
    wrong = differences(wanted, found)
    if wrong:
        matched = sum(name in given for name in wanted)
        raise WeightsError(
            f"{what} must hold every array of the network and no other; got {matched} of {len(wanted)} names, "
            f"{wrong}. {advice}"
        )
    for name, array in wanted.items():
        array.copy_(found[name])


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
