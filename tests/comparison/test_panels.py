"""What a reader is told beside the numbers: heads, seeds that are missing, and the notes."""

from fedhpro_flwr.comparison.grid import Chosen, build_grid
from fedhpro_flwr.comparison.measures import RunNumbers
from fedhpro_flwr.comparison.panels import Panel, Shown, notes, panels
from fedhpro_flwr.comparison.rows import read_columns, read_rows
from fedhpro_flwr.comparison.table import build_table
from fedhpro_flwr.comparison.table_text import latex, markdown

ALPHAS = read_columns(["partition.alpha=0.1,0.5"])


def made(folder, values, *, columns=ALPHAS, seeds=(0, 1), chosen=None):
    """The table of fedavg and fedhpro; `values` by row, label of the column and seed."""
    rows = read_rows("fedavg,fedhpro")
    grid = build_grid("digits-small", [], rows=rows, columns=columns, seeds=seeds, folder=folder, chosen=chosen or {})
    return build_table(grid, {place: RunNumbers(found, "test data", ()) for place, found in values.items()}, "fedavg")


def page(table):
    return markdown(panels(table), [], [])


def test_a_name_with_markup_or_a_line_break_stays_in_its_cell():
    panel = Panel("accuracy", ["a|b"], [("<i>two\nlines", [Shown("1.0")])])
    assert markdown([panel], [], []).splitlines()[2:5] == ["|  | a\\|b |", "|---|---:|", "| \\<i>two lines | 1.0 |"]


def test_over_varied_values_seeds_that_are_missing_stand_beside_the_number_that_lacks_them(tmp_path):
    whole = {
        (row, column.label, seed): {"mean-of-last-ten": value + seed, "seconds": 1.0}
        for row, value in (("fedavg", 60.0), ("fedhpro", 70.0))
        for column in ALPHAS
        for seed in (0, 1)
    }
    del whole["fedhpro", "partition.alpha=0.1", 1]
    table = made(tmp_path, whole)
    assert r"fedhpro & 70.0 (1 of 2 seeds) & \textbf{70.5} $\pm$ 0.7 \\" in latex(panels(table), [], [])
    assert page(table).startswith(
        "### mean of last ten\n"
        "\n"
        "|  | partition.alpha=0.1 | partition.alpha=0.5 |\n"
        "|---|---:|---:|\n"
        "| fedavg | 60.5 ± 0.7 | 60.5 ± 0.7 |\n"
        "| fedhpro | 70.0 (1 of 2 seeds) | **70.5 ± 0.7** |\n"
        "\n"
        "### partition.alpha=0.1: accuracy\n"
        "\n"
        "|  | mean of last ten | rounds to target |\n"
        "|---|---:|---:|\n"
        "| fedavg | 60.5 ± 0.7 | – |\n"
        "| fedhpro (1 of 2 seeds) | 70.0 | – |\n"
    )


def test_what_was_chosen_stands_below_the_value_it_was_chosen_for(tmp_path):
    chosen = {
        (row, column.label): Chosen((f"local.lr=0.{place}",))
        for row in ("fedavg", "fedhpro")
        for place, column in enumerate(ALPHAS, start=1)
    }
    assert page(made(tmp_path, {}, chosen=chosen)).splitlines()[2:5] == [
        "|  | partition.alpha=0.1 | partition.alpha=0.5 |",
        "|---|---:|---:|",
        "| fedavg | local.lr=0.1 | local.lr=0.2 |",
    ]


def test_epsilon_has_four_digits_and_no_deviation_and_less_is_better(tmp_path):
    values = {
        (row, "", seed): {"epsilon": value, "seconds": 1.0}
        for row, value in (("fedavg", 3.14159), ("fedhpro", 1234.56))
        for seed in (0, 1)
    }
    shown = page(made(tmp_path, values, columns=read_columns([])))
    assert "### privacy\n\n|  | epsilon |\n|---|---:|\n| fedavg | **3.142** |\n| fedhpro | 1,235 |\n" in shown


def test_nothing_is_said_of_deviations_of_one_seed_or_of_a_target_that_there_is_not(tmp_path):
    table = made(tmp_path, {}, columns=read_columns([]), seeds=(0,))
    assert notes(table)[0] == "Accuracies are in percent. One seed."
    assert not any(said.startswith("Target") for said in notes(table))


def test_of_means_that_differ_by_rounding_alone_none_is_the_best(tmp_path):
    low, high = (100 * (a + b + c) / 3 for a, b, c in ((0.3, 0.2, 0.1), (0.1, 0.2, 0.3)))
    assert low < high
    values = {(row, "", 0): {"mean-of-last-ten": mean} for row, mean in (("fedavg", low), ("fedhpro", high))}
    assert "**" not in page(made(tmp_path, values, columns=read_columns([]), seeds=(0,)))
