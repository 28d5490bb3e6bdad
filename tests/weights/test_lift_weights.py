"""Released lift-splat checkpoints, made up under their published names: every array goes where it belongs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from lexivox.config import (
    DepthBinsConfig,
    DepthNetConfig,
    ExperimentConfig,
    HeadConfig,
    HeadsConfig,
    ImageConfig,
    LiftSplatConfig,
    SemanticConfig,
    VolumeConfig,
)
from lexivox.errors import WeightsError
from lexivox.experiment import Experiment
from lexivox.model import OccupancyModel
from lexivox.recipes import pop3d_tiny
from lexivox.run_folder import load
from lexivox.weights.keys import published_names
from lexivox.weights.lift import fill_lift_encoder
from lexivox.weights.lift_keys import LIFT
from lexivox.weights.published import fill_published
from tests.rig import batch_of, ring
from tests.weights.published import equal_states, model_of

MLP = HeadConfig(hidden=12, num_layers=3, activation="relu", last_activation=True)
DETECTOR = {
    "img_bev_encoder_backbone.layers.0.0.conv1.weight": torch.zeros(4, 4, 3, 3),
    "pts_bbox_head.bias": torch.zeros(3),
}
"""What a detector has over its flat map."""


def config(**parts) -> ExperimentConfig:
    image = ImageConfig(
        image_hw=(64, 128), widths=(8, 8, 8, 8), skip_levels=2, channels=16, num_levels=1, separable=False,
        bfloat16=False,
    )  # fmt: skip
    options = {
        "image": image,
        "bins": DepthBinsConfig(far_m=9.0, count=8),
        "depth_net": DepthNetConfig(channels=16, aspp_channels=8, dropout=0.5),
        "context_channels": 6,
        "volume": VolumeConfig(widths=(6, 12, 24), blocks=(1, 2, 4), joined_channels=6, channels=10),
        "past": 1,
        "stereo": True,
        "norm": "batch",
    }
    heads = HeadsConfig(occupancy=None, language=None, density=MLP, semantic=MLP)
    labels = SemanticConfig(num_classes=18, free_label=17)
    encoder = LiftSplatConfig(**(options | parts))
    return pop3d_tiny().changed(encoder=encoder, heads=heads, supervision=[labels])


def stirred(model: OccupancyModel) -> OccupancyModel:
    generator = torch.Generator().manual_seed(3)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            noise = torch.rand(tensor.shape, generator=generator)
            tensor.mul_(1.0 + 0.1 * noise).add_(0.01 * noise)
    return model


def published_state(model: OccupancyModel) -> dict[str, Tensor]:
    """Under the published names, kernels over volumes as (z, y, x); heads under names of nobody's."""
    encoder = model.encoder.state_dict()
    names = published_names(encoder, LIFT)
    state = {names[n]: t.permute(0, 1, 4, 3, 2) if t.dim() == 5 else t for n, t in encoder.items()}
    for head, prefix in (("density", "decoder.sigma_net"), ("semantic", "decoder.class_net")):
        for name, tensor in model.heads[head].state_dict().items():
            state[f"{prefix}.{name}"] = tensor
    return {name: tensor.clone() for name, tensor in state.items()} | {"class_weights": torch.ones(17)}


@pytest.fixture(scope="module")
def source() -> OccupancyModel:
    return stirred(model_of(config()))


def saved(state: dict[str, Tensor], folder: Path) -> Path:
    torch.save({"state_dict": state, "meta": {"epoch": 12}}, folder / "published.pth")
    return folder / "published.pth"


def test_every_array_is_filled_from_its_own_name(source) -> None:
    model = model_of(config())
    report = fill_published(model, published_state(source), "file")
    assert equal_states(model, source)
    assert report.num_arrays == len(model.state_dict())
    assert report.dropped == ("class_weights",)


def test_published_names_are_those_that_others_know(source) -> None:
    names = set(published_state(source))
    for known in (
        "img_neck.lateral_convs.1.conv.weight",
        "img_neck.fpn_convs.0.conv.bias",
        "img_view_transformer.depth_net.depth_conv.3.aspp4.atrous_conv.weight",
        "img_view_transformer.depth_net.cost_volumn_net.3.running_var",
        "pre_process_net.layers.0.0.downsample.bn.weight",
        "img_bev_encoder_backbone.layers.2.3.conv2.conv.weight",
        "img_bev_encoder_neck.conv.bn.bias",
        "final_conv.conv.bias",
    ):
        assert known in names


def test_kernels_over_volumes_turn_their_axes(source) -> None:
    state = published_state(source)
    ours = source.encoder.volume.last.weight
    assert torch.equal(state["final_conv.conv.weight"][1, 2, 0, 1, 2], ours[1, 2, 2, 1, 0])


def test_a_detector_fills_the_way_to_the_voxels(source, tmp_path) -> None:
    # Spec 13, 13: no name of the image branch is missing; what a detector has beside it is left.
    branch = {
        n: t for n, t in published_state(source).items() if n.startswith(("img_backbone", "img_neck", "img_view"))
    }
    file = saved(branch | DETECTOR, tmp_path)
    encoder = model_of(config()).encoder
    made = config(weights=str(file)).encoder.build(config().grid.build())
    for name, tensor in made.state_dict().items():
        expected = source.encoder if name.startswith(("image.", "depth_net.")) else None
        if expected is not None:
            assert torch.equal(tensor, expected.state_dict()[name]), name
    assert made.frame_block[0].conv1.conv.weight.shape == encoder.frame_block[0].conv1.conv.weight.shape
    # A run that is loaded again does not ask for the file.
    file.unlink()
    config(weights=str(file)).encoder.build(config().grid.build(), fetch_weights=False)


