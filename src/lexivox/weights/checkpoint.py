"""Published checkpoint files as plain dictionaries of tensors. Nothing in a file is ever run."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor

from lexivox.errors import WeightsError
from lexivox.weights.torchscript import is_torchscript, read_torchscript

WRAPPERS = ("state_dict", "model")
"""Keys under which trainers put the weights beside their own state."""

PARALLEL = "module."
"""What data-parallel training puts before every name."""


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Weights by their published names, from ``.pth``, ``.pt``, ``.ckpt`` or ``.safetensors``.

    Bare or wrapped state dicts, with or without the prefix of data-parallel training, or the arrays of a TorchScript
    archive, whose program is not run.

    Raises:
        WeightsError: the file is missing, damaged, would have to run code, or holds no weights.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"weights must be a checkpoint file; got none. Check: {path}")
    content = _content(path)
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    tensors = {name: t for name, t in content.items() if isinstance(t, Tensor)} if isinstance(content, dict) else {}
    if not tensors:
        raise WeightsError(
            f"a checkpoint must hold named arrays, bare or under {' or '.join(WRAPPERS)}; got none. Check: {path}"
        )
    is_parallel = all(name.startswith(PARALLEL) for name in tensors)
    return {name.removeprefix(PARALLEL) if is_parallel else name: tensor for name, tensor in tensors.items()}


def _content(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_safetensors(path.read_bytes())
        if is_torchscript(path):
            return read_torchscript(path)
        with torch.serialization.safe_globals(_number_types()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch thinks aloud about old files, and says the same as an error
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = _first_line(error)
        raise WeightsError(
            f"a checkpoint must load without running code; got: {reason} Save its state dict alone, where it came "
            f"from and is trusted: {path}"
        ) from None
    except (SafetensorError, RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise WeightsError(f"a checkpoint must be whole; got: {_first_line(error)}. Fetch it again: {path}") from None


def _number_types() -> list[Any]:
    """Plain NumPy numbers, as old and new NumPy wrote them: trainers keep the best score so far as one."""
    scalar = np.float64(0.0).__reduce__()[0]  # the function that a pickled number asks for
    kinds = {type(np.dtype(kind)) for kind in "bBhHiIlLqQefd?"}
    return [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *kinds]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".:")
