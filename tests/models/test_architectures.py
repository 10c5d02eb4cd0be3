"""What is particular to an architecture: its size, its shapes inside, and the D it shares with the others."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from fedhpro_flwr.models import build
from fedhpro_flwr.models.mobilenet import InvertedResidual
from fedhpro_flwr.models.transformer_layer import TransformerLayer
from fedhpro_flwr.models.vit import HEADS, HIDDEN, TOKEN, MeanToken, Patches


def parameters(name: str, **values: object) -> int:
    net = build(name, **({"input_shape": (3, 32, 32), "num_classes": 10, "seed": 0} | values))  # type: ignore[arg-type]
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(
    ("name", "count"),
    [("resnet10", 1_228_970), ("resnet18", 11_173_962), ("mobilenet", 292_906), ("vit", 827_402)],
)
def test_sizes_for_ten_classes_of_32x32_colour_pixels(name: str, count: int) -> None:
    assert parameters(name) == count


def test_resnet18_is_torchvisions_but_for_the_stem() -> None:
    from torchvision.models import resnet18

    whole = sum(p.numel() for p in resnet18(num_classes=10).parameters())
    assert parameters("resnet18") == whole - 64 * 3 * (7 * 7 - 3 * 3)


@pytest.mark.parametrize("name", ["cnn", "mlp", "resnet10", "resnet18", "mobilenet", "vit"])
def test_every_encoder_can_be_given_the_shared_width(name: str) -> None:
    net = build(name, input_shape=(3, 16, 16), num_classes=5, width=24, seed=0).eval()
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    hyper_prototypes = torch.randn(5, 3, 24)  # [C, K, D]
    assert net.head.weight.shape == (5, 24)
    assert torch.einsum("bd,ckd->bck", net.encoder(x), hyper_prototypes).shape == (2, 5, 3)


@pytest.mark.parametrize(("name", "own"), [("resnet10", 256), ("resnet18", 512), ("mobilenet", 256)])
def test_the_projection_is_there_only_for_another_width(name: str, own: int) -> None:
    default, named, narrow = (
        build(name, input_shape=(1, 9, 9), num_classes=4, width=width, seed=1).state_dict() for width in (0, own, 32)
    )
    assert default.keys() == named.keys() and all(torch.equal(default[key], named[key]) for key in default)
    added = narrow.keys() - default.keys()
    assert sorted(narrow[key].shape for key in added) == [(32,), (32, own)]
    assert all(torch.equal(narrow[key], default[key]) for key in default if key.startswith("encoder."))


def test_projection_by_hand() -> None:
    net = build("projection", input_shape=(2,), num_classes=2, width=3, seed=0)
    net.load_state_dict(
        {
            "encoder.0.weight": torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, -1.0]]),
            "encoder.0.bias": torch.tensor([0.0, -5.0, 1.0]),
            "head.weight": torch.tensor([[1.0, 1.0, 1.0], [0.0, 2.0, -1.0]]),
            "head.bias": torch.tensor([0.0, 0.5]),
        }
    )
    x = torch.tensor([[3.0, 4.0], [1.0, 7.0]])
    assert net.encoder(x).tolist() == [[3.0, 0.0, 0.0], [1.0, 2.0, 0.0]]
    assert net(x).tolist() == [[3.0, 0.5], [3.0, 4.5]]


@pytest.mark.parametrize(("side", "last"), [(5, 2), (8, 2), (9, 2), (16, 2), (28, 4), (32, 4)])
def test_mobilenet_never_shrinks_to_a_single_pixel(side: int, last: int) -> None:
    encoder = build("mobilenet", input_shape=(1, side, side), num_classes=2, seed=0).encoder.eval()
    pool = next(place for place, layer in enumerate(encoder) if isinstance(layer, torch.nn.AdaptiveAvgPool2d))
    pixels = encoder[:pool](torch.zeros(1, 1, side, side))
    assert pixels.shape == (1, 256, last, last)
    assert bool((pixels <= 6).all())


def test_inverted_residual_adds_its_input_where_the_shape_stays() -> None:
    x = torch.randn(2, 8, 6, 6)
    block = InvertedResidual(8, 8, stride=1, expansion=2).eval()
    torch.nn.init.zeros_(block.layers[-1].weight)  # of the last batch norm: the branch is then 0
    assert torch.equal(block(x), x)
    assert InvertedResidual(8, 8, stride=2, expansion=2)(x).shape == (2, 8, 3, 3)
    assert InvertedResidual(8, 12, stride=1, expansion=1)(x).shape == (2, 12, 6, 6)


def test_attention_equals_a_loop_over_heads_and_tokens() -> None:
    torch.manual_seed(0)
    layer, x, size = (
        TransformerLayer(TOKEN, HEADS, HIDDEN).double(),
        torch.randn(2, 5, TOKEN, dtype=torch.float64),
        TOKEN // HEADS,
    )
    normed = layer.norm1(x)
    q, k, v = layer.queries_keys_values(normed).chunk(3, dim=-1)
    seen = torch.zeros_like(x)
    for image in range(2):
        for head in range(HEADS):
            own = slice(head * size, (head + 1) * size)
            for token in range(5):
                scores = torch.stack([q[image, token, own] @ k[image, other, own] for other in range(5)]) / size**0.5
                seen[image, token, own] = sum(w * v[image, o, own] for o, w in enumerate(scores.softmax(0)))
    between = x + layer.mix(seen)
    hidden = F.gelu(layer.feed_forward[0](layer.norm2(between)))
    torch.testing.assert_close(layer(x), between + layer.feed_forward[2](hidden), rtol=0, atol=1e-12)


def test_vit_knows_places_by_its_learnt_numbers_alone() -> None:
    torch.manual_seed(0)
    patches, layer, mean = Patches(1, 4).double(), TransformerLayer(TOKEN, HEADS, HIDDEN).double(), MeanToken().double()
    x = torch.randn(3, 1, 8, 8, dtype=torch.float64)
    turned = x.roll(4, dims=-1)  # the patches of a row change places

    def features(images: torch.Tensor) -> torch.Tensor:
        return mean(layer(patches(images)))

    assert not torch.allclose(features(x), features(turned))
    torch.nn.init.zeros_(patches.places)
    torch.testing.assert_close(features(x), features(turned), rtol=0, atol=1e-12)
    tokens = patches(x)
    second = (x[:, :, :4, 4:] * patches.linear.weight[:1, 0]).sum((1, 2, 3)) + patches.linear.bias[0]
    torch.testing.assert_close(tokens[:, 1, 0], second)  # row by row: the second is the upper right
