"""``lexivox evaluate`` on a small run: parts in two processes, the benchmark, saved maps, the tables of the paper."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch

from lexivox import cli
from lexivox.data.retrieval import RetrievalAnnotation, write_retrieval
from lexivox.evaluate.evaluation import Part
from lexivox.evaluate.protocol import PROTOCOLS, PUBLISHED
from lexivox.evaluate.report import ScoreTable
from lexivox.evaluate.truth import sweep_points
from lexivox.experiment import open_run
from lexivox.run_folder import load
from lexivox.scoring import EvaluateOptions, count_run, find_keyframe, fingerprint, merge_parts


def quiet(work: str, done: int, total: int) -> None:
    pass


@pytest.fixture
def no_report(monkeypatch):
    monkeypatch.setattr("lexivox.report.Reporter.write", lambda self: [self.experiment.run_dir / "report.html"])


@pytest.fixture
def benchmark(run_copy):
    """Two keyframes held out, one trained on, one that the recording does not have."""
    experiment = open_run(run_copy)
    samples = [*experiment.unlabelled_val(), experiment.train_samples.dataset[0]]
    grid = experiment.config.grid.build()
    made = []
    for number, (sample, part) in enumerate(zip(samples, ("val", "test", "train"), strict=True)):
        sweep = sweep_points(sample, grid)
        near = sweep.xyz.norm(dim=-1) < 12.0
        points = sweep.points("dup", "keep").index
        made.append(RetrievalAnnotation(sample.token, part, ("automobile", "tree", "lorry")[number], near, points))
    none = torch.zeros(0, dtype=torch.int64)
    made.append(RetrievalAnnotation("elsewhere", "val", "vase", torch.zeros(4, dtype=torch.bool), none))
    write_retrieval(run_copy / "benchmark", made)
    return run_copy / "benchmark"


@pytest.mark.slow
def test_two_processes_equal_one(run_copy, benchmark, no_report, capsys):
    options = EvaluateOptions(protocols=tuple(PROTOCOLS.values()), retrieval=benchmark)
    whole = count_run(open_run(run_copy), load(run_copy), options, quiet).table()
    names = [word for name in PROTOCOLS for word in ("--protocol", name)]
    command = [sys.executable, "-c", "import sys; from lexivox.cli import main; sys.exit(main(sys.argv[1:]))"]
    asked = ["evaluate", str(run_copy), *names, "--retrieval", str(benchmark)]
    processes = [
        subprocess.Popen([*command, *asked, "--part", part], env=os.environ, stdout=subprocess.PIPE, text=True)
        for part in ("1/2", "2/2")
    ]
    for number, process in enumerate(processes, 1):
        out, _ = process.communicate(timeout=240)
        assert process.returncode == 0
        assert f"part {number} of 2 lies in" in out
    assert cli.main(["evaluate", str(run_copy), "--merge"]) == 0
    merged = ScoreTable.from_json((run_copy / "scores.json").read_text())
    assert merged == ScoreTable.from_json(whole.to_json())
    out = capsys.readouterr().out
    assert "scored on a synthetic city" in (run_copy / "scores.md").read_text()
    for words in ("student", "Table 1a", "not run", "1 queries skipped; elsewhere: vase"):
        assert words in " ".join(out.split())
    for name in ("scores.md", "comparison.json", "comparison.svg"):
        assert str(run_copy / name) in out
        assert (run_copy / name).stat().st_size > 1000
    eval_split = merged.rows[0].under(f"{PUBLISHED.retrieval}/eval")
    assert eval_split.counts == {"samples": 2, "queries": 2, "skipped": 1}
    assert eval_split.values["map"] is not None
    assert merged.rows[1].method == "teacher"
    assert merged.rows[1].under(f"{PUBLISHED.retrieval}/eval").values["map_visible"] > 0


def test_parts_must_be_complete_and_alike(run_copy, capsys):
    experiment, model = open_run(run_copy), load(run_copy)
    count_run(experiment, model, EvaluateOptions(part=Part(1, 2)), quiet)
    assert cli.main(["evaluate", str(run_copy), "--merge"]) == 1
    assert "parts of an evaluation must be complete; got 1/2" in capsys.readouterr().err
    count_run(experiment, model, EvaluateOptions(part=Part(3, 3)), quiet)
    assert cli.main(["evaluate", str(run_copy), "--merge"]) == 1
    assert "must be shares of one division; got some of 2 and some of 3" in capsys.readouterr().err
    (run_copy / "parts" / "part_3_of_3.json").unlink()
    path = run_copy / "parts" / "part_1_of_2.json"
    path.write_text(path.read_text()[:-40])
    assert cli.main(["evaluate", str(run_copy), "--merge"]) == 1
    assert "a part must be lexivox-evaluation version 3" in (err := capsys.readouterr().err)
    assert "part_1_of_2.json" in err
    path.unlink()
    assert cli.main(["evaluate", str(run_copy), "--merge"]) == 1
    assert "a run must hold parts to merge; got none" in capsys.readouterr().err


def test_saved_maps_of_half_of_the_keyframes(run_copy, no_report, capsys):
    experiment, model = open_run(run_copy), load(run_copy)
    prediction = model.predict(experiment.unlabelled_val()[0])
    prediction.save(run_copy / "maps" / f"{prediction.token}.npz")
    assert cli.main(["evaluate", str(run_copy), "--predictions", str(run_copy / "maps")]) == 0
    assert "student answers 1 of 2 keyframes" in " ".join(capsys.readouterr().out.split())
    scores = ScoreTable.from_json((run_copy / "scores.json").read_text())
    assert scores.rows[0].under("pop3d-occupancy/exact").counts["samples"] == 1
    assert scores.rows[0].under("pop3d-lidar/unique") is None
    comparison = json.loads((run_copy / "comparison.json").read_text())["numbers"]
    assert comparison[0]["status"] == "not run"


def test_complete_voxels_and_depth_in_parts(run_copy, no_report, capsys):
    """A run without labels against complete voxels; depth alone needs no label at all."""
    both = ["evaluate", str(run_copy), "--protocol", "occ3d", "--protocol", "depth", "--baselines"]
    for part in ("1/2", "2/2"):
        assert cli.main([*both, "--part", part]) == 0
    assert cli.main(["evaluate", str(run_copy), "--merge"]) == 0
    merged = ScoreTable.from_json((run_copy / "scores.json").read_text())
    out = " ".join(capsys.readouterr().out.split())
    assert "rayiou: rayiou of rayiou/occ3d" in out
    assert "Complete voxels come from a simulator" in out
    for shown in (out, (run_copy / "scores.md").read_text()):
        assert "Table 1" not in shown  # nothing of POP-3D's paper was scored
    assert [row.method for row in merged.rows] == ["student", "blank images", "training average"]
    assert cli.main(both) == 0
    assert ScoreTable.from_json((run_copy / "scores.json").read_text()) == merged
    for folder in ("extras", "lidarseg", "panoptic"):
        shutil.rmtree(run_copy / "city" / folder)
    assert cli.main(["evaluate", str(run_copy), "--protocol", "depth"]) == 0
    bare = ScoreTable.from_json((run_copy / "scores.json").read_text())
    assert bare.protocols == ("depth-rendered/1-80m", "depth-first/1-80m")
    assert bare.rows[0].scores == merged.rows[0].scores[-2:]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--protocol", "paper"], "protocol must be one of recommended, published"),
        (["--part", "3/2"], "a part must be one of 1/n to n/n; got 3/2"),
        (["--retrieval", "nowhere"], "a retrieval benchmark must hold its lists; got none"),
        (["--predictions", "nowhere"], "predictions must be a folder of maps; got none"),
    ],
)
def test_wrong_options_are_one_line(tiny_run, capsys, monkeypatch, words, line):
    monkeypatch.setattr("lexivox.scoring.evaluate", lambda *a, **k: pytest.fail("hours before the option is read"))
    assert cli.main(["evaluate", str(tiny_run), *words]) == 1
    assert line in capsys.readouterr().err


def test_keyframes_are_found_beyond_the_split(tiny_run):
    experiment = open_run(tiny_run)
    find = find_keyframe(experiment.config.data)
    trained, held_out = experiment.train_samples.dataset.tokens[0], experiment.val_dataset.tokens[1]
    assert [find(token).token for token in (trained, held_out)] == [trained, held_out]
    assert find("elsewhere") is None


def test_other_weights_are_another_subject(tiny_run):
    model = load(tiny_run)
    before = fingerprint(model)
    assert before == fingerprint(load(tiny_run))
    with torch.no_grad():
        next(model.parameters()).add_(1e-3)
    assert fingerprint(model) != before


def test_nothing_was_merged_by_accident(tiny_run):
    with pytest.raises(Exception, match="a run must hold parts to merge"):
        merge_parts(tiny_run, open_run(tiny_run).val_dataset.classes)
