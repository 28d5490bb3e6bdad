"""Opening an image-text checkpoint as a teacher with its words, by kind."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal

from lexivox.errors import ConfigError
from lexivox.teachers.base import ImageTeacher, TextEncoder
from lexivox.teachers.prompts import DEFAULT_PROMPTS, clip_templates

CheckpointKind = Literal["clip", "tips", "siglip"]
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
        ConfigError: an option that this kind does not have.
    """
    build = _class_of(kind)
    given = {name: value for name, value in options.items() if value is not None}
    known = inspect.signature(build).parameters
    if strange := [name for name in given if name not in known]:
        raise ConfigError(
            f"teacher '{kind}' must be given its own options ({', '.join(list(known)[1:])}); "
            f"got {', '.join(strange)}. Leave them out."
        )
    teacher = build(checkpoint, **given)
    return teacher, teacher.text_encoder(clip_templates() if prompts == "clip85" else DEFAULT_PROMPTS)


def _class_of(kind: CheckpointKind) -> Callable[..., Any]:
    if kind == "tips":
        from lexivox.teachers.tips import TipsTeacher

        return TipsTeacher
    if kind == "siglip":
        from lexivox.teachers.siglip import SiglipTeacher

        return SiglipTeacher
    from lexivox.teachers.clip import MaskClipTeacher

    return MaskClipTeacher
