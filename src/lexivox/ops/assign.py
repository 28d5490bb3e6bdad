"""From features to classes: every row takes the class of its single best text query."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lexivox.errors import ShapeError

SCORES_AT_ONCE = 2**22
"""Dot products held in memory at a time (16 MiB in float32)."""


def assign_best_query(
    features: Float[Tensor, "N D"],
    embeddings: Float[Tensor, "M D"],
    class_of_query: Int64[Tensor, "M"],
) -> Int64[Tensor, "N"]:
    """Class of the query with the largest plain dot product; queries of one class are not pooled.

    POP-3D 3.3. The length of a feature does not matter, that of an embedding does: normalise it before.
    Computed in float32, also under autocast, in chunks of bounded memory.

    Raises:
        ShapeError: there is no query to choose from.
    """
    num_queries = embeddings.shape[0]
    if num_queries == 0:
        raise ShapeError("embeddings must hold at least one query; got none. Add a class to the vocabulary.")
    queries = embeddings.to(features.device, torch.float32).T
    best = torch.empty(features.shape[0], dtype=torch.int64, device=features.device)
    rows = max(1, SCORES_AT_ONCE // num_queries)
    with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
        for start in range(0, features.shape[0], rows):
            chunk = features[start : start + rows].to(torch.float32)
            best[start : start + rows] = (chunk @ queries).argmax(dim=1)
    return class_of_query.to(features.device)[best]
