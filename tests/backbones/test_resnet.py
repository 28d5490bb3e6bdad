from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lexivox.backbones.resnet import FrozenNorm, ResNet, convolve
from lexivox.errors import ConfigError
from lexivox.ops.deform_conv import ModulatedDeformConv2d


def images(count: int = 2, size: tuple[int, int] = (64, 96)) -> Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(0))


def net(**options) -> ResNet:
    torch.manual_seed(0)
    return ResNet(50, **options)


@pytest.mark.parametrize("style", ["caffe", "pytorch"])
def test_levels(style) -> None:
    made = net(style=style)
    levels = made(images())
    assert made.channels == (512, 1024, 2048)
    assert [tuple(level.shape) for level in levels] == [(2, 512, 8, 12), (2, 1024, 4, 6), (2, 2048, 2, 3)]


def test_the_style_says_which_convolution_has_the_stride() -> None:
    strides = {
        style: [net(style=style).layer3[0].get_submodule(name).stride[0] for name in ("conv1", "conv2")]
        for style in ("caffe", "pytorch")
    }
    assert strides == {"caffe": [2, 1], "pytorch": [1, 2]}


def test_the_segmenters_variant() -> None:
    # Spec POP-3D 5.2: deep stem, output stride 8, the first block of a dilated stage at half the dilation.
    made = net(deep_stem=True, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), out_stages=(4,))
    assert [tuple(level.shape) for level in made(images(1))] == [(1, 2048, 8, 12)]
    dilations = [[block.conv2.dilation[0] for block in getattr(made, f"layer{s}")] for s in (2, 3, 4)]
    assert dilations == [[1] * 4, [1, 2, 2, 2, 2, 2], [2, 4, 4]]
    names = [n for n in made.state_dict() if n.startswith("stem") and n.endswith("weight")]
    assert names == [f"stem.{i}.weight" for i in (0, 1, 3, 4, 6, 7)]
    assert [m.stride[0] for m in made.stem if isinstance(m, nn.Conv2d)] == [2, 1, 1]


@pytest.mark.parametrize(
    ("depth", "dcn", "keys", "parameters"),
    [(50, (), 318, 23_508_032), (101, (3, 4), 676, 44_304_894), (50, (3, 4), 336, 24_254_771)],
)
def test_published_counts(depth: int, dcn: tuple[int, ...], keys: int, parameters: int) -> None:
    # Spec POP-3D 8; 25,557,032 less the classifier's 2,049,000 without deformable convolutions.
    with torch.device("meta"):
        made = ResNet(depth, style="caffe", dcn_stages=dcn)
    assert len(made.state_dict()) == keys
    assert sum(p.numel() for p in made.parameters()) == parameters


def test_deformable_convolutions_stand_in_every_block_of_their_stages() -> None:
    with torch.device("meta"):
        made = ResNet(101, dcn_stages=(3, 4))
    found = [name for name, module in made.named_modules() if isinstance(module, ModulatedDeformConv2d)]
    assert found == [f"layer{s}.{i}.conv2" for s, n in ((3, 23), (4, 3)) for i in range(n)]


def test_norms_never_learn() -> None:
    made = net()
    norms = [module for module in made.modules() if isinstance(module, FrozenNorm)]
    assert len(norms) == 53
    assert not any(norm.training for norm in norms)
    made.train()
    assert not any(norm.training for norm in norms)
    assert not any(p.requires_grad for norm in norms for p in norm.parameters())
    before = made.bn1.running_mean.clone()
    made(images())
    assert torch.equal(made.bn1.running_mean, before)


@pytest.mark.parametrize("kind", ["1x1", "3x3", "deformable"])
def test_a_norm_in_the_kernel_is_a_norm_after_it(kind: str) -> None:
    generator = torch.Generator().manual_seed(1)
    conv, norm = (
        {
            "1x1": nn.Conv2d(3, 4, 1, 2, bias=False),
            "3x3": nn.Conv2d(3, 4, 3, 1, 2, 2, bias=False),
            "deformable": ModulatedDeformConv2d(3, 4, 2, 1),
        }[kind].double(),
        FrozenNorm(4).double(),
    )
    for tensor in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
        tensor.copy_(torch.rand(4, generator=generator) + 0.1)
    x = torch.randn(2, 3, 6, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    outputs = convolve(conv, norm, x), norm(conv(x))
    torch.testing.assert_close(*outputs)
    gradients = [torch.autograd.grad(out.square().sum(), [x, conv.weight]) for out in outputs]
    torch.testing.assert_close(*gradients)


def test_frozen_stages_get_no_gradient_and_the_others_do() -> None:
    made = net(frozen_stages=1, dcn_stages=(3, 4))
    sum(level.square().mean() for level in made(images())).backward()
    learns = [n for n, p in made.named_parameters() if p.grad is not None]
    assert not [n for n in learns if n.startswith(("conv1", "bn1", "layer1"))]
    convolutions = [n for n, _ in made.named_parameters() if ".bn" not in n and "downsample.1" not in n]
    assert learns == [n for n in convolutions if n.startswith(("layer2", "layer3", "layer4"))]


def test_batch_of_two_equals_two_of_one() -> None:
    made, pictures = net(dcn_stages=(3, 4)), images()
    with torch.no_grad():
        together = made(pictures)
        for b in range(2):
            for level, alone in zip(together, made(pictures[b : b + 1]), strict=True):
                torch.testing.assert_close(level[b : b + 1], alone, atol=1e-4, rtol=1e-4)


def test_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for checkpointing in (False, True):
        made = net(checkpointing=checkpointing, frozen_stages=1, dcn_stages=(4,))
        sum(level.square().mean() for level in made(images(1))).backward()
        gradients.append([p.grad for p in made.parameters() if p.requires_grad])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_bfloat16_is_close() -> None:
    made = net(style="caffe", dcn_stages=(3, 4))
    with torch.no_grad():
        exact = made(images(1))
        with torch.autocast("cpu", torch.bfloat16):
            rough = made(images(1))
    for a, b in zip(exact, rough, strict=True):
        assert (a - b.float()).abs().max() < 0.1 * a.abs().max()


def test_start_values_keep_the_size_of_features() -> None:
    with torch.no_grad():
        levels = net()(images(1))
    assert all(0.05 < float(level.std()) < 5.0 for level in levels)


def test_another_depth_is_refused() -> None:
    with pytest.raises(ConfigError, match="depth of a ResNet must be one of 50, 101; got 18"):
        ResNet(18)
