"""Checkpoints: weights as safetensors, the state of training as tensors that load without running code."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from lexivox.errors import WeightsError
from lexivox.files import write_atomically
from lexivox.weights.match import differences


def save_weights(path: Path, tensors: dict[str, Tensor]) -> None:
    data = save_safetensors({name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()})
    write_atomically(path, lambda file: file.write(data))


def load_weights(path: Path) -> dict[str, Tensor]:
    """Raises:
    WeightsError: no such file, or damaged.
    """
    try:
        return load_safetensors(path.read_bytes())
    except FileNotFoundError:
        raise WeightsError(f"weights must be a safetensors file; got none. Train to the end first: {path}.") from None
    except Exception as error:  # safetensors raises its own type, which its stubs do not name
        reason = str(error).splitlines()[0]
        raise WeightsError(f"weights must be a safetensors file; got {reason}. Check {path}.") from None


def fill_model(model: nn.Module, weights: dict[str, Tensor], source: str) -> None:
    """Load weights strictly.

    Raises:
        WeightsError: a name or shape differs; the message names the first ones.
    """
    wrong = differences(model.state_dict(), weights)
    if wrong:
        raise WeightsError(
            f"weights must fit the model of this recipe; got {wrong}. "
            f"Load them with the recipe they were trained with: {source}."
        )
    model.load_state_dict(weights)


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Training state: step, raw weights, optimiser, running mean.

    Raises:
        DataError: the disk is full or read-only; an older state is untouched.
    """
    packed = io.BytesIO()  # torch's own writer hides the reason when a disk is full
    torch.save(state, packed)
    write_atomically(path, lambda file: file.write(packed.getbuffer()), "training state")


def load_state(path: Path) -> dict[str, Any] | None:
    """``None`` when there is none yet. A file that a kill left half written beside it is never looked at.

    Raises:
        WeightsError: a damaged file.
    """
    if not path.exists():
        return None
    try:
        _check_sums(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or not {"step", "model", "optimizer"} <= state.keys():
            raise ValueError("something else")
        return state
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(
            f"training state must be readable; got {reason}. Delete it to start again: {path}."
        ) from None


def _check_sums(path: Path) -> None:
    """torch writes a checksum of every tensor and never compares it: a flipped bit would be trained on."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged:
        raise ValueError(f"a wrong checksum in {damaged}")


def remove_torn(path: Path) -> None:
    """Delete what a kill left of files on their way to ``path``."""
    for torn in path.parent.glob(f"{path.name}.*.tmp"):
        torn.unlink(missing_ok=True)
