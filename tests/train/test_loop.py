"""Training learns, stops, resumes exactly, and refuses what cannot be."""

from __future__ import annotations

import errno
import json
from dataclasses import replace

import pytest
import torch

from lexivox.data.transforms import Augment
from lexivox.errors import DataError, WeightsError
from lexivox.train.checkpoint import fill_model, load_state, load_weights, save_state
from lexivox.train.log import read_log
from lexivox.train.loop import LOG_FILE, STATE_FILE, WEIGHTS_FILE, OptimOptions, Trainer, loss_terms

OPTIONS = OptimOptions(lr=5e-3, warmup_steps=2, checkpoint_every=2)


def weights_equal(one, two):
    return all(torch.equal(one[name], two[name]) for name in one)


def test_every_parameter_gets_a_gradient(make, tmp_path):
    model, steps = make[0](), make[1](1)
    Trainer(model, steps, OPTIONS, tmp_path).run()  # sampling offsets start at zero and hide their inputs
    model.zero_grad()
    torch.stack(list(loss_terms(model, steps.supervisions, steps[0]).values())).sum().backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


def test_the_loss_falls(make, tmp_path):
    steps = make[1](45)  # one keyframe that stays as it is: noise about others cannot be learned
    steps = replace(steps, samples=steps.samples[:1], augment=Augment(0.0, 0.0, 0.0))
    Trainer(make[0](), steps, OPTIONS, tmp_path).run()
    rows = read_log(tmp_path / LOG_FILE)
    assert [row["step"] for row in rows] == list(range(45))
    assert sum(r["loss"] for r in rows[-5:]) < 0.8 * sum(r["loss"] for r in rows[:5])


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_resumed_run_equals_an_uninterrupted_one(make, tmp_path, ema):
    options = OptimOptions(lr=5e-3, warmup_steps=2, checkpoint_every=2, ema=ema)
    Trainer(make[0](), make[1](6), options, tmp_path / "whole").run()

    def interrupt(step, steps, terms):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trainer(make[0](), make[1](6), options, tmp_path / "parts").run(interrupt)
    resumed = Trainer(make[0](seed=5), make[1](6), options, tmp_path / "parts")
    assert resumed.step == 3
    resumed.run()
    whole, parts = (load_weights(tmp_path / f / WEIGHTS_FILE) for f in ("whole", "parts"))
    assert weights_equal(whole, parts)

    def losses(folder):
        return [(row["step"], row["loss"]) for row in read_log(tmp_path / folder / LOG_FILE)]

    assert losses("whole") == losses("parts")


def test_a_kill_between_checkpoints_loses_only_steps_that_are_done_again(make, tmp_path):
    class KilledError(Exception):
        """Stands for a kill: nothing is saved on the way out."""

    def kill(step, steps, terms):
        if step == 5:
            raise KilledError

    with pytest.raises(KilledError):
        Trainer(make[0](), make[1](6), OPTIONS, tmp_path).run(kill)
    resumed = Trainer(make[0](), make[1](6), OPTIONS, tmp_path)
    assert resumed.step == 4  # the checkpoint, not the fifth step
    resumed.run()
    assert [row["step"] for row in read_log(tmp_path / LOG_FILE)] == list(range(6))


def test_steps_depend_on_seed_and_number_only(make):
    one, two = make[1](8), make[1](8)
    _ = one[2]
    assert torch.equal(one[5].cameras.images, two[5].cameras.images)
    assert not torch.equal(make[1](8, seed=1)[5].cameras.images, two[5].cameras.images)
    assert sorted(one.index(number) for number in range(3)) == [0, 1, 2]


def test_a_torn_last_line_of_the_log_is_left_out(tmp_path):
    (tmp_path / LOG_FILE).write_text(json.dumps({"step": 0}) + '\n{"step": 1, "lo')
    assert read_log(tmp_path / LOG_FILE) == [{"step": 0}]


def test_a_damaged_state_is_named(make, tmp_path):
    (tmp_path / STATE_FILE).write_bytes(b"not a checkpoint")
    with pytest.raises(WeightsError, match="training state must be readable"):
        Trainer(make[0](), make[1](2), OPTIONS, tmp_path)


def test_a_pickle_that_runs_code_is_refused(make, tmp_path):
    import os
    import pickle

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/hacked",)

    torch.save({"step": Evil()}, tmp_path / STATE_FILE, pickle_module=pickle)
    with pytest.raises(WeightsError):
        Trainer(make[0](), make[1](2), OPTIONS, tmp_path)
    assert not (tmp_path / "hacked").exists()


def test_weights_of_another_model_name_the_first_keys(make):
    model = make[0]()
    weights = dict(model.state_dict())
    name = next(iter(weights))
    moved = {"stranger": weights.pop(name), **weights}
    with pytest.raises(WeightsError, match=rf"1 missing \({name}\); 1 unknown \(stranger\)"):
        fill_model(model, moved, "tiny")


def test_no_sample_is_refused(make, tmp_path):
    from dataclasses import replace

    with pytest.raises(DataError, match="at least one sample; got none"):
        Trainer(make[0](), replace(make[1](2), samples=[]), OPTIONS, tmp_path).run()


def test_a_loss_that_is_not_finite_stops_with_the_sample(make, tmp_path):
    model = make[0]()
    with torch.no_grad():
        next(model.heads["occupancy"].parameters()).fill_(float("nan"))
    with pytest.raises(DataError, match="loss must be finite; got nan at step 0 on sample-"):
        Trainer(model, make[1](2), OPTIONS, tmp_path).run()


def test_a_gradient_that_is_not_finite_never_reaches_the_weights(make, tmp_path, monkeypatch):
    model = make[0]()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    monkeypatch.setattr("torch.nn.utils.clip_grad_norm_", lambda parameters, norm: torch.tensor(torch.nan))
    with pytest.raises(DataError, match="gradient must be finite; got nan at step 0 on sample-"):
        Trainer(model, make[1](2), OPTIONS, tmp_path).run()
    assert weights_equal(model.state_dict(), before)


def test_an_interrupt_in_the_middle_of_an_update_keeps_the_checkpoint(make, tmp_path, monkeypatch):
    trainer = Trainer(make[0](), make[1](6), OPTIONS, tmp_path / "parts")
    update = trainer.optimizer.step

    def interrupted():
        update()
        if trainer.step == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(trainer.optimizer, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    resumed = Trainer(make[0](seed=5), make[1](6), OPTIONS, tmp_path / "parts")
    assert resumed.step == 2  # the checkpoint before the half step
    resumed.run()
    Trainer(make[0](), make[1](6), OPTIONS, tmp_path / "whole").run()
    assert weights_equal(*(load_weights(tmp_path / f / WEIGHTS_FILE) for f in ("whole", "parts")))


def test_a_full_disk_is_one_line_and_keeps_the_older_state(tmp_path, monkeypatch):
    path = tmp_path / STATE_FILE
    save_state(path, {"step": 1, "model": {}, "optimizer": {}})

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DataError, match="training state must be writable; got No space left"):
        save_state(path, {"step": 2, "model": {}, "optimizer": {}})
    assert load_state(path)["step"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_no_training_state_is_named(tmp_path):
    torch.save({"weights": torch.zeros(2)}, tmp_path / STATE_FILE)
    with pytest.raises(WeightsError, match="training state must be readable; got something else"):
        load_state(tmp_path / STATE_FILE)
