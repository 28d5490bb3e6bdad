"""Configs as text: the YAML that ``show`` prints and runs keep, and ``--set option=value``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from lexivox.config import ExperimentConfig, TrainConfig
from lexivox.errors import ConfigError, DataError

MACHINE_OPTIONS = ("workers", "checkpoint_every", "checkpointing")
"""Of ``train``: they change where and how fast a run is trained, not what comes out."""


def load_config(path: str | Path) -> ExperimentConfig:
    """Read the YAML that ``show`` prints and runs keep.

    Raises:
        DataError: no such file, or no YAML.
        ConfigError: an unknown or unfit option.
    """
    try:
        raw = yaml.safe_load(Path(path).read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"a config must be a YAML file; got {reason}. Check {path}.") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"a config must be a mapping of options; got {type(raw).__name__}. Check {path}.")
    return validated(raw)


def validated(raw: dict[str, Any]) -> ExperimentConfig:
    try:
        return ExperimentConfig.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where, got = _option(raw, first["loc"]), repr(first.get("input"))
        raise ConfigError(
            f"option '{where}' must be valid; got {got if len(got) < 80 else f'{got[:76]} ...'}: {first['msg']}. "
            "Run 'lexivox show RECIPE' to see every option."
        ) from None


def _option(raw: Any, place: tuple[int | str, ...]) -> str:
    """The name by which ``--set`` knows it, without the kinds that were chosen on the way."""
    names = []
    for part in place:
        if isinstance(raw, dict) and raw.get("kind") == part and part not in raw:
            continue
        names.append(str(part))
        inside: dict[Any, Any] = dict(enumerate(raw)) if isinstance(raw, list) else raw if isinstance(raw, dict) else {}
        raw = inside.get(part)
    return ".".join(names)


def with_overrides(config: ExperimentConfig, overrides: Sequence[str]) -> ExperimentConfig:
    """Apply ``part.option=value`` strings, validated like everything else.

    Raises:
        ConfigError: no ``=``, an unknown option, or a value that does not fit.
    """
    raw = config.model_dump(mode="json")
    for override in overrides:
        path, equals, value = override.partition("=")
        if not equals:
            raise ConfigError(f"--set must read option=value; got {override!r}. Write train.lr=1e-3.")
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ConfigError(f"--set must read option=value in YAML; got {override!r}. Check brackets.") from None
        _assign(raw, path.strip().split("."), parsed, path)
    return validated(raw)


def _assign(raw: Any, keys: list[str], value: Any, path: str) -> None:
    *parents, last = keys
    for key in parents:
        raw = (
            raw[int(key)]
            if isinstance(raw, list) and key.isdigit() and int(key) < len(raw)
            else (raw.get(key) if isinstance(raw, dict) else None)
        )
    if isinstance(raw, list) and last.isdigit() and int(last) < len(raw):
        raw[int(last)] = value
    elif isinstance(raw, dict):
        raw[last] = value
    else:
        raise ConfigError(f"option must exist; got '{path}'. Run 'lexivox show RECIPE' to see every option.")


def same_run(config: ExperimentConfig) -> ExperimentConfig:
    """The config without what only the machine decides: a run may go on with these changed."""
    fresh = TrainConfig(steps=config.train.steps)
    free = {name: getattr(fresh, name) for name in MACHINE_OPTIONS}
    return config.changed(train=config.train.model_copy(update=free))
