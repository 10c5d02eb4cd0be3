"""The ServerApp: settings and data in, the strategy's rounds, the run folder out. The round itself is strategy.py."""

from __future__ import annotations

import time
from logging import INFO
from pathlib import Path

from flwr.app import Context
from flwr.common.logger import log
from flwr.serverapp import Grid, ServerApp

from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.curves import draw_curves
from fedhpro_flwr.data.long_tail import class_groups
from fedhpro_flwr.engine import Federation, device_of, federation, initial_model, settle
from fedhpro_flwr.head import Head
from fedhpro_flwr.metrics import evaluate
from fedhpro_flwr.progress import HEADING, round_line
from fedhpro_flwr.records import Tensors, array_record
from fedhpro_flwr.replies import QuorumError
from fedhpro_flwr.reports import RoundReport, Tested, clients_accuracy, headline
from fedhpro_flwr.run_folder import CURVES_FILE, FAILURE_FILE, RunFolder, read_rounds, write_whole

from .strategy import FedHProStrategy, ServerTest

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """One run. Wrong settings or data, or a lost quorum, end it with a sentence in the folder's failure.txt."""
    named = str(context.run_config.get("run-folder", ""))
    try:
        config = RunConfig.parse(context.run_config)
    except ConfigError as error:
        if named:
            Path(named).mkdir(parents=True, exist_ok=True)
            write_whole(Path(named) / FAILURE_FILE, str(error).encode())
        raise
    folder = RunFolder.of(config)
    try:
        run(grid, config, folder)
    except (ConfigError, QuorumError) as error:
        folder.failure(str(error))
        raise
    except Exception as error:
        folder.failure(f"{type(error).__name__}: {error}")
        raise


def run(grid: Grid, config: RunConfig, folder: RunFolder) -> None:
    """Everything that can be wrong is looked at before the first message leaves."""
    began = time.time()
    settle(config)
    divided = federation(config)
    folder.partition(divided.data.class_names, divided.class_counts, divided.parts.fingerprint)
    model = initial_model(config, divided.data)
    strategy = FedHProStrategy(
        config, test=server_test(config, divided), observers=[folder, RoundLog()], data=divided.parts.fingerprint
    )
    strategy.start(grid, array_record(model.state_dict()))

    folder.models(strategy.model, strategy.tensors())
    rounds = read_rounds(folder.path)
    write_whole(folder.path / CURVES_FILE, draw_curves(rounds, config))
    tested = [(line["server_round"], line["tested"]["accuracy"]) for line in rounds if line["tested"]]
    folder.summary(
        {
            "accuracy": headline(tested),
            "last-round": rounds[-1]["tested"],
            "clients-accuracy": clients_accuracy(strategy.tested_clients),
            "clients": strategy.tested_clients,
            "seconds": time.time() - began,
        }
    )
    log(INFO, "results: %s", folder.path)


class RoundLog:
    """A line a round in Flower's own log, for whoever started the run with `flwr run`."""

    def on_round(self, report: RoundReport) -> None:
        """Log the numbers of the progress table under its head."""
        if report.server_round == 1:
            log(INFO, "%s", HEADING)
        log(INFO, "%s", round_line(report.line()))


def server_test(config: RunConfig, divided: Federation) -> ServerTest:
    """Tests the global model on all test data of the run: in total, per class, over head, medium and tail classes."""
    device = device_of(config)
    data = ClientData(None, divided.data.test, divided.data.mean, divided.data.std).to(device)
    groups = class_groups(divided.class_counts.sum(0))
    model = initial_model(config, divided.data).to(device)

    def test(weights: Tensors, head: Head | None) -> Tested:
        model.load_state_dict(weights)
        logits = None if head is None else Head(head.weight.to(device), head.bias.to(device)).logits
        return Tested.of(evaluate(model, data, batch_size=config.evaluation.batch_size, logits=logits), groups)

    return test
