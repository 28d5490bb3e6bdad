"""A share of a split, for one of several processes."""

from __future__ import annotations

from dataclasses import dataclass

from lexivox.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Part:
    """One of ``count`` shares of a split; together they hold every keyframe once. ``Part()`` is the whole.

    Raises:
        ConfigError: the number is not in 1..count.
    """

    number: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise ConfigError(f"a part must be one of 1/n to n/n; got {self.number}/{self.count}.")

    @classmethod
    def parse(cls, text: str) -> Part:
        """Raises:
        ConfigError: the text is not like ``2/4``.
        """
        number, slash, count = text.partition("/")
        if not (slash and number.isdecimal() and count.isdecimal()):
            raise ConfigError(f"a part must be written like 2/4; got {text!r}.")
        return cls(int(number), int(count))

    def indices(self, total: int) -> range:
        """Neighbours stay together; lengths differ by one at most, and no part is filled up."""
        return range(total * (self.number - 1) // self.count, total * self.number // self.count)
