"""How much of a model's move is BatchNorm's statistics, and what clipping to the median makes of its weights.

    python benchmarks/clipped_lengths.py          # FedAvg on digits-small, honest clients, eight rounds

Prints a line a client and round: the statistics' share of |w_k - w|^2, and what is left of the weights' own move after
`aggregation.clip-to-median` (1 = all of it), beside what would be left if the weights' length alone were looked at. The
global model is the plain mean: nothing is clipped on the way.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from client_app.visit import train  # noqa: E402
from fedhpro_flwr.aggregation import STATISTICS, weighted_mean  # noqa: E402
from fedhpro_flwr.engine import federation, initial_model  # noqa: E402
from fedhpro_flwr.robust import clipped_models, update_norm  # noqa: E402
from fedhpro_flwr.seeding import Draws  # noqa: E402
from fedhpro_flwr.settings.from_command_line import prepare  # noqa: E402


def main() -> None:
    """Play the rounds and print the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conf", default="digits-small", help="an experiment of conf/, or a TOML file")
    parser.add_argument("--rounds", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = prepare(options.conf, ["method.name=fedavg"])
    clients = federation(config)
    model = initial_model(config, clients.data)
    sent = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for server_round in range(1, options.rounds + 1):
        trained, samples = [], []
        for client in range(config.partition.num_partitions):
            model.load_state_dict(sent)
            data = clients.client(client)
            assert data.train is not None
            train(model, data, config.local, None, Draws(config.seed, server_round, client))
            trained.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
            samples.append(len(data.train))
        moves = [update_norm(weights(each), sent) for each in trained]
        clipped = clipped_models(trained, sent, to_median=True)
        alone = clipped_models([weights(each) for each in trained], sent, to_median=True)
        for client, (each, move) in enumerate(zip(trained, moves, strict=True)):
            share = 1 - (move / update_norm(each, sent)) ** 2
            left, left_alone = (update_norm(weights(of[client]), sent) / move for of in (clipped, alone))
            print(
                f"round {server_round} client {client}: statistics {share:.2f}, left {left:.2f}, alone {left_alone:.2f}"
            )
        sent = weighted_mean(trained, samples)


def weights(model: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A model without the statistics."""
    return {name: tensor for name, tensor in model.items() if not name.endswith(STATISTICS)}


if __name__ == "__main__":
    main()
