"""One self-contained page: opens from a file, needs no network, no server and no installed viewer."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from lexivox.files import write_atomically
from lexivox.view.pack import pack_report
from lexivox.view.scene import RunReport

SCRIPTS = ("theme", "mesh", "camera", "gl", "fallback", "props", "map", "charts", "parts", "app")
"""In the order in which they need each other."""


def write_report(report: RunReport, path: Path | str) -> Path:
    """Write ``report`` as one HTML file and return its path.

    Raises:
        DataError: the file cannot be written.
    """
    text = report_html(report).encode()
    return write_atomically(Path(path), lambda file: file.write(text), "report")


def report_html(report: RunReport) -> str:
    """The page of a run with all its scenes inside."""
    return page(report.title, {"live": False, **pack_report(report)})


def page(title: str, payload: dict[str, Any]) -> str:
    """The viewer's page."""
    return fill_page(asset("page.html"), asset("style.css"), [asset(f"{name}.js") for name in SCRIPTS], title, payload)


def fill_page(template: str, style: str, scripts: Sequence[str], title: str, payload: dict[str, Any]) -> str:
    """A template with style, scripts and data filled in, in one pass: data is never searched for slots."""
    slots = {
        "title": html.escape(title),
        "style": style,
        "script": "\n".join(scripts),
        "data": json_for_script(payload),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: slots[match[1]], template)


def asset(name: str, package: str = "lexivox.view") -> str:
    """The text of a file in the ``assets`` of a package."""
    return files(package).joinpath("assets", name).read_text(encoding="utf-8")


def json_for_script(payload: Any) -> str:
    """JSON that cannot end its own ``<script>`` element, whatever the texts in it are."""
    text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
