"""The test of the global model on the server, if there is a global model and the server has test data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from logging import WARNING

from flwr.common.logger import log

from fedhpro_flwr.accuracies import Breakdown, ServerTested
from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.device import device_of
from fedhpro_flwr.exchange import GlobalModel
from fedhpro_flwr.features import encode
from fedhpro_flwr.metrics import Evaluation, Scores, evaluate_each
from fedhpro_flwr.models import Model
from fedhpro_flwr.settings.sections import Share

UNTESTED = (
    "no accuracy will be known: the server has nothing to test, and privacy.withhold keeps the clients' own tests"
)
MANY = 100  # samples, taken evenly from the test data
COLLAPSED = (
    "the encoder%s gives every test sample the same features, as one whose ReLUs are all dead does, and training will "
    "hardly mend it: lower local.lr or the weights of the losses, or raise model.width"
)
# Tests the global model: by its head or, where given, by scores in its place; and by the nearest prototypes.
ServerTest = Callable[[GlobalModel, Scores | None, Scores | None], ServerTested]


def server_test(
    config: RunConfig, share: Share, known: ClientData | None, models: Mapping[str, Model], breakdown: Breakdown
) -> ServerTest | None:
    """A test on all test data of the run; with several architectures each is tested on all of it.

    Args:
        config: the settings.
        share: which part of a client's model travels.
        known: what the server has to test on; None if it has nothing.
        models: an instance of each architecture; their weights are overwritten.
        breakdown: what the accuracy is broken down by.

    Returns:
        None if encoders stay with their clients, for then there is no global model to test, or if there is nothing to
        test on; a warning is logged if the clients' own tests are withheld too.
    """
    if known is None or share not in ("all", "group"):
        if config.privacy.withhold:
            log(WARNING, "%s", UNTESTED)
        return None
    device = device_of(config)
    data = known.to(device)
    told: set[str] = set()  # groups, once each

    def test(model: GlobalModel, in_place_of_head: Scores | None, by_prototype: Scores | None) -> ServerTested:
        results: dict[str, tuple[Evaluation, ...]] = {}
        for group in model.groups:
            net = models[group or next(iter(models))].to(device)
            net.load_state_dict(model.tensors(group))
            scores: list[Scores] = [in_place_of_head or net.head, *([by_prototype] if by_prototype else [])]
            results[group] = evaluate_each(net, data, scores, batch_size=config.evaluation.batch_size)
            if group not in told and results[group][0].names_one_class and collapsed(net, data):
                told.add(group)
                log(WARNING, COLLAPSED, f" of {group}" if group else "")
        by_head = {group: each[0] for group, each in results.items()}
        nearest = {group: each[1] for group, each in results.items() if by_prototype}
        return ServerTested.of(by_head, nearest, breakdown)

    return test


def collapsed(model: Model, data: ClientData) -> bool:
    """Whether the features of up to MANY test samples are all the same."""
    test = data.test
    if test is None or len(test) < 2:
        return False
    z = encode(model, test.inputs[:: -(-len(test) // MANY)], data.encoder_inputs)  # [up to MANY, D]
    return not bool((z != z[0]).any())
