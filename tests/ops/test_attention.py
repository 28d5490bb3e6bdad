from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd import gradcheck

from lexivox.ops.attention import ImageCrossAttention, PlaneSelfAttention, SeenQueries, star_offsets
from tests.reference import attention as slow

LEVEL_HW = [(3, 4), (2, 2)]
TOKENS = sum(h * w for h, w in LEVEL_HW)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def random_weights(block: nn.Module) -> nn.Module:
    for i, parameter in enumerate(block.parameters()):
        parameter.data = 0.4 * randn(*parameter.shape, seed=i)
    return block.double().eval()


def self_attention() -> PlaneSelfAttention:
    return random_weights(PlaneSelfAttention(8, 2, 3))  # type: ignore[return-value]


def cross_attention() -> ImageCrossAttention:
    return random_weights(ImageCrossAttention(8, 2, 2, (2, 3), 2))  # type: ignore[return-value]


def projection(queries: int, depth: int, seed: int = 5) -> tuple[Tensor, Tensor]:
    """Anchors in and out of the images of two samples with three cameras; some queries are seen by none."""
    uv = randn(2, 3, queries, depth, 2, seed=seed) * 0.6 + 0.5
    visible = ((uv > 0) & (uv < 1)).all(-1)
    visible[:, :, 0] = False
    return uv, visible


def cross_inputs() -> tuple[list[Tensor], list[tuple[Tensor, Tensor]], Tensor]:
    queries = [randn(2, 5, 8, seed=1), randn(2, 4, 8, seed=2)]
    return queries, [projection(5, 2), projection(4, 3, seed=6)], randn(6, TOKENS, 8, seed=3)


def seen_queries(projections: list[tuple[Tensor, Tensor]]) -> list[SeenQueries]:
    return [SeenQueries.from_projection(uv, visible) for uv, visible in projections]


def test_self_attention_equals_two_copies_read_one_by_one() -> None:
    block, query, position = self_attention(), randn(2, 6, 8), randn(6, 8, seed=1)
    reference = torch.rand(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    ours = block(query, position, reference, (2, 3))
    for b in range(2):
        expected = slow.plane_self_attention(block, query[b], position, reference, (2, 3))
        torch.testing.assert_close(ours[b], expected)


def test_cross_attention_equals_one_query_and_camera_at_a_time() -> None:
    block, (queries, projections, tokens) = cross_attention(), cross_inputs()
    ours = block(queries, seen_queries(projections), tokens, LEVEL_HW)
    per_sample = tokens.unflatten(0, (2, 3))
    for b in range(2):
        expected = [
            slow.image_cross_attention(block, plane, queries[plane][b], uv[b], visible[b], per_sample[b], LEVEL_HW)
            for plane, (uv, visible) in enumerate(projections)
        ]
        torch.testing.assert_close(ours[b], torch.cat(expected))


def test_unseen_queries_get_the_bias_alone() -> None:
    block, (queries, projections, tokens) = cross_attention(), cross_inputs()
    ours = block(queries, seen_queries(projections), tokens, LEVEL_HW)
    torch.testing.assert_close(ours[:, 0], queries[0][:, 0] + block.output_proj.bias)


def test_no_camera_sees_anything() -> None:
    block, (queries, projections, tokens) = cross_attention(), cross_inputs()
    blind = [(uv, torch.zeros_like(visible)) for uv, visible in projections]
    ours = block(queries, seen_queries(blind), tokens, LEVEL_HW)
    torch.testing.assert_close(ours, torch.cat(queries, 1) + block.output_proj.bias)


def test_even_weights_at_the_anchor_average_bilinear_samples() -> None:
    # One head, one level of a constant map per camera: a query seen by two cameras gets the mean of the two.
    block = ImageCrossAttention(2, 1, 1, (1,), 1, dropout=0.0).double()
    block.reset_parameters()
    nn.init.zeros_(block.sampling_offsets[0].bias)
    nn.init.eye_(block.value_proj.weight)
    nn.init.eye_(block.output_proj.weight)
    tokens = torch.stack([torch.full((4, 2), 3.0), torch.full((4, 2), 5.0)]).double()
    uv = torch.full((1, 2, 1, 1, 2), 0.5, dtype=torch.float64)
    seen = SeenQueries.from_projection(uv, torch.ones(1, 2, 1, 1, dtype=torch.bool))
    query = torch.zeros(1, 1, 2, dtype=torch.float64)
    assert block([query], [seen], tokens, [(2, 2)]).tolist() == [[[4.0, 4.0]]]


def test_star_of_eight_heads() -> None:
    # Spec POP-3D 11.
    expected = [(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)]
    star = star_offsets(8, 4)
    torch.testing.assert_close(star[:, 0], torch.tensor(expected).float(), atol=1e-6, rtol=0.0)
    torch.testing.assert_close(star[:, 3], 4 * star[:, 0])


def test_gradcheck() -> None:
    plane, position = self_attention(), randn(4, 8, seed=1)
    reference = torch.tensor([[0.3, 0.3], [0.7, 0.3], [0.3, 0.7], [0.7, 0.7]], dtype=torch.float64)
    query = randn(1, 4, 8).requires_grad_()
    assert gradcheck(lambda q: plane(q, position, reference, (2, 2)), query)
    images, (queries, projections, tokens) = cross_attention(), cross_inputs()
    seen = seen_queries(projections)
    inputs = (queries[0].requires_grad_(), queries[1].requires_grad_(), tokens.requires_grad_())
    assert gradcheck(lambda a, b, t: images([a, b], seen, t, LEVEL_HW), inputs)
