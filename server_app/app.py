"""The ServerApp: settings and data in, the strategy's rounds, the run folder out. The round itself is strategy.py."""

from __future__ import annotations

from logging import INFO, WARNING

from flwr.app import Context
from flwr.common.logger import log
from flwr.serverapp import Grid, ServerApp

import fedhpro_flwr.torch_at_once  # noqa: F401 - first: the others import torch
from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.device import settle
from fedhpro_flwr.exported.describe import describe
from fedhpro_flwr.initial_models import encoders_of, initial_models
from fedhpro_flwr.methods import build_method
from fedhpro_flwr.records import array_record
from fedhpro_flwr.runs.checkpoint import Checkpoint
from fedhpro_flwr.runs.checkpoints import Checkpoints
from fedhpro_flwr.runs.failure import failure_told, refusal_told
from fedhpro_flwr.runs.progress import RoundLog
from fedhpro_flwr.runs.prototype_trace import PrototypeTrace
from fedhpro_flwr.runs.results import write_results
from fedhpro_flwr.runs.resume import open_run
from fedhpro_flwr.runs.run_folder import RunFolder
from fedhpro_flwr.runs.summary import read_alone
from fedhpro_flwr.server.global_evaluation import server_test
from fedhpro_flwr.server.known_data import known_data
from fedhpro_flwr.tracking import Trackers

from .strategy import FedHProStrategy

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """One run. Wrong settings or data, or a lost quorum, end it with a sentence in the folder's failure.txt."""
    with refusal_told(str(context.run_config.get("run-folder", ""))):
        config = RunConfig.parse(context.run_config)
    folder, config, checkpoint = open_run(config, str(context.run_id))
    with (
        folder,
        failure_told(folder, goes_on=checkpoint is not None),
        Trackers(config, folder.path, rounds_before=folder.rounds_before) as trackers,
    ):
        run(grid, config, folder, trackers, checkpoint)


def run(grid: Grid, config: RunConfig, folder: RunFolder, trackers: Trackers, checkpoint: Checkpoint | None) -> None:
    """Check all that can be wrong before the first message leaves; then run the rounds and write the results."""
    settle(config)
    method = build_method(config)
    known = known_data(config)
    method.refuse_data(images=len(known.shape.input_shape) == 3)
    alone = read_alone(config)
    folder.partition(known)
    if known.untrained:
        log(WARNING, "%s", known.untrained)
    models = initial_models(config, known.shape, resumed=checkpoint is not None)
    encoders = encoders_of(method.share, models)
    test = server_test(config, method.share, known.test, models, known.breakdown)
    strategy = FedHProStrategy(
        config,
        test=test,
        observers=[folder, RoundLog(), trackers],
        data=known.fingerprint,
        method=method,
        breakdown=known.breakdown,
        encoders=encoders,
        resume=checkpoint,
        samples=known.samples,
        run=folder.run,
    )
    described = describe(config, known.shape, tuple(encoders) or ("",))
    trace = PrototypeTrace(strategy, config.rounds, checkpoint.trace if checkpoint else {})
    strategy.observers += (trace, Checkpoints(strategy, trace, folder.path))
    trackers.start()
    strategy.start(grid, array_record(next(iter(models.values())).state_dict()))
    content = write_results(strategy, folder, described, trace, known.client_domains, alone)
    folder.summary(content)  # last: from here on it is a finished run
    trackers.summary(content)
    log(INFO, "results: %s", folder.path)
