"""TensorBoard: what its own reader finds in the event files."""

from dataclasses import replace

import pytest

from fedhpro_flwr.tracking.tensorboard import TensorBoard

pytest.importorskip("tensorboard", reason="the package tensorboard is not installed")


def events(run):
    """The folder as TensorBoard itself loads it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(run.folder / "tensorboard"))
    accumulator.Reload()
    return accumulator


def scalars(run):
    """Steps and values by name."""
    found = events(run)
    return {tag: [(item.step, item.value) for item in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_numbers_and_summary_read_back(tracked_run):
    board = TensorBoard(tracked_run)
    board.log(1, {"server/accuracy": 0.5, "bytes/up/model": 997_120.0})
    board.log(2, {"server/accuracy": 0.75})
    board.summary({"summary/best": 0.75})
    board.close(failed=False)
    assert scalars(tracked_run) == {
        "server/accuracy": [(1, 0.5), (2, 0.75)],
        "bytes/up/model": [(1, 997_120.0)],
        "summary/best": [(0, 0.75)],
    }


def test_every_setting_is_a_hyperparameter_of_the_session(tracked_run):
    from tensorboard.plugins.hparams import metadata

    TensorBoard(tracked_run).close(failed=False)
    content = events(tracked_run).SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    stored = metadata.parse_session_start_info_plugin_data(content).hparams
    assert set(stored) == set(tracked_run.settings)
    assert stored["local.lr"].number_value == 0.125
    assert stored["data.path"].string_value == 'a "b" c'
    assert stored["local.flip"].number_value == 0  # PyTorch writes a truth value as a number


@pytest.mark.parametrize("failed", [False, True])
def test_only_a_run_that_ended_well_ends_its_session(failed, tracked_run):
    TensorBoard(tracked_run).close(failed=failed)
    assert ("_hparams_/session_end_info" in events(tracked_run).summary_metadata) is not failed


def test_a_round_can_be_read_while_the_run_goes_on(tracked_run):
    board = TensorBoard(tracked_run)
    board.log(1, {"train/loss": 2.0})
    assert scalars(tracked_run) == {"train/loss": [(1, 2.0)]}
    board.close(failed=True)


def test_of_an_attempt_that_failed_in_the_same_folder_nothing_is_shown(tracked_run):
    first = TensorBoard(tracked_run)
    for number in (1, 2, 3):
        first.log(number, {"train/loss": 9.0})
    first.close(failed=True)
    second = TensorBoard(tracked_run)
    second.log(1, {"train/loss": 1.0})
    second.close(failed=False)
    assert scalars(tracked_run) == {"train/loss": [(1, 1.0)]}


def test_a_run_that_goes_on_is_one_curve_without_the_rounds_played_in_vain(tracked_run):
    first = TensorBoard(tracked_run)
    for server_round, value in ((1, 0.5), (2, 0.25), (3, 9.0)):
        first.log(server_round, {"train/loss": value})
    first.close(failed=True)
    again = TensorBoard(replace(tracked_run, rounds_before=2))
    again.log(3, {"train/loss": 0.125})
    again.close(failed=False)
    assert scalars(tracked_run) == {"train/loss": [(1, 0.5), (2, 0.25), (3, 0.125)]}
