"""Sentence templates around a query. ``{}`` stands for the query's text."""

from __future__ import annotations

from collections.abc import Sequence

from lexivox.errors import ConfigError

DEFAULT_PROMPTS = ("a photo of a {}.",)

# Spec pop3d 5.5: pattern, articles, fillers. 85 templates in ten rows; the article is never adapted.
_ROWS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    (
        "a {filler} photo of {article} {{}}.",
        ("a", "the"),
        (
            "bad",
            "bright",
            "cropped",
            "close-up",
            "pixelated",
            "jpeg corrupted",
            "blurry",
            "good",
            "low resolution",
            "dark",
            "black and white",
        ),
    ),
    (
        "a photo of {article} {filler} {{}}.",
        ("a", "the"),
        ("hard to see", "clean", "dirty", "cool", "large", "nice", "weird", "small"),
    ),
    ("a photo of {article} {{}}.", ("a", "the", "many", "my", "one"), ("",)),
    (
        "a {filler} of {article} {{}}.",
        ("a", "the"),
        ("sculpture", "rendering", "drawing", "painting", "doodle", "sketch", "rendition", "tattoo"),
    ),
    ("{filler} of {article} {{}}.", ("a", "the"), ("graffiti", "art")),
    (
        "{article} {filler} {{}}.",
        ("a", "the"),
        ("embroidered", "plastic", "origami", "toy", "cartoon", "plushie"),
    ),
    ("{article} {{}} in a video game.", ("a", "the"), ("",)),
    ("itap of {article} {{}}.", ("a", "the", "my"), ("",)),
    (
        "{filler} {{}} in the scene.",
        ("",),
        ("there is a", "there is the", "this is a", "this is the", "this is one"),
    ),
)


def clip_templates() -> tuple[str, ...]:
    """The 85 templates of POP-3D: 80 published with CLIP for ImageNet and five about scenes (spec 5.5)."""
    return tuple(
        pattern.format(article=article, filler=filler)
        for pattern, articles, fillers in _ROWS
        for filler in fillers
        for article in articles
    )


def as_prompts(prompts: str | Sequence[str]) -> tuple[str, ...]:
    """One template or several as a checked tuple.

    Raises:
        ConfigError: none given, or one without ``{}``.
    """
    templates = (prompts,) if isinstance(prompts, str) else tuple(prompts)
    wrong = [template for template in templates if "{}" not in template]
    if wrong or not templates:
        raise ConfigError(
            f"prompt must contain {{}} where the query goes; got {wrong[:1] or 'none'}. "
            "Write e.g. 'a photo of a {}.'."
        )
    return templates


def fill(templates: Sequence[str], text: str) -> list[str]:
    """Every template with the text in place; braces inside the text stay as they are."""
    return [template.replace("{}", text) for template in templates]
