"""Examines a data set before anybody trains on it: files, points, frames, times, and pictures to look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import torch

from lexivox.data.classes import ClassTable
from lexivox.data.doctor_checks import check_edges, check_ground, check_points, check_times, check_views
from lexivox.data.doctor_labels import check_labels
from lexivox.data.doctor_pictures import birds_eye, contact_sheet
from lexivox.data.types import Sample, SampleDataset
from lexivox.data.volume_files import read_volume
from lexivox.errors import DataError

Severity = Literal["ok", "warning", "error"]
MAX_LISTED = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``error``: cannot be used so; ``warning``: look at the pictures."""

    severity: Severity
    text: str


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """What was found, and the pictures that were made."""

    dataset: str
    num_samples: int
    findings: tuple[Finding, ...]
    pictures: tuple[Path, ...]

    @property
    def ok(self) -> bool:
        """True when nothing stands against using the data; warnings may remain."""
        return all(finding.severity != "error" for finding in self.findings)

    def text(self) -> str:
        """The report as lines for a terminal."""
        marks = {"ok": "  ok     ", "warning": "  WARNING", "error": "  ERROR  "}
        lines = [f"{self.dataset}: {self.num_samples} keyframes"]
        lines += [f"{marks[finding.severity]}  {finding.text}" for finding in self.findings]
        lines += [f"  picture  {path}" for path in self.pictures]
        lines.append("usable" if self.ok else "not usable as it is")
        return "\n".join(lines)


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
    findings = [_check_size(dataset), *_check_files(dataset)]
    pictures: list[Path] = []
    samples: list[Sample] = []
    for index in _spread(len(dataset), num_samples):
        try:
            samples.append(dataset[index])
        except DataError as error:
            findings.append(Finding("error", str(error)))
            continue
        findings += _examine(samples[-1])
        if out_dir is not None:
            pictures += _draw(samples[-1], Path(out_dir))
    findings += [Finding(*finding) for finding in check_edges(samples)]
    return DoctorReport(dataset.name, len(dataset), tuple(findings), tuple(pictures))


def _spread(count: int, wanted: int) -> Sequence[int]:
    if count <= wanted:
        return range(count)
    return [round(float(i)) for i in torch.linspace(0, count - 1, wanted)]


def _check_size(dataset: SampleDataset) -> Finding:
    if len(dataset) == 0:
        return Finding("error", "the data set holds no keyframe; choose another split or folder")
    drives = len(set(dataset.drives))
    return Finding("ok", f"{len(dataset)} keyframes of {drives} drives, tables complete")


def _check_files(dataset: SampleDataset) -> list[Finding]:
    if not isinstance(dataset, ListsFiles):
        return []
    total, bad = 0, []
    for path in dataset.files():
        total += 1
        if not path.is_file() or path.stat().st_size == 0:
            bad.append(path)
    if not bad:
        return [Finding("ok", f"all {total} files are there and none is empty")]
    listed = "".join(f"\n             {path}" for path in bad[:MAX_LISTED])
    return [Finding("error", f"{len(bad)} of {total} files are missing or empty, the first:{listed}")]


def _examine(sample: Sample) -> list[Finding]:
    checks = (check_points, check_ground, check_views, check_times)
    return [Finding(severity, f"{sample.token}: {text}") for check in checks for severity, text in check(sample)]


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
    found += [Finding(*result) for result in results]
    return replace(report, findings=(*report.findings, *found))
