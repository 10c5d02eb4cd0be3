"""Every model: shapes, seeds, one training step; and what a model refuses."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fedhpro_flwr.models import MODELS, Model, ModelShape, build, model, refuse_other_features

CASES = [
    ("cnn", (1, 8, 8), 0, 64),
    ("cnn", (1, 28, 28), 48, 48),
    ("cnn", (3, 32, 32), 0, 64),
    ("cnn", (3, 5, 9), 16, 16),
    ("mlp", (64,), 0, 64),
    ("mlp", (1, 8, 8), 20, 20),
    ("resnet10", (3, 32, 32), 0, 256),
    ("resnet10", (1, 9, 9), 256, 256),
    ("resnet10", (3, 16, 16), 64, 64),
    ("resnet18", (1, 9, 9), 0, 512),
    ("resnet18", (3, 9, 10), 64, 64),
    ("mobilenet", (3, 32, 32), 0, 256),
    ("mobilenet", (1, 8, 8), 64, 64),
    ("mobilenet", (3, 5, 9), 64, 64),
    ("mobilenet", (1, 9, 9), 64, 64),
    ("vit", (3, 32, 32), 0, 128),
    ("vit", (1, 8, 12), 64, 64),
    ("projection", (20,), 0, 512),
    ("projection", (20,), 20, 20),
]


@pytest.mark.parametrize(("name", "shape", "width", "features"), CASES)
def test_features_logits_and_a_training_step(name, shape, width, features):
    net = build(name, input_shape=shape, num_classes=7, width=width, seed=0)
    assert (net.width, net.num_classes) == (features, 7)
    x = torch.randn(4, *shape, generator=torch.Generator().manual_seed(0))
    z = net.encoder(x)
    assert z.shape == (4, features) and bool((z >= 0).all())
    net.eval()
    assert torch.equal(net(x), net.head(net.encoder(x)))
    net.train()
    F.cross_entropy(net(x), torch.tensor([0, 1, 2, 3])).backward()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in net.parameters())


@pytest.mark.parametrize(("name", "shape", "width", "_features"), CASES)
def test_a_batch_of_one_can_be_trained_on(name, shape, width, _features):
    net = build(name, input_shape=shape, num_classes=7, width=width, seed=0).train()
    net(torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))).sum().backward()


@pytest.mark.parametrize(("name", "shape", "width", "_features"), CASES)
def test_weights_follow_the_seed_and_leave_the_global_generator_alone(name, shape, width, _features):
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = build(name, input_shape=shape, num_classes=7, width=width, seed=3).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    again = build(name, input_shape=shape, num_classes=7, width=width, seed=3).state_dict()
    other = build(name, input_shape=shape, num_classes=7, width=width, seed=4).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


@pytest.mark.parametrize(("name", "shape", "width", "_features"), CASES)
def test_state_holds_each_tensor_once(name, shape, width, _features):
    state = build(name, input_shape=shape, num_classes=7, width=width, seed=0).state_dict()
    assert len({tensor.data_ptr() for tensor in state.values()}) == len(state)
    assert all(key.startswith(("encoder.", "head.")) for key in state)


@pytest.mark.parametrize("name", ["cnn", "resnet10", "mobilenet", "vit"])
def test_channels_last_changes_nothing_but_rounding(name):
    net = build(name, input_shape=(3, 16, 16), num_classes=5, seed=0).double().eval()
    x = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plain = net(x)
    net = net.to(memory_format=torch.channels_last)
    torch.testing.assert_close(net(x.contiguous(memory_format=torch.channels_last)), plain, rtol=0, atol=1e-12)


def test_resnet10_has_the_reference_size():
    net = build("resnet10", input_shape=(3, 32, 32), num_classes=10, seed=0)
    assert sum(p.numel() for p in net.parameters()) == 1_228_970
    buffers = list(net.buffers())
    assert sum(b.numel() for b in buffers if b.is_floating_point()) == 2_880
    assert sum(b.numel() for b in buffers if not b.is_floating_point()) == 12
    size = sum(t.numel() * t.element_size() for t in net.state_dict().values())
    assert size == 4 * (1_228_970 + 2_880) + 8 * 12  # 4.93 MB


def test_mlp_by_hand():
    net = build("mlp", input_shape=(2,), num_classes=2, width=2, seed=0)
    state = {
        "encoder.1.weight": torch.tensor([[1.0, 0.0], [0.0, -1.0]]),
        "encoder.1.bias": torch.tensor([0.0, 1.0]),
        "encoder.3.weight": torch.tensor([[1.0, 1.0], [-1.0, 0.0]]),
        "encoder.3.bias": torch.tensor([0.5, 0.0]),
        "head.weight": torch.tensor([[2.0, 0.0], [0.0, 1.0]]),
        "head.bias": torch.tensor([0.0, 0.25]),
    }
    net.load_state_dict(state)
    x = torch.tensor([[3.0, 4.0]])  # hidden relu(3, -3) = (3, 0); z = relu(3.5, -3) = (3.5, 0); logits (7, .25)
    assert net.encoder(x).tolist() == [[3.5, 0.0]]
    assert net(x).tolist() == [[7.0, 0.25]]


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("vgg", {}, r"'vgg' is unknown, there are: cnn, .*mlp, .*resnet10, resnet18"),
        ("cnn", {"input_shape": (64,)}, r"model\.name = 'cnn': it needs images .*\[64\]; 'mlp' takes vectors"),
        ("cnn", {"input_shape": (1, 4, 8)}, "at least 5x5 pixels, the data has 4x8"),
        ("resnet10", {"input_shape": (1, 8, 8)}, "at least 9x9 pixels, the data has 8x8"),
        ("resnet18", {"input_shape": (1, 28, 8)}, "model 'resnet18' needs images of at least 9x9 pixels"),
        ("mobilenet", {"input_shape": (1, 4, 8)}, "at least 5x5 pixels, the data has 4x8"),
        ("vit", {"input_shape": (1, 4, 8)}, "at least 8x8 pixels, the data has 4x8"),
        ("vit", {"input_shape": (1, 16, 30)}, r"patches of 4x4 pixels, the data has 16x30; choose a data\.image-size"),
        ("projection", {}, r"model 'projection' needs vectors \[F\], the data has shape \[3, 32, 32\]"),
        ("projection", {"input_shape": (9,), "vocabulary": 5}, "needs images or vectors, the data is text"),
        ("cnn", {"width": -1}, r"model\.width = -1"),
        ("cnn", {"num_classes": 1}, "at least 2 classes, got 1"),
        ("mlp", {"input_shape": (3, 4)}, r"got \(3, 4\)"),
        ("mlp", {"input_shape": (0,)}, r"got \(0,\)"),
    ],
)
def test_build_refuses(name, values, message):
    with pytest.raises(ValueError, match=message):
        build(name, **({"input_shape": (3, 32, 32), "num_classes": 10, "seed": 0} | values))


def test_the_head_of_a_model_is_one_linear_layer():
    with pytest.raises(ValueError, match=r"must be an nn\.Linear, got Sequential; put other layers in the encoder"):
        Model(nn.Identity(), nn.Sequential(nn.ReLU(), nn.Linear(2, 3)))


class Doubled(Model):
    def forward(self, x):
        return 2 * super().forward(x)


class Scaled(nn.Linear):
    def forward(self, z):
        return 2 * super().forward(z)


@pytest.mark.parametrize(
    ("build_own", "name"),
    [
        (lambda: Doubled(nn.Identity(), nn.Linear(2, 3)), "Doubled"),
        (lambda: Model(nn.Identity(), Scaled(2, 3)), "Scaled"),
    ],
)
def test_a_forward_that_the_equations_do_not_know_is_refused(build_own, name):
    with pytest.raises(ValueError) as refused:
        build_own()
    assert str(refused.value) == (
        f"{name} has a forward of its own, which the method would pass over: a model is head(encoder(x)) with a head "
        "W z + b; put what it does in the encoder"
    )


def test_a_new_model_is_registered_once():
    with pytest.raises(ValueError, match=r"^model\.name: 'cnn' is registered already"):
        model("cnn")(MODELS["cnn"])
    assert ModelShape((1, 8, 8), 10).image("x", 8) == (1, 8, 8)


class Counting(nn.Linear):
    def get_extra_state(self):
        return {"calls": 0}


def lazy(shape):
    return Model(nn.Sequential(nn.Flatten(), nn.LazyLinear(8)), nn.Linear(8, shape.num_classes))


@pytest.mark.parametrize(
    ("builder", "sentence"),
    [
        (lambda shape: nn.Linear(4, 3), "model 'mine': its builder returned Linear, it must return a Model"),
        (lambda shape: None, "model 'mine': its builder returned NoneType, it must return a Model"),
        (
            lazy,
            r"model 'mine': encoder\.1\.weight has no shape before the first batch, and models are sent before it; ",
        ),
        (
            lambda shape: Model(Counting(6, 6), nn.Linear(6, 3)),
            r"model 'mine': encoder\._extra_state of its state_dict is no tensor, so it cannot be sent; leave it out$",
        ),
        (lambda shape: Model(nn.Identity(), nn.Linear(6, 9)), "model 'mine': its head has 9 classes, the data 3; "),
        (
            lambda shape: Model(nn.Identity(), nn.Linear(6, 3)),
            r"its head takes 6 features, model\.width = 5; the",
        ),
    ],
)
def test_a_builder_that_makes_something_else_is_told_so(builder, sentence, monkeypatch):
    monkeypatch.setitem(MODELS, "mine", builder)
    with pytest.raises(ValueError, match=sentence):
        build("mine", input_shape=(6,), num_classes=3, width=5, seed=0)


def test_one_sample_tells_whether_the_encoder_makes_what_the_head_takes():
    net = Model(nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), nn.Linear(3, 2))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    sample = torch.randn(1, 3, 4, 4)
    drawn = torch.random.get_rng_state()
    refuse_other_features(net, sample)
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert net.training and all(torch.equal(tensor, net.state_dict()[name]) for name, tensor in before.items())
    unpooled = Model(nn.Identity(), nn.Linear(4, 2))
    with pytest.raises(ValueError, match=r"makes \[2, 3, 4, 4\] of two samples, and its head takes \[2, 4\]: flat"):
        refuse_other_features(unpooled, torch.randn(1, 3, 4, 4))
    with pytest.raises(
        ValueError, match=r"^the model's encoder makes float32 features and its head takes float64; keep"
    ):
        refuse_other_features(Model(nn.Linear(6, 4), nn.Linear(4, 2).double()), torch.randn(1, 6))
    with pytest.raises(ValueError, match="makes tuple of two samples"):
        refuse_other_features(Model(nn.LSTM(5, 4), nn.Linear(4, 2)), torch.randn(1, 2, 5))
    other = Model(nn.Linear(7, 4), nn.Linear(4, 2))
    with pytest.raises(ValueError, match=r"encoder does not take samples of shape \[1, 6\]: .*mat1 and mat2"):
        refuse_other_features(other, torch.randn(1, 6))
    assert other.training
    with pytest.raises(ValueError, match=r"encoder does not take .*; samples are float32, keep models in it$"):
        refuse_other_features(Model(nn.Linear(6, 4), nn.Linear(4, 2)).double(), torch.randn(1, 6))


def test_a_batch_norm_without_running_statistics_is_tried_with_two_samples():
    encoder = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4, track_running_stats=False))
    refuse_other_features(Model(encoder, nn.Linear(4, 2)), torch.randn(1, 6))
