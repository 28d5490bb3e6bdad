"""Opening tables of the size of nuScenes v1.0-trainval: first time, second time, and plain ``json.load``.

Writes made tables (at ``--scale 1``: 34,149 samples, 2.6 million file records, 1.17 million boxes) to a temporary
folder, then measures each way of opening in its own process: seconds and peak resident memory.

    python benchmarks/nuscenes_tables.py --scale 0.1
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SCENES, SAMPLES_OF_SCENE, BOXES_OF_SAMPLE = 850, 40, 34
CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT")
RADARS = ("RADAR_FRONT", "RADAR_FRONT_LEFT", "RADAR_FRONT_RIGHT", "RADAR_BACK_LEFT", "RADAR_BACK_RIGHT")
FILES_OF_SAMPLE = {"LIDAR_TOP": 10, **dict.fromkeys(CAMERAS, 6), **dict.fromkeys(RADARS, 6)}

JSON_LOAD = """
import json, sys, pathlib
tables = {p.stem: json.loads(p.read_text()) for p in pathlib.Path(sys.argv[1]).glob("v1.0-trainval/*.json")}
"""
OPEN = """
import sys
from lexivox.data.datasets.nuscenes import NuscenesDataset
import time; start = time.perf_counter()
dataset = NuscenesDataset(sys.argv[1], boxes=True)
print("open", time.perf_counter() - start, len(dataset))
"""
REPORT = """
import resource
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


class Table:
    """Writes a JSON array record by record."""

    def __init__(self, folder: Path, name: str) -> None:
        self._file = (folder / f"{name}.json").open("w", encoding="utf-8")
        self._gap = "[\n"

    def add(self, **record) -> None:
        self._file.write(self._gap + json.dumps(record, indent=0))
        self._gap = ",\n"

    def close(self) -> None:
        self._file.write("\n]" if self._gap != "[\n" else "[]")
        self._file.close()


NAMES = (
    "sensor", "calibrated_sensor", "category", "instance", "scene", "sample", "sample_data", "ego_pose",
    "sample_annotation",
)  # fmt: skip


def write_tables(folder: Path, scale: float) -> None:
    folder.mkdir(parents=True)
    tables = {name: Table(folder, name) for name in NAMES}
    for channel in FILES_OF_SAMPLE:
        tables["sensor"].add(token=_token("sensor", channel), channel=channel, modality="camera")
    tables["category"].add(token=_token("category"), name="vehicle.car", description="Cars")
    for scene in range(max(round(SCENES * scale), 1)):
        write_scene(tables, scene)
    for table in tables.values():
        table.close()


def write_scene(tables: dict[str, Table], scene: int) -> None:
    tables["scene"].add(token=_token("scene", scene), name=f"scene-{scene:04d}", log_token=_token("log", scene))
    for channel in FILES_OF_SAMPLE:
        is_camera = channel in CAMERAS
        tables["calibrated_sensor"].add(
            token=_token("calibration", scene, channel), sensor_token=_token("sensor", channel),
            translation=[1.7, 0.0159, 1.51], rotation=[0.4998, -0.503, 0.4998, -0.4974],
            camera_intrinsic=[[1266.4, 0.0, 816.3], [0.0, 1266.4, 491.5], [0.0, 0.0, 1.0]] if is_camera else [],
        )  # fmt: skip
    for track in range(BOXES_OF_SAMPLE * 2):
        tables["instance"].add(token=_token("track", scene, track), category_token=_token("category"))
    for sample in range(SAMPLES_OF_SCENE):
        write_sample(tables, scene, sample)


def write_sample(tables: dict[str, Table], scene: int, sample: int) -> None:
    token, time = _token("sample", scene, sample), 1_532_402_927_647_951 + scene * 10**8 + sample * 500_000
    tables["sample"].add(token=token, timestamp=time, prev="", next="", scene_token=_token("scene", scene))
    for channel, count in FILES_OF_SAMPLE.items():
        for number in range(count):
            file = _token("file", scene, sample, channel, number)
            tables["sample_data"].add(
                token=file, sample_token=token, ego_pose_token=file,
                calibrated_sensor_token=_token("calibration", scene, channel), timestamp=time + number * 50_000,
                fileformat="jpg", is_key_frame=number == 0, height=900, width=1600,
                filename=f"samples/{channel}/n015-2018-07-24-11-22-45+0800__{channel}__{time + number}.jpg",
                prev=file, next=file,
            )  # fmt: skip
            tables["ego_pose"].add(
                token=file, timestamp=time, rotation=[-0.57203203, 0.00169777, -0.01179800, 0.82014466],
                translation=[411.3039245605469 + sample, 1180.890380859375, 0.0],
            )  # fmt: skip
    for box in range(BOXES_OF_SAMPLE):
        tables["sample_annotation"].add(
            token=_token("box", scene, sample, box), sample_token=token, instance_token=_token("track", scene, box),
            visibility_token="1", attribute_tokens=[], translation=[373.25598 + box, 1130.41900254 + sample, 0.8],
            size=[0.621, 0.669, 1.642], rotation=[0.98290577, 0.01852584, 0.0046789, -0.18311509], prev="", next="",
            num_lidar_pts=box, num_radar_pts=0,
        )  # fmt: skip


def _token(*parts: object) -> str:
    """32 characters, as in nuScenes; readable ones pad with zeros."""
    return "-".join(str(part) for part in parts).rjust(32, "0")[-32:]


def measure(program: str, root: Path, environment: dict[str, str]) -> dict[str, float]:
    """Run a program on the tables in its own process."""
    code = "import time; begin = time.perf_counter()" + program + "print('all', time.perf_counter() - begin)" + REPORT
    done = subprocess.run(
        [sys.executable, "-c", code, str(root)], env=environment, check=True, capture_output=True, text=True
    )
    return {line.split()[0]: float(line.split()[1]) for line in done.stdout.splitlines()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=0.1, help="1 is the size of v1.0-trainval")
    parser.add_argument("--skip-json", action="store_true", help="leave plain json.load out: it needs much memory")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_tables(root / "v1.0-trainval", options.scale)
        size = sum(path.stat().st_size for path in root.rglob("*.json"))
        environment = {**os.environ, "LEXIVOX_CACHE": str(root / "cache")}
        print(f"scale {options.scale}: {size / 2**20:.0f} MiB of tables")
        if not options.skip_json:
            plain = measure(JSON_LOAD, root, environment)
            print(f"json.load       {plain['all']:8.2f} s  {plain['peak']:8.0f} MiB peak")
        baseline = measure("\nimport lexivox.data.datasets.nuscenes\n", root, environment)["peak"]
        for title in ("first opening", "second opening"):
            ours = measure(OPEN, root, environment)
            print(f"{title:15s} {ours['open']:8.2f} s  {ours['peak']:8.0f} MiB peak ({baseline:.0f} without data)")
        cache = sum(path.stat().st_size for path in (root / "cache").rglob("*.npy"))
        print(f"cache on disk   {cache / 2**20:8.0f} MiB")


if __name__ == "__main__":
    main()
