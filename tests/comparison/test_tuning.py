"""What is chosen for each row on validation data, and that the table is then of it."""

import tomllib
from pathlib import Path

import pytest

from fedhpro_flwr.cli import main
from fedhpro_flwr.comparison.grid import Chosen, build_grid
from fedhpro_flwr.comparison.measures import RunNumbers
from fedhpro_flwr.comparison.panels import notes, panels
from fedhpro_flwr.comparison.rows import read_columns, read_rows
from fedhpro_flwr.comparison.table import build_table
from fedhpro_flwr.comparison.table_files import runs_csv
from fedhpro_flwr.comparison.table_text import markdown
from fedhpro_flwr.comparison.tuning import NothingChosenError, Tuning
from fedhpro_flwr.config import ConfigError

ROWS = read_rows("fedavg,fedhpro")
NOT_VARIED = read_columns([])
RATES = ("local.lr=0.01", "local.lr=0.1", "local.lr=1")
TUNING = Tuning(read_columns(["local.lr=0.01,0.1,1"], "--tune"), (3, 4))
SMALL = ("rounds=1", "data.train-limit=200", "partition.num-partitions=2", "model.name=mlp", "local.epochs=1")


def run(accuracy, key="mean-of-last-ten"):
    return RunNumbers({key: accuracy, "seconds": 1.0}, "test data", [(1, accuracy)])


def runs(column="", **accuracies):
    """Of each row by rate and seed."""
    return {
        (row, ", ".join(filter(None, [column, rate])), seed): run(value)
        for row, by_rate in accuracies.items()
        for rate, values in zip(RATES, by_rate, strict=True)
        for seed, value in zip((3, 4), values, strict=True)
        if value is not None
    }


def test_the_runs_that_choose_are_tested_on_validation_data_below_the_grids_folder(tmp_path):
    grid = TUNING.grid("digits-small", [], ROWS, read_columns(["partition.alpha=0.1,1"]), tmp_path)
    assert [column.label for column in grid.columns][:3] == [f"partition.alpha=0.1, {rate}" for rate in RATES]
    assert len(grid.columns) == 6 and grid.seeds == (3, 4) and grid.folder == tmp_path / "tuning"
    cell = grid.cells["fedhpro", "partition.alpha=1, local.lr=0.1", 4]
    assert (cell.config.local.lr, cell.config.partition.alpha, cell.config.seed) == (0.1, 1.0, 4)
    assert {cell.config.data.validation_share for cell in grid.runs} == {0.2}
    own = TUNING.grid("digits-small", ["data.validation-share=0.3"], ROWS, NOT_VARIED, tmp_path)
    assert {cell.config.data.validation_share for cell in own.runs} == {0.3}


def test_clients_with_data_of_their_own_have_nothing_to_choose_on(tmp_path):
    with pytest.raises(
        ConfigError, match=r"^--tune needs validation data, and clients with data of their own have none"
    ):
        TUNING.grid("own-nodes", [], ROWS, NOT_VARIED, tmp_path)


def test_each_row_takes_what_is_best_in_the_mean_over_seeds():
    found = runs(fedavg=[(50, 51), (70, 40), (90, 10)], fedhpro=[(1, 2), (3, 4), (5, 6)])
    assert TUNING.choose(ROWS, NOT_VARIED, found, {}) == {
        ("fedavg", ""): Chosen(("local.lr=0.1",)),
        ("fedhpro", ""): Chosen(("local.lr=1",), at_end=("local.lr=1",)),
    }


def test_of_equals_the_first_is_taken_and_what_failed_once_is_not():
    found = runs(fedavg=[(50, 50), (60, 40), (30, 70)], fedhpro=[(1, 2), (3, 4), (99, None)])
    chosen = TUNING.choose(ROWS, NOT_VARIED, found, {("fedhpro", "local.lr=1", 4): "no disk"})
    assert [each.changes for each in chosen.values()] == [("local.lr=0.01",), ("local.lr=0.1",)]
    assert [each.failed for each in chosen.values()] == [(), ("local.lr=1",)]


def test_values_that_differ_by_rounding_alone_are_equals():
    low, high = (100 * (a + b + c) / 3 for a, b, c in ((0.3, 0.2, 0.1), (0.1, 0.2, 0.3)))
    assert low < high
    found = runs(fedavg=[(low, low), (high, high), (1, 1)], fedhpro=[(1, 2), (3, 4), (1, 2)])
    assert TUNING.choose(ROWS, NOT_VARIED, found, {})["fedavg", ""].changes == ("local.lr=0.01",)


def test_equal_means_of_different_runs_are_not_alike_nor_are_values_beside_one_that_failed():
    found = runs(fedavg=[(50, 52), (51, 51), (52, 50)], fedhpro=[(90, 90), (90, 90), (None, None)])
    chosen = TUNING.choose(ROWS, NOT_VARIED, found, {})
    assert chosen["fedavg", ""] == Chosen(("local.lr=0.01",), at_end=("local.lr=0.01",))
    assert chosen["fedhpro", ""] == Chosen(("local.lr=0.01",), at_end=("local.lr=0.01",), failed=("local.lr=1",))


