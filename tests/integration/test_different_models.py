"""Clients with models of their own: what travels, what stays in files, and that a run is repeated bit for bit."""

import json
from pathlib import Path

import pytest
import torch
from flwr.app import Context, RecordDict
from safetensors.torch import load_file

from client_app.app import app as client_app
from fedhpro_flwr.client.configured_client import architecture_of
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.engine import RESIDENT
from fedhpro_flwr.launch.in_process import InProcessGrid, run_in_process
from server_app.app import app as server_app

SMALL = {
    "rounds": 3,
    "data.train-limit": 150,
    "partition.num-partitions": 4,
    "partition.alpha": 1.0,
    "model.width": 16,
    "local.epochs": 1,
    "hyper-prototypes.matching-steps": 3,
}
GROUPS = {"model.groups": "cnn=2, mlp=2"}


class Run:
    """A finished run of the real apps on digits."""

    def __init__(self, folder, **settings):
        RESIDENT.entries.clear()  # as a process that has just started
        self.folder = folder
        config = RunConfig.parse(SMALL | {"run-folder": str(folder)} | settings)
        run_in_process(server_app, client_app, config.partition.num_partitions, config.flat())
        self.rounds = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        self.summary = json.loads((folder / "summary.json").read_text())

    def kept(self, client):
        """By round; the rest of a visit's name is drawn anew in each run."""
        files = sorted(self.folder.glob(f"clients/*/client-{client}/visit-*"))
        return {int(path.name.split("-")[1]): load_file(path) for path in files}

    def bits(self):
        files = {path.name: load_file(path) for path in self.folder.glob("*.safetensors")}
        files |= {f"{client} {name}": tensors for client in range(4) for name, tensors in self.kept(client).items()}
        return {f"{file} {name}": t.numpy().tobytes() for file, tensors in files.items() for name, t in tensors.items()}


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    settings = GROUPS | {"model.share": "head", "evaluation.nearest-prototype": True}
    return [Run(tmp_path_factory.mktemp("heads"), **settings) for _ in range(2)]


def test_only_heads_prototypes_and_class_gradients_travel(heads):
    for line in heads[0].rounds:
        assert set(line["bytes_down"]) == {"model", "hyper-prototypes"}
        assert line["bytes_down"]["model"] == 4 * (128 + 10 * 16 * 4 + 128 + 10 * 4)  # W [10, 16], b [10], headers
        assert {"model", "class-gradients", "class-ids", "class-counts"} <= set(line["bytes_up"])
    assert set(load_file(heads[0].folder / "model.safetensors")) == {"head.weight", "head.bias"}


def test_every_encoder_stays_with_its_client_and_learns(heads):
    for client, size in enumerate((18, 4, 18, 4)):  # tensors of the two encoders
        kept = heads[0].kept(client)
        assert list(kept) == [2, 3]  # what the two checkpoints may ask for
        before, after = kept.values()
        assert all(name.startswith("encoder.") for name in after)
        assert len(after) == size
        assert any(not torch.equal(before[name], after[name]) for name in after)
    one, other = (heads[0].kept(client)[3] for client in (0, 2))
    assert one.keys() == other.keys()
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_the_same_run_twice_gives_the_same_bits_in_every_file(heads):
    assert heads[0].bits() == heads[1].bits()


def test_the_summary_speaks_of_clients_and_architectures(heads):
    summary = heads[0].summary
    assert summary["accuracy-of"] == "mean over clients"
    assert summary["last-round"] is None
    clients = summary["clients-tested"]
    assert set(clients["by_architecture"]) == {"cnn", "mlp"}
    assert 0 < clients["by_prototype"] <= 1
    assert [client["architecture"] for client in summary["clients"]] == ["cnn", "mlp", "cnn", "mlp"]
    accuracies = [client["test-correct"] / client["test-examples"] for client in summary["clients"]]
    assert clients["accuracy"] == summary["accuracy"]["last"] == pytest.approx(sum(accuracies) / 4)
    assert clients["worst"] == min(accuracies)


def test_encoders_of_a_group_are_averaged_and_tested(tmp_path):
    run = Run(tmp_path, **GROUPS, **{"model.share": "group"})
    assert not (tmp_path / "clients").exists()
    cnn, mlp = (load_file(tmp_path / f"model-{name}.safetensors") for name in ("cnn", "mlp"))
    assert torch.equal(cnn["head.weight"], mlp["head.weight"])
    assert set(cnn) != set(mlp)
    tested = run.rounds[-1]["tested"]
    assert tested["accuracy"] == pytest.approx(sum(tested["by_architecture"].values()) / 2)
    assert run.summary["accuracy-of"] == "test data"


def test_one_architecture_in_a_group_is_the_plain_average(tmp_path):
    plain = Run(tmp_path / "plain", **{"model.name": "mlp"})
    group = Run(tmp_path / "group", **{"model.groups": "mlp=4", "model.share": "group"})
    assert plain.bits() == group.bits()


