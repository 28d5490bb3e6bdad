"""Folders of volumes, labels or predictions of any known format: which keyframe each is of, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lexivox.data.classes import ClassTable
from lexivox.data.doctor.pairs import check_pairs
from lexivox.data.doctor.readings import Reading
from lexivox.data.doctor.report import DoctorReport, Finding
from lexivox.data.doctor.structure import check_structure
from lexivox.data.doctor.volume_pictures import before_and_after
from lexivox.data.doctor.volume_reader import ENDINGS, VolumeFile, read_volume
from lexivox.data.doctor.volumes import check_labels
from lexivox.data.types import Sample, SampleDataset
from lexivox.errors import DataError
from lexivox.geometry.grid import SEMANTICKITTI

BYTES = {".bin": SEMANTICKITTI.num_voxels // 8, ".label": SEMANTICKITTI.num_voxels * 2}
"""Sizes of volumes of SemanticKITTI; folders without a file of that size hold clouds and labels of points."""


@dataclass(frozen=True, slots=True)
class _Read:
    keys: list[str]
    files: list[VolumeFile]
    findings: list[Finding]


def with_volumes(
    report: DoctorReport,
    dataset: SampleDataset,
    folder: Path,
    num_samples: int = 4,
    out_dir: Path | None = None,
) -> DoctorReport:
    """The report with what is found about label or prediction volumes of the data set's keyframes.

    Args:
        folder: holds volumes of any format that :mod:`~lexivox.data.doctor.volume_reader` knows, named after sample,
            sweep, or drive and number.
        out_dir: folder for pictures of what the volumes say and what they would say once mended.

    Raises:
        DataError: no volume of any keyframe is there.
    """
    found = find_volumes(folder)
    own = {index: path for index in range(len(dataset)) if (path := _file_of(dataset, index, found)) is not None}
    if not own:
        raise DataError(
            f"volumes must be in files such as {dataset.tokens[0]}/labels.npz; got none of {len(dataset)} keyframes. "
            f"Check the folder: {folder}"
        )
    chosen = list(own)[:: max(len(own) // num_samples, 1)][:num_samples]
    read = _read({dataset.tokens[index]: own[index] for index in chosen})
    text = f"volumes of {len(own)} of {len(dataset)} keyframes, {len(read.files)} read"
    findings = [*report.findings, Finding("ok", text), *read.findings]
    pictures = list(report.pictures)
    if read.files:
        kept = [index for index in chosen if dataset.tokens[index] in read.keys]
        blind = getattr(dataset, "without_images", dataset.__getitem__)
        samples = [blind(index) for index in kept]
        table: ClassTable = dataset.classes  # type: ignore[assignment]
        first, volumes = read.files[0], [file.label for file in read.files]
        more, reading = _run(check_labels(samples, volumes, first.grid, first.classes, table))
        findings += [Finding("ok", f"format: {first.format}, {first.grid.shape} voxels"), *more]
        pictures += _pictures(read, samples, reading, out_dir)
    return replace(report, findings=tuple(findings), pictures=tuple(pictures))


def diagnose_volumes(
    folder: Path, labels: Path | None = None, num_samples: int = 4, out_dir: Path | None = None
) -> DoctorReport:
    """Examine volumes without their recording: each by itself, and against labels of the same keyframes if there.

    Args:
        folder: labels or predictions.
        labels: right labels to compare with, named alike.

    Raises:
        DataError: a folder holds no volume, or none that the other has too.
    """
    found = find_volumes(folder)
    if not found:
        raise DataError(f"a folder of volumes must hold {', '.join(ENDINGS)}; got none. Check {folder}")
    truth = find_volumes(labels) if labels is not None else {}
    shared = [key for key in found if key in truth] if labels is not None else list(dict.fromkeys(found))
    if not shared:
        raise DataError(
            f"predictions must be named as labels are; got no name that both have. Check {folder}, {labels}"
        )
    paths = {found[key]: key for key in shared}  # several names may lead to one file
    keys = list(paths.values())[:: max(len(paths) // num_samples, 1)][:num_samples]
    read = _read({key: found[key] for key in keys})
    findings = [Finding("ok", f"{len(set(found.values()))} volumes, {len(read.files)} read"), *read.findings]
    pictures: list[Path] = []
    if read.files:
        first, volumes = read.files[0], [file.label for file in read.files]
        more, reading = _run(check_structure(volumes, first.grid, first.classes))
        findings += [Finding("ok", f"format: {first.format}, {first.grid.shape} voxels"), *more]
        if labels is not None and not any(finding.severity == "error" for finding in more):
            against, reading = _run(check_pairs(read.files, [read_volume(truth[key]) for key in read.keys]))
            findings += against
        pictures = _pictures(read, [], reading, out_dir)
    return DoctorReport("volumes", len(set(found.values())), tuple(findings), tuple(pictures))


def find_volumes(folder: Path) -> dict[str, Path]:
    """Files that may hold a volume by every name that they may go by: own, folder's, and drive with number.

    Raises:
        DataError: the folder does not exist.
    """
    if not Path(folder).is_dir():
        raise DataError(f"volumes must lie in a folder; got {'a file' if Path(folder).exists() else 'none'}: {folder}")
    found: dict[str, Path] = {}
    paths = sorted(p for p in Path(folder).rglob("*") if p.suffix in ENDINGS and p.is_file())
    of_volumes = {(p.parent, p.suffix) for p in paths if p.stat().st_size == BYTES.get(p.suffix)}
    for path in paths:
        is_other = path.suffix in BYTES and (path.parent, path.suffix) not in of_volumes
        if is_other or (path.suffix == ".bin" and path.with_suffix(".label").exists()):
            continue
        stem = path.name.split(".")[0]
        names = [path.parent.name] if stem == "labels" else [stem]
        if stem.isdigit():
            names += [f"{part}-{stem}" for part in path.parts[-4:-1] if part.isdigit()]
        for name in names:
            found.setdefault(name, path)
    return found


def _file_of(dataset: SampleDataset, index: int, found: Mapping[str, Path]) -> Path | None:
    """By the sample's token, or by what its reader calls its sweep."""
    others: Sequence[str] = getattr(dataset, "sweep_names", lambda _: ())(index)
    return next((found[name] for name in (dataset.tokens[index], *others) if name in found), None)


def _read(paths: Mapping[str, Path]) -> _Read:
    """Files of the first one's format; what cannot be read is a finding."""
    read = _Read([], [], [])
    for key, path in paths.items():
        try:
            file = read_volume(path)
        except DataError as error:
            read.findings.append(Finding("error", str(error), "unreadable"))
            continue
        if read.files and (file.grid, file.label.shape) != (read.files[0].grid, read.files[0].label.shape):
            text = f"{path} is another kind of volume than the first, {file.format} and {read.files[0].format}"
            read.findings.append(Finding("error", f"{text}: keep them apart", "shape"))
            continue
        read.keys.append(key)
        read.files.append(file)
    return read


def _run(check: Iterator[Finding]) -> tuple[list[Finding], Reading | None]:
    """The findings of a check and its value."""
    found = []
    while True:
        try:
            found.append(next(check))
        except StopIteration as end:
            return found, end.value


def _pictures(read: _Read, samples: Sequence[Sample], reading: Reading | None, out_dir: Path | None) -> list[Path]:
    if out_dir is None:
        return []
    path = Path(out_dir) / f"{read.keys[0]}-volume.png"
    before_and_after(read.files[0], reading, samples[0] if samples else None, path)
    return [path]
