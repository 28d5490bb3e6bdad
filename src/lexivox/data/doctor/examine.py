"""Examines a data set before anybody trains on it: files, points, frames, times, and pictures to look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch

from lexivox.data.doctor.colour import check_colours
from lexivox.data.doctor.edges import edge_views
from lexivox.data.doctor.files import check_files
from lexivox.data.doctor.pictures import birds_eye, contact_sheet
from lexivox.data.doctor.projection import check_projection
from lexivox.data.doctor.report import DoctorReport, Finding, Findings
from lexivox.data.doctor.suspects import already_moved
from lexivox.data.doctor.sweeps import check_ground, check_points, check_times, check_turns, check_views
from lexivox.data.doctor.timing import motions
from lexivox.data.types import Sample, SampleDataset
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
    findings += [*check_turns(list(read.values())), *_images(dataset, read)]
    return DoctorReport(dataset.name, len(dataset), tuple(findings), tuple(pictures))


def _images(dataset: SampleDataset, read: dict[int, Sample]) -> Findings:
    """Calibration and times first: colours mean something where points are found in images."""
    whole = {index: sample for index, sample in read.items() if sample.lidar.num_points}
    samples = list(whole.values())
    views = [view for sample in samples for view in edge_views(sample)]
    found = list(check_projection(views, motions(dataset, list(whole), samples), already_moved(samples)))
    yield from found
    if all(finding.severity != "error" for finding in found):
        yield from check_colours(samples)
    elif views:
        yield Finding("unsure", "colours were not looked at: mend the faults above first and run again")


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