def test_where_all_do_alike_that_is_said_and_none_is_an_end():
    found = runs(fedavg=[(50, 51)] * 3, fedhpro=[(1, 2), (3, 4), (1, 2)])
    chosen = TUNING.choose(ROWS, NOT_VARIED, found, {})
    assert chosen["fedavg", ""] == Chosen(("local.lr=0.01",), alike=True)
    assert not chosen["fedhpro", ""].alike
    grid = build_grid("digits-small", [], rows=ROWS, columns=NOT_VARIED, seeds=(0,), folder=Path("x"), chosen=chosen)
    page = markdown(panels(build_table(grid, {}, "fedavg")), [], [])
    assert "| fedavg | local.lr=0.01 (all did alike: the row may not read it) |" in page


def test_each_column_has_its_own():
    columns = read_columns(["partition.alpha=0.1,1"])
    found = {}
    for column, best in zip(columns, (0, 1), strict=True):
        values = [(9, 9) if place == best else (1, 1) for place in range(3)]
        found |= runs(column.label, fedavg=values, fedhpro=values)
    chosen = TUNING.choose(ROWS, columns, found, {})
    assert chosen["fedavg", "partition.alpha=0.1"].changes == ("local.lr=0.01",)
    assert chosen["fedavg", "partition.alpha=1"].changes == ("local.lr=0.1",)


def test_a_row_without_any_value_to_take_is_told_with_the_reasons_of_its_column():
    columns = read_columns(["partition.alpha=0.1,1"])
    found = runs("partition.alpha=0.1", fedavg=[(1, 1)] * 3) | runs("partition.alpha=1", fedavg=[(1, None)] * 3)
    missing = {("fedavg", f"partition.alpha=1, {rate}", 4): f"{rate} is bad" for rate in RATES}
    with pytest.raises(NothingChosenError) as told:
        TUNING.choose(ROWS[:1], columns, found, missing)
    assert str(told.value) == (
        "fedavg partition.alpha=1: there is no value of --tune that can be taken: "
        "local.lr=0.01: local.lr=0.01 is bad; local.lr=0.1: local.lr=0.1 is bad; local.lr=1: local.lr=1 is bad"
    )


def test_a_row_whose_models_nobody_tested_is_told_so():
    found = {("fedavg", rate, seed): run(1, "bytes-up") for rate in RATES for seed in (3, 4)}
    with pytest.raises(NothingChosenError, match=r"local\.lr=0\.01: no model of it was tested; "):
        TUNING.choose(ROWS[:1], NOT_VARIED, found, {})


def test_rows_without_a_global_model_are_chosen_by_their_clients():
    found = {
        ("local", rate, 3): run(value, "own mean-of-last-ten") for rate, value in zip(RATES, (1, 3, 2), strict=True)
    }
    chosen = Tuning(TUNING.tried, (3,)).choose(read_rows("local"), NOT_VARIED, found, {})
    assert chosen["local", ""].changes == ("local.lr=0.1",)


def test_words_have_no_end_nor_has_one_of_two_numbers():
    tried = ["aggregation.weighting=samples,clients,x", "local.momentum=0.5,0.9", "local.lr=1,2,3"]
    tuning = Tuning(read_columns(tried, "--tune"), (3,))
    found = {("fedavg", column.label, 3): run(-place) for place, column in enumerate(tuning.tried)}
    (chosen,) = tuning.choose(read_rows("fedavg"), NOT_VARIED, found, {}).values()
    assert chosen.changes == ("aggregation.weighting=samples", "local.momentum=0.5", "local.lr=1")
    assert chosen.at_end == ("local.lr=1",)


def test_the_table_is_of_what_was_chosen_and_says_so(tmp_path):
    chosen = {
        ("fedavg", ""): Chosen(("local.lr=0.1",)),
        ("fedhpro", ""): Chosen(("local.lr=1",), ("local.lr=1",), ("local.lr=9",)),
    }
    grid = build_grid(
        "digits-small", [], rows=ROWS, columns=NOT_VARIED, seeds=(0,), folder=tmp_path, chosen=chosen
    )  # fmt: skip
    assert [cell.config.local.lr for cell in grid.runs] == [0.1, 1.0]
    table = build_table(grid, {(row.label, "", 0): run(50) for row in ROWS}, "fedavg")
    page = markdown(panels(table), notes(table), [])
    assert "### chosen on validation data\n\n|  | values |\n|---|---:|\n| fedavg | local.lr=0.1 |" in page
    assert "| fedhpro | local.lr=1 (local.lr=1 is an end; local.lr=9 failed) |" in page
    assert "in runs of seeds that are not here; tuning/table.md has them all. Where one is an end" in page
    assert [line.split(",")[3] for line in runs_csv(grid, {}, {}).splitlines()] == [
        "chosen",
        "local.lr=0.1",
        "local.lr=1",
    ]
    assert {cell.folder.relative_to(tmp_path).as_posix() for cell in grid.runs} == {
        "fedavg/local.lr=0.1/seed-0", "fedhpro/local.lr=1/seed-0",
    }  # fmt: skip
    plain = build_table(
        build_grid("digits-small", [], rows=ROWS, columns=NOT_VARIED, seeds=(0,), folder=tmp_path), {}, "fedavg"
    )
    assert "chosen" not in markdown(panels(plain), notes(plain), [])


