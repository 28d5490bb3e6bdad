"""What the doctor says: findings, each with the fault it names and the mend, and whether the data can be used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Severity = Literal["ok", "unsure", "warning", "error"]

FAULTS = {
    "no-keyframes": "the recording holds no keyframe",
    "missing-files": "files are missing",
    "empty-files": "files hold nothing",
    "truncated-files": "files are cut short",
    "unreadable": "a keyframe cannot be read",
    "empty-sweep": "a sweep holds few or no points, or only a part of the turn",
    "strange-points": "points are not numbers, or further away than any LiDAR sees",
    "ground": "the ground does not lie under the car",
    "extrinsics-inverted": "a pose of a sensor on the car is the inverse of the true one",
    "rotation-transposed": "the rotation of a pose is transposed, its translation is right",
    "camera-axes": "the axes of the cameras are those of another convention",
    "lidar-frame": "points are in another frame than they are taken for",
    "image-size": "intrinsics are those of images of another size",
    "cropped": "rows of the images were cut off, intrinsics not changed",
    "mirrored": "images are mirrored left to right",
    "upside-down": "images stand on their heads",
    "cameras-swapped": "images lie in folders of other cameras",
    "turned": "cameras point elsewhere than their poses say",
    "time-offset": "images are of another moment than the sweep",
    "misfit": "images and sweep do not belong together, for no reason that is known",
    "bgr": "red and blue of the images are exchanged",
    "few-points": "a camera sees hardly a point",
    "late-camera": "a camera fired long before or after the sweep",
    "unknown-classes": "a volume holds numbers that are no classes",
    "shape": "a volume has another shape than its grid",
    "axes": "axes of a volume are swapped or run backwards",
    "half-voxel": "indices of a volume are taken for corners where they are centres",
    "frame": "a volume is in the other frame",
    "no-fit": "a volume is not of this keyframe",
    "free-ignored": "free and ignored are exchanged",
    "off-by-one": "every class is numbered one too high or too low",
    "table": "classes are those of another table",
}
"""Every fault by the name that a report, a script and the documentation know it by."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        severity: ``error``: cannot be used so; ``warning``: look at the pictures; ``unsure``: could not be told;
            ``ok``: looked at and right.
        text: in plain words, with the mend where there is one.
        fault: a name of :data:`FAULTS`, for errors and warnings.
    """

    severity: Severity
    text: str
    fault: str | None = None


Findings = Iterator[Finding]


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

    @property
    def faults(self) -> tuple[str, ...]:
        """Names of the faults, in the order in which they were met, each once."""
        return tuple(dict.fromkeys(f.fault for f in self.findings if f.fault is not None))

    def text(self) -> str:
        """The report as lines for a terminal."""
        marks = {"ok": "  ok     ", "unsure": "  unsure ", "warning": "  WARNING", "error": "  ERROR  "}
        lines = [f"{self.dataset}: {self.num_samples} keyframes"]
        for finding in self.findings:
            name = f"[{finding.fault}] " if finding.fault else ""
            lines.append(f"{marks[finding.severity]}  {name}{finding.text}")
        lines += [f"  picture  {path}" for path in self.pictures]
        lines.append("usable" if self.ok else f"not usable as it is: {', '.join(self.faults)}")
        return "\n".join(lines)
