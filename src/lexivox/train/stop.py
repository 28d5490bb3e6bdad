"""Ctrl-C and SIGTERM as a request: the step in progress is finished, then the run is saved and ends."""

from __future__ import annotations

import logging
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what clusters send before they take a machine back."""

PATIENCE_S = 1.0
"""Launchers pass a signal on that their children have already got; a person takes longer to press again."""


class StopRequest:
    """A context in which the first signal only sets ``asked``; another Ctrl-C is a ``KeyboardInterrupt`` at once.

    Outside the main thread nothing can be caught, and nothing is.

    Attributes:
        asked: name of the signal that came, else None.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.asked: str | None = None
        self._quiet, self._asked_s = quiet, 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._heard) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        now_s = time.monotonic()
        if self.asked is None:
            self.asked, self._asked_s = signal.Signals(number).name, now_s
            if not self._quiet:
                logger.warning("%s: saving after this step; Ctrl-C now stops without saving", self.asked)
        elif number == signal.SIGINT and now_s - self._asked_s > PATIENCE_S:
            raise KeyboardInterrupt


def ignore_signals(worker: int) -> None:
    """For data workers: a terminal signals the whole group, but only the trainer decides when to end."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
