"""Two processes train as one does, die at any moment, and go on exactly where they were."""

from __future__ import annotations

import json
import random
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_training import FINISHED, REFUSED, STOPPED, Job, end, signal_when, start, tiny_model

from lexivox.train.checkpoint import load_state, load_weights
from lexivox.train.log import read_log
from lexivox.train.loop import LOG_FILE, SESSIONS_FILE, STATE_FILE, WEIGHTS_FILE, Trainer

pytest.importorskip("accelerate")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """An uninterrupted run of two processes, with a running mean. Made once: read it, never write."""
    job = Job(tmp_path_factory.mktemp("two") / "run", ema=0.9)
    assert end(start(job)) == [FINISHED, FINISHED]
    return job.run_dir


def distance(one: Path, two: Path) -> float:
    first, second = load_weights(one / WEIGHTS_FILE), load_weights(two / WEIGHTS_FILE)
    assert first.keys() == second.keys()
    return max(float((first[name].float() - second[name].float()).abs().max()) for name in first)


def losses(folder: Path) -> list[tuple[int, float]]:
    return [(row["step"], row["loss"]) for row in read_log(folder / LOG_FILE)]


def test_two_processes_make_the_steps_of_one(whole, tmp_path):
    """Four samples in a step: two times two, or four in a row. Only the order of sums differs."""
    job = Job(tmp_path / "one", ema=0.9)
    Trainer(tiny_model(), job.steps_of(0), job.options, job.run_dir).run()
    assert distance(whole, job.run_dir) < 1e-5
    for (step, loss), (same, alone) in zip(losses(whole), losses(job.run_dir), strict=True):
        assert step == same
        assert loss == pytest.approx(alone, abs=1e-4)


def test_no_sample_is_counted_twice_and_none_is_left_out():
    steps = replace(Job(Path()).steps_of(0), micro_batch=2)  # two parts of two samples in a step
    shares = [steps.parts_of(rank, 2, first_step=1) for rank in range(2)]
    assert shares == [[2, 4, 6, 8, 10], [3, 5, 7, 9, 11]]
    drawn = [steps.index(part * 2 + i) for part in range(steps.parts * 3) for i in range(2)]  # three steps
    assert sorted(drawn) == sorted([0, 1, 2] * 4)


def test_a_part_of_two_holds_the_samples_of_two_parts():
    ones = Job(Path()).steps_of(0)
    pair = replace(ones, micro_batch=2)[3]
    assert torch.equal(pair.cameras.images, torch.cat([ones[6].cameras.images, ones[7].cameras.images]))
    assert pair.tokens == ones[6].tokens + ones[7].tokens


def test_a_run_killed_at_any_moment_ends_bit_identical(whole, tmp_path):
    """The state is written after every third step; whatever was done since is done again, to the bit."""
    job = Job(tmp_path / "killed", ema=0.9, slow_s=0.05)
    started = start(job)
    step, victims = random.Random().choice([(s, v) for s in range(1, 6) for v in ([0], [1], [0, 1])])
    for rank in victims:
        signal_when(job, started[rank], step, signal.SIGKILL)
    codes = end(started)
    assert codes[victims[0]] == -signal.SIGKILL
    assert FINISHED not in codes, f"killed {victims} after step {step}"
    assert not (job.run_dir / WEIGHTS_FILE).exists()
    (job.run_dir / f"{STATE_FILE}.0.tmp").write_bytes(b"half a state")  # as a kill in the middle of writing leaves it
    assert end(start(replace(job, slow_s=0.0))) == [FINISHED, FINISHED]
    assert distance(whole, job.run_dir) == 0.0
    assert losses(whole) == losses(job.run_dir)
    assert not list(job.run_dir.glob("*.tmp"))


def test_a_signal_to_one_process_stops_all_after_the_same_step(whole, tmp_path):
    job = Job(tmp_path / "stopped", ema=0.9, slow_s=0.1)
    started = start(job)
    signal_when(job, started[1], 1, signal.SIGTERM)
    assert end(started) == [STOPPED, STOPPED]
    step = load_state(job.run_dir / STATE_FILE)["step"]
    assert 1 <= step < 6
    said = [(job.run_dir / f"end-{rank}").read_text() for rank in range(2)]
    assert said[0] == f"stopped by a signal to another process; {step} of 6 steps are saved in {job.run_dir}"
    assert said[1] == f"stopped by SIGTERM; {step} of 6 steps are saved in {job.run_dir}"
    assert end(start(replace(job, slow_s=0.0, workers=1))) == [FINISHED, FINISHED]
    assert distance(whole, job.run_dir) == 0.0
    sessions = [json.loads(line) for line in (job.run_dir / SESSIONS_FILE).read_text().splitlines()]
    assert [session["step"] for session in sessions] == [0, step]
    assert [member["first_seed"] for member in sessions[1]["members"]] == [4 * step, 4 * step + 1]


def test_shares_of_the_weights_train_alike_and_go_on_in_one_process(whole, tmp_path):
    """FSDP: stopped in two processes, whose state is the same file as ever, ended in this one alone."""
    job = Job(tmp_path / "shares", ema=0.9, sharded=True, slow_s=0.1)
    started = start(job)
    signal_when(job, started[0], 2, signal.SIGTERM)
    assert end(started) == [STOPPED, STOPPED]
    Trainer(tiny_model(5), job.steps_of(0), job.options, job.run_dir).run()
    assert distance(whole, job.run_dir) < 1e-5


def test_a_bad_sample_of_one_process_ends_all_before_it_reaches_the_weights(tmp_path):
    job = Job(tmp_path / "bad", poison=1)
    assert end(start(job)) == [REFUSED, REFUSED]
    said = [(job.run_dir / f"end-{rank}").read_text() for rank in range(2)]
    assert "the loss must be finite; got nan at step 0 on some process's sample" in said[0]
    assert "the loss must be finite; got nan at step 0 on sample-0" in said[1]
    assert read_log(job.run_dir / LOG_FILE) == []
