"""What a training asks of its surroundings: parts of a step, rates for other batches, signals, states on disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from tiny_training import tiny_model, tiny_steps

from lexivox.errors import ConfigError, DataError, WeightsError
from lexivox.model import set_checkpointing
from lexivox.train.checkpoint import load_state, save_state
from lexivox.train.engine import OneProcess, open_engine
from lexivox.train.loop import STATE_FILE, OptimOptions, Trainer, loss_terms
from lexivox.train.stop import StopRequest

OPTIONS = OptimOptions(lr=5e-3, warmup_steps=2, checkpoint_every=2)


def test_one_process_needs_no_engine_but_its_own(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    engine = open_engine()
    assert (type(engine), engine.rank, engine.processes) == (OneProcess, 0, 1)
    assert engine.gather(torch.tensor([1.0, 2.0])).tolist() == [[1.0, 2.0]]


def test_many_processes_without_accelerate_say_what_to_install(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)  # an import that fails
    with pytest.raises(ConfigError, match=r"must have accelerate; got none. Run: pip install 'lexivox\[train\]'"):
        open_engine()


def test_steps_that_cannot_be_dealt_out_are_refused():
    steps = replace(tiny_steps(2), batch_size=8)
    assert [len(steps.parts_of(0, n, 0)) for n in (1, 2, 4, 8)] == [16, 8, 4, 2]
    with pytest.raises(ConfigError, match=r"a multiple of train.micro_batch x processes, 1 x 3; got 8. Change it"):
        steps.parts_of(0, 3, 0)
    with pytest.raises(ConfigError, match=r"a multiple of train.micro_batch, 3; got 8"):
        replace(steps, micro_batch=3)


@pytest.mark.parametrize(("batch", "stated", "lr"), [(8, 8, 2e-4), (4, 8, 1e-4), (16, 8, 4e-4), (4, None, 2e-4)])
def test_the_rate_follows_the_batch_it_is_stated_for(batch, stated, lr):
    assert OptimOptions(lr=2e-4, lr_for_batch=stated).scaled_lr(batch) == pytest.approx(lr)


def test_another_batch_is_said_and_kept(tmp_path, caplog):
    options = replace(OPTIONS, lr_for_batch=8)
    Trainer(tiny_model(), replace(tiny_steps(2), batch_size=4), options, tmp_path)
    assert "lr is 0.0025 for 4 samples per step, not 0.005" in caplog.text


def gradients(which: str) -> tuple[float, dict[str, torch.Tensor]]:
    model, steps = tiny_model(), tiny_steps(1)
    set_checkpointing(model, which)
    total = torch.stack(list(loss_terms(model.train(), steps.supervisions, steps[0]).values())).sum()
    total.backward()
    return float(total.detach()), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("which", ["heads", "all"])
def test_computing_activations_again_changes_no_gradient(which, monkeypatch):
    monkeypatch.setattr("lexivox.heads.pointwise.LEARNT_CHUNK", 37)
    (loss, kept), (same, again) = gradients("none"), gradients(which)
    assert same == pytest.approx(loss, rel=1e-6)
    assert kept.keys() == again.keys()
    for name in kept:
        torch.testing.assert_close(again[name], kept[name], rtol=1e-4, atol=1e-6)


def test_switches_reach_every_part_that_has_one():
    model = tiny_model()
    set_checkpointing(model, "heads")
    on = {name for name, module in model.named_modules() if getattr(module, "checkpointing", False)}
    assert on == {"heads.occupancy", "heads.language"}
    set_checkpointing(model, "all")
    on = {name for name, module in model.named_modules() if getattr(module, "checkpointing", False)}
    assert on == {"heads.occupancy", "heads.language", "encoder.triplane", "encoder.image.backbone"}


# ------------------------------------------------------------------------------------------------------ signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_its_step(tmp_path, number, caplog):
    def strike(step, steps, terms):
        if step == 3:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt, match=rf"stopped by {number.name}; 4 of 6 steps are saved in"):
        Trainer(tiny_model(), tiny_steps(6), OPTIONS, tmp_path).run(strike)
    assert load_state(tmp_path / STATE_FILE)["step"] == 4
    assert f"{number.name}: saving after this step" in caplog.text
    assert signal.getsignal(number) is before


def test_a_launcher_may_repeat_a_signal_but_a_person_may_insist(monkeypatch):
    monkeypatch.setattr("lexivox.train.stop.time.monotonic", iter([10.0, 10.1, 20.0, 30.0]).__next__)
    with StopRequest(quiet=True) as request:
        os.kill(os.getpid(), signal.SIGINT)  # at 10.0
        os.kill(os.getpid(), signal.SIGINT)  # at 10.1: the launcher's copy
        os.kill(os.getpid(), signal.SIGTERM)  # at 20: a cluster may repeat itself as it likes
        assert request.asked == "SIGINT"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)  # at 30


# -------------------------------------------------------------------------------------------------------- states


def test_a_flipped_bit_in_a_state_is_found(tmp_path):
    path = tmp_path / STATE_FILE
    save_state(path, {"step": 1, "model": {"a": torch.zeros(5000)}, "optimizer": {}})
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # torch itself would load it without a word
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"training state must be readable; got a wrong checksum in .*data/0"):
        load_state(path)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_half_a_state_is_one_line(tmp_path, share):
    path = tmp_path / STATE_FILE
    save_state(path, {"step": 1, "model": {"a": torch.zeros(500)}, "optimizer": {}})
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(WeightsError, match=r"training state must be readable; got .* Delete it") as refusal:
        load_state(path)
    assert "\n" not in str(refusal.value)


def test_an_optimiser_of_other_parameters_is_refused(tmp_path):
    trainer = Trainer(tiny_model(), tiny_steps(2), OPTIONS, tmp_path)
    trainer.run()
    state = load_state(tmp_path / STATE_FILE)
    state["optimizer"]["param_groups"] = state["optimizer"]["param_groups"][:1]
    save_state(tmp_path / STATE_FILE, state)
    with pytest.raises(WeightsError, match="an optimiser's state must fit its parameters; got"):
        Trainer(tiny_model(), tiny_steps(2), OPTIONS, tmp_path)


def test_processes_that_see_different_states_do_not_start(tmp_path):
    class Elsewhere(OneProcess):
        """Another process found no state, as on a disk that nodes do not share."""

        def gather(self, row):
            return torch.stack([row, row - 2.0])

    save_steps = Trainer(tiny_model(), tiny_steps(2), OPTIONS, tmp_path)
    save_steps.run()
    with pytest.raises(DataError, match=r"must go on at the same step; got \[2, 0\]. Put the run folder where"):
        Trainer(tiny_model(), tiny_steps(4), OPTIONS, tmp_path, Elsewhere())


def test_the_package_is_a_command(tmp_path):
    command = [sys.executable, "-m", "lexivox", "--version"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path).stdout
    assert said.startswith("lexivox ")
