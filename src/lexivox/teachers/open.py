"""Opening an image-text checkpoint as a teacher with its words, by kind."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal

from lexivox.errors import ConfigError
from lexivox.teachers.base import ImageTeacher, TextEncoder
from lexivox.teachers.feature_files import FeatureFileTeacher
from lexivox.teachers.prompts import DEFAULT_PROMPTS, clip_templates
from lexivox.teachers.text import ClipTextEncoder

CheckpointKind = Literal["clip", "tips", "siglip", "clip_resnet", "maskclip_plus"]
Prompts = Literal["photo", "clip85"]


def open_teacher(
    kind: CheckpointKind, checkpoint: str, prompts: Prompts = "photo", **options: Any
) -> tuple[ImageTeacher, TextEncoder]:
    """A teacher and the text encoder of its space.

    Args:
        kind: which class of teacher.
        checkpoint: folder or hub id.
        prompts: one template, or the published 85 (slower by so many, a little better).
        options: of the class; ``None`` = the class's own choice.

    Raises:
        ConfigError: an option that this kind does not have, or one that it needs is missing.
    """
    build = _class_of(kind)
    given = {name: value for name, value in options.items() if value is not None}
    known = inspect.signature(build).parameters
    strange = [name for name in given if name not in known]
    absent = [name for name, option in list(known.items())[1:] if option.default is option.empty and name not in given]
    if strange or absent:
        got = ", ".join(strange) or f"no {', '.join(absent)}"
        raise ConfigError(
            f"teacher '{kind}' must be given its own options ({', '.join(list(known)[1:])}); got {got}. "
            "Write what it needs and leave out the rest."
        )
    words = ClipTextEncoder(checkpoint, _templates(prompts))
    return build(words if kind == "maskclip_plus" else checkpoint, **given), words


def open_feature_files(
    features: str, projections: str, checkpoint: str, prompts: Prompts, missing: Literal["error", "skip"]
) -> tuple[ImageTeacher, TextEncoder]:
    """Features on disk, and the text tower whose space they are said to live in: nothing on disk proves it.

    Raises:
        ConfigError: the checkpoint cannot be read.
    """
    encoder = ClipTextEncoder(checkpoint, _templates(prompts))
    return FeatureFileTeacher(features, projections, encoder.space, encoder.dim, missing), encoder


def _templates(prompts: Prompts) -> tuple[str, ...]:
    return clip_templates() if prompts == "clip85" else DEFAULT_PROMPTS


def _class_of(kind: CheckpointKind) -> Callable[..., Any]:
    if kind == "tips":
        from lexivox.teachers.tips import TipsTeacher

        return TipsTeacher
    if kind == "siglip":
        from lexivox.teachers.siglip import SiglipTeacher

        return SiglipTeacher
    if kind == "clip_resnet":
        from lexivox.teachers.clip_resnet import ClipResNetTeacher

        return ClipResNetTeacher
    if kind == "maskclip_plus":
        from lexivox.teachers.maskclip_plus import MaskClipPlusTeacher

        return MaskClipPlusTeacher
    from lexivox.teachers.clip import MaskClipTeacher

    return MaskClipTeacher
