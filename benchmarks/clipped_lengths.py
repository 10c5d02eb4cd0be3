"""How much of a model's move is BatchNorm's statistics, and what clipping to the median makes of its weights.

    python benchmarks/clipped_lengths.py          # FedAvg on digits-small, honest clients, eight rounds

Prints a line for each client and round:

- the statistics' share of |w_k - w|^2, the client's move;
- what `aggregation.clip-to-median` leaves of the weights' own move (1 = all of it);
- what it would leave if weights and statistics had one common length.

The global model is the plain mean: nothing is clipped on the way.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

import torch  # noqa: E402

from client_app.visit import train  # noqa: E402
from fedhpro_flwr.aggregation import weighted_mean  # noqa: E402
from fedhpro_flwr.engine import federation  # noqa: E402
from fedhpro_flwr.initial_models import initial_model  # noqa: E402
from fedhpro_flwr.robust import shrink_factors, update_norms  # noqa: E402
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
        apart = torch.tensor([update_norms(each, sent) for each in trained], dtype=torch.float64)  # [N, 2]
        together = apart.square().sum(dim=1, keepdim=True).sqrt()  # [N, 1]
        norms = torch.cat([apart, together], dim=1)
        left = shrink_factors(norms, torch.ones_like(norms, dtype=torch.bool), to_median=True)
        shares = (apart[:, 1] / together[:, 0]).square()
        for client, (share, of_weights, of_both) in enumerate(
            zip(shares.tolist(), left[:, 0].tolist(), left[:, 2].tolist(), strict=True)
        ):
            print(
                f"round {server_round} client {client}: statistics {share:.2f}, "
                f"left {of_weights:.2f}, with one length {of_both:.2f}"
            )
        sent = weighted_mean(trained, samples)


if __name__ == "__main__":
    main()
