"""Every N-th keyframe of a data set, as ablations are trained on (spec pop3d 1.5), and which ones these were."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np


def every_nth(timestamps: Sequence[int], tokens: Sequence[str], n: int) -> list[int]:
    """Numbers of the keyframes to keep, ascending: those at places 0, n, 2 n, ... in order of time.

    The paper sorts by time and takes every n-th keyframe (it writes "scene"); the development script takes the list
    as it is stored. We sort, and break ties by token, so that the choice does not depend on how a table was written.

    Args:
        timestamps: of the keyframes, in any unit.
        tokens: of the same keyframes.
        n: 1 keeps all.
    """
    by_time = np.lexsort((np.asarray(tokens), np.asarray(timestamps)))
    return sorted(by_time[::n].tolist())


def token_record(tokens: Sequence[str]) -> dict[str, object]:
    """The tokens and the SHA-256 of their sorted lines: two runs with one hash saw the same keyframes."""
    lines = "\n".join(sorted(tokens))
    return {"count": len(tokens), "sha256": hashlib.sha256(lines.encode()).hexdigest(), "tokens": list(tokens)}
