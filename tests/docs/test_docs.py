"""What the README and the pages say is run: code, commands, links."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from lexivox import cli

REPO = Path(__file__).parents[2]
PAGES = [REPO / "README.md", *sorted((REPO / "docs").glob("*.md"))]
ABSOLUTE_PATH = re.compile(r"(?<![\w.:/~<)\]}-])/([a-z]+)/[\w.]")
"""An absolute path; its first folder."""

PUBLIC_FOLDERS = ("data", "dev", "tmp", "usr")

CLIMBING_PATH = re.compile(r"(?:\.\./)+[\w.-]+")

NAMES = [page.relative_to(REPO).as_posix() for page in PAGES]
WRITES = ("train", "evaluate", "targets", "predict", "calibrate", "render", "demo")
"""Verbs that write into a run folder; these get a copy."""

SERVES = ("view", "annotate", "demo")
"""Verbs that do not end by themselves, and the one that made the run."""


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)


def commands() -> list[tuple[str, list[str]]]:
    """Every ``lexivox ...`` line of every bash block, without its comment."""
    found = []
    for page in PAGES:
        for block in blocks(page, "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line.strip(), comments=True)
                if words[:1] == ["lexivox"]:
                    found.append((page.name, words[1:]))
    return found


COMMANDS = commands()


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_python_of_a_page_runs(page, request, tmp_path, monkeypatch):
    code = blocks(page, "python")
    if not code:
        return
    if any("runs/demo" in block for block in code):
        (tmp_path / "runs").mkdir()
        (tmp_path / "runs" / "demo").symlink_to(request.getfixturevalue("tiny_run"))
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": page.stem}
    for number, block in enumerate(code):
        exec(compile(block, f"{page.name}, block {number}", "exec"), namespace)


def test_the_readme_promises_ten_lines():
    (block,) = blocks(REPO / "README.md", "python")
    assert len([line for line in block.splitlines() if line.strip()]) <= 10


def test_the_readme_shows_commands():
    assert len([words for name, words in COMMANDS if name == "README.md"]) >= 5


@pytest.mark.parametrize(("name", "words"), COMMANDS, ids=lambda part: part if isinstance(part, str) else part[0])
def test_commands_of_the_pages_parse(name, words):
    assert cli._parser().parse_args(words).verb == words[0]


RUNNABLE = [(n, w) for n, w in COMMANDS if any(p.startswith("runs/demo") for p in w) and w[0] not in SERVES]


@pytest.mark.parametrize(("name", "words"), RUNNABLE, ids=lambda part: part if isinstance(part, str) else part[0])
def test_commands_about_the_demo_run(name, words, request, tmp_path, monkeypatch, capsys):
    fixture = "run_copy" if words[0] in WRITES else "tiny_run"
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "demo").symlink_to(request.getfixturevalue(fixture))
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 0
    assert capsys.readouterr().out.strip()


def links(page: Path) -> list[str]:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"(?:src|href)=\"([^\"]+)\"", text)
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_and_images_exist(page):
    for target in links(page):
        path, _, anchor = target.partition("#")
        found = page.parent / path if path else page
        assert found.exists(), f"{page.name} points to {target}, which does not exist"
        assert not anchor or anchor in anchors(found), f"{page.name} points to {target}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_pages_are_about_something_and_name_no_folder_of_one_machine(page):
    text = page.read_text(encoding="utf-8")
    assert len(text) > 300, f"{page.name} says nothing yet"
    for path in ABSOLUTE_PATH.findall(text):
        assert path in PUBLIC_FOLDERS, f"{page.name} mentions a folder of one machine, /{path}"
    for path in CLIMBING_PATH.findall(text):
        assert (page.parent / path).resolve().is_relative_to(REPO), f"{page.name} leads out of the project, {path}"


def test_every_page_is_reached_from_the_readme():
    reached = {(REPO / target.partition("#")[0]).resolve() for target in links(REPO / "README.md")}
    assert [page.name for page in PAGES[1:] if page.resolve() not in reached] == []


def test_every_verb_is_in_the_readme():
    text = (REPO / "README.md").read_text(encoding="utf-8")
    (verbs,) = (action.choices for action in cli._parser()._actions if action.dest == "verb")
    assert len(verbs) == len(cli.VERBS)
    for verb in verbs:
        assert f"`{verb}`" in text or f"lexivox {verb}" in text


def test_examples_of_the_help_parse():
    lines = re.findall(r"^  (lexivox .+?)(?:  .*)?$", cli.EXAMPLES, re.M)
    assert len(lines) >= 6
    for line in lines:
        words = shlex.split(line.split(" > ")[0])
        assert cli._parser().parse_args(words[1:]).verb == words[1]
