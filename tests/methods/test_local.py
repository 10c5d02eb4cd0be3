"""Local-only training: each client goes on with its own model, as if there were nobody else."""

import copy

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from fedhpro_flwr.methods import build_method


def some_clients(make):
    return [make.data(seed, labels, 6 + 3 * seed) for seed, labels in enumerate([(0, 1), (1, 3), (0, 3)])]


def kept(states, client, server_round):
    (file,) = states.glob(f"*/client-{client}/visit-{server_round}-*.safetensors")
    return load_file(file)


@pytest.mark.parametrize("share", ["all", "group", "head", "nothing"])
def test_nothing_travels_whatever_is_to_be_shared(make, share):
    config = make.config("local", model__share=share, partition__num_partitions=3, rounds=1)
    assert build_method(config).share == "nothing"
    strategy = make.run(config, some_clients(make))
    assert strategy.model.shared == {} and strategy.tensors() == {}
    assert all(update.model == {} and update.tensors == {} for update in strategy.replies.good)


def test_a_client_trains_on_as_if_alone(make, states_of_clients):
    """Two rounds of three full batches are six steps of SGD without momentum."""
    config = make.config("local", partition__num_partitions=3, rounds=2, local__epochs=3)
    make.run(config, some_clients(make))
    for client, data in enumerate(some_clients(make)):
        model = make.model(1).train()  # what the client side began with
        for _ in range(6):
            loss = F.cross_entropy(model((data.train.inputs - 0.1) / 2.0), data.train.labels)
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            with torch.no_grad():
                for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                    parameter.sub_(0.1 * gradient)
        found = kept(states_of_clients, client, 2)
        assert found.keys() == model.state_dict().keys()
        for name, value in model.state_dict().items():
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6, msg=name)


def test_a_client_does_not_feel_the_others(make, states_of_clients, tmp_path, monkeypatch):
    clients = some_clients(make)
    make.run(make.config("local", partition__num_partitions=3), clients)
    before = copy.deepcopy(kept(states_of_clients, 0, 2))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
    make.run(make.config("local", partition__num_partitions=3), [clients[0], make.data(8), make.data(9)])
    after = kept(tmp_path / "other" / "fedhpro", 0, 2)
    assert all(torch.equal(after[name], value) for name, value in before.items())
