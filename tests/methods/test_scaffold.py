"""SCAFFOLD's option II, written by hand in float64, and its control variates."""

import copy

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from client_app.visit import visit
from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.launch.in_process import InProcessGrid
from fedhpro_flwr.methods import build_method
from fedhpro_flwr.methods.scaffold import Scaffold, felt_steps
from fedhpro_flwr.records import unpack_task
from fedhpro_flwr.seeding import sample_partitions

LR, STEPS = 0.1, 3
CLOSE = {"rtol": 1e-4, "atol": 2e-5}


def settings(make, clients=3, **changes):
    defaults = {"partition__num_partitions": clients, "local__epochs": STEPS, "local__lr": LR}
    return make.config("scaffold", **(defaults | changes))


def some_clients(make, count=3):
    """Different classes and numbers of samples: neither may weigh in the server's mean."""
    return [make.data(seed, labels, 6 + 3 * seed) for seed, labels in enumerate([(0, 1), (1, 3), (0, 3)][:count])]


class ByHand:
    """Karimireddy et al., algorithm 1, option II with a global step of 1; one full batch a step."""

    def __init__(self, make, num_clients):
        self.model = make.model().double()
        self.names = [name for name, _ in self.model.named_parameters()]
        zeros = {name: torch.zeros_like(value) for name, value in self.model.named_parameters()}
        self.control = zeros  # c
        self.controls = [dict(zeros) for _ in range(num_clients)]  # c_k

    def round(self, clients, chosen):
        x = copy.deepcopy(self.model.state_dict())
        results, changes = [], []
        for k in chosen:
            self.model.load_state_dict(x)
            train = clients[k].train
            inputs = (train.inputs.double() - 0.1) / 2.0
            for _ in range(STEPS):
                self.model.train()
                loss = F.cross_entropy(self.model(inputs), train.labels)
                gradients = torch.autograd.grad(loss, list(self.model.parameters()))
                with torch.no_grad():
                    for (name, y), g in zip(self.model.named_parameters(), gradients, strict=True):
                        y -= LR * (g - self.controls[k][name] + self.control[name])
            y = copy.deepcopy(self.model.state_dict())
            new = {n: self.controls[k][n] - self.control[n] + (x[n] - y[n]) / (STEPS * LR) for n in self.names}
            changes.append({n: new[n] - self.controls[k][n] for n in self.names})
            self.controls[k] = new
            results.append(y)
        mean = {name: sum(y[name].double() for y in results) / len(results) for name in x}
        self.model.load_state_dict({name: mean[name].to(value.dtype) for name, value in x.items()})
        self.control = {n: self.control[n] + sum(c[n] for c in changes) / len(self.controls) for n in self.names}


def by_name(make, vector):
    """A control variate [W] as tensors of the model, buffers included."""
    named, at = {}, 0
    for name, value in make.model().state_dict().items():
        if value.is_floating_point():
            named[name] = vector[at : at + value.numel()].view(value.shape).double()
            at += value.numel()
    assert at == len(vector)
    return named


def control_of(states, client, server_round):
    (file,) = states.glob(f"*/client-{client}/visit-{server_round}-*.safetensors")
    return load_file(file)["memory.control-variate"]


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_rounds_are_those_of_the_algorithm(make, states_of_clients, rounds):
    clients, by_hand = some_clients(make), ByHand(make, 3)
    strategy = make.run(settings(make, rounds=rounds), clients)
    for _ in range(rounds):
        by_hand.round(clients, [0, 1, 2])
    for name, value in by_hand.model.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(strategy.model.shared[name].double(), value, msg=name, **CLOSE)
    control = by_name(make, strategy.state.control)
    for name, value in by_hand.control.items():
        torch.testing.assert_close(control[name], value, msg=name, **CLOSE)
        for k in range(3):
            own = by_name(make, control_of(states_of_clients, k, rounds))
            torch.testing.assert_close(own[name], by_hand.controls[k][name], msg=name, **CLOSE)
    # Everybody took part in every round: c is the mean of the c_k.
    mean = sum(control_of(states_of_clients, k, rounds).double() for k in range(3)) / 3
    torch.testing.assert_close(strategy.state.control.double(), mean, rtol=1e-5, atol=1e-6)
    assert strategy.state.control.abs().max() > 0.01
    assert strategy.method_metrics["control-variate-norm"] == pytest.approx(strategy.state.control.norm().item())


