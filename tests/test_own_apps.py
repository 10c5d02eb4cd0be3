"""A user's own model and data: what does not fit is refused in a sentence when a client introduces itself."""

import logging

import pytest
import torch
from torch import nn

from client_app.app import make_client_app
from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.data import Split
from fedhpro_flwr.launch.in_process import InProcessGrid
from fedhpro_flwr.methods import METHODS, Method
from fedhpro_flwr.models import Model
from fedhpro_flwr.records import array_record
from fedhpro_flwr.runs.checkpoints import Checkpoints
from fedhpro_flwr.runs.prototype_trace import PrototypeTrace
from fedhpro_flwr.runs.run_folder import round_file
from fedhpro_flwr.server.replies import QuorumError
from server_app.strategy import FedHProStrategy

CLIENTS, CLASSES, INPUTS, WIDTH = 2, 3, 6, 8


@pytest.fixture(autouse=True)
def states_of_clients(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def new_model(*layers, width=WIDTH, bias=True):
    return Model(nn.Sequential(*layers, nn.Linear(INPUTS, width)), nn.Linear(width, CLASSES, bias=bias))


def own_data(samples=12, train=CLASSES, test=CLASSES, mean=(0.0,), std=(1.0,)):
    draw = torch.Generator().manual_seed(0)
    parts = [
        Split(torch.randn(n, INPUTS, generator=draw), torch.arange(n) % labels)
        for n, labels in ((samples, train), (6, test))
    ]
    return ClientData(*parts, mean, std)


def played(model=new_model, data=own_data, initial=None, clients=CLIENTS, **settings):
    """The strategy after all rounds; client 0 has what is given, the others data that fits."""
    few = {"rounds": 1, "partition__num_partitions": clients, "local__epochs": 1, "hyper_prototypes__matching_steps": 2}
    app = make_client_app(lambda config, task, context: (model(), own_data() if task.partition_id else data()))
    strategy = FedHProStrategy(RunConfig.parse(**(few | settings)))
    strategy.start(InProcessGrid(app, clients), array_record((initial or model)().state_dict()))
    return strategy


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"test": 5}, "a test label is 4, the model has 3 classes"),
        ({"train": 5}, "a training label is 4, the model has 3 classes"),
        ({"mean": (0.0,) * 3}, "mean has 3 numbers; training samples need 6, of each feature, or one"),
        ({"std": ()}, "std has 0 numbers; training samples need 6, of each feature, or one"),
        ({"std": (0.0,)}, r"mean \(0\.0,\) and std \(0\.0,\) must be finite numbers, and std larger than 0"),
        ({"mean": (float("nan"),)}, r"mean \(nan,\) and std \(1\.0,\) must be finite numbers"),
    ],
)
def test_data_that_does_not_fit_is_refused_when_its_client_introduces_itself(data, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        own_data(**data).refuse_unfit(CLASSES)
    with pytest.raises(ConfigError, match=f"^no node could train: client 0: {sentence}"):
        played(data=lambda: own_data(**data), clients=1)


def test_a_number_of_each_feature_and_pictures_of_each_channel_fit():
    own_data(mean=(0.5,) * INPUTS, std=(2.0,) * INPUTS).refuse_unfit(CLASSES)
    picture = Split(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1]))
    ClientData(picture, None, (0.5,), (0.5,)).refuse_unfit(2)
    wider = Split(torch.zeros(1, 1, 4, 6), torch.zeros(1, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"^training samples have the shape \[.*\] and test samples \[1, 4, 6\]$"):
        ClientData(picture, wider, (0.5,), (0.5,)).refuse_unfit(2)
    with pytest.raises(ValueError, match=r"^mean has 3 numbers; test samples need 1, of each channel, or one$"):
        ClientData(None, picture, (0.5,) * 3, (0.5,) * 3).refuse_unfit(2)


def test_tokens_are_not_normalised():
    texts = Split(torch.ones(2, 5, dtype=torch.int32), torch.tensor([0, 1]))
    ClientData(texts, None, (), ()).refuse_unfit(2)


@pytest.mark.parametrize(
    ("given", "kinds"),
    [(None, "NoneType"), ((own_data(), new_model()), "ClientData, Model"), (3, "int")],
)
def test_a_client_side_that_gives_something_else_is_named(given, kinds):
    app = make_client_app(lambda config, task, context: given)
    strategy = FedHProStrategy(RunConfig.parse(partition__num_partitions=CLIENTS))
    with pytest.raises(ConfigError, match=rf"client_side must give \(Model, ClientData\), it gave {kinds}"):
        strategy.start(InProcessGrid(app, CLIENTS), array_record(new_model().state_dict()))


def test_such_a_client_is_set_aside_untrained_and_the_others_go_on():
    strategy = played(data=lambda: own_data(test=5))
    assert strategy.replies.set_aside == ["client 0: a test label is 4, the model has 3 classes"]
    assert [update.partition_id for update in strategy.replies.good] == [1]


def test_a_batch_norm_that_meets_one_sample_says_which_setting_made_it_so():
    norm = lambda: new_model(nn.BatchNorm1d(INPUTS))  # noqa: E731
    strategy = played(norm, lambda: own_data(samples=9), local__batch_size=4)
    (reason,) = strategy.replies.set_aside
    assert reason.startswith("client 0: the model's BatchNorm cannot train on a batch of one sample, and 9 samples at ")
    assert "local.batch-size = 4 make one" in reason
    assert played(norm, lambda: own_data(samples=10), local__batch_size=4).replies.set_aside == []


def test_a_model_with_dropout_repeats_itself():
    def dropping():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return new_model(nn.Dropout(0.5))

    once, again = (played(dropping, rounds=2, seed=4).model.shared for _ in range(2))
    assert all(torch.equal(tensor, again[name]) for name, tensor in once.items())
    other = played(dropping, rounds=2, seed=5).model.shared
    assert not all(torch.equal(tensor, other[name]) for name, tensor in once.items())


def test_a_method_that_the_client_app_does_not_know_is_named_before_round_1(monkeypatch):
    class Mine(Method):
        name = "mine"

    def played_by_server():
        config = RunConfig.parse(method__name="mine", partition__num_partitions=1)
        app = make_client_app(lambda config, task, context: (new_model(), own_data()))
        strategy = FedHProStrategy(config, method=Mine(config))
        strategy.start(InProcessGrid(app, 1), array_record(new_model().state_dict()))

    with pytest.raises(ConfigError, match=r"^no node could train: client 0: method\.name = 'mine' is unknown"):
        played_by_server()


def test_what_a_client_raises_is_named_with_its_type_and_traced(caplog):
    def broken():
        raise KeyError("global-maen")

    with caplog.at_level(logging.ERROR, "flwr"), pytest.raises(QuorumError) as lost:
        visits = []

        def data():  # fit when it introduces itself
            visits.append(1)
            return broken() if len(visits) > 1 else own_data()

        played(data=data, clients__quorum=1.0)
    assert "client 0: KeyError: 'global-maen'" in str(lost.value)
    assert any(record.exc_info and "KeyError" in record.getMessage() for record in caplog.records)


def test_an_encoder_that_forgets_to_pool_is_named_before_round_1():
    unpooled = lambda: Model(nn.Unflatten(1, (2, 3)), nn.Linear(3, CLASSES))  # noqa: E731
    with pytest.raises(ConfigError) as refused:
        played(unpooled, clients=1)
    assert str(refused.value) == (
        "no node could train: client 0: the model's encoder makes [2, 2, 3] of two samples, and its head takes "
        "[2, 3]: flatten or pool in the encoder, or give the head as many inputs"
    )


def test_what_a_client_raises_when_it_introduces_itself_has_its_type_too(caplog):
    def broken():
        raise KeyError("no-such-file")

    with caplog.at_level(logging.ERROR, "flwr"), pytest.raises(ConfigError, match="client 0: KeyError: 'no-such-file'"):
        played(data=broken, clients=1)
    assert any(record.exc_info and "no-such-file" in record.getMessage() for record in caplog.records)


def test_a_head_of_another_width_names_no_architecture_that_is_not_there():
    with pytest.raises(ConfigError) as refused:
        played(lambda: new_model(width=4), initial=new_model)
    assert str(refused.value) == (
        "client 0 has features of width 4, the server's head of width 8; "
        "give every model the same width (in_features of its head)"
    )


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_head_without_a_bias_trains_or_is_refused_before_a_message(method):
    without = lambda: new_model(bias=False)  # noqa: E731
    if method in ("fedhpro", "creff"):
        with pytest.raises(ConfigError, match="the model's head has no bias"):
            played(without, method__name=method)
    else:
        strategy = played(without, method__name=method)
        assert len(strategy.replies.good) == CLIENTS


@pytest.mark.parametrize("settings", [{"method__name": "moon"}, {"model__share": "head"}])
def test_layers_that_share_a_weight_train_in_two_rounds(settings):
    layer = nn.Linear(INPUTS, INPUTS)
    strategy = played(lambda: new_model(layer, nn.Tanh(), layer), rounds=2, **settings)
    assert strategy.replies.set_aside == [] and len(strategy.tests) == CLIENTS


def test_a_state_path_that_cannot_be_written_is_named_before_training(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"^no node could train: client 0: clients\.state-path = '.*file': "):
        played(clients__state_path=str(tmp_path / "file"), method__name="moon")


def test_no_rounds_are_no_rounds():
    config = RunConfig.parse(rounds=3, partition__num_partitions=1)
    app = make_client_app(lambda config, task, context: (new_model(), own_data()))
    strategy = FedHProStrategy(config)
    begun = new_model().state_dict()
    result = strategy.start(InProcessGrid(app, 1), array_record(begun), num_rounds=0)
    assert result.train_metrics_clientapp == {} and list(result.evaluate_metrics_clientapp) == [0]
    assert all(torch.equal(tensor, begun[name]) for name, tensor in strategy.model.shared.items())


def test_a_strategy_is_started_once():
    config = RunConfig.parse(rounds=1, partition__num_partitions=1)
    app = make_client_app(lambda config, task, context: (new_model(), own_data()))
    strategy = FedHProStrategy(config)
    with pytest.raises(ConfigError):  # what was no start may be tried again
        strategy.start(InProcessGrid(app, 1), array_record({}))
    strategy.start(InProcessGrid(app, 1), begun := array_record(new_model().state_dict()))
    with pytest.raises(ConfigError, match=r"^this strategy has been started; make another one for another run$"):
        strategy.start(InProcessGrid(app, 1), begun)


def test_the_last_round_that_is_played_has_a_checkpoint(tmp_path):
    config = RunConfig.parse(rounds=20, checkpoint__every=10, partition__num_partitions=1)
    app = make_client_app(lambda config, task, context: (new_model(), own_data()))
    strategy = FedHProStrategy(config)
    trace = PrototypeTrace(strategy, config.rounds, {})
    strategy.observers += (trace, Checkpoints(strategy, trace, tmp_path))
    strategy.start(InProcessGrid(app, 1), array_record(new_model().state_dict()), num_rounds=2)
    assert [path.name for path in (tmp_path / "checkpoint").iterdir()] == [round_file(tmp_path, 2).name]