def test_local_training_sends_nothing_and_is_what_others_are_measured_by(tmp_path):
    alone = Run(tmp_path / "alone", **{"method.name": "local"})
    assert all(line["bytes_down"]["model"] == line["bytes_up"]["model"] == 0 for line in alone.rounds)
    assert {name.split(".")[0] for name in alone.kept(0)[3]} == {"encoder", "head"}
    together = Run(tmp_path / "together", **{"evaluation.alone": str(tmp_path / "alone")})
    assert alone.summary["worse-than-alone"] is None
    assert together.summary["worse-than-alone"] in (0.0, 0.25, 0.5, 0.75, 1.0)
    with pytest.raises(ConfigError, match=r"has seed = 0, this run 1$"):
        Run(tmp_path / "other", **{"evaluation.alone": str(tmp_path / "alone"), "seed": 1})
    with pytest.raises(ConfigError, match=r"is a run of fedhpro, method\.name = 'local' is needed"):
        Run(tmp_path / "third", **{"evaluation.alone": str(tmp_path / "together")})
    with pytest.raises(ConfigError, match=r"^evaluation\.alone = '.*nowhere' holds no finished run$"):
        Run(tmp_path / "none", **{"evaluation.alone": str(tmp_path / "nowhere")})


@pytest.mark.parametrize("own", [{"method.name": "local"}, GROUPS | {"model.share": "head"}])
def test_the_last_test_is_of_the_models_that_the_last_round_left(own, tmp_path):
    """What a run ends with is what the next round of a longer run begins with."""
    short, long = Run(tmp_path / "short", **own, rounds=2), Run(tmp_path / "long", **own, rounds=3)
    received = long.rounds[2]["received"]
    assert short.summary["clients-tested"] == received
    assert short.summary["accuracy"]["last"] == received["accuracy"]
    assert long.summary["clients-tested"] != received


def test_a_local_run_may_have_different_models(tmp_path):
    for share in ("all", "group"):
        run = Run(tmp_path / share, **GROUPS, **{"method.name": "local", "model.share": share, "rounds": 1})
        assert set(run.summary["clients-tested"]["by_architecture"]) == {"cnn", "mlp"}


def test_clients_that_are_not_drawn_in_a_round_keep_their_models(tmp_path):
    own = {"method.name": "local", "clients.per-round": 2, "rounds": 4}
    run = Run(tmp_path, **own)
    drawn = {client["partition-id"]: line["server_round"] for line in run.rounds for client in line["clients"]}
    for client, last in drawn.items():
        assert max(run.kept(client)) == last
    # Means over a few drawn clients are no measure of all of them: only the last test counts.
    assert (
        run.summary["accuracy"]["best"] == run.summary["accuracy"]["last"] == run.summary["clients-tested"]["accuracy"]
    )


def test_what_was_kept_of_another_model_is_named(tmp_path):
    class Swapped(InProcessGrid):
        """The node of client 0 comes back with another model after round 1."""

        def push_messages(self, messages):
            messages = list(messages)
            if messages[0].metadata.message_type == "train" and messages[0].content["config"]["task.server-round"] == 2:
                self._contexts[100].node_config["model"] = "mlp"
            return super().push_messages(messages)

    config = RunConfig.parse(SMALL | {"run-folder": str(tmp_path), "model.share": "head"})
    grid = Swapped(client_app, 4, config.flat())
    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=config.flat())
    server_app(grid, context)
    rounds = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rounds[0]["set_aside"] == []
    assert rounds[1]["set_aside"][0].startswith("client 0: what this client kept is of another model: ")


def test_local_clients_go_on_where_they_stopped(tmp_path):
    run = Run(tmp_path, **{"method.name": "local", "rounds": 6})
    losses = [line["train_loss"] for line in run.rounds]
    assert losses == sorted(losses, reverse=True)


def test_models_of_two_widths_end_the_run_before_round_1(tmp_path):
    settings = {"model.groups": "resnet10=2, cnn=2", "model.share": "head", "model.width": 0}
    with pytest.raises(
        ConfigError, match=r"client 1 \(cnn\) has features of width 64, client 0 \(resnet10\) of width 256"
    ):
        Run(tmp_path, **settings, **{"data.name": "npz", "data.path": pictures(tmp_path)})
    assert not (tmp_path / "metrics.jsonl").read_text()


def pictures(folder: Path) -> str:
    import numpy as np

    file = folder / "pictures.npz"
    images = np.random.default_rng(0).integers(0, 256, (80, 12, 12), dtype=np.uint8)
    np.savez(file, images=images, labels=np.arange(80) % 4)
    return str(file)


def test_a_node_may_bring_an_architecture_of_its_own_where_only_heads_travel():
    def named(model, partition=0, **settings):
        who = {"model": model, "partition-id": 0}
        node = Context(run_id=1, node_id=1, node_config=who, state=RecordDict(), run_config={})
        return architecture_of(RunConfig.parse(settings), partition, node)

    assert named("mlp", **{"model.share": "head"}) == "mlp"
    assert named("mlp", partition=1, **{"model.share": "head"}) == "cnn"  # another client that this node plays as well
    assert named("", **{"model.share": "head"}) == named("cnn") == "cnn"
    # Nor does an encoder travel where nothing does.
    assert named("mlp", **{"method.name": "local"}) == "mlp"
    assert named("mlp", **{"method.name": "fedproto", "model.share": "nothing"}) == "mlp"
    with pytest.raises(ValueError, match=r"the node config says model = 'mlp', but cnn is averaged"):
        named("mlp")
