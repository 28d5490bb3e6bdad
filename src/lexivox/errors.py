"""What can go wrong at the border of the library, one class for each kind of cause.

Messages follow one pattern: ``<thing> must <rule>; got <value>. <what to do>.``
"""


class LexivoxError(Exception):
    """Base of every error that a user can cause; the command line prints its message as one line."""


class ConfigError(LexivoxError):
    """An option, recipe or query that cannot work."""


class DataError(LexivoxError):
    """A recording or label on disk that is missing, damaged or inconsistent."""


class ShapeError(LexivoxError):
    """Tensors, grids or frames that do not fit together."""


class WeightsError(LexivoxError):
    """A checkpoint that does not belong to the model that should load it."""