def test_rounds_of_some_clients_divide_by_all_of_them(make, states_of_clients):
    clients, by_hand = some_clients(make), ByHand(make, 3)
    strategy = make.run(settings(make, rounds=3, clients__per_round=2), clients)
    drawn = [sample_partitions(3, 2, seed=0, server_round=r, sampling="round") for r in (1, 2, 3)]
    assert len({tuple(chosen) for chosen in drawn}) > 1
    for chosen in drawn:
        by_hand.round(clients, chosen)
    control = by_name(make, strategy.state.control)
    for name, value in by_hand.control.items():
        torch.testing.assert_close(control[name], value, msg=name, **CLOSE)
    for name, value in by_hand.model.named_parameters():
        torch.testing.assert_close(strategy.model.shared[name].double(), value.detach(), msg=name, **CLOSE)


class Losing(InProcessGrid):
    """Client 1 trains in rounds 1 and 2, and its replies are lost on the way."""

    def push_messages(self, messages):
        messages = list(messages)
        ids = list(super().push_messages(messages))
        for message, message_id in zip(messages, ids, strict=True):
            if message.metadata.message_type == "train":
                task = unpack_task(message)[1]
                if task.partition_id == 1 and task.server_round in (1, 2):
                    self._replies.pop(message_id)
        return ids


def test_a_client_whose_reply_was_lost_goes_back_to_the_control_that_the_server_counted(make, states_of_clients):
    """As if it had not been drawn: else c is never again the mean of the c_k, and pulls every step aside."""
    clients, by_hand = some_clients(make), ByHand(make, 3)
    strategy = make.run(settings(make, rounds=4), clients, Losing)
    for chosen in ([0, 2], [0, 2], [0, 1, 2], [0, 1, 2]):
        by_hand.round(clients, chosen)
    mean = sum(control_of(states_of_clients, k, 4).double() for k in range(3)) / 3
    torch.testing.assert_close(strategy.state.control.double(), mean, rtol=1e-5, atol=1e-6)
    control = by_name(make, strategy.state.control)
    for name, value in by_hand.control.items():
        torch.testing.assert_close(control[name], value, msg=name, **CLOSE)
    for name, value in by_hand.model.named_parameters():
        torch.testing.assert_close(strategy.model.shared[name].double(), value.detach(), msg=name, **CLOSE)


def test_where_a_client_lost_its_control_all_begin_anew_together(make, states_of_clients, caplog):
    """Else c, which holds what the client no longer takes off, would be wrong for good."""
    clients, by_hand = some_clients(make), ByHand(make, 3)

    class Forgetting(InProcessGrid):
        """Before round 3 what client 1 kept of the second is deleted."""

        def push_messages(self, messages):
            messages = list(messages)
            training = messages[0].metadata.message_type == "train"
            if training and unpack_task(messages[0])[1].server_round == 3:
                file = max(states_of_clients.glob("*/client-1/visit-2-*"), key=lambda kept: kept.stat().st_mtime_ns)
                file.unlink()
            return super().push_messages(messages)

    strategy = make.run(settings(make, rounds=3), clients, Forgetting)
    assert [line for line in caplog.messages if "begin anew at 0" in line] == [
        "client 1 lost its control variate or changed its samples: all begin anew at 0"
    ]
    assert not strategy.state.control.any() and strategy.clients.visits.counted == {}

    strategy = make.run(settings(make, rounds=5), clients, Forgetting)
    for played in range(5):
        if played == 2:
            by_hand.controls[1] = {name: torch.zeros_like(value) for name, value in by_hand.controls[1].items()}
        by_hand.round(clients, [0, 1, 2])
        if played == 2:
            by_hand.control = {name: torch.zeros_like(value) for name, value in by_hand.control.items()}
            by_hand.controls = [dict(by_hand.control) for _ in range(3)]
    for name, value in by_hand.model.named_parameters():
        torch.testing.assert_close(strategy.model.shared[name].double(), value.detach(), msg=name, **CLOSE)
    own = [load_file(*states_of_clients.glob(f"{strategy.so_far.run}/client-{k}/visit-5-*")) for k in range(3)]
    mean = sum(kept["memory.control-variate"].double() for kept in own) / 3
    torch.testing.assert_close(strategy.state.control.double(), mean, rtol=1e-5, atol=1e-6)
    assert strategy.state.control.abs().max() > 0.01


