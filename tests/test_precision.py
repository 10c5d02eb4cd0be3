"""Training in bfloat16, and what a GPU is told to repeat; a test machine need not have one."""

import os

import pytest
import torch

from client_app.visit import visit
from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.data import Split
from fedhpro_flwr.device import device_of, settle
from fedhpro_flwr.methods import build_method
from fedhpro_flwr.models import build
from fedhpro_flwr.precision import CUBLAS_WORKSPACE, forward_in, repeat_on_gpu
from fedhpro_flwr.records import Broadcast, Task

CLASSES = 3


def visited(precision):
    """A visit to a client of 30 images: what it sends, and the model that it leaves."""
    config = RunConfig.parse(
        local__precision=precision, local__epochs=2, local__batch_size=10, local__lr=0.01, model__width=16
    )
    model = build("cnn", input_shape=(1, 8, 8), num_classes=CLASSES, width=16, vocabulary=0, path="", seed=0)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    method, draw = build_method(config), torch.Generator().manual_seed(0)
    labels = torch.arange(30) % CLASSES
    images = torch.randint(0, 256, (30, 1, 8, 8), generator=draw, dtype=torch.uint8) // 2 + (60 * labels).view(
        -1, 1, 1, 1
    ).to(torch.uint8)
    data = ClientData(Split(images, labels), Split(images, labels), (0.5,), (0.3,))
    received = Broadcast(weights, method.broadcast(method.start(weights)), config, Task(1, 0, evaluate=True))
    return visit(model, data, received), model


def test_bfloat16_trains_like_float32_and_sends_float32():
    (exact, _), (rough, model) = visited("float32"), visited("bfloat16")
    assert rough.metrics["train-loss"] == pytest.approx(exact.metrics["train-loss"], rel=0.01)
    assert rough.metrics["train-loss"] != exact.metrics["train-loss"]
    sent = {**rough.model, **rough.tensors}
    assert {tensor.dtype for tensor in sent.values()} == {torch.float32, torch.int64}
    for name, tensor in rough.tensors.items():  # measured before training, in float32 either way
        assert torch.equal(tensor, exact.tensors[name]), name
    assert exact.test is not None and rough.test is not None and exact.test.by_head.loss == rough.test.by_head.loss
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


def test_bfloat16_repeats_itself():
    once, again = visited("bfloat16")[0], visited("bfloat16")[0]
    assert all(torch.equal(tensor, again.model[name]) for name, tensor in once.model.items())


def test_products_are_bfloat16_inside_only():
    x, weight = torch.ones(2, 3), torch.ones(4, 3)
    with forward_in("bfloat16", x.device):
        assert torch.nn.functional.linear(x, weight).dtype == torch.bfloat16
    with forward_in("float32", x.device):
        assert torch.nn.functional.linear(x, weight).dtype == torch.float32


def test_no_gradient_outlives_a_visit():
    assert all(parameter.grad is None for parameter in visited("float32")[1].parameters())


def test_another_precision_is_refused():
    with pytest.raises(ConfigError, match=r"local\.precision = 'float16': it must be 'float32' or 'bfloat16'"):
        RunConfig.parse(local__precision="float16")


def test_bfloat16_is_refused_on_a_card_without_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "an old card")
    assert device_of(RunConfig.parse()).type == "cuda"
    assert device_of(RunConfig.parse(local__precision="bfloat16", device="cpu")).type == "cpu"
    with pytest.raises(ConfigError, match=r"local\.precision = 'bfloat16': an old card computes in no bfloat16"):
        device_of(RunConfig.parse(local__precision="bfloat16"))


@pytest.fixture
def as_before(monkeypatch):
    """What torch is told is taken back."""
    monkeypatch.setenv(CUBLAS_WORKSPACE, "")  # so that it is taken back too
    monkeypatch.delenv(CUBLAS_WORKSPACE)
    cudnn = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark
    fills = torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(before[0])
    cudnn.deterministic, cudnn.benchmark = before[1:]
    torch.utils.deterministic.fill_uninitialized_memory = fills


@pytest.mark.parametrize("deterministic", [True, False])
def test_a_gpu_repeats_itself_where_asked(monkeypatch, as_before, deterministic):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    torch.backends.cudnn.benchmark = True
    settle(RunConfig.parse(deterministic=deterministic))
    assert torch.are_deterministic_algorithms_enabled() == deterministic
    assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert torch.backends.cudnn.deterministic == deterministic
    assert not torch.backends.cudnn.benchmark
    assert os.environ.get(CUBLAS_WORKSPACE) == (":4096:8" if deterministic else None)


def test_repeating_writes_nothing_to_memory_that_is_about_to_be_written(as_before):
    repeat_on_gpu(True)
    with torch.profiler.profile() as profiler:
        torch.empty_like(torch.empty(3))
    assert "aten::fill_" not in {event.key for event in profiler.key_averages()}


def test_the_users_own_workspace_stays(monkeypatch, as_before):
    monkeypatch.setenv(CUBLAS_WORKSPACE, ":16:8")
    repeat_on_gpu(True)
    assert os.environ[CUBLAS_WORKSPACE] == ":16:8"


def test_a_cpu_is_told_nothing(monkeypatch, as_before):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    settle(RunConfig.parse(device="cpu"))
    assert not torch.are_deterministic_algorithms_enabled()
    assert CUBLAS_WORKSPACE not in os.environ
