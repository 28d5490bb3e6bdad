"""The training loop: read, encode, sum the supervisions' terms, step; stop and resume at any time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lexivox.data.types import Batch
from lexivox.errors import DataError, LexivoxError
from lexivox.model import OccupancyModel
from lexivox.supervision.base import Supervision
from lexivox.train.checkpoint import fill_model, load_state, save_state, save_weights
from lexivox.train.data import TrainingSteps, step_loader
from lexivox.train.log import RunLog
from lexivox.train.optim import RunningMean, adamw, learning_rate

logger = logging.getLogger(__name__)

OnStep = Callable[[int, int, dict[str, float]], None]

STATE_FILE = "training_state.pt"
WEIGHTS_FILE = "model.safetensors"
LOG_FILE = "log.jsonl"


@dataclass(frozen=True, slots=True)
class OptimOptions:
    """How weights move. Field meanings are those of ``config.TrainConfig``."""

    lr: float = 2e-3
    lr_min: float = 1e-5
    warmup_steps: int = 30
    weight_decay: float = 0.01
    decay_all: bool = False
    clip_norm: float = 10.0
    ema: float = 0.0
    backbone_lr_scale: float = 1.0
    precision: str = "float32"
    checkpoint_every: int = 100
    workers: int = 0


class Trainer:
    """Trains a model in a run folder, from where the folder's state left off.

    Args:
        model: freshly initialised; its weights are replaced when there is a state to resume.
        steps: the batches of the run.
        options: of the optimiser.
        run_dir: gets the training state, the log and at the end the weights.
    """

    def __init__(self, model: OccupancyModel, steps: TrainingSteps, options: OptimOptions, run_dir: Path) -> None:
        self.model, self.steps, self.options, self.run_dir = model, steps, options, run_dir
        self.optimizer = adamw(
            model, options.lr, options.weight_decay, options.backbone_lr_scale, decay_all=options.decay_all
        )
        self.mean = RunningMean(model, options.ema) if options.ema else None
        self.step = 0
        self._is_whole = True
        self._resume(load_state(run_dir / STATE_FILE))
        self.log = RunLog(run_dir / LOG_FILE, self.step)

    def run(self, on_step: OnStep = lambda step, steps, terms: None) -> None:
        """Train to the last step and write the weights.

        Raises:
            KeyboardInterrupt: after the state has been saved; one that cuts an update in two leaves the last
                checkpoint as it is, so that a resumed run still equals an uninterrupted one.
            DataError: no sample to train on, or a loss that is not finite.
        """
        if len(self.steps.samples) == 0:
            raise DataError("a training split must hold at least one sample; got none. Check the split.")
        self.model.train()
        try:
            for batch in step_loader(self.steps, self.step, self.options.workers):
                terms = self._one_step(batch)
                on_step(self.step, len(self.steps), terms)
                if self.step % self.options.checkpoint_every == 0:
                    self.save()
        except (KeyboardInterrupt, LexivoxError):
            if self._is_whole:
                self.save()
            raise
        self.save()
        save_weights(self.run_dir / WEIGHTS_FILE, self.final_weights())

    def final_weights(self) -> dict[str, Tensor]:
        return self.mean.weights if self.mean else self.model.state_dict()

    def save(self) -> None:
        state: dict[str, Any] = {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        if self.mean:
            state["mean"] = self.mean.weights
        save_state(self.run_dir / STATE_FILE, state)

    def _resume(self, state: dict[str, Any] | None) -> None:
        if state is None:
            return
        fill_model(self.model, state["model"], str(self.run_dir))
        self.optimizer.load_state_dict(state["optimizer"])
        if self.mean and "mean" in state:
            self.mean.weights = state["mean"]
        self.step = state["step"]
        logger.info("resuming at step %d of %d", self.step, len(self.steps))

    def _one_step(self, batch: Batch) -> dict[str, float]:
        started = time.perf_counter()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(
                self.step, len(self.steps), group["base_lr"], self.options.lr_min, self.options.warmup_steps
            )
        lr = self.optimizer.param_groups[0]["lr"]
        device = self.model.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.options.precision == "bfloat16"):
            terms = loss_terms(self.model, self.steps.supervisions, batch.to(device))
        total = torch.stack(list(terms.values())).sum()
        self._require_finite("loss", total.detach(), batch)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip_norm)
        self._require_finite("gradient", norm, batch)  # before it can spoil the weights
        self._is_whole = False
        self.optimizer.step()
        if self.mean:
            self.mean.update(self.model, self.step)
        logged = {"loss": float(total.detach()), **{k: float(v.detach()) for k, v in terms.items()}}
        seconds = time.perf_counter() - started
        self.log.add({"step": self.step, **logged, "lr": lr, "grad_norm": float(norm), "seconds": seconds})
        self.step += 1
        self._is_whole = True
        return logged

    def _require_finite(self, what: str, value: Tensor, batch: Batch) -> None:
        if not bool(torch.isfinite(value)):
            raise DataError(
                f"the {what} must be finite; got {float(value)} at step {self.step} on {batch.tokens[0]}. "
                "Lower train.lr or check the sample with 'lexivox doctor'."
            )


def loss_terms(model: OccupancyModel, supervisions: Sequence[Supervision], batch: Batch) -> dict[str, Tensor]:
    """Every supervision's terms on one batch.

    Raises:
        DataError: two supervisions give a term of the same name.
    """
    scene = model.encode(batch)
    terms: dict[str, Tensor] = {}
    for supervision in supervisions:
        for name, value in supervision(scene, batch).items():
            if name in terms:
                raise DataError(f"loss terms must have different names; got '{name}' twice. Remove one.")
            terms[name] = value
    return terms