def test_buffers_have_no_control(make, states_of_clients):
    strategy = make.run(settings(make), some_clients(make))
    for vector in (strategy.state.control, *(control_of(states_of_clients, k, 2) for k in range(3))):
        named = by_name(make, vector)
        for name in ("encoder.1.running_mean", "encoder.1.running_var"):
            assert torch.equal(named[name], torch.zeros_like(named[name]))
        assert named["encoder.1.weight"].abs().max() > 0


def test_what_is_not_trained_has_no_control(make):
    model = make.model()
    model.encoder[0].weight.requires_grad_(False)
    config = settings(make)
    method = build_method(config)
    sent = method.broadcast(method.start(model.state_dict()))
    update = visit(model, make.data(), make.received(config, make.model(), sent))
    assert not update.tensors  # x, y, c and the number of samples tell the server the change
    change = by_name(make, method.change(make.model().state_dict(), update.model, sent["control-variate"], STEPS))
    assert torch.equal(change["encoder.0.weight"], torch.zeros(make.width, make.inputs).double())
    assert change["encoder.1.weight"].abs().max() > 0 and change["head.weight"].abs().max() > 0


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("steps", [1, 2, 7, 40])
def test_the_steps_that_a_gradient_is_felt_in(steps, momentum):
    velocity = moved = 0.0
    for _ in range(steps):  # gradients of 1 and a step size of 1
        velocity = momentum * velocity + 1.0
        moved += velocity
    assert felt_steps(steps, momentum) == pytest.approx(moved, rel=1e-12)
    assert felt_steps(steps, momentum) == pytest.approx(
        sum(sum(momentum**i for i in range(t)) for t in range(1, steps + 1)), rel=1e-12
    )


def test_with_momentum_a_control_is_still_a_mean_of_gradients(make):
    """c_k after the first round is sum_s felt_s g_s / sum_s felt_s with g_s the gradients that were met on the way."""
    momentum, data = 0.8, make.data()
    config = settings(make, 1, local__momentum=momentum)
    method = build_method(config)
    sent = method.broadcast(method.start(make.model().state_dict()))
    update = visit(make.model(9), data, make.received(config, make.model(), sent))
    model = make.model().double().train()
    velocity = [torch.zeros_like(p) for p in model.parameters()]
    weighted, total = [torch.zeros_like(p) for p in model.parameters()], 0.0
    for step in range(STEPS):
        loss = F.cross_entropy(model((data.train.inputs.double() - 0.1) / 2.0), data.train.labels)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        felt = sum(momentum**later for later in range(STEPS - step))
        total += felt
        with torch.no_grad():
            for p, v, g, w in zip(model.parameters(), velocity, gradients, weighted, strict=True):
                v.mul_(momentum).add_(g)
                p.sub_(LR * v)
                w.add_(felt * g)
    # c_k was 0
    change = by_name(make, method.change(make.model().state_dict(), update.model, sent["control-variate"], STEPS))
    for (name, _), w in zip(model.named_parameters(), weighted, strict=True):
        torch.testing.assert_close(change[name], w / total, msg=name, **CLOSE)


def test_the_steps_of_a_visit_are_counted(make):
    """14 samples in batches of 4 are four steps an epoch: the last batch of two counts as any other."""

    class Counting(Scaffold):
        def correction(self, arrival):
            self.made = 0

            def count():
                self.made += 1

            return count

        def depart(self, arrival, steps):
            self.told = steps
            return super().depart(arrival, steps)

    config = settings(make, 1, local__batch_size=4, local__epochs=2)
    method = Counting(config)
    sent = method.broadcast(method.start(make.model().state_dict()))
    visit(make.model(9), make.data(samples=14), make.received(config, make.model(), sent), method)
    assert method.made == method.told == 8


@pytest.mark.parametrize("share", ["group", "head", "nothing"])
def test_only_a_whole_model_can_be_controlled(make, share):
    config = settings(make, model__share=share)
    with pytest.raises(ConfigError, match=r"^method\.name = 'scaffold' does not work with model\.share = "):
        type(build_method(config)).refuse(config)
