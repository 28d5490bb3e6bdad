"""Where a training runs: in this process alone, or in many that hold the same weights, or a share of them each.

The loop asks an engine and never ``torch.distributed``. One process needs nothing beyond torch; many are run by
``accelerate``, which reads what ``torchrun``, ``accelerate launch`` or a cluster put into the environment.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lexivox.errors import ConfigError

MIN_SHARD = 1_000_000
"""A block with fewer parameters than this is not worth an exchange of its own."""

TIMEOUT = timedelta(hours=2)
"""So long processes wait for each other: one may be making targets, or reading a cold disk."""


@runtime_checkable
class Engine(Protocol):
    """A process among ``processes``, number ``rank``, computing on ``device``. Number 0 writes the files."""

    rank: int
    processes: int
    device: torch.device

    def setup(self, module: nn.Module) -> nn.Module:
        """The module on the device, its gradients averaged over all processes when ``backward`` has run."""
        ...

    def accumulating(self, module: nn.Module, is_last: bool) -> AbstractContextManager[Any]:
        """Inside, gradients are only added up; processes exchange them in the last backward pass of a step."""
        ...

    def backward(self, loss: Tensor) -> None: ...

    def gather(self, row: Float[Tensor, "n"]) -> Float[Tensor, "processes n"]:
        """The rows of all processes. Every process must call it."""
        ...

    def members(self, fact: dict[str, Any]) -> list[dict[str, Any]]:
        """Rank, host and device of every process, each with a fact of its own. Every process must call it."""
        ...

    def wait(self) -> None:
        """Until every process is here."""
        ...

    def close(self) -> None: ...


class OneProcess:
    """This process alone, on its GPU if there is one."""

    rank: int = 0
    processes: int = 1

    def __init__(self, device: torch.device | None = None) -> None:
        self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def setup(self, module: nn.Module) -> nn.Module:
        return module.to(self.device)

    def accumulating(self, module: nn.Module, is_last: bool) -> AbstractContextManager[Any]:
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def gather(self, row: Float[Tensor, "n"]) -> Float[Tensor, "processes n"]:
        return row[None]

    def members(self, fact: dict[str, Any]) -> list[dict[str, Any]]:
        return [_identity(self) | fact]

    def wait(self) -> None:
        pass

    def close(self) -> None:
        pass


class ManyProcesses:
    """One of several processes: DDP, or FSDP2 when ``sharded``.

    Sharding is torch's own ``fully_shard``, applied before accelerate could: accelerate's plugin for it exists on
    GPUs only, and falls back to DDP elsewhere without a word.

    Raises:
        ConfigError: accelerate is not installed, or a node has fewer GPUs than processes.
    """

    def __init__(self, sharded: bool = False, min_shard: int = MIN_SHARD) -> None:
        try:
            from accelerate import Accelerator
            from accelerate.utils import InitProcessGroupKwargs
        except ImportError:
            raise ConfigError(
                "training in several processes must have accelerate; got none. "
                "Run: pip install 'lexivox[train]', or start a single process."
            ) from None
        local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        if 0 < torch.cuda.device_count() < local:
            raise ConfigError(
                f"processes of a node must each have a GPU; got {local} for {torch.cuda.device_count()}. "
                f"Start --nproc-per-node {torch.cuda.device_count()}."
            )
        patience = InitProcessGroupKwargs(timeout=TIMEOUT)
        self._accelerator = Accelerator(cpu=not torch.cuda.is_available(), kwargs_handlers=[patience])
        self.rank: int = self._accelerator.process_index
        self.processes: int = self._accelerator.num_processes
        self.device: torch.device = self._accelerator.device
        self._sharded, self._min_shard = sharded, min_shard

    def setup(self, module: nn.Module) -> nn.Module:
        module = module.to(self.device)
        return shard(module, self._min_shard) if self._sharded else self._accelerator.prepare_model(module)

    def accumulating(self, module: nn.Module, is_last: bool) -> AbstractContextManager[Any]:
        if self._sharded:
            module.set_requires_gradient_sync(is_last)  # type: ignore[operator]
            return nullcontext()
        return nullcontext() if is_last else self._accelerator.no_sync(module)

    def backward(self, loss: Tensor) -> None:
        self._accelerator.backward(loss)

    def gather(self, row: Float[Tensor, "n"]) -> Float[Tensor, "processes n"]:
        return self._accelerator.gather(row[None])  # type: ignore[return-value]

    def members(self, fact: dict[str, Any]) -> list[dict[str, Any]]:
        from accelerate.utils import gather_object

        return gather_object([_identity(self) | fact])

    def wait(self) -> None:
        self._accelerator.wait_for_everyone()

    def close(self) -> None:
        self._accelerator.end_training()


def open_engine(sharded: bool = False) -> Engine:
    """The engine for how this process was started: alone, or as one of ``WORLD_SIZE``."""
    many = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return ManyProcesses(sharded) if many else OneProcess()


def _identity(engine: Engine) -> dict[str, Any]:
    return {"rank": engine.rank, "host": socket.gethostname(), "device": str(engine.device)}


# ------------------------------------------------------------------------------------------------ sharding


def shard(module: nn.Module, min_parameters: int) -> nn.Module:
    """Let every process keep its share of the parameters and gather a block's when it runs (FSDP2).

    Blocks are the entries of the lists, dicts and sequences that a network is made of: layers, stages, heads.
    """
    from torch.distributed.fsdp import fully_shard

    for parameter in module.parameters():
        parameter.data = parameter.data.contiguous()  # channels_last cannot be cut into rows
    for parent in reversed(list(module.modules())):  # inner blocks first
        if isinstance(parent, nn.ModuleList | nn.ModuleDict | nn.Sequential):
            for block in parent.children():
                if sum(p.numel() for p in block.parameters()) >= min_parameters:
                    fully_shard(block)
    return fully_shard(module)  # pyright: ignore[reportReturnType] (a class made of the module's own)


def whole(state: Any) -> Any:
    """Nested state with sharded tensors put together. Every process must call it."""
    return _mapped(state, lambda tensor: tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor)


def _mapped(state: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(state, dict):
        return {key: _mapped(value, change) for key, value in state.items()}
    if isinstance(state, list):
        return [_mapped(value, change) for value in state]
    return change(state) if isinstance(state, Tensor) else state


def like(value: Tensor, own: Tensor) -> Tensor:
    """A whole tensor where and as ``own`` is: on its device, and sharded if it is."""
    value = value.to(own.device)
    if not hasattr(own, "full_tensor") or value.shape != own.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value, own.device_mesh, own.placements)  # type: ignore[attr-defined]
