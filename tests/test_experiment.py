"""The whole job, small: city, targets, training, scores, pictures; and going on after an interruption."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
import torch
from helpers import TINY
from PIL import Image, ImageStat

from lexivox.config_text import load_config
from lexivox.data.subset import token_record
from lexivox.demo import CitySize, run_demo
from lexivox.errors import ConfigError, DataError, WeightsError
from lexivox.experiment import CACHE_DIR, TOKENS_FILE, Experiment, open_run
from lexivox.model import OccupancyModel
from lexivox.report import HEADLINES, Reporter, RunApp
from lexivox.run_folder import TEXT_FILE, load
from lexivox.teachers.street import street_teacher
from lexivox.train.checkpoint import load_weights
from lexivox.train.log import read_log
from lexivox.train.loop import LOG_FILE, STATE_FILE, WEIGHTS_FILE

STAGES = ["city", "targets", "train", "evaluate"]
SIZE = CitySize(1, 1, keyframes=2)


@pytest.fixture(scope="module")
def metrics(tiny_run):
    return json.loads((tiny_run / "metrics.json").read_text())


def test_metrics_hold_what_was_promised(metrics):
    headlines = [name for name, _, _ in HEADLINES]
    assert headlines == ["iou_occupied", "miou", "lidar_miou", "retrieval_map"]
    assert sorted(metrics["student"]) == sorted(headlines)
    assert sorted(metrics["teacher"]) == ["lidar_miou", "retrieval_map"]  # it knows nothing of space
    assert set(metrics["blank images"]) == set(headlines)
    for method in ("student", "teacher", "blank images", "training average"):
        assert all(0.0 <= value <= 1.0 for value in metrics[method].values())
    assert [stage for stage in metrics["seconds"] if stage in STAGES] == STAGES
    assert all(seconds >= 0.0 for seconds in metrics["seconds"].values())


def test_every_query_comes_with_chance(metrics, tiny_run):
    asked = load_config(tiny_run / "config.yaml").queries
    assert metrics["queries"]
    assert set(metrics["queries"]) <= set(asked)
    for row in metrics["queries"].values():
        assert sorted(row) == ["ap", "random"]
        assert 0.0 <= row["ap"] <= 1.0
        assert 0.0 < row["random"] < 1.0


def test_a_real_teacher_beats_chance(metrics):
    """Its pixels, scaled up from 64 rows, still rank far better than a coin."""
    random = [row["random"] for row in metrics["queries"].values()]
    assert metrics["teacher"]["retrieval_map"] > 2 * sum(random) / len(random)


def test_report_and_pictures_are_there_and_not_blank(tiny_run):
    page = (tiny_run / "report.html").read_text()
    assert len(page) > 50_000
    assert "student" in page
    assert "automobile" in page
    assert not re.search(r"(?:src|href)=[\"']https?://", page)
    pictures = sorted(tiny_run.glob("*.png"))
    names = [picture.name for picture in pictures]
    assert {"map_0.png", "map_0_truth.png", "map_1.png", "rendered_0.png", "rendered_1.png"} <= set(names)
    assert page.count("Image, depth and classes through the cameras") == 2
    assert any(name.startswith("query_") for name in names)
    for picture in pictures:
        image = Image.open(picture).convert("RGB")
        assert min(image.size) > 200
        assert ImageStat.Stat(image.convert("L")).stddev[0] > 10.0
        assert len(image.resize((100, 100)).getcolors(10_000)) > 50


@pytest.fixture
def no_report(monkeypatch):
    """The demo without its slowest part, for tests that look at the others."""
    monkeypatch.setattr("lexivox.demo.Reporter.write", lambda self: [])


def test_a_second_call_keeps_the_city_and_does_not_train(run_copy, no_report):
    before = {p: p.stat().st_mtime_ns for p in (run_copy / "city" / "samples").rglob("*.jpg")}
    weights, rows = load_weights(run_copy / WEIGHTS_FILE), read_log(run_copy / LOG_FILE)
    done: list[str] = []
    overrides = (*TINY, f"data.root={run_copy / 'city'}")
    run_demo(run_copy, lambda work, count, total: done.append(work), SIZE, overrides)
    assert "training" not in done
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert read_log(run_copy / LOG_FILE) == rows
    again = load_weights(run_copy / WEIGHTS_FILE)
    assert all(torch.equal(again[name], weights[name]) for name in weights)


def fresh(run_copy) -> Experiment:
    """The same experiment, its targets made, not trained."""
    folder = run_copy.with_name("fresh")
    folder.mkdir()
    shutil.copytree(run_copy / "cache", folder / "cache")
    return Experiment(load_config(run_copy / "config.yaml"), folder)


def test_an_interrupted_run_goes_on_and_ends_the_same(run_copy):
    def interrupt(step, steps, terms):
        if step == 3:
            raise KeyboardInterrupt

    def forbid(work, done, total):
        assert work == "making targets"

    stopped = fresh(run_copy)
    stopped.make_targets(forbid)
    with pytest.raises(KeyboardInterrupt):
        stopped.train(interrupt)
    assert (stopped.run_dir / STATE_FILE).is_file()
    assert not (stopped.run_dir / WEIGHTS_FILE).exists()
    with pytest.raises(WeightsError, match="weights must be a safetensors file"):
        load(stopped.run_dir)

    seen: list[int] = []
    again = Experiment(stopped.config, stopped.run_dir)
    again.make_targets()
    again.train(lambda step, steps, terms: seen.append(step))
    assert seen == [4, 5, 6, 7, 8]
    whole, parts = load_weights(run_copy / WEIGHTS_FILE), load_weights(stopped.run_dir / WEIGHTS_FILE)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_an_interrupt_through_the_demo(run_copy, tmp_path, no_report):
    out = tmp_path / "again"
    out.mkdir()
    shutil.copytree(run_copy / "cache", out / "cache")
    overrides = (*TINY, f"data.root={run_copy / 'city'}")

    def interrupt(work, done, total):
        if work == "training" and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_demo(out, interrupt, SIZE, overrides)
    assert not (out / "metrics.json").exists()
    steps: list[int] = []
    run_demo(out, lambda work, done, total: steps.append(done) if work == "training" else None, SIZE, overrides)
    assert steps == [3, 4, 5, 6, 7, 8]
    assert (out / "metrics.json").is_file()


def test_load_gives_the_trained_model(tiny_run):
    model = load(tiny_run)
    assert isinstance(model, OccupancyModel)
    assert not model.training
    by_file = load(tiny_run / WEIGHTS_FILE)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), by_file.parameters(), strict=True))
    dataset = open_run(tiny_run).unlabelled_val()
    assert dataset[0].point_labels is None
    hits = model.predict(dataset[0]).query("automobile, car")
    assert len(hits) > 0
    assert bool((hits.score.diff() <= 0).all())


def test_a_folder_keeps_one_config(run_copy):
    config = load_config(run_copy / "config.yaml")
    other = config.changed(train=config.train.model_copy(update={"lr": config.train.lr * 2}))
    with pytest.raises(ConfigError, match=r"a run folder must keep one config; got another one"):
        Experiment(other, run_copy).train()


def test_no_run_in_the_folder(tmp_path):
    with pytest.raises(DataError, match=r"a run folder must hold config.yaml; got none. Train first"):
        open_run(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"kind": "nobody"}', '{"kind": "centered"}'])
def test_a_damaged_description_of_the_words_is_one_line(run_copy, text):
    (run_copy / "text.json").write_text(text)
    with pytest.raises((ConfigError, DataError, WeightsError)) as refusal:
        load(run_copy)
    assert "\n" not in str(refusal.value)


def test_weights_that_are_damaged_or_of_another_recipe(run_copy):
    weights = run_copy / WEIGHTS_FILE
    content = weights.read_bytes()
    for damaged in (b"", content[:1000], b"\xff" * 64):
        weights.write_bytes(damaged)
        with pytest.raises(WeightsError, match=r"weights must be a safetensors file; got"):
            load(run_copy)
    weights.write_bytes(content)
    config = run_copy / "config.yaml"
    config.write_text(config.read_text().replace("hidden: 16", "hidden: 24"))
    with pytest.raises(WeightsError, match=r"weights must fit the model of this recipe; got .* of another shape"):
        load(run_copy)


def test_a_state_of_another_network_is_refused(run_copy):
    torch.save({"step": 2, "model": {"a": torch.zeros(2)}, "optimizer": {}}, run_copy / STATE_FILE)
    with pytest.raises(WeightsError) as refusal:
        open_run(run_copy).train()
    assert "\n" not in str(refusal.value)


def test_the_page_of_a_run(tiny_run):
    app = RunApp(open_run(tiny_run), load(tiny_run))
    assert len(app.frames()) == 2
    scene = app.scene(1)
    layer = app.query(1, "automobile")
    scores = layer.score
    assert layer.verdict is not None  # the demo calibrates its run
    assert scores.shape == (len(scene.index),)
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(app.query(1, "tree").score, app.query(1, "tree").score)


def test_a_supervised_run_of_the_same_city(run_copy):
    from lexivox.recipes import supervised

    folder = run_copy.with_name("labels")
    config = supervised(load_config(run_copy / "config.yaml"))
    config = config.changed(train=config.train.model_copy(update={"steps": 2}))
    experiment = Experiment(config, folder)
    experiment.make_targets()
    model = experiment.train()
    scores = experiment.evaluate(model)
    assert [row.method for row in scores.rows] == ["supervised"]
    made = Reporter(experiment, model, scores, ("automobile",)).write(1)
    assert all(path.stat().st_size > 1000 for path in made)
    again = load(folder)
    app = RunApp(open_run(folder), again)
    assert len(app.scene(0).index) == len(again.predict(experiment.val_dataset[0]).occupied_index)
    with pytest.raises(ConfigError, match=r"must have a language head|text encoder"):
        app.query(0, "automobile")


def test_labels_are_opened_only_where_they_are_learned_from(tiny_run):
    experiment = open_run(tiny_run)
    sample = experiment.train_samples.dataset[0]
    assert sample.point_labels is None
    assert sample.boxes is None


def test_training_makes_missing_targets_and_ends_the_same(run_copy):
    experiment = fresh(run_copy)
    experiment.train()
    whole, alone = load_weights(run_copy / WEIGHTS_FILE), load_weights(experiment.run_dir / WEIGHTS_FILE)
    assert all(torch.equal(whole[name], alone[name]) for name in whole)


@pytest.mark.parametrize(
    ("part", "words", "line"),
    [
        ("vocabulary", {"carr": ["car"]}, r"class must be one of .*; got 'carr'. Did you mean"),
        ("queries", {"automobile": ["carr"]}, r"query 'automobile' must mean classes of the data set; got carr"),
    ],
)
def test_words_for_unknown_classes_are_refused_before_training(run_copy, part, words, line):
    experiment = fresh(run_copy)
    experiment.config = experiment.config.changed(**{part: words})
    with pytest.raises(ConfigError, match=line):
        experiment.train()
    assert not (experiment.run_dir / "config.yaml").exists()


def test_labels_of_another_table_are_refused_before_training(run_copy):
    from lexivox.recipes import supervised

    config = supervised(load_config(run_copy / "config.yaml"))
    config = config.changed(supervision=[config.supervision[0].model_copy(update={"free_label": 9})])
    with pytest.raises(ConfigError, match="semantic supervision must have the classes of nuscenes16, 18 with 17"):
        Experiment(config, run_copy.with_name("labels")).train()


def test_a_recording_without_labels_can_be_looked_at(run_copy):
    (tables,) = (run_copy / "city").glob("v1.0-*")
    (tables / "lidarseg.json").unlink()
    shutil.rmtree(run_copy / "city" / "extras" / tables.name / "occupancy")
    app = RunApp(open_run(run_copy), load(run_copy))
    assert app.scene(0).truth is None
    assert np.isfinite(app.query(0, "automobile").score).all()


def test_a_run_records_its_keyframes(tiny_run):
    record = json.loads((tiny_run / TOKENS_FILE).read_text())
    tokens = list(open_run(tiny_run).train_samples.dataset.tokens)
    assert record == token_record(tokens)
    assert record["count"] == 2


def test_a_run_and_every_file_of_its_cache_name_the_space_of_their_teacher(tiny_run):
    from safetensors import safe_open

    space = street_teacher().space
    assert json.loads((tiny_run / TEXT_FILE).read_text())["space"] == space
    files = sorted((tiny_run / CACHE_DIR).rglob("*.safetensors"))
    assert files
    for path in files:
        with safe_open(path, framework="pt") as file:
            assert json.loads(file.metadata()["lexivox"])["space"] == space
