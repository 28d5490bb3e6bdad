"""A whole tiny experiment: made-up keyframes, a network that trains in a blink, alone or in several processes."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from unittest import mock

import torch
from helpers import IMAGE_HW, make_sample

from lexivox.data.transforms import Augment
from lexivox.encoders.camera import CameraEncoder
from lexivox.encoders.image import ImageEncoder
from lexivox.encoders.triplane import TriplaneEncoder
from lexivox.errors import LexivoxError
from lexivox.geometry.grid import VoxelGrid
from lexivox.heads.pointwise import PointwiseHead
from lexivox.model import OccupancyModel
from lexivox.supervision.language import LanguageDistillation
from lexivox.supervision.occupancy import LidarOccupancy
from lexivox.train.data import TrainingSteps
from lexivox.train.engine import ManyProcesses
from lexivox.train.loop import OptimOptions, Trainer

GRID = VoxelGrid((-12.0, -12.0, -2.0), (2.0, 2.0, 2.0), (12, 12, 3), "ego")


def tiny_model(seed: int = 0) -> OccupancyModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        image = ImageEncoder(8, num_levels=2, widths=(8, 8, 8), blocks=1)
        triplane = TriplaneEncoder(GRID, channels=8, num_heads=2, anchors=(2, 2, 2))
        encoder = CameraEncoder(GRID, image=image, triplane=triplane, num_frequencies=1)
        heads = {
            "occupancy": PointwiseHead(encoder.channels, 16, 2),
            "language": PointwiseHead(encoder.channels, 16, 8),
        }
        return OccupancyModel(GRID, encoder, heads, fit=IMAGE_HW)


def tiny_steps(steps: int, seed: int = 0) -> TrainingSteps:
    samples = [make_sample(i, num_points=150) for i in range(3)]
    supervisions = [LidarOccupancy(max_voxels=200), LanguageDistillation()]
    return TrainingSteps(samples, GRID, supervisions, Augment(turn_rad=0.2), 1, 50, seed, steps)


@dataclass(frozen=True)
class Job:
    """A training of the tiny model by two processes, four samples in a step.

    Attributes:
        slow_s: pause after every step, so that a test can act in time.
        poison: rank of the process that alone reads a sample which cannot be learnt from.
    """

    run_dir: Path
    steps: int = 6
    sharded: bool = False
    ema: float = 0.0
    workers: int = 0
    slow_s: float = 0.0
    poison: int = -1

    @property
    def options(self) -> OptimOptions:
        return OptimOptions(lr=5e-3, warmup_steps=2, checkpoint_every=3, ema=self.ema, workers=self.workers)

    def steps_of(self, rank: int) -> TrainingSteps:
        steps = replace(tiny_steps(self.steps), batch_size=4)
        if rank != self.poison:
            return steps
        known = steps.samples[0].point_features
        bad = replace(steps.samples[0], point_features=replace(known, feature=known.feature * float("nan")))
        return replace(steps, samples=[bad] * 3)

    def reached(self) -> int:
        """Steps that were made so far."""
        try:
            return int((self.run_dir / "reached").read_text() or 0)
        except FileNotFoundError:
            return 0


for _slow in ("accelerate.utils", "lexivox.ops.kernels.traversal_numba", "torch._dynamo", "torch.distributed.fsdp"):
    with suppress(ImportError):  # otherwise every process of every job imports them again
        importlib.import_module(_slow)

FINISHED, REFUSED, STOPPED = 0, 3, 4
"""Exit codes of :func:`train_as`."""


def train_as(rank: int, processes: int, port: int, job: Job) -> None:
    """One process of a training, with the environment that a launcher makes."""
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_WORLD_SIZE": str(processes)}
    os.environ.update(address, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(processes))
    torch.set_num_threads(1)
    engine = ManyProcesses(job.sharded, min_shard=500)

    def on_step(step: int, steps: int, terms: dict[str, float]) -> None:
        if rank == 0:
            (job.run_dir / "reached").write_text(str(step))
        time.sleep(job.slow_s)

    try:
        Trainer(tiny_model(), job.steps_of(rank), job.options, job.run_dir, engine).run(on_step)
        code = FINISHED
    except (LexivoxError, KeyboardInterrupt) as error:
        (job.run_dir / f"end-{rank}").write_text(str(error))
        code = STOPPED if isinstance(error, KeyboardInterrupt) else REFUSED
    engine.close()
    sys.exit(code)


def start(job: Job, processes: int = 2) -> list[BaseProcess]:
    """The processes of a job; they start from one that has already imported everything."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    job.run_dir.mkdir(exist_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)):  # the server does not get it by itself
        forkserver.ensure_running()
    started = [context.Process(target=train_as, args=(rank, processes, port, job)) for rank in range(processes)]
    for process in started:
        process.start()
    return started


def end(started: list[BaseProcess], timeout_s: float = 120.0) -> list[int | None]:
    """Wait for all; their exit codes."""
    for process in started:
        process.join(timeout_s)
    return [process.exitcode for process in started]


def wait_for(condition: Callable[[], bool], timeout_s: float = 120.0) -> None:
    limit = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < limit, "nothing happened"
        time.sleep(0.01)


def signal_when(job: Job, process: BaseProcess, step: int, number: signal.Signals) -> None:
    """Send a signal to a process of a job as soon as a step has been made."""
    wait_for(lambda: job.reached() >= step)
    assert process.pid is not None
    os.kill(process.pid, number)
