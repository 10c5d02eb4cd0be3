"""A client that means harm and replies well: how far it gets with each rule of aggregation."""

import pytest
import torch
from meddling_grid import Meddling, Played, constant_app, meddle_with, moved_by, new_model, rewritten, tensor_of

from fedhpro_flwr.records import array_record
from fedhpro_flwr.settings.presets import PRESETS


def test_a_client_that_moves_against_the_others_is_set_aside():
    app = constant_app(shift=lambda partition: -0.5 if partition == 2 else 1.0 + partition)
    run = Played(Meddling(app), method__name="fedavg", rounds=1, aggregation__drop_contrary=True)
    assert run.reports[0].set_aside == ["client 2: its model moved against the median client's (cosine -1.00)"]
    for name, value in new_model().state_dict().items():
        wanted = value + (1 * 1 + 2 * 2 + 4 * 4) / 7 if value.is_floating_point() else value
        torch.testing.assert_close(run.strategy.model.shared[name], wanted)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    "settings",
    [
        {"aggregation__model": "median", "aggregation__class_gradients": "median"},
        {"aggregation__model": "trimmed-mean", "aggregation__class_gradients": "trimmed-mean"},
    ],
)
def test_one_hostile_client_moves_a_middle_no_further_than_the_others_reach(settings, preset):
    meddled, honest = (
        Played(meddle_with(2, moved_by(factor)), rounds=1, preset=preset, calibration__head="off",
               hyper_prototypes__matching_head="client", calibration__from_imbalance=0.0,
               calibration__first_head="model", losses__correction="none", **settings)
        for factor in (1e6, 1.0)
    )  # fmt: skip
    models = [update.model for update in honest.strategy.replies.good if update.partition_id != 2]
    for name in ("head.weight", "head.bias"):
        stacked, moved = torch.stack([model[name] for model in models]), meddled.strategy.model.shared[name]
        assert bool((moved >= stacked.amin(dim=0)).all()) and bool((moved <= stacked.amax(dim=0)).all())


def test_class_gradients_are_clipped_before_they_move_the_hyper_prototypes():
    """How loud a client is does not matter then, once it is louder than the other one that holds the class."""

    def moved(loudness, **settings):
        def loud(message, reply):
            gradients = tensor_of(reply, "class-gradients")
            return rewritten(reply, message, class_gradients=array_record({"class-gradients": loudness * gradients}))

        run = Played(meddle_with(2, loud), rounds=1, hyper_prototypes__matching_distance="mse", **settings)
        return run.strategy.tensors()["hyper-prototypes"]

    torch.testing.assert_close(
        moved(-1e6, aggregation__clip_to_median=True), moved(-1e3, aggregation__clip_to_median=True)
    )
    assert float((moved(-1e6) - moved(-1e3)).norm()) > 1e3
