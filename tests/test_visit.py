"""One client's visit, recomputed by hand."""

import copy
import math

import pytest
import torch
from confusion import confusion_of
from torch import nn
from torch.nn import functional as F

from client_app.visit import visit
from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.data import Split
from fedhpro_flwr.hyper_prototypes import HyperPrototypes
from fedhpro_flwr.methods import Arrival, hpcl_hpal
from fedhpro_flwr.metrics import evaluate_each
from fedhpro_flwr.models import Model
from fedhpro_flwr.records import Broadcast, Task
from fedhpro_flwr.seeding import Draws
from fedhpro_flwr.timing import CLIENT_PHASES

CLASSES, WIDTH, INPUTS, SAMPLES = 4, 5, 6, 12


def new_model(seed=0, width=WIDTH):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = nn.Sequential(nn.Linear(INPUTS, width), nn.BatchNorm1d(width), nn.ReLU())
        model = Model(encoder, nn.Linear(width, CLASSES))
        model.encoder[1].running_mean.uniform_(-0.2, 0.2)
        model.encoder[1].running_var.uniform_(0.5, 1.5)
    return model


def new_data(seed=1, *, train=True, test=True):
    draw = torch.Generator().manual_seed(seed)
    labels = torch.tensor([0, 1, 3] * (SAMPLES // 3))  # nobody is of class 2
    own = Split(torch.randn(SAMPLES, INPUTS, generator=draw), labels)
    own_test = Split(torch.randn(7, INPUTS, generator=draw), torch.tensor([0, 1, 3, 0, 1, 3, 0]))
    return ClientData(own if train else None, own_test if test else None, (0.1,), (2.0,))


def settings(**changes):
    defaults = {
        "rounds": 1,
        "local__epochs": 1,
        "local__batch_size": SAMPLES,
        "local__lr": 0.1,
        "local__momentum": 0.0,
        "losses__temperature": 0.5,
        "hyper_prototypes__prototypes_per_class": 2,
    }
    return RunConfig.parse(**(defaults | changes))


def broadcast(config, model, **task):
    vectors = HyperPrototypes.start(
        CLASSES, 2, WIDTH, init="normal", generator=torch.Generator().manual_seed(5)
    ).vectors
    sent = {"hyper-prototypes": vectors} if config.method.name == "fedhpro" else {}
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    return Broadcast(weights, sent, config, Task(**({"server_round": 1, "partition_id": 3} | task)))


def margin_by_hand(z, labels):
    """Mean distance of the unit class means over ordered pairs of present classes, divided by (C - 1)^2."""
    means = [F.normalize(z[labels == c].mean(0), dim=0) for c in range(CLASSES) if (labels == c).any()]
    return sum(float((a - b).norm()) for a in means for b in means) / (CLASSES - 1) ** 2


def loss_by_hand(logits, z, labels, vectors, margin, temperature):
    """CE + HPCL + HPAL, sample by sample."""
    total = 0
    for row, feature, label in zip(logits, z, labels.tolist(), strict=True):
        cross_entropy = torch.logsumexp(row, 0) - row[label]
        s = [
            sum(feature @ v / (feature.norm() * v.norm()) for v in vectors[c]) / len(vectors[c]) for c in range(CLASSES)
        ]
        others = sum(torch.exp((s[j] + margin) / temperature) for j in range(CLASSES) if j != label)
        contrast = torch.log(1 + others / torch.exp(s[label] / temperature))
        gap = (feature - vectors[label].mean(0)).abs()
        align = torch.where(gap < 1, gap**2 / 2, gap - 0.5).sum()
        total = total + cross_entropy + contrast + align
    return total / len(labels)


def test_one_step_of_sgd_by_hand():
    config, data, start = settings(), new_data(), new_model()
    received = broadcast(config, start)
    by_hand = copy.deepcopy(start)
    x, labels = (data.train.inputs - 0.1) / 2.0, data.train.labels
    by_hand.eval()
    margin = margin_by_hand(by_hand.encoder(x).detach(), labels)
    assert margin > 0.1
    by_hand.train()
    z = by_hand.encoder(x)
    loss = loss_by_hand(by_hand.head(z), z, labels, received.tensors["hyper-prototypes"], margin, 0.5)
    gradients = torch.autograd.grad(loss, list(by_hand.parameters()))
    wanted = dict(by_hand.state_dict())
    for (name, value), gradient in zip(by_hand.named_parameters(), gradients, strict=True):
        wanted[name] = value.detach() - 0.1 * gradient

    update = visit(new_model(seed=9), data, received)
    assert update.model.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(update.model[name], value, rtol=1e-5, atol=1e-6, msg=name)
    assert update.metrics["train-loss"] == pytest.approx(float(loss.detach()), rel=1e-5)
    assert (update.partition_id, update.num_examples) == (3, SAMPLES)
    # Measuring left no trace: the only batch that the BatchNorm has seen is the one of training.
    assert int(update.model["encoder.1.num_batches_tracked"]) == 1


def test_class_gradients_are_those_of_the_received_model_in_eval_mode():
    config, data, start = settings(), new_data(), new_model()
    update = visit(new_model(seed=9), data, broadcast(config, start))
    start.eval()
    z = start.encoder((data.train.inputs - 0.1) / 2.0).detach()
    assert update.tensors["class-ids"].tolist() == [0, 1, 3]
    assert update.tensors["class-counts"].tolist() == [4, 4, 4]
    for row, label in zip(update.tensors["class-gradients"], (0, 1, 3), strict=True):
        own = z[data.train.labels == label].requires_grad_()
        loss = F.cross_entropy(start.head(own), torch.full((len(own),), label), reduction="sum")
        (gradient,) = torch.autograd.grad(loss, own)
        torch.testing.assert_close(row, gradient.mean(0), rtol=1e-5, atol=1e-7)


def test_fedavg_uploads_its_model_and_numbers_only():
    config, data, start = settings(method__name="fedavg"), new_data(), new_model()
    update = visit(new_model(seed=9), data, broadcast(config, start))
    assert update.tensors == {}
    by_hand = copy.deepcopy(start).train()
    loss = F.cross_entropy(by_hand((data.train.inputs - 0.1) / 2.0), data.train.labels)
    loss.backward()
    for name, value in by_hand.named_parameters():
        torch.testing.assert_close(update.model[name], value.detach() - 0.1 * value.grad, rtol=1e-5, atol=1e-6)
    assert update.metrics["train-loss"] == pytest.approx(float(loss.detach()), rel=1e-6)


def test_losses_that_are_off_leave_fedavgs_training():
    off = settings(losses__hpcl="off", losses__hpal="off")
    ours = visit(new_model(9), new_data(), broadcast(off, new_model()))
    fedavg = visit(new_model(9), new_data(), broadcast(settings(method__name="fedavg"), new_model()))
    assert all(torch.equal(ours.model[name], value) for name, value in fedavg.model.items())
    assert set(ours.tensors) == {"class-gradients", "class-ids", "class-counts"}


def test_the_received_model_is_what_is_tested():
    config, data, start = settings(), new_data(), new_model()
    update = visit(new_model(seed=9), data, broadcast(config, start, evaluate=True))
    (wanted,) = evaluate_each(copy.deepcopy(start), data, [start.head], batch_size=3)
    assert torch.equal(confusion_of(update.test.by_head), confusion_of(wanted))
    assert update.test.by_head.examples == 7
    assert update.test.by_head.loss == pytest.approx(wanted.loss, rel=1e-6)
    assert (update.test.partition_id, update.test.by_prototype) == (3, None)
    trained = visit(new_model(seed=9), data, broadcast(config, start))
    assert all(torch.equal(update.model[name], value) for name, value in trained.model.items())
    assert trained.test is None


def test_without_test_data_nothing_is_tested():
    update = visit(new_model(), new_data(test=False), broadcast(settings(), new_model(), evaluate=True))
    assert update.test is None


def test_the_seconds_of_every_phase_are_told():
    update = visit(new_model(), new_data(), broadcast(settings(), new_model()))
    seconds = {name: value for name, value in update.metrics.items() if name.startswith("seconds-")}
    assert set(seconds) == {f"seconds-{phase}" for phase in CLIENT_PHASES}
    assert all(0 <= value < math.inf for value in seconds.values())


def trained(**task):
    config = settings(local__batch_size=4, local__epochs=2, local__momentum=0.9, seed=task.pop("seed", 0))
    start = new_model()
    return visit(new_model(seed=9), new_data(), broadcast(config, start, **task)).model


def test_the_same_seed_round_and_client_give_the_same_bits():
    one, two = trained(), trained()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("other", [{"server_round": 2}, {"partition_id": 1}, {"seed": 1}])
def test_another_seed_round_or_client_draws_another_order(other):
    one, two = trained(), trained(**other)
    assert not torch.equal(one["head.weight"], two["head.weight"])


def test_the_global_generator_is_neither_read_nor_moved():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = {name: value.clone() for name, value in trained().items()}
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert all(torch.equal(one[name], value) for name, value in trained().items())


def test_the_received_tensors_are_not_written_to():
    config, start = settings(), new_model()
    received = broadcast(config, start)
    before = {name: value.clone() for name, value in received.model.items()}
    vectors = received.tensors["hyper-prototypes"].clone()
    visit(new_model(seed=9), new_data(), received)
    assert all(torch.equal(received.model[name], value) for name, value in before.items())
    assert torch.equal(received.tensors["hyper-prototypes"], vectors)


def test_a_model_of_another_architecture_is_refused():
    received = broadcast(settings(), new_model(width=WIDTH + 1))
    other = rf"^the received model does not fit this client's: .* is float32 \[{WIDTH + 1}\], here float32 \[{WIDTH}\]$"
    with pytest.raises(ValueError, match=other):
        visit(new_model(), new_data(), received)


def test_a_model_of_another_type_is_refused():
    config, model = settings(), new_model()
    received = broadcast(config, model)
    with pytest.raises(ValueError, match=r"encoder\.0\.bias is float32 \[\d+\], here bfloat16 \[\d+\]$"):
        visit(model.to(torch.bfloat16), new_data(), received)


def test_a_missing_tensor_is_refused():
    received = broadcast(settings(), new_model())
    del received.model["head.bias"]
    with pytest.raises(
        ValueError, match=r"^the received model does not fit this client's: head\.bias is missing, here "
    ):
        visit(new_model(), new_data(), received)


@pytest.mark.parametrize("method", ["fedhpro", "fedavg"])
def test_a_client_without_training_data_says_so(method):
    received = broadcast(settings(method__name=method), new_model())
    with pytest.raises(ValueError, match=r"training data$"):
        visit(new_model(), new_data(train=False), received)


def margin_of(**options):
    config, data, start = settings(rounds=4, **options), new_data(), new_model()
    arrival = Arrival(start, data, broadcast(config, start, server_round=3), Draws(0, 3, 3))
    return hpcl_hpal.margin_of(config, arrival)


def test_the_margin_may_grow_with_the_rounds_and_differ_by_pair():
    constant, ramp = margin_of(), margin_of(losses__margin_schedule="ramp")
    assert ramp == pytest.approx(0.75 * constant) and constant > 0
    far = margin_of(losses__margin_pairs="far")
    assert far.shape == (CLASSES, CLASSES) and len(set(far.flatten().tolist())) > 2
    torch.testing.assert_close(margin_of(losses__margin_pairs="far", losses__margin_schedule="ramp"), 0.75 * far)
    assert margin_of(losses__margin="none") == margin_of(losses__hpcl="off") == 0.0
