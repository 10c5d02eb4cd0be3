"""Hyper-prototypes in place of a method's own prototypes: the server's half is FedHPro's."""

import pytest
import torch

from fedhpro_flwr.hyper_prototypes import HyperPrototypes
from fedhpro_flwr.methods import Batch, build_method
from fedhpro_flwr.prototypes import Prototypes

HYPER = {
    "method__prototypes": "hyper",
    "hyper_prototypes__prototypes_per_class": 3,
    "hyper_prototypes__matching_steps": 4,
    "partition__num_partitions": 3,
    "rounds": 1,
    "local__epochs": 2,
}


def some_clients(make):
    return [make.data(seed, labels, 6 + 3 * seed) for seed, labels in enumerate([(0, 1), (1, 3), (0, 3)])]


@pytest.mark.parametrize("share", ["all", "head"])
def test_the_servers_state_after_a_round_is_fedhpros(make, share):
    plugged = make.run(make.config("fedproto", **HYPER, model__share=share), some_clients(make))
    fedhpro = make.run(
        make.config("fedhpro", **(HYPER | {"method__prototypes": "own"}), model__share=share), some_clients(make)
    )
    assert set(plugged.tensors()) == {"hyper-prototypes"}
    assert torch.equal(plugged.tensors()["hyper-prototypes"], fedhpro.tensors()["hyper-prototypes"])
    assert plugged.method_metrics == fedhpro.method_metrics and plugged.method_metrics["classes-matched"] == 3
    start = fedhpro.method.start(make.model().state_dict()).hyper_prototypes.vectors
    assert not torch.equal(plugged.tensors()["hyper-prototypes"], start)
    # The clients' losses differ, and with them the models.
    assert not torch.equal(plugged.model.shared["head.weight"], fedhpro.model.shared["head.weight"])


def test_the_clients_loss_refers_to_the_class_means(make):
    config = make.config("fedproto", **HYPER)
    method = build_method(config)
    sent = method.broadcast(method.start(make.model().state_dict()))
    arrival = make.arrival(config, make.model(), make.data(), sent)
    z = torch.randn(6, make.width, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 3, 2, 0])
    means = HyperPrototypes(sent["hyper-prototypes"]).means()
    wanted = sum(((z[i] - means[label]) ** 2).mean() for i, label in enumerate(labels.tolist())) / 6
    torch.testing.assert_close(method.local_loss(arrival)(Batch(z, labels, z)), wanted)


def test_the_clients_send_class_gradients_and_no_class_means(make):
    config = make.config("fedproto", **HYPER)
    method = build_method(config)
    state = method.start(make.model().state_dict())
    arrival = make.arrival(config, make.model(), make.data(), method.broadcast(state))
    assert method.upload(arrival).keys() == method.expects(state).keys()
    assert set(method.expects(state)) == {"class-gradients", "class-ids", "class-counts"}
    assert method.depart(arrival, 1).upload == {}


def test_a_calibration_of_the_preset_is_left_out(make):
    config = make.config("fedproto", **HYPER, preset="reference")
    assert config.calibration.head != "off"
    method = build_method(config)
    state = method.start(make.model().state_dict())
    assert set(method.tensors(state)) == set(method.broadcast(state)) == {"hyper-prototypes"}
    assert set(method.expects(state)) == {"class-gradients", "class-ids", "class-counts"}


def test_what_else_fedhpro_does_is_left_out(make):
    config = make.config("fedproto", **HYPER, losses__logit_adjustment=1.0)
    method = build_method(config)
    sent = method.broadcast(method.start(make.model().state_dict()))
    assert method.logit_offsets(make.arrival(config, make.model(), make.data(), sent)) is None
    means = HyperPrototypes(sent["hyper-prototypes"]).means()
    z = torch.randn(6, make.width, generator=torch.Generator().manual_seed(0))
    assert torch.equal(method.prototype_scores(sent)(z), Prototypes(means, torch.ones(4, dtype=torch.bool)).scores()(z))
