"""The training loop: read, encode, sum the supervisions' terms, step; stop and resume at any time."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lexivox.data.types import Batch
from lexivox.errors import DataError, LexivoxError
from lexivox.model import OccupancyModel
from lexivox.supervision.base import Supervision
from lexivox.train.checkpoint import fill_model, load_state, remove_torn, save_state, save_weights
from lexivox.train.data import TrainingSteps, part_loader
from lexivox.train.engine import Engine, OneProcess, like, whole
from lexivox.train.log import RunLog, add_line
from lexivox.train.optim import RunningMean, Schedule, adamw, learning_rate, restore
from lexivox.train.stop import StopRequest

logger = logging.getLogger(__name__)

OnStep = Callable[[int, int, dict[str, float]], None]

STATE_FILE = "training_state.pt"
WEIGHTS_FILE = "model.safetensors"
LOG_FILE = "log.jsonl"
SESSIONS_FILE = "sessions.jsonl"


@dataclass(frozen=True, slots=True)
class OptimOptions:
    """How weights move. The machine is no part of it.

    Attributes:
        lr: highest rate, at the end of ``warmup_steps``; then a cosine down to ``lr_min``, or constant.
        lr_for_batch: the samples per step that ``lr`` is stated for; with others it is scaled linearly. None = any.
        decay_all: decay biases and norms too, as published.
        clip_norm: largest L2 norm of the whole gradient.
        ema: decay of a running mean of the weights, which is what is kept in the end; 0 = off.
        ema_ramp_from: of :class:`lexivox.train.optim.RunningMean`.
        backbone_lr_scale: of the rate of a pretrained image backbone.
        precision: ``"bfloat16"`` runs the forward pass under autocast; losses stay float32.
        checkpoint_every: steps between states on disk, which is what a kill costs at most.
        workers: processes that read ahead, for each process that trains.
    """

    lr: float = 2e-3
    lr_for_batch: int | None = None
    lr_min: float = 1e-5
    warmup_steps: int = 30
    schedule: Schedule = "cosine"
    weight_decay: float = 0.01
    decay_all: bool = False
    clip_norm: float = 10.0
    ema: float = 0.0
    ema_ramp_from: int | None = None
    backbone_lr_scale: float = 1.0
    precision: str = "float32"
    checkpoint_every: int = 100
    workers: int = 0

    def scaled_lr(self, batch_size: int) -> float:
        return self.lr * batch_size / (self.lr_for_batch or batch_size)


class Trainer:
    """Trains a model in a run folder, from where the folder's state left off.

    Args:
        model: freshly initialised; its weights are replaced when there is a state to resume.
        steps: the parts of the run.
        options: of the optimiser.
        run_dir: gets the training state, the log and at the end the weights, from process 0.
        engine: this process alone, by default.

    Raises:
        WeightsError: the state is damaged or of another network.
        DataError: processes found states of different steps.
        ConfigError: a step cannot be dealt out evenly.
    """

    def __init__(
        self,
        model: OccupancyModel,
        steps: TrainingSteps,
        options: OptimOptions,
        run_dir: Path,
        engine: Engine | None = None,
    ) -> None:
        self.model, self.steps, self.options, self.run_dir = model, steps, options, run_dir
        self.engine = engine or OneProcess()
        self.lr = options.scaled_lr(steps.batch_size)
        self.step = 0
        self._is_whole = True
        state = load_state(run_dir / STATE_FILE)
        if state is not None:  # before the weights are spread over processes
            fill_model(model, state["model"], str(run_dir))
        self.losses = self.engine.setup(Losses(model, steps.supervisions, options.precision == "bfloat16"))
        self.optimizer = adamw(
            model, self.lr, options.weight_decay, options.backbone_lr_scale, decay_all=options.decay_all
        )
        self.mean = RunningMean(model, options.ema, options.ema_ramp_from) if options.ema else None
        if state is not None:
            self._resume(state)
        self._agree_on_step()
        self.log = RunLog(run_dir / LOG_FILE, self.step) if self.writes else None
        self._begin_session()

    @property
    def writes(self) -> bool:
        return self.engine.rank == 0

    def run(self, on_step: OnStep = lambda step, steps, terms: None) -> None:
        """Train to the last step and write the weights.

        Raises:
            KeyboardInterrupt: a signal came; the step in progress was finished and the state saved. One that cuts an
                update in two leaves the last checkpoint as it is, so that a resumed run still equals an
                uninterrupted one.
            DataError: no sample to train on, or a loss that is not finite.
        """
        if len(self.steps.samples) == 0:
            raise DataError("a training split must hold at least one sample; got none. Check the split.")
        parts = self.steps.parts_of(self.engine.rank, self.engine.processes, self.step)
        self.losses.train()
        self._batches = zip(parts, part_loader(self.steps, parts, self.options.workers), strict=True)
        try:
            with StopRequest(quiet=not self.writes) as request, _own_randomness(self.engine.device):
                self._run_steps(request, on_step)
        except (KeyboardInterrupt, LexivoxError):
            # Only when alone: others may be in another step, or wait for this one.
            if self._is_whole and self.engine.processes == 1:
                self.save()
            raise
        finally:
            self._batches = iter(())  # ends the data workers
        self._finish()

    def final_weights(self) -> dict[str, Tensor]:
        """Whole, also where every process holds a share. Every process must call it."""
        return whole(dict(self.mean.weights if self.mean else self.model.state_dict()))

    def save(self) -> None:
        """Every process must call it; one writes."""
        state: dict[str, Any] = {
            "step": self.step,
            "model": whole(dict(self.model.state_dict())),
            "optimizer": whole(self.optimizer.state_dict()),
        }
        if self.mean:
            state["mean"] = whole(self.mean.weights)
        if self.writes:
            save_state(self.run_dir / STATE_FILE, state)

    def _finish(self) -> None:
        self.save()
        weights = self.final_weights()
        if self.writes:
            save_weights(self.run_dir / WEIGHTS_FILE, weights)
        self.engine.wait()  # others may read what was written

    def _resume(self, state: dict[str, Any]) -> None:
        restore(self.optimizer, state["optimizer"], str(self.run_dir))
        if self.mean and "mean" in state:
            own = self.mean.weights
            self.mean.weights = {name: like(value, own[name]) for name, value in state["mean"].items()}
        self.step = state["step"]
        logger.info("resuming at step %d of %d", self.step, len(self.steps))

    def _agree_on_step(self) -> None:
        found = self.engine.gather(torch.tensor([float(self.step)], device=self.engine.device))[:, 0].long().tolist()
        if len(set(found)) > 1:
            raise DataError(
                f"all processes must go on at the same step; got {found}. "
                f"Put the run folder where every node sees the same files: {self.run_dir}."
            )

    def _begin_session(self) -> None:
        """Note who goes on from which step, in how many parts, and the first seed of each process."""
        steps, engine = self.steps, self.engine
        parts = steps.parts_of(engine.rank, engine.processes, min(self.step, len(steps) - 1))
        members = engine.members({"first_seed": steps.seed_of(parts[0])})
        if not self.writes:
            return
        remove_torn(self.run_dir / STATE_FILE)
        if self.lr != self.options.lr:
            logger.warning("lr is %.3g for %d samples per step, not %.3g", self.lr, steps.batch_size, self.options.lr)
        size = {"batch_size": steps.batch_size, "micro_batch": steps.micro_batch, "processes": engine.processes}
        shown = {"lr": self.lr, "precision": self.options.precision, "seed": steps.seed}
        row = {"step": self.step, "torch": torch.__version__, **size, **shown, "members": members}
        add_line(self.run_dir / SESSIONS_FILE, row)

    # -------------------------------------------------------------------------------------------- one step

    def _run_steps(self, request: StopRequest, on_step: OnStep) -> None:
        while self.step < len(self.steps):
            terms, is_last = self._one_step(request)
            if is_last or self.step % self.options.checkpoint_every == 0:
                self.save()
            on_step(self.step, len(self.steps), terms)
            if is_last:
                saved = f"{self.step} of {len(self.steps)} steps are saved in {self.run_dir}"
                raise KeyboardInterrupt(f"stopped by {request.asked or 'a signal to another process'}; {saved}")

    def _one_step(self, request: StopRequest) -> tuple[dict[str, float], bool]:
        """Terms as means over all parts of the step, and whether any process was asked to stop."""
        started = time.perf_counter()
        lr = self._set_rates()
        parts, tokens = self._gradients()
        norm = whole(torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip_norm))
        terms = {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}
        asked = torch.tensor(float(request.asked is not None), device=norm.device)
        rows = self.engine.gather(torch.stack([asked, norm, *terms.values()]).float()).tolist()
        asked_share, grad_norm, *values = [sum(column) / len(column) for column in zip(*rows, strict=True)]
        logged = dict(zip(terms, values, strict=True))
        self._require_finite("loss", logged["loss"], parts, tokens)
        self._require_finite("gradient", grad_norm, parts, tokens)  # before it can spoil the weights
        self._is_whole = False
        self.optimizer.step()
        if self.mean:
            self.mean.update(self.model, self.step)
        if self.log:
            seconds = time.perf_counter() - started
            self.log.add({"step": self.step, **logged, "lr": lr, "grad_norm": grad_norm, "seconds": seconds})
        self.step += 1
        self._is_whole = True
        return logged, asked_share > 0.0

    def _set_rates(self) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(
                self.step,
                len(self.steps),
                group["base_lr"],
                self.options.lr_min,
                self.options.warmup_steps,
                schedule=self.options.schedule,
            )
        return self.optimizer.param_groups[0]["lr"]

    def _gradients(self) -> tuple[list[dict[str, Tensor]], list[str]]:
        """Add up the gradients of this process's parts of the step; the terms and the first sample of each."""
        self.optimizer.zero_grad(set_to_none=True)
        count = self.steps.parts // self.engine.processes
        parts, tokens = [], []
        for done in range(1, count + 1):
            number, batch = next(self._batches)
            torch.manual_seed(self.steps.seed_of(number))  # dropout too is a function of seed and step
            with self.engine.accumulating(self.losses, done == count):
                terms = self.losses(batch.to(self.engine.device))
                total = torch.stack(list(terms.values())).sum()
                self.engine.backward(total / count)
            parts.append({"loss": total.detach(), **{name: term.detach() for name, term in terms.items()}})
            tokens.append(batch.tokens[0])
        return parts, tokens

    def _require_finite(self, what: str, value: float, parts: list[dict[str, Tensor]], tokens: list[str]) -> None:
        if math.isfinite(value):
            return
        suspects = [t for part, t in zip(parts, tokens, strict=True) if not bool(torch.isfinite(part["loss"]))]
        where = suspects[0] if suspects else tokens[0] if self.engine.processes == 1 else "some process's sample"
        raise DataError(
            f"the {what} must be finite; got {value} at step {self.step} on {where}. "
            "Lower train.lr or check the sample with 'lexivox doctor'."
        )


class Losses(nn.Module):
    """Model and supervisions as one module from a batch to named terms, which is what an engine can wrap."""

    def __init__(self, model: OccupancyModel, supervisions: Sequence[Supervision], bfloat16: bool) -> None:
        super().__init__()
        self.model, self.supervisions, self.halves = model, tuple(supervisions), bfloat16

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.halves):
            return loss_terms(self.model, self.supervisions, batch)


def loss_terms(model: OccupancyModel, supervisions: Sequence[Supervision], batch: Batch) -> dict[str, Tensor]:
    """Every supervision's terms on one batch; where two give a term of one name, the second is ``name#2``."""
    scene = model.encode(batch)
    terms: dict[str, Tensor] = {}
    for supervision, own in zip(supervisions, batch.signal_targets, strict=True):
        for name, value in supervision(scene, replace(batch, targets=own)).items():
            terms[_unused(name, terms)] = value
    return terms


def _unused(name: str, taken: Container[str]) -> str:
    names = chain([name], (f"{name}#{number}" for number in count(2)))
    return next(one for one in names if one not in taken)


@contextmanager
def _own_randomness(device: torch.device) -> Iterator[None]:
    """Global random numbers are reseeded inside; afterwards they go on as if nothing had been."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
