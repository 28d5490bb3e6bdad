"""The annotator's page, with the viewer's colours, camera and renderer inside."""

from __future__ import annotations

from typing import Any

from lexivox.view.html import asset, fill_page

SHARED = ("theme", "mesh", "camera", "gl", "fallback", "props", "map")
OWN = ("selection", "lasso", "photo", "cloud", "app")
"""Scripts, in the order in which they need each other."""


def annotate_page(title: str, payload: dict[str, Any]) -> str:
    """One self-contained page; ``payload`` is what it knows at first."""
    package = "lexivox.annotate"
    scripts = [*(asset(f"{name}.js") for name in SHARED), *(asset(f"{name}.js", package) for name in OWN)]
    style = asset("style.css") + asset("annotate.css", package)
    return fill_page(asset("annotate.html", package), style, scripts, title, payload)
