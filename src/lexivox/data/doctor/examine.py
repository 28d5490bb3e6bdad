"""Examines a data set before anybody trains on it: files, points, frames, times, and pictures to look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch

from lexivox.data.classes import ClassTable
from lexivox.data.doctor.edges import edge_views
from lexivox.data.doctor.files import check_files
from lexivox.data.doctor.pictures import birds_eye, contact_sheet
from lexivox.data.doctor.projection import check_projection
from lexivox.data.doctor.report import DoctorReport, Finding, Findings
from lexivox.data.doctor.sweeps import check_ground, check_points, check_times, check_turns, check_views
from lexivox.data.doctor.timing import motions
from lexivox.data.doctor.volumes import check_labels
from lexivox.data.types import Sample, SampleDataset
from lexivox.data.volume_files import read_volume
from lexivox.errors import DataError


@runtime_checkable
class ListsFiles(Protocol):
    """A reader that can name every file of its keyframes without opening them."""

    def files(self) -> Iterator[Path]: ...


def diagnose(dataset: SampleDataset, out_dir: Path | None, num_samples: int = 4) -> DoctorReport:
    """Examine a data set: all files by name, and some keyframes, spread evenly, by content.

    Args:
        dataset: what a reader opened; labels and boxes are drawn when it was opened with them.
        out_dir: folder for the pictures; ``None`` makes none.
        num_samples: keyframes to read.
    """
    findings = [_size(dataset), *_files(dataset)]
    pictures: list[Path] = []
    read: dict[int, Sample] = {}
    for index in _spread(len(dataset), num_samples):
        try:
            read[index] = dataset[index]
        except DataError as error:
            findings.append(Finding("error", str(error), "unreadable"))
            continue
        findings += _examine(read[index])
        if out_dir is not None:
            pictures += _draw(read[index], Path(out_dir))
    findings += [*check_turns(list(read.values())), *_projection(dataset, read)]
    return DoctorReport(dataset.name, len(dataset), tuple(findings), tuple(pictures))


def _projection(dataset: SampleDataset, read: dict[int, Sample]) -> Findings:
    whole = {index: sample for index, sample in read.items() if sample.lidar.num_points}
    views = [view for sample in whole.values() for view in edge_views(sample)]
    return check_projection(views, motions(dataset, list(whole), list(whole.values())))


def _spread(count: int, wanted: int) -> Sequence[int]:
    if count <= wanted:
        return range(count)
    return [round(float(i)) for i in torch.linspace(0, count - 1, wanted)]


def _size(dataset: SampleDataset) -> Finding:
    if len(dataset) == 0:
        return Finding("error", "the data set holds no keyframe; choose another split or folder", "no-keyframes")
    drives = len(set(dataset.drives))
    return Finding("ok", f"{len(dataset)} keyframes of {drives} drives, tables complete")


def _files(dataset: SampleDataset) -> Findings:
    return check_files(list(dataset.files())) if isinstance(dataset, ListsFiles) else iter(())


def _examine(sample: Sample) -> list[Finding]:
    checks = (check_points, check_ground, check_views, check_times)
    if sample.lidar.num_points == 0:
        checks = (check_points,)
    return [replace(found, text=f"{sample.token}: {found.text}") for check in checks for found in check(sample)]


def _draw(sample: Sample, folder: Path) -> list[Path]:
    paths = [folder / f"{sample.token}-birds-eye.png"]
    birds_eye(sample, paths[0])
    if sample.views:
        paths.append(folder / f"{sample.token}-cameras.png")
        contact_sheet(sample, paths[1])
    return paths


def with_volumes(report: DoctorReport, dataset: SampleDataset, folder: Path, num_samples: int = 4) -> DoctorReport:
    """The report with what is found about label or prediction volumes of the data set's keyframes.

    Args:
        folder: holds ``**/TOKEN/labels.npz`` as Occ3D has them; a ``manifest.json`` beside one names another grid and
            other classes.

    Raises:
        DataError: no volume of any keyframe is there.
    """
    paths = {path.parent.name: path for path in sorted(Path(folder).rglob("labels.npz"))}
    known = [index for index, token in enumerate(dataset.tokens) if token in paths]
    if not known:
        raise DataError(
            f"volumes must be in files such as {dataset.tokens[0]}/labels.npz; got none of {len(dataset)} keyframes. "
            f"Check the folder: {folder}"
        )
    chosen = [known[place] for place in _spread(len(known), num_samples)]
    files = [read_volume(paths[dataset.tokens[index]]) for index in chosen]
    found: list[Finding] = [Finding("ok", f"volumes of {len(known)} of {len(dataset)} keyframes, {len(chosen)} read")]
    table: ClassTable = dataset.classes  # type: ignore[assignment]
    samples = [dataset[index] for index in chosen]
    points = table if samples[0].point_labels is not None else None
    results = check_labels(samples, [f.label for f in files], files[0].grid, files[0].classes, points)
    return replace(report, findings=(*report.findings, *found, *results))
