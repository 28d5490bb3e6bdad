"""Every verb on a real run, and every verb with something wrong: exit status 1, one line, no traceback."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from helpers import TINY

from lexivox import cli
from lexivox.config_text import load_config
from lexivox.prediction import Prediction

VERBS = (
    "demo",
    "doctor",
    "labels",
    "targets",
    "train",
    "evaluate",
    "predict",
    "calibrate",
    "query",
    "render",
    "view",
    "import-weights",
    "show",
)


def done(capsys, *argv: str | Path) -> str:
    """Run a verb that must succeed; what it printed."""
    status = cli.main([str(part) for part in argv])
    out, err = capsys.readouterr()
    assert status == 0, err
    return out


def refused(capsys, *argv: str | Path) -> str:
    """Run a verb that must fail; the one line it wrote on stderr."""
    status = cli.main([str(part) for part in argv])
    _, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.strip()]
    assert status == 1
    assert "Traceback" not in err
    assert len([line for line in lines if line.startswith(f"lexivox {argv[0]}: ")]) == 1, err
    assert lines[-1].startswith(f"lexivox {argv[0]}: ")
    assert len(lines[-1]) < 600
    return lines[-1]


def sets(*overrides: str) -> list[str]:
    return [word for override in overrides for word in ("--set", override)]


# ------------------------------------------------------------------------------------------------ verbs at work


def test_demo_goes_on_and_names_its_files(run_copy, monkeypatch, capsys):
    from lexivox.demo import CitySize

    monkeypatch.setattr("lexivox.demo.CitySize", lambda: CitySize(1, 1, keyframes=2))
    monkeypatch.setattr("lexivox.report.Reporter.write", lambda self: [self.experiment.run_dir / "report.html"])
    (run_copy / "metrics.json").unlink()
    out = done(capsys, "demo", "--out", run_copy, *sets(*TINY))
    for word in ("iou_occupied", "student", "teacher", "blank images", "training average"):
        assert word in out
    assert out.index("made:") < out.index("report.html") < out.index("metrics.json")
    assert (run_copy / "metrics.json").is_file()


def test_doctor(tiny_run, tmp_path, capsys):
    out = done(capsys, "doctor", "nuscenes", tiny_run / "city", "--split", "val", "--out", tmp_path, "--samples", "1")
    assert "2 keyframes" in out
    assert "usable" in out
    assert "DoctorReport(" not in out
    pictures = list(tmp_path.glob("*.png"))
    assert len(pictures) == 2
    assert all(str(picture) in out for picture in pictures)


def test_targets_and_train_from_a_yaml(tiny_run, tmp_path, capsys):
    yaml, out, cache = tmp_path / "run.yaml", tmp_path / "mine", tmp_path / "cache"
    yaml.write_text(done(capsys, "show", "pop3d_tiny", *sets(*TINY, f"data.root={tiny_run / 'city'}")))
    options = ("--out", out, "--cache", cache, "--set", "train.steps=2")
    assert f"targets of 2 keyframes lie in {cache}" in done(capsys, "targets", yaml, *options)
    assert len(list(cache.rglob("*.safetensors"))) == 2
    assert f"trained: {out}" in done(capsys, "train", yaml, *options)
    assert (out / "model.safetensors").is_file()
    assert not (out / "cache").exists()
    assert load_config(out / "config.yaml").train.steps == 2
    again = done(capsys, "train", out / "config.yaml", "--out", out, "--cache", cache)
    assert f"trained: {out}" in again


def test_evaluate(run_copy, capsys):
    for name in ("scores.json", "report.html"):
        (run_copy / name).unlink()
    out = done(capsys, "evaluate", run_copy)
    assert "student" in out
    assert "teacher" in out
    assert "iou_occupied" in out
    assert str(run_copy / "report.html") in out
    assert json.loads((run_copy / "scores.json").read_text())["rows"]


def test_train_with_a_report(run_copy, monkeypatch, capsys):
    monkeypatch.setattr("lexivox.report.Reporter.write", lambda self: [self.experiment.run_dir / "report.html"])
    out = done(capsys, "train", run_copy / "config.yaml", "--out", run_copy, "--report")
    assert f"trained: {run_copy}" in out
    assert "training average" in out
    assert "report.html" in out


def test_predict_writes_maps_that_can_be_asked(tiny_run, tmp_path, capsys):
    out = done(capsys, "predict", tiny_run, "--out", tmp_path, "--refine", "2")
    assert f"2 maps lie in {tmp_path}" in out
    for path in tmp_path.glob("*.npz"):
        prediction = Prediction.load(path)
        assert prediction.token == path.stem
        assert prediction.grid == load_config(tiny_run / "config.yaml").grid.build().refine(2)
        assert len(prediction.query("car")) == len(prediction.occupied_index) > 0


def test_query(tiny_run, capsys):
    out = done(capsys, "query", tiny_run, "automobile", "tree, foliage", "--frame", "1", "--top", "2")
    assert re.search(r"^automobile: (not )?here.* of absent things score as high\)$", out, re.M)
    assert len(re.findall(r"best of \d+ occupied voxels by margin, metres in the ego frame$", out, re.M)) == 2
    assert len(re.findall(r"^ +-?\d\.\d{3}   x ", out, re.M)) == 4


def test_query_without_a_calibration_says_so(run_copy, capsys):
    (run_copy / "calibration.json").unlink()
    out = done(capsys, "query", run_copy, "automobile")
    assert "not calibrated, so nobody knows whether it is here" in out
    assert "hits must be told which voxels count" in refused(capsys, "query", run_copy, "car", "--regions")
    assert "regions; centre and length" in done(capsys, "query", run_copy, "road", "--regions", "--above", "-0.5")
    assert "asked 149 absent things of 1 keyframes" in done(capsys, "calibrate", run_copy, "--keyframes", "1")
    assert "of absent things score as high" in done(capsys, "query", run_copy, "automobile")


def test_query_exports_regions_and_paints_images(tiny_run, tmp_path, capsys):
    files = [tmp_path / f"hits.{ending}" for ending in ("json", "csv", "ply", "geojson")]
    options = [part for file in files for part in ("--export", file)]
    out = done(
        capsys,
        "query",
        tiny_run,
        "road, not: car",
        "xylophone",
        "--not",
        "tree",
        *options,
        "--images",
        tmp_path / "seen",
    )
    assert "road, not: car, tree: " in out
    assert all(str(file) in out and file.stat().st_size for file in files)
    known = json.loads(files[0].read_text())
    assert [query["text"] for query in known["queries"]] == ["road, not: car, tree", "xylophone, not: tree"]
    assert {path.suffix for path in (tmp_path / "seen").iterdir()} == {".png"}


def test_calibrate_with_own_words(run_copy, tmp_path, capsys):
    words = tmp_path / "words.txt"
    words.write_text("\n".join(f"strange thing {n}" for n in range(25)) + "\n\n")
    assert "asked 25 absent things of 2 keyframes" in done(capsys, "calibrate", run_copy, "--absent", words)
    words.write_text("one\ntwo\n")
    assert "absent things must be at least 20; got 2" in refused(capsys, "calibrate", run_copy, "--absent", words)
    assert "files must be readable" in refused(capsys, "calibrate", run_copy, "--absent", tmp_path / "none.txt")
    (run_copy / "calibration.json").write_text("{}")
    assert "a calibration must be of the format" in refused(capsys, "query", run_copy, "car")


def test_show(tiny_run, tmp_path, capsys):
    listed = done(capsys, "show")
    assert "pop3d_tiny" in listed
    assert "POP-3D's parts" in listed
    yaml = tmp_path / "run.yaml"
    yaml.write_text(done(capsys, "show", "pop3d_tiny", "--set", "train.lr=1e-3"))
    assert load_config(yaml).train.lr == 1e-3
    assert done(capsys, "show", tiny_run).strip() == (tiny_run / "config.yaml").read_text().strip()


def test_view_answers(tiny_run, monkeypatch, capsys):
    from lexivox.view.local import LocalServer

    ready: list[LocalServer] = []
    bound, serve_forever = threading.Event(), LocalServer.serve_forever

    def serve(self, *args):
        ready.append(self)
        bound.set()
        serve_forever(self, 0.05)

    monkeypatch.setattr(LocalServer, "serve_forever", serve)
    thread = threading.Thread(target=cli.main, args=(["view", str(tiny_run), "--port", "0"],), daemon=True)
    thread.start()
    assert bound.wait(60)
    port = ready[0].server_port
    try:
        assert request(port, "GET", "/")[0] == 200
        status, body = request(port, "POST", "/query", {"frame": 1, "text": "automobile, car"})
        assert status == 200, body
        assert request(port, "POST", "/query", {"frame": 9, "text": "car"})[0] == 400
        assert request(port, "POST", "/query", {"frame": 0, "text": " , "})[0] == 400
    finally:
        ready[0].shutdown()
        thread.join(30)
    assert not thread.is_alive()
    assert f"http://127.0.0.1:{port}/" in capsys.readouterr().out


def request(port: int, method: str, path: str, payload: dict | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Content-Type": "application/json"} if payload else {}
    connection.request(method, path, json.dumps(payload) if payload else None, headers)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body


def test_an_interrupt_says_how_to_go_on(monkeypatch, capsys, tmp_path):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("lexivox.demo.run_demo", interrupted)
    assert cli.main(["demo", "--out", str(tmp_path)]) == 130
    assert "Run the same command to go on" in capsys.readouterr().out


def test_render_shows_a_keyframe_and_its_drive(run_copy, capsys, tmp_path):
    from PIL import Image

    film = tmp_path / "drive.gif"
    out = done(capsys, "render", run_copy, "--frame", "1", "--truth", "--query", "car", "--video", film)
    pictures = [run_copy / "rendered" / f"keyframe_1{truth}.png" for truth in ("", "_truth")]
    for path in (*pictures, film):
        assert str(path) in out
    with Image.open(pictures[0]) as told, Image.open(pictures[1]) as true, Image.open(film) as played:
        assert told.height > 1.2 * true.height  # image, depth, classes and the query; the truth knows no query
        assert played.n_frames == 2
    assert "--frame must lie in 0..1; got 2" in refused(capsys, "render", run_copy, "--frame", "2")
    assert "a film must end in .webp" in refused(capsys, "render", run_copy, "--video", "film.avi")


# -------------------------------------------------------------------------------------------------------- help


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb_shows_an_example(verb, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main([verb, "--help"])
    assert exit_.value.code == 0
    out = capsys.readouterr().out
    assert re.search(rf"^example:\n  lexivox {verb}\b", out, re.M)


def test_every_verb_is_listed(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    out = capsys.readouterr().out
    assert all(re.search(rf"^    {verb}\b", out, re.M) for verb in VERBS)
    assert "lexivox query runs/mine" in out


def test_help_is_quick_and_loads_no_torch():
    code = (
        "import resource, sys\n"
        "from lexivox import cli\n"
        f"for verb in {VERBS}:\n"
        "    try: cli.main([verb, '--help'])\n"
        "    except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'transformers', 'pydantic', 'rich'} & set(sys.modules)\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print('HEAVY', sorted(heavy), used.ru_utime + used.ru_stime)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    heavy, seconds = re.search(r"HEAVY (\[.*\]) ([\d.]+)", result.stdout).groups()
    assert heavy == "[]"
    assert float(seconds) < 2.0


# --------------------------------------------------------------------------------------------- what users do wrong


def wrong_root(verb: str, tmp_path: Path) -> list[str]:
    return [verb, "pop3d_tiny", "--out", str(tmp_path / "out"), *sets(f"data.root={tmp_path / 'nowhere'}")]


@pytest.mark.parametrize("verb", ["targets", "train"])
def test_wrong_root(verb, tmp_path, capsys):
    assert "nowhere" in refused(capsys, *wrong_root(verb, tmp_path))


@pytest.mark.parametrize("verb", ["targets", "train", "show"])
@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nobody"], "recipe must be one of pop3d_tiny, .* got 'nobody'"),
        (["nowhere.yaml"], "a config must be a YAML file"),
        (["pop3d_tiny", "--set", "train.stepz=3"], "option 'train.stepz' must be valid"),
        (["pop3d_tiny", "--set", "train.steps"], "--set must read option=value; got 'train.steps'"),
        (["pop3d_tiny", "--set", "train.steps=many"], "option 'train.steps' must be valid; got 'many'"),
        (["pop3d_tiny", "--set", "train.steps=[1"], "--set must read option=value"),
        (["pop3d_tiny", "--set", "nothing.here=1"], "option must exist; got 'nothing.here'"),
    ],
)
def test_wrong_recipe_or_option(verb, argv, message, capsys):
    assert re.search(message, refused(capsys, verb, *argv))


@pytest.mark.parametrize(
    "argv", [["evaluate"], ["predict"], ["query", "car"], ["render"], ["view"]], ids=lambda argv: argv[0]
)
def test_folder_without_a_run(argv, tmp_path, capsys):
    verb, *rest = argv
    assert "a run folder must hold config.yaml; got none" in refused(capsys, verb, tmp_path, *rest)
    assert "a run folder must hold config.yaml; got none" in refused(capsys, verb, tmp_path / "nowhere", *rest)


def test_show_of_a_folder_without_a_run(tmp_path, capsys):
    assert "a config must be a YAML file; got" in refused(capsys, "show", tmp_path)


@pytest.mark.parametrize(
    "argv", [["evaluate"], ["predict"], ["query", "car"], ["render"], ["view"]], ids=lambda argv: argv[0]
)
def test_damaged_weights_and_weights_of_another_recipe(argv, run_copy, capsys):
    verb, *rest = argv
    config, weights = run_copy / "config.yaml", run_copy / "model.safetensors"
    text = config.read_text()
    config.write_text(text.replace("hidden: 16", "hidden: 24"))
    assert "weights must fit the model of this recipe" in refused(capsys, verb, run_copy, *rest)
    config.write_text(text)
    weights.write_bytes(weights.read_bytes()[:5000])
    assert "weights must be a safetensors file" in refused(capsys, verb, run_copy, *rest)
    weights.unlink()
    assert "weights must be a safetensors file" in refused(capsys, verb, run_copy, *rest)


def test_a_broken_config_in_the_run(run_copy, capsys):
    (run_copy / "config.yaml").write_text("name: [")
    assert "a config must be a YAML file" in refused(capsys, "query", run_copy, "car")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["car", "--frame", "2"], "--frame must lie in 0..1; got 2"),
        (["car", "--frame", "-1"], "--frame must lie in 0..1; got -1"),
        ([""], "a query must hold a word"),
        ([" , "], "a query must hold a word"),
        (["car", "--top", "0"], "--top must be at least 1; got 0"),
        (["not: car"], "got only negatives: car"),
        (["car", "--false-alarms", "2"], "false_alarm_rate must lie between 0 and 1; got 2.0"),
        (["car", "--export", "hits.xls"], "a file of hits must end with .json, .csv, .ply, .geojson"),
    ],
)
def test_wrong_questions(argv, message, tiny_run, capsys):
    assert message in refused(capsys, "query", tiny_run, *argv)


def test_wrong_predictions(tiny_run, tmp_path, capsys):
    assert "--refine must be at least 1" in refused(capsys, "predict", tiny_run, "--out", tmp_path, "--refine", "0")
    (tmp_path / "file").write_text("in the way")
    assert "a file must be writable; got" in refused(capsys, "predict", tiny_run, "--out", tmp_path / "file")


@pytest.mark.parametrize("port", ["99999", "-1"])
def test_view_at_a_wrong_port(port, tiny_run, capsys):
    assert "address of the page must be free" in refused(capsys, "view", tiny_run, "--port", port)


def test_demo_with_a_wrong_option(tmp_path, capsys):
    assert "option 'train.nothing' must be valid" in refused(
        capsys, "demo", "--out", tmp_path / "demo", "--set", "train.nothing=1"
    )
    assert not (tmp_path / "demo").exists()
    (tmp_path / "file").write_text("in the way")
    assert "writable" in refused(capsys, "demo", "--out", tmp_path / "file", *sets(*TINY))


def test_a_folder_of_another_config(run_copy, capsys):
    argv = ("train", run_copy / "config.yaml", "--out", run_copy, "--set", "train.seed=9")
    assert "a run folder must keep one config" in refused(capsys, *argv)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.train_split=[]", "split must name scenes"),
        ("data.train_split=dusk", "dusk"),
        ("data.train_split=[scene-9999]", "scene-9999"),
        ("data.version=v1.0-none", "v1.0-none"),
        ("teacher={kind: espnet, weights: nowhere.npz}", "nowhere.npz"),
        ("grid.voxel_size_m=[0, 1, 1]", "voxel_size_m"),
        ("encoder.triplane.coarsen=5", "coarsen"),
        ("heads.language=null", "head must be one of"),
        ("heads.semantic={hidden: 8}", "a semantic head must have semantic supervision"),
    ],
)
def test_options_that_cannot_work(override, message, tiny_run, tmp_path, capsys):
    argv = ("train", tiny_run / "config.yaml", "--out", tmp_path / "out", "--set", override)
    assert message in refused(capsys, *argv)


def test_a_run_without_anything_held_out(run_copy, capsys):
    config = run_copy / "config.yaml"
    config.write_text(config.read_text().replace("val_split: val", "val_split: []"))
    assert "split must name scenes" in refused(capsys, "evaluate", run_copy)
    assert "split must name scenes" in refused(capsys, "query", run_copy, "car")
    assert "split must name scenes" in refused(capsys, "predict", run_copy)
    assert "split must name scenes" in refused(capsys, "view", run_copy)


# ---------------------------------------------------------------------------------------------- damaged recordings


def test_doctor_of_what_is_no_recording(tmp_path, capsys):
    assert "kind of a data set must be one of" in refused(capsys, "doctor", "kitti", tmp_path)
    for kind in ("nuscenes", "pandaset"):
        assert str(tmp_path) in refused(capsys, "doctor", kind, tmp_path / "nowhere", "--out", tmp_path / "out")


def doctor(city: Path, out: Path) -> list[str]:
    return ["doctor", "nuscenes", str(city), "--out", str(out)]


def test_doctor_with_wrong_options(tiny_run, tmp_path, capsys):
    assert "--samples must be at least 1" in refused(capsys, *doctor(tiny_run / "city", tmp_path), "--samples", "0")
    assert "nights" in refused(capsys, *doctor(tiny_run / "city", tmp_path), "--split", "nights")


def test_doctor_of_a_folder_of_volumes(tmp_path, capsys):
    import numpy as np

    path = tmp_path / "gts" / "a" / "labels.npz"
    path.parent.mkdir(parents=True)
    volume = np.full((200, 200, 16), 17, dtype=np.uint8)
    volume[:, :, 2], volume[50:60, 90:95, 3:6] = 11, 4  # a road and a car on it
    np.savez_compressed(path, semantics=volume)
    out = done(capsys, "doctor", "volumes", tmp_path / "gts", "--out", tmp_path / "out")
    assert "format: Occ3D" in out
    assert "usable" in out
    np.savez_compressed(path, semantics=volume[:, :, ::-1])
    assert cli.main(["doctor", "volumes", str(tmp_path / "gts"), "--out", str(tmp_path / "out")]) == 1
    out, err = capsys.readouterr()
    assert "ERROR    [axes] the floor lies along axis 2 of the file, backwards" in out
    assert "what the doctor examines must be healthy; got the faults above. Mend them first." in err


def test_doctor_of_volumes_with_options_of_recordings(tmp_path, capsys):
    assert "a folder of volumes must hold .npz" in refused(capsys, "doctor", "volumes", tmp_path)
    said = refused(capsys, "doctor", "volumes", tmp_path, "--split", "val")
    assert "--split must be given with a recording; got it with 'volumes'. Leave it out." in said
    said = refused(capsys, "doctor", "nuscenes", tmp_path, "--against", tmp_path)
    assert "--against must be given with the kind 'volumes'; got a recording. Use --occupancy FOLDER." in said


def test_missing_labels(run_copy, capsys):
    next((run_copy / "city").glob("v1.0-*/lidarseg.json")).unlink()
    assert "lidarseg" in refused(capsys, "evaluate", run_copy)
    done(capsys, "query", run_copy, "car")  # predicting needs none


def test_missing_table(run_copy, tmp_path, capsys):
    table = next((run_copy / "city").glob("v1.0-*/sample_data.json"))
    table.unlink()
    assert "sample_data" in refused(capsys, *doctor(run_copy / "city", tmp_path))
    assert "sample_data" in refused(capsys, "query", run_copy, "car")
    assert "sample_data" in refused(capsys, "evaluate", run_copy)


def damaged(run_copy: Path, pattern: str) -> None:
    for path in (run_copy / "city" / "samples").rglob(pattern):
        path.write_bytes(path.read_bytes()[:777])


@pytest.mark.parametrize(("pattern", "word"), [("*.jpg", "CAM_"), ("*.bin", "LIDAR_TOP")])
def test_damaged_files(pattern, word, run_copy, tmp_path, capsys):
    damaged(run_copy, pattern)
    status = cli.main([*doctor(run_copy / "city", tmp_path)])
    out, err = capsys.readouterr()
    assert status == 1
    assert word in out
    assert "what the doctor examines must be healthy" in err
    assert word in refused(capsys, "evaluate", run_copy)
    assert word in refused(capsys, "query", run_copy, "car")
    assert word in refused(capsys, "predict", run_copy, "--out", tmp_path)
    options = ("--out", tmp_path / "new", "--cache", tmp_path / "cache")
    assert word in refused(capsys, "targets", run_copy / "config.yaml", *options)
    assert word in refused(capsys, "train", run_copy / "config.yaml", *options)