def words(folder, *more):
    settings = [word for change in SMALL for word in ("--set", change)]
    return ["compare", "digits", "--methods", "fedavg,fedhpro", "--seeds", "0,1", "--engine", "in-process",
            "--folder", str(folder), *settings, *more]  # fmt: skip


def config_of(folder):
    return tomllib.loads((folder / "config.toml").read_text())


def test_from_beginning_to_end_and_again(tmp_path, capsys):
    tuned = ("--tune", "local.lr=1e-9,0.05", "--set", "rounds=4")
    assert main(words(tmp_path / "grid", *tuned)) == 0
    said = capsys.readouterr().out
    assert "4 runs, 4 to do" in said
    trials = sorted(path.parent for path in (tmp_path / "grid" / "tuning").glob("*/*/*/config.toml"))
    assert [path.name for path in trials] == ["seed-2"] * 4
    assert {config_of(path)["data"]["validation-share"] for path in trials} == {0.2}
    for row in ("fedavg", "fedhpro"):
        for seed in (0, 1):
            config = config_of(tmp_path / "grid" / row / "local.lr=0.05" / f"seed-{seed}")
            assert (config["local"]["lr"], config["data"]["validation-share"]) == (0.05, 0.0)
    page = (tmp_path / "grid" / "table.md").read_text()
    assert "| fedhpro | local.lr=0.05 |" in page
    assert "validation data" in (tmp_path / "grid" / "tuning" / "table.md").read_text()
    # Again: nothing is run. With more to try, what is there stays; a choice that changes has a folder of its own.
    assert main(words(tmp_path / "grid", *tuned)) == 0
    assert capsys.readouterr().out.count("4 runs, 0 to do") == 2
    assert (tmp_path / "grid" / "table.md").read_text() == page
    assert main(words(tmp_path / "grid", "--tune", "local.lr=1e-9,0.05,1e30", *tuned[2:])) == 0
    told = capsys.readouterr()
    assert "6 runs, 2 to do" in told.out and "4 runs, 0 to do" in told.out
    assert told.err.count("fedhpro: failed: ") == 2 and "local.lr=1e30 seed 2" in told.err
    assert "local.lr=0.05 (local.lr=1e30 failed) |" in (tmp_path / "grid" / "table.md").read_text()


def test_a_choice_on_any_share_is_followed_by_a_table_of_test_data(tmp_path):
    assert main(words(tmp_path, "--tune", "local.lr=0.05", "--set", "data.validation-share=0.3")) == 0
    assert config_of(tmp_path / "tuning" / "fedavg" / "local.lr=0.05" / "seed-2")["data"]["validation-share"] == 0.3
    assert config_of(tmp_path / "fedavg" / "local.lr=0.05" / "seed-0")["data"]["validation-share"] == 0.0
    assert "validation data (data.validation-share)" not in (tmp_path / "table.md").read_text()


def test_where_every_value_fails_the_command_fails_and_says_why(tmp_path, capsys):
    assert main(words(tmp_path, "--tune", "local.lr=1e30")) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(
        "fedhpro: fedavg: there is no value of --tune that can be taken: local.lr=1e30: round 1: 0 of"
    )
    assert not (tmp_path / "table.md").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--tune-seeds", "3"], "--tune-seeds 3: there is nothing to choose without --tune"),
        (["--tune", "local.lr"], "--tune local.lr: write it as key=value,value"),
        (["--tune", "local.lr=1,1"], "--tune: local.lr=1 is written 2 times"),
        (["--tune", "local.lr=1", "--tune-seeds", "x"], "--tune-seeds x: write whole numbers from 0 on"),
        (["--tune", "local.lr=1", "--tune-seeds", "1,5"], "--tune-seeds: 1 is a seed of the table too"),
        (["--tune", "local.lr=1", "--vary", "local.lr=2"], "--tune: local.lr is varied by --vary too"),
        (["--tune", "partition.alpha=1,2"], "--tune: partition.alpha is of the task, which all rows share"),
        (["--tune", "local.lr=1", "--vary", "data.validation-share=0,0.1"], "--tune chooses on that part: give it by"),
        (["--tune", "method.name=fedavg"], "fedavg sets method.name, and --vary or --tune varies it"),
        (["--tune", "local.lr=1,-1"], "fedavg local.lr=-1 seed 2: local.lr = -1"),
        (["--tune", "seed=1"], "--tune seed=1: seed cannot be set in a grid, the seeds are those of --seeds"),
    ],
)
def test_a_mistake_is_one_sentence_and_nothing_is_left(arguments, sentence, tmp_path, capsys):
    assert main(words(tmp_path / "grid", *arguments)) == 2
    told = capsys.readouterr()
    assert sentence in told.err and told.err.count("\n") == 1
    assert not (tmp_path / "grid").exists()
