"""The command of the docs, as a user types it: a launcher, two processes, a recipe."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from lexivox.train.log import read_log

pytest.importorskip("accelerate")


@pytest.mark.slow
@pytest.mark.parametrize("how", [[], ["--shard"]], ids=["whole", "shares"])
def test_torchrun_trains_a_recipe(tiny_run, tmp_path, how):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    recipe = ["-m", "lexivox", "train", str(tiny_run / "config.yaml"), "--cache", str(tiny_run / "cache")]
    options = ["--out", str(tmp_path / "run"), "--set", "train.batch_size=4", "--set", "train.steps=3", *how]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ran = subprocess.run([*launcher, *recipe, *options], capture_output=True, text=True, timeout=280, env=environment)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("trained:") == 1
    assert [row["step"] for row in read_log(tmp_path / "run" / "log.jsonl")] == [0, 1, 2]
    (session,) = [json.loads(line) for line in (tmp_path / "run" / "sessions.jsonl").read_text().splitlines()]
    assert [member["rank"] for member in session["members"]] == [0, 1]
    assert (tmp_path / "run" / "model.safetensors").is_file()
