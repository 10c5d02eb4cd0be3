"""A user's own ServerApp, in a package that happens to be called as this project's is."""

import torch
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from shared_model import my_model

from fedhpro_flwr import FedHProStrategy, RunConfig, array_record
from fedhpro_flwr.runs.progress import RoundLog

app = ServerApp()
results = []


@app.main()
def main(grid: Grid, context: Context) -> None:
    torch.manual_seed(0)
    config = RunConfig.parse({"rounds": 2, "partition.num-partitions": 3, "local.epochs": 1, "local.lr": 0.01})
    strategy = FedHProStrategy(config, observers=[RoundLog()])
    results.append((strategy, strategy.start(grid, array_record(my_model().state_dict()))))
