"""What a run leaves in its folder after the last round: models, prototypes, curves, and the summary last."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fedhpro_flwr.accuracies import ClientsTested
from fedhpro_flwr.exported.describe import finished, with_tested_head
from fedhpro_flwr.exported.description import ModelDescription
from fedhpro_flwr.runs.curves import draw_curves
from fedhpro_flwr.runs.prototype_trace import PrototypeTrace
from fedhpro_flwr.runs.run_folder import CURVES_FILE, RunFolder, read_rounds
from fedhpro_flwr.runs.summary import Line, judging_data, summary
from fedhpro_flwr.whole_file import write_whole

if TYPE_CHECKING:
    from server_app.strategy import FedHProStrategy


def write_results(
    server: FedHProStrategy,
    folder: RunFolder,
    described: Mapping[str, ModelDescription],
    trace: PrototypeTrace,
    domains: Sequence[str],
    alone: Sequence[Line],
) -> dict[str, Any]:
    """Write all files but the summary, which makes the run a finished one.

    Args:
        server: the strategy.
        folder: of the run.
        described: what each model's file says of the model, by group.
        trace: the prototypes round by round.
        domains: of each client [N].
        alone: the clients of a local-only run to compare with; see `summary`.

    Returns:
        The content of the summary, which is to be written last.
    """
    rounds = read_rounds(folder.path)
    head = server.method.tested_head(server.method.broadcast(server.state))
    model, state = with_tested_head(server.model, server.method.tensors(server.state), head)
    folder.models(model, state, finished(described, rounds[-1]["tested"], calibrated=head is not None))
    trace.write(folder.path)
    final = ClientsTested.of(server.tests, server.breakdown)
    write_whole(folder.path / CURVES_FILE, draw_curves(rounds, server.config, final))
    said = summary(rounds, server.tests, server.breakdown, domains, alone, judging_data(server.config))
    return said | {"seconds": time.monotonic() - folder.began}
