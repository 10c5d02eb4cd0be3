"""`fedhpro run` with fault D1 of the released code, to replay the run whose log the authors released.

    python benchmarks/released_run.py cifar10-lt                    # any experiment, any options of `fedhpro run`
    fedhpro run cifar10-lt --engine in-process                      # the same without the fault

The release never copies a client's model: all ten are one object, and their mean is the model of whichever client
trained last. It draws the order of the clients anew for each round, all orders from one generator. Here the order is
the same, and only its last client trains: what the others learn is lost in the release too. They measure their class
gradients, which are taken before training. So a round costs a tenth of the training.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from unittest.mock import patch

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from client_app import app, visit  # noqa: E402
from fedhpro_flwr import cli, exchange  # noqa: E402
from fedhpro_flwr.client.personal import PersonalState  # noqa: E402
from fedhpro_flwr.client_data import ClientData  # noqa: E402
from fedhpro_flwr.models import Model  # noqa: E402
from fedhpro_flwr.records import Broadcast, Update  # noqa: E402
from fedhpro_flwr.seeding import sample_partitions  # noqa: E402
from fedhpro_flwr.settings.sections import AggregationOptions  # noqa: E402


def last_client(clients: int, seed: int, server_round: int) -> int:
    """The client that trains last in a round of the release."""
    return sample_partitions(clients, clients, seed=seed, server_round=server_round, sampling="stream")[-1]


def training_if_last(model: Model, data: ClientData, received: Broadcast, *, state: PersonalState | None) -> Update:
    """`visit.visit`, but only the last client of the round trains; the others send the model that they received."""
    config, task = received.config, received.task
    if task.partition_id == last_client(config.partition.num_partitions, config.seed, task.server_round):
        return visit.visit(model, data, received, state=state)
    with patch.object(visit, "train", lambda *_: 0.0):
        return visit.visit(model, data, received, state=state)


def the_trained_model(
    _: AggregationOptions, models: Sequence[Mapping[str, Tensor]], examples: Sequence[int], sent: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """In place of the mean: the one model that is not the one that was sent.

    Raises:
        ValueError: no model was trained, or several were; clients that are not asked in a round cause it.
    """
    (trained,) = (m for m in models if any(not torch.equal(tensor, sent[name]) for name, tensor in m.items()))
    return dict(trained)


def main() -> None:
    """Run it, and exit with the status of `fedhpro run`."""
    alias = patch.object(exchange, "average_models", the_trained_model)
    with patch.object(app, "visit", training_if_last), alias:
        raise SystemExit(cli.main(["run", *sys.argv[1:], "--engine", "in-process"]))


if __name__ == "__main__":
    main()
