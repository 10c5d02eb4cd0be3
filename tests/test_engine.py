"""What a process keeps between messages."""

import numpy as np
import pytest
import torch

from fedhpro_flwr.code_fingerprint import code_fingerprint
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.device import device_of
from fedhpro_flwr.engine import Resident, configured_model, federation
from fedhpro_flwr.initial_models import initial_model, initial_models


def test_a_value_is_made_once_for_a_key_and_one_is_kept():
    resident, made = Resident(), []

    def make(name):
        made.append(name)
        return name

    assert [resident.get("kind", key, lambda key=key: make(key)) for key in "aabab"] == list("aabab")
    assert made == list("abab")
    assert list(resident.entries) == ["kind"]


def test_the_data_is_read_once_for_all_partitions_of_it():
    one = federation(RunConfig.parse(seed=0))
    two = federation(RunConfig.parse(seed=1))
    assert one.data is two.data
    assert one.parts.fingerprint != two.parts.fingerprint


def test_clients_divide_all_training_and_test_samples():
    divided = federation(RunConfig.parse(partition__num_partitions=4))
    clients = [divided.client(partition) for partition in range(4)]
    assert sum(len(client.train) for client in clients) == len(divided.data.train)
    assert sum(len(client.test) for client in clients if client.test) == len(divided.data.test)
    assert divided.class_counts.sum() == len(divided.data.train)
    with pytest.raises(ValueError, match=r"^partition-id = 4: this run has partitions 0 to 3$"):
        divided.client(4)


def test_the_first_model_depends_on_the_seed_alone():
    config, other = RunConfig.parse(seed=3), RunConfig.parse(seed=4)
    data = federation(config).data
    first, again, different = (initial_model(each, data).state_dict() for each in (config, config, other))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.weight"], different["head.weight"])
    assert configured_model(config, data) is configured_model(config, data)


def test_a_model_that_another_client_trained_begins_anew():
    config = RunConfig.parse()
    data = federation(config).data
    with torch.no_grad():
        configured_model(config, data).head.weight.zero_()
    first = initial_model(config, data).state_dict()
    assert all(torch.equal(value, first[name]) for name, value in configured_model(config, data).state_dict().items())


def test_what_another_client_froze_is_trained_again():
    config = RunConfig.parse()
    data = federation(config).data
    configured_model(config, data).encoder.requires_grad_(False)
    assert all(parameter.requires_grad for parameter in configured_model(config, data).parameters())


def test_architectures_are_built_in_turn_and_kept_side_by_side():
    config = RunConfig.parse({"model.groups": "mlp=6, cnn=4", "model.share": "head"})
    data = federation(config).data
    assert list(initial_models(config, data)) == ["mlp", "cnn"]
    assert config.model.architectures(10) == ["mlp", "cnn"] * 4 + ["mlp"] * 2
    assert RunConfig.parse().model.architectures(3) == ["cnn"] * 3
    one, other = configured_model(config, data, "mlp"), configured_model(config, data, "cnn")
    assert configured_model(config, data, "mlp") is one is not other


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks what happens without CUDA, and this machine has it")
def test_a_device_that_is_not_there_is_refused():
    assert device_of(RunConfig.parse()) == torch.device("cpu")
    with pytest.raises(ConfigError, match=r"^device = 'cuda': this process sees no CUDA device"):
        device_of(RunConfig.parse(device="cuda"))


def test_a_model_that_cannot_take_the_data_is_refused():
    config = RunConfig.parse(model__name="resnet10", model__width=0)
    with pytest.raises(ConfigError, match="images of at least"):
        initial_model(config, federation(config).data)


def test_data_of_one_class_is_refused_by_its_file(tmp_path):
    file = tmp_path / "one.npz"
    np.savez(file, images=np.zeros((30, 6)), labels=np.zeros(30, dtype=np.int64))
    with pytest.raises(ConfigError, match=rf"^{file}: all samples are of one class; add some of another$"):
        federation(RunConfig.parse(data__name="npz", data__path=str(file)))


def test_the_code_has_one_fingerprint():
    assert code_fingerprint() == code_fingerprint()
    assert len(code_fingerprint()) == 16
