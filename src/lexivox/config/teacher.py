"""Frozen image-text models, and the words of their space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveInt

from lexivox.config.base import Config

if TYPE_CHECKING:
    from lexivox.teachers.base import ImageTeacher, TextEncoder


class StreetTeacherConfig(Config):
    """The small street network that ships with the package."""

    kind: Literal["street"] = "street"

    def build(self) -> tuple[ImageTeacher, TextEncoder]:
        from lexivox.teachers.street import street_teacher

        teacher = street_teacher()
        return teacher, teacher.text_encoder()


class EspnetTeacherConfig(Config):
    """Class probabilities of a published ESPNet times sentence vectors of the class names."""

    kind: Literal["espnet"] = "espnet"
    weights: str

    def build(self) -> tuple[ImageTeacher, TextEncoder]:
        from lexivox.data.classes import CITYSCAPES19
        from lexivox.teachers.class_text import ClassTextTeacher
        from lexivox.teachers.espnet import EspNetSegmenter
        from lexivox.teachers.text import SentenceEncoder

        teacher = ClassTextTeacher(EspNetSegmenter(self.weights), CITYSCAPES19.names, SentenceEncoder())
        return teacher, teacher.text_encoder()


class ClipTeacherConfig(Config):
    """Dense features of a ``transformers`` checkpoint: CLIP (MaskCLIP and its successors), TIPSv2 or SigLIP; or
    MaskCLIP+ from its published ``weights``, with a CLIP ViT-B/16 checkpoint for the words.

    Options mean what :mod:`lexivox.teachers` says of their kind; ``None`` = the kind's own choice.
    """

    kind: Literal["clip", "tips", "siglip", "clip_resnet", "maskclip_plus"] = "clip"
    checkpoint: str
    weights: str | None = None
    prompts: Literal["photo", "clip85"] = "photo"
    attention: Literal["plain", "value", "sclip", "clearclip", "naclip"] | None = None
    use_values: bool | None = None
    short_side_px: PositiveInt | None = None
    window_px: PositiveInt | None = None
    stride_px: PositiveInt | None = None
    legacy_gelu: bool | None = None
    imagenet_statistics: bool | None = None

    def build(self) -> tuple[ImageTeacher, TextEncoder]:
        from lexivox.teachers.open import open_teacher

        return open_teacher(**self.model_dump())


class FeatureFilesConfig(Config):
    """Features in the files of the published extraction, and the text tower of their space."""

    kind: Literal["files"] = "files"
    features: str
    projections: str
    checkpoint: str
    prompts: Literal["photo", "clip85"] = "clip85"
    missing: Literal["error", "skip"] = "error"

    def build(self) -> tuple[ImageTeacher, TextEncoder]:
        from lexivox.teachers.open import open_feature_files

        return open_feature_files(**self.model_dump(exclude={"kind"}))


TeacherConfig = Annotated[
    StreetTeacherConfig | EspnetTeacherConfig | ClipTeacherConfig | FeatureFilesConfig, Field(discriminator="kind")
]