def test_a_detector_is_no_whole_model(source, tmp_path) -> None:
    branch = {
        n: t for n, t in published_state(source).items() if n.startswith(("img_backbone", "img_neck", "img_view"))
    }
    for state in (branch, branch | DETECTOR):
        with pytest.raises(WeightsError, match=r"got a detector, which an encoder can start from. Set encoder.weights"):
            fill_published(model_of(config()), state, "file")


def test_arrays_that_do_not_fit_are_named(source) -> None:
    state = published_state(source)
    missing = {n: t for n, t in state.items() if n != "img_view_transformer.depth_net.bn.weight"}
    more = state | {"img_neck.fpn_convs.1.conv.bias": torch.zeros(2)}
    other = state | {"final_conv.conv.bias": torch.zeros(11)}
    for wrong, said in (
        (missing, r"1 missing \(img_view_transformer.depth_net.bn.weight\)"),
        (more, r"1 unknown \(img_neck.fpn_convs.1.conv.bias\)"),
        (other, r"1 of another shape \(final_conv.conv.bias \(11,\) for \(10,\)\)"),
    ):
        with pytest.raises(WeightsError, match=f"BEVDet weights must hold every array .* {said}. Its backbone, widths"):
            fill_published(model_of(config()), wrong, "file")


def test_heads_are_known_by_their_widths(source) -> None:
    state = published_state(source)
    twice = state | {n.replace("sigma_net", "other_net"): t for n, t in state.items() if "sigma_net" in n}
    none = {n: t for n, t in state.items() if "sigma_net" not in n}
    for wrong, count in ((twice, 2), (none, 0)):
        with pytest.raises(
            WeightsError, match=rf"one MLP that fits the head 'density', 10 - 12 - 12 - 12; got {count}"
        ):
            fill_published(model_of(config()), wrong, "file")
    convolutions = {n: t[..., None, None, None] if "_net" in n and t.dim() == 2 else t for n, t in state.items()}
    model = model_of(config())
    fill_published(model, {**convolutions, **{n: t for n, t in state.items() if not n.startswith("decoder")}}, "file")
    assert torch.equal(model.heads["semantic"].classifier.weight, source.heads["semantic"].classifier.weight)


SWIN = ImageConfig(
    image_hw=(64, 128), backbone="swin_tiny", out_stages=(1, 3, 4), skip_levels=1, channels=16, num_levels=1,
    joined="batch", bfloat16=False,
)  # fmt: skip


def test_swin_is_read_from_its_published_layers() -> None:
    pytest.importorskip("transformers")
    source, target = stirred(model_of(config(image=SWIN))), model_of(config(image=SWIN))
    state = published_swin(source.encoder)
    for known in (
        "img_backbone.patch_embed.projection.weight",
        "img_backbone.stages.2.blocks.5.attn.w_msa.qkv.bias",
        "img_backbone.stages.0.blocks.1.attn.w_msa.relative_position_bias_table",
        "img_backbone.stages.3.blocks.0.ffn.layers.0.0.weight",
        "img_backbone.norm3.bias",
        "img_neck.conv.4.running_mean",
    ):
        assert known in state
    fill_lift_encoder(target.encoder, state, "file")
    for name, tensor in target.encoder.image.state_dict().items():
        assert torch.equal(tensor, source.encoder.image.state_dict()[name]), name


def published_swin(encoder: torch.nn.Module) -> dict[str, Tensor]:
    """The image branch under its published names: queries, keys, values in one, pixels of merged patches innermost."""
    names = published_names(encoder.state_dict(), LIFT)
    state = {names[n]: t for n, t in encoder.state_dict().items() if n.startswith(("image.", "depth_net."))}
    joined: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if ".w_msa.qkv.q." in name:
            parts = [state[name.replace(".qkv.q.", f".qkv.{part}.")] for part in "qkv"]
            joined[name.replace(".qkv.q.", ".qkv.")] = torch.cat(parts)
        elif name.startswith("img_backbone.stages.") and ".downsample." in name:
            joined[name] = tensor.unflatten(-1, (4, -1))[..., [0, 2, 1, 3], :].transpose(-1, -2).flatten(-2)
        elif ".w_msa.qkv." not in name:
            joined[name] = tensor
    return joined | {"img_backbone.stages.0.blocks.0.attn.w_msa.relative_position_index": torch.zeros(4, 4)}


def test_merged_patches_keep_their_pixels() -> None:
    # Theirs: unfold (channels outer, the four pixels along rows inner), norm, linear. Ours must do the same.
    pytest.importorskip("transformers")
    encoder = stirred(model_of(config(image=SWIN))).encoder
    state, merge = published_swin(encoder), encoder.image.backbone.stages[0].downsample
    tokens = torch.randn(1, 4 * 6, 96)
    unfolded = torch.nn.functional.unfold(tokens.unflatten(1, (4, 6)).movedim(-1, 1), 2, stride=2).transpose(1, 2)
    prefix = "img_backbone.stages.0.downsample."
    normed = torch.nn.functional.layer_norm(
        unfolded, (384,), state[f"{prefix}norm.weight"], state[f"{prefix}norm.bias"]
    )
    expected = normed @ state[f"{prefix}reduction.weight"].T
    torch.testing.assert_close(merge(tokens, (4, 6)), expected)


def test_an_imported_run_predicts_like_its_source(source, tmp_path) -> None:
    experiment = Experiment(config(), tmp_path / "run")
    experiment.import_weights(saved(published_state(source), tmp_path))
    loaded = load(tmp_path / "run")
    batch = batch_of(ring(1, image_hw=(64, 128)), loaded.grid)
    with torch.no_grad():
        expected = source.eval().encoder(batch).dense()
        torch.testing.assert_close(loaded.encoder(batch).dense(), expected)
