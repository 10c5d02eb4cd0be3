"""FedTGP and FedSA through the real apps: whatever of the model travels, with their own and with hyper-prototypes."""

import json
import math

import pytest
from safetensors.torch import load_file

from client_app.app import app as client_app
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.engine import RESIDENT
from fedhpro_flwr.launch.in_process import run_in_process
from fedhpro_flwr.methods import METHODS
from server_app.app import app as server_app

SMALL = {
    "rounds": 2,
    "data.train-limit": 120,
    "partition.num-partitions": 3,
    "model.name": "mlp",
    "model.width": 8,
    "local.epochs": 1,
    "local.lr": 0.01,
    "fedtgp.server-epochs": 2,
    "hyper-prototypes.matching-steps": 2,
    "evaluation.nearest-prototype": True,
}
MODES = [(share, kind) for share in ("all", "head", "nothing") for kind in ("own", "hyper")]
MODES.remove(("nothing", "hyper"))


def run(folder, **settings):
    """Every bit of the tensors that a run leaves, by file and name, and its rounds."""
    RESIDENT.entries.clear()  # as a process that has just started
    config = RunConfig.parse(SMALL | {"run-folder": str(folder)} | settings)
    run_in_process(server_app, client_app, config.partition.num_partitions, config.flat())
    files = [path for path in folder.rglob("*.safetensors") if not path.name.startswith(("round-1.", "visit-1-"))]
    bits = {
        # Of a client's visit its round: the rest of its name is drawn anew.
        (path.name if path.parent == folder else f"{path.parent.name} {path.name[:8]}", name): tensor.numpy().tobytes()
        for path in files
        for name, tensor in load_file(path).items()
    }
    return bits, [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", ["fedtgp", "fedsa"])
@pytest.mark.parametrize(("share", "prototypes"), MODES)
def test_two_rounds_are_finite_and_repeated_bit_for_bit(name, share, prototypes, tmp_path):
    settings = {"method.name": name, "model.share": share, "method.prototypes": prototypes}
    bits, rounds = run(tmp_path / "one", **settings)
    again, _ = run(tmp_path / "two", **settings)
    assert bits == again and len(rounds) == 2
    assert all(math.isfinite(line["train_loss"]) for line in rounds)
    down = {"hyper-prototypes"} if prototypes == "hyper" else {"global-prototypes", "known-classes"}
    assert rounds[1]["bytes_down"].keys() == down | {"model"}
    assert (rounds[1]["bytes_down"]["model"] == 0) == (share == "nothing")
    assert ("method.safetensors", "hidden-weight") in bits or (name, prototypes) != ("fedtgp", "own")
    remembers = any(tensor == "memory.class-prototypes" for _, tensor in bits)
    assert remembers == (name == "fedsa")


@pytest.mark.parametrize("name", ["fedtgp", "fedsa"])
def test_hyper_prototypes_need_a_shared_head(name):
    config = RunConfig.parse({"method.name": name, "method.prototypes": "hyper", "model.share": "nothing"})
    with pytest.raises(ConfigError, match=r"^method\.prototypes = 'hyper' needs a head that clients and server share"):
        METHODS.find(name).refuse(config)
