from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lexivox.config import HeadConfig, HeadsConfig, SemanticConfig
from lexivox.errors import WeightsError
from lexivox.model import OccupancyModel
from lexivox.weights.checkpoint import read_checkpoint
from lexivox.weights.keys import DERIVED, modern_name, published_names
from lexivox.weights.published import ImportReport, fill_published
from tests.rig import batch_of, ring
from tests.weights.published import equal_states, full, model_of, published_state, save, small


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = model_of(small(), 6)
    return save(published_state(source), tmp_path_factory.mktemp("weights") / "small.pth")


def filled(model: OccupancyModel, file: Path) -> ImportReport:
    return fill_published(model, read_checkpoint(file), file)


def changed(file: Path, tmp_path: Path, **arrays) -> Path:
    """The file with some arrays replaced, or taken out where None."""
    state = torch.load(file, weights_only=True)["state_dict"]
    named = {name.removeprefix("module."): tensor for name, tensor in state.items()} | arrays
    return save({name: tensor for name, tensor in named.items() if tensor is not None}, tmp_path / "changed.pth")


def test_every_array_is_filled_from_its_own_name(file: Path) -> None:
    model = model_of(small(), 6)
    report = filled(model, file)
    state = torch.load(file, weights_only=True)["state_dict"]
    for ours, theirs in published_names(model.state_dict()).items():
        assert torch.equal(model.state_dict()[ours], state[f"module.{theirs}"])
    assert report.num_arrays == len(model.state_dict())
    assert report.num_parameters == sum(p.numel() for p in model.parameters())
    assert (set(report.dropped), report.renamed) == (set(DERIVED), ())


@pytest.mark.parametrize(("prefix", "wrapped"), [("", True), ("", False), ("module.", False)])
def test_bare_and_wrapped_files_are_the_same(file: Path, tmp_path: Path, prefix: str, wrapped: bool) -> None:
    state = {n.removeprefix("module."): t for n, t in torch.load(file, weights_only=True)["state_dict"].items()}
    one, two = model_of(small(), 6), model_of(small(), 6)
    filled(one, file)
    filled(two, save(state, tmp_path / "other.pth", prefix, wrapped))
    assert equal_states(one, two)


def test_old_names_are_read(file: Path, tmp_path: Path) -> None:
    # Spec POP-3D 8.2: TPVFormer's first files.
    def old(name: str) -> str:
        name = name.replace("tpv_head.encoder", "pts_bbox_head.transformer.encoder")
        name = name.replace("tpv_head.", "pts_bbox_head.").replace("tpv_aggregator.", "fusion_head.")
        return name.replace("tpv_embedding", "bev_embedding").replace("tpv_mask", "bev_mask")

    state = torch.load(file, weights_only=True)["state_dict"]
    renamed = {old(name.removeprefix("module.")): tensor for name, tensor in state.items()}
    one, two = model_of(small(), 6), model_of(small(), 6)
    filled(one, file)
    report = filled(two, save(renamed, tmp_path / "old.pth"))
    assert equal_states(one, two)
    assert "pts_bbox_head.bev_embedding_hw.weight" in report.renamed
    offsets = "img_backbone.layer3.0.conv2_offset.weight"
    assert modern_name(offsets) == "img_backbone.layer3.0.conv2.conv_offset.weight"


def test_tpvformer_fills_a_semantic_head(tmp_path: Path) -> None:
    labels = SemanticConfig(num_classes=18, free_label=17)
    heads = HeadsConfig(occupancy=None, language=None, semantic=HeadConfig(hidden=8))
    config = small().changed(heads=heads, supervision=[labels])
    state = published_state(model_of(config))
    assert state["tpv_aggregator.classifier.weight"].shape == (18, 8)
    assert not any("_ft" in name for name in state)
    model = model_of(config)
    filled(model, save(state, tmp_path / "tpvformer.pth", "", wrapped=False))
    assert torch.equal(model.heads["semantic"].classifier.weight, state["tpv_aggregator.classifier.weight"])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"tpv_head.level_embeds": None}, r"got \d+ of \d+ names, 1 missing \(tpv_head.level_embeds\)"),
        ({"tpv_head.more": torch.zeros(1)}, r"1 unknown \(tpv_head.more\)"),
        (
            {"tpv_head.cams_embeds": torch.zeros(6, 16)},
            r"1 of another shape \(tpv_head.cams_embeds \(6, 16\) for \(3, 16\)\)",
        ),
        (
            {"tpv_head.encoder.ref_3d_zh": torch.zeros(1, 3, 32, 3)},
            "reference points of the weights must be the model's",
        ),
    ],
)
def test_files_that_do_not_fit_are_refused(file: Path, tmp_path: Path, arrays: dict, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        filled(model_of(small(), 6), changed(file, tmp_path, **arrays))


def test_a_refused_file_changes_nothing(file: Path, tmp_path: Path) -> None:
    model = model_of(small(), 6)
    with pytest.raises(WeightsError):
        filled(model, changed(file, tmp_path, **{"tpv_head.level_embeds": None}))
    assert equal_states(model, model_of(small(), 6))


def test_weights_of_something_else_name_what_differs(tmp_path: Path) -> None:
    path = save({"conv.weight": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(
        WeightsError, match=r"got 0 of \d+ names, \d+ missing \(img_backbone.*\); 1 unknown \(conv.weight\)"
    ):
        filled(model_of(small(), 6), path)


def test_a_model_of_another_kind_is_refused(file: Path) -> None:
    config = small()
    model = model_of(config.changed(encoder=config.encoder.model_copy(update={"depth_bins": 4})), 6)
    with pytest.raises(
        WeightsError, match=r"a model must be the published one .* 2 arrays of its own \(encoder.profile"
    ):
        filled(model, file)


def test_published_channels_load_and_run(tmp_path: Path) -> None:
    """ResNet-50 with deformable stages and 256 channels; few voxels and images of 60 x 90, for speed."""
    config = full(50).changed(grid=small().grid)
    planes = config.encoder.triplane.model_copy(update={"anchors": (2, 3, 3)})
    config = config.changed(encoder=config.encoder.model_copy(update={"triplane": planes}))
    model = model_of(config)
    path = save(published_state(model), tmp_path / "pop3d.pth")
    batch, xyz, owner = (
        batch_of(ring(1, 6, (60, 90)), model.grid),
        torch.tensor([[4.0, 2.0, 0.5]]),
        torch.zeros(1).long(),
    )
    with torch.no_grad():
        before = model.encode(batch).read("language", xyz, owner)
        filled(model, path)
        scene = model.encode(batch)
        after = scene.read("language", xyz, owner)
    assert scene.read("occupancy", xyz, owner).shape == (1, 2)
    assert after.shape == (1, 512)
    assert torch.isfinite(after).all()
    assert not torch.allclose(after, before)
