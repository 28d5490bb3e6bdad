"""What several verbs need: options, a recipe's config, words on the screen."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lexivox.errors import ConfigError

if TYPE_CHECKING:
    from lexivox.config import ExperimentConfig
    from lexivox.evaluate.comparison import Comparison
    from lexivox.experiment import Experiment


def say(text: str) -> None:
    """One line on stdout. Nothing else of the package prints."""
    print(text)


def complain(text: str) -> None:
    """One line on stderr."""
    print(text, file=sys.stderr)


def new_verb(verbs: argparse._SubParsersAction, name: str, summary: str, example: str) -> argparse.ArgumentParser:
    """A parser for one verb, with an example under its help."""
    return verbs.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"example:\n{example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """The argument RECIPE with the options of verbs that take one."""
    parser.add_argument("recipe", help="a recipe's name, or a .yaml that 'lexivox show' printed")
    add_set(parser)
    parser.add_argument("--out", type=Path, default=None, help="run folder (default: runs/NAME)")
    parser.add_argument("--cache", type=Path, default=None, help="folder of teacher features, shared by runs")


def add_set(parser: argparse.ArgumentParser) -> None:
    """The option ``--set``."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="OPTION=VALUE",
        help="change one option, e.g. --set train.steps=100 --set data.root=/data/pandaset",
    )


def require_positive(option: str, value: int) -> None:
    """Raises ConfigError below 1."""
    if value < 1:
        raise ConfigError(f"{option} must be at least 1; got {value}.")


def read_recipe(recipe: str, overrides: Sequence[str]) -> ExperimentConfig:
    """The config that RECIPE and ``--set`` mean.

    Raises:
        ConfigError: no such recipe, file or option.
    """
    from lexivox.config_text import load_config, with_overrides
    from lexivox.recipes import RECIPES

    if recipe in RECIPES:
        config = RECIPES[recipe]()
    elif recipe.endswith((".yaml", ".yml")):
        config = load_config(recipe)
    else:
        raise ConfigError(f"recipe must be one of {', '.join(RECIPES)} or a .yaml file; got '{recipe}'.")
    return with_overrides(config, overrides)


def open_experiment(arguments: argparse.Namespace) -> Experiment:
    """The experiment of a verb that takes RECIPE, ``--out`` and ``--cache``."""
    from lexivox.experiment import Experiment

    config = read_recipe(arguments.recipe, arguments.set)
    return Experiment(config, arguments.out or Path("runs") / config.name, arguments.cache)


def print_scores(run_dir: Path) -> None:
    """The headline numbers of a run as a table, under the names of their definitions, and what they cover."""
    from rich.console import Console
    from rich.table import Table

    from lexivox.config_text import load_config
    from lexivox.evaluate.report import ScoreTable
    from lexivox.report_tables import headline_scores, headlines_of

    scores = ScoreTable.from_json((run_dir / "scores.json").read_text(encoding="utf-8"))
    headlines = headlines_of(scores, load_config(run_dir / "config.yaml").protocol)
    table = Table(title=scores.title)
    table.add_column("")
    for name, _, _ in headlines:
        table.add_column(name, justify="right")
    for method, row in headline_scores(scores, headlines).items():
        table.add_row(method, *[f"{row[n]:.3f}" if n in row else "–" for n, _, _ in headlines])
    Console().print(table)
    for note in (*(f"{name}: {metric} of {definition}" for name, definition, metric in headlines), *scores.notes):
        say(f"  {note}")


def print_comparison(comparison: Comparison) -> None:
    """The paper's tables, ours beside the published numbers, in per cent."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from lexivox.evaluate.comparison import COLUMNS, LEGEND

    for title, numbers in comparison.tables():
        table = Table(title=f"{title} (%)", title_justify="left")
        for name in COLUMNS:
            table.add_column(name, justify="right" if name in ("published", "ours") else "left", overflow="fold")
        for row in comparison.rows(numbers):
            table.add_row(*(Text(cell) for cell in row))
        Console().print(table)
    say(LEGEND)


def print_files(made: Sequence[Path]) -> None:
    """What a verb wrote, one path in a line."""
    say("made:")
    for path in made:
        say(f"  {path}")
