"""A table of made-up runs: every number, mark and escape of it."""

import csv
import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from fedhpro_flwr.comparison.grid import build_grid
from fedhpro_flwr.comparison.measures import RunNumbers
from fedhpro_flwr.comparison.panels import notes, panels
from fedhpro_flwr.comparison.rows import Row, read_columns, read_rows
from fedhpro_flwr.comparison.table import baseline_of, build_table
from fedhpro_flwr.comparison.table_files import runs_csv, table_csv
from fedhpro_flwr.comparison.table_text import latex, markdown, terminal, tex
from fedhpro_flwr.config import ConfigError

BASE, GOOD, LOCAL = "fedavg", "fedhpro", "local"


def run(last_ten, curve=(), *, accuracy_of="test data"):
    key = "mean-of-last-ten" if accuracy_of == "test data" else "own mean-of-last-ten"
    values = {key: last_ten, "clients": last_ten - 1, "bytes-up": 2e6, "seconds": 0.5}
    return RunNumbers(values, accuracy_of, curve)


@pytest.fixture
def grid(tmp_path):
    rows = read_rows(f"{BASE},{GOOD},{LOCAL}")
    return build_grid("digits-small", [], rows=rows, columns=read_columns([]), seeds=(0, 1, 2), folder=tmp_path)


@pytest.fixture
def runs():
    """fedhpro is better by 9, 10 and 11 points; seed 2 of local is missing."""
    found = {}
    for seed, (base, good) in enumerate([(60.0, 69.0), (62.0, 72.0), (64.0, 75.0)]):
        found[BASE, "", seed] = run(base, [(1, 50.0), (2, 63.0)])
        found[GOOD, "", seed] = run(good, [(1, 55.0 + 5 * seed), (2, 70.0)])
        if seed < 2:
            found[LOCAL, "", seed] = run(90.0, [(1, 90.0)], accuracy_of="mean over clients")
    return found


def test_means_deviations_and_differences(grid, runs):
    table = build_table(grid, runs, BASE)
    base, good = (table.entries[row, "", "mean-of-last-ten"] for row in (BASE, GOOD))
    assert (base.mean, base.deviation, base.runs, base.against) == (62.0, 2.0, 3, None)
    assert (good.mean, good.deviation, good.runs) == (72.0, 3.0, 3)
    assert (good.against.difference, good.against.pairs, good.against.better) == (10.0, 3, 3)
    # t = 10 sqrt(3) with two degrees of freedom; local has no such number, so there is one test and no correction.
    assert good.against.p_value == pytest.approx(1 - (300 / 302) ** 0.5)
    assert good.p_corrected == good.against.p_value
    assert good.is_significant and good.is_better and good.is_best and not base.is_best
    clients = table.entries[LOCAL, "", "clients"]
    assert (clients.mean, clients.runs, clients.against.pairs, clients.p_corrected) == (89.0, 2, 2, None)
    assert table.entries[GOOD, "", "seconds"].p_corrected is None  # costs are not tested


def test_the_target_is_the_baselines_mean_of_the_last_ten_unless_given(grid, runs):
    table = build_table(grid, runs, BASE)
    assert table.targets == {"": 62.0}
    reached = {row: table.entries[row, "", "rounds-to-target"] for row in (BASE, GOOD, LOCAL)}
    assert (reached[BASE].mean, reached[BASE].deviation) == (2.0, 0.0)
    assert reached[GOOD].mean == pytest.approx(5 / 3)  # rounds 2, 2 and 1
    assert (reached[LOCAL].mean, reached[LOCAL].runs) == (None, 0)  # its curve is of something else
    given = build_table(grid, runs, BASE, 65.0)
    assert given.targets == {"": 65.0}
    base = given.entries[BASE, "", "rounds-to-target"]
    assert (base.mean, base.runs) == (None, 0)
    assert given.entries[GOOD, "", "rounds-to-target"].mean == pytest.approx(5 / 3)


def test_where_not_every_seed_reaches_the_target_there_is_no_mean_of_those_that_do(grid, runs):
    runs[GOOD, "", 0] = run(69.0, [(1, 10.0)])
    entry = build_table(grid, runs, BASE).entries[GOOD, "", "rounds-to-target"]
    assert (entry.mean, entry.deviation, entry.runs) == (None, None, 2)
    assert "– (2 of 3 seeds) |" in markdown(panels(build_table(grid, runs, BASE)), [], [])


def test_the_baseline_is_fedavg_or_the_first_or_the_wanted_one():
    assert baseline_of(read_rows("fedhpro,fedavg"), None) == "fedavg"
    assert baseline_of(read_rows("fedhpro,local"), None) == "fedhpro"
    assert baseline_of(read_rows("fedhpro,local"), "local") == "local"
    with pytest.raises(ConfigError, match="--baseline fedprox is no row of this grid, there are: fedhpro, local"):
        baseline_of(read_rows("fedhpro,local"), "fedprox")


def test_markdown(grid, runs):
    table = build_table(grid, runs, BASE)
    page = markdown(panels(table), notes(table), ["local seed 2: no such file"])
    assert page.startswith(
        "### accuracy\n"
        "\n"
        "|  | mean of last ten | rounds to target |\n"
        "|---|---:|---:|\n"
        "| fedavg | 62.0 ± 2.0 | 2.0 ± 0.0 |\n"
        "| fedhpro | **72.0 ± 3.0**† | **1.7 ± 0.6** |\n"
        "| local (2 of 3 seeds) | – | – |\n"
    )
    assert "| local (2 of 3 seeds) | 89.0 ± 0.0 |" in page
    assert "| fedhpro | +10.0 | 3 of 3 | 0.003 | 0.003 |" in page
    assert "| fedavg | baseline | – | – | – |\n" in page
    assert "| local | – | – | – | – |\n" in page  # no seed in which both have the number
    assert "|  | up, MB | round, s |\n|---|---:|---:|\n| fedavg | 2.000 |" in page
    assert "Mean ± sample deviation over 3 seeds. † significantly better, ‡ significantly worse than fedavg" in page
    assert "Target: 62.0 %; – where not every seed reaches it." in page
    assert page.endswith("Missing:\n\n- local seed 2: no such file\n")


def test_the_cheapest_is_the_best_of_the_costs(grid, runs):
    for seed in range(3):
        good = runs[GOOD, "", seed]
        runs[GOOD, "", seed] = RunNumbers(
            {**good.values, "bytes-up": 1.997e6, "seconds": 0.75}, good.accuracy_of, good.curve
        )
    page = markdown(panels(build_table(grid, runs, BASE)), [], [])
    assert "| fedavg | 2.000 | **0.500 ± 0.000** |\n" in page
    assert "| fedhpro | **1.997** | 0.750 ± 0.000 |\n" in page


def test_accuracies_over_domains_and_over_their_samples_are_told_apart(grid, runs):
    pooled = "Accuracy is the mean over domains; by frequency of the class it is over all their samples together."
    assert pooled not in notes(build_table(grid, runs, BASE))
    runs[BASE, "", 0] = RunNumbers({"domain usps": 50.0, "head": 60.0, "seconds": 1.0}, "mean over domains", ())
    assert pooled in notes(build_table(grid, runs, BASE))


def test_two_seeds_claim_nothing(tmp_path, runs):
    rows = read_rows(f"{BASE},{GOOD}")
    grid = build_grid("digits-small", [], rows=rows, columns=read_columns([]), seeds=(0, 1), folder=tmp_path)
    table = build_table(grid, runs, BASE)
    assert not table.entries[GOOD, "", "mean-of-last-ten"].is_significant
    assert "With fewer than 3 seeds nothing is said about significance." in notes(table)


def test_a_worse_method_is_marked_as_such(grid, runs):
    swapped = runs | {
        (row, "", seed): runs[other, "", seed] for row, other in ((BASE, GOOD), (GOOD, BASE)) for seed in range(3)
    }
    assert "62.0 ± 2.0‡" in markdown(panels(build_table(grid, swapped, BASE)), [], [])


def test_varied_values_are_columns_and_have_panels_of_their_own(tmp_path, runs):
    columns = read_columns(["partition.alpha=0.1,0.5"])
    grid = build_grid(
        "digits-small", [], rows=read_rows(f"{BASE},{GOOD}"), columns=columns, seeds=(0, 1, 2), folder=tmp_path
    )
    labels = [column.label for column in columns]
    both = {(row, label, seed): found for (row, _, seed), found in runs.items() if row != LOCAL for label in labels}
    table = build_table(grid, both, BASE)
    assert f"Target: 62.0 % ({labels[0]}), 62.0 % ({labels[1]}); – where not every seed reaches it." in notes(table)
    shown = panels(table)
    assert shown[0].heads == labels
    assert [panel.title for panel in shown[:2]] == [
        "mean of last ten",
        "clients on their own test data, mean over clients",
    ]
    assert "partition.alpha=0.5: mean of last ten, against fedavg" in [panel.title for panel in shown]
    captions = latex(shown, [], [])
    assert r"\caption{Mean of last ten." in captions
    assert r"\caption{partition.alpha=0.5: accuracy.}" in captions  # a key is no word


def test_no_p_value_is_written_as_zero(grid, runs):
    for seed, ahead in enumerate((30.0, 30.1, 30.2)):
        runs[GOOD, "", seed] = run(runs[BASE, "", seed].values["mean-of-last-ten"] + ahead)
    assert "| fedhpro | +30.1 | 3 of 3 | < 0.001 | < 0.001 |" in markdown(panels(build_table(grid, runs, BASE)), [], [])


def test_a_grid_without_a_global_model_is_compared_by_its_clients(tmp_path):
    rows = read_rows(f"{BASE},{GOOD}")
    grid = build_grid("digits-small", [], rows=rows, columns=read_columns([]), seeds=(0,), folder=tmp_path)
    runs = {(row.label, "", 0): run(50.0, [(3, 50.0)], accuracy_of="mean over clients") for row in rows}
    table = build_table(grid, runs, BASE)
    assert panels(table)[0].heads == ["mean of last ten", "rounds to target"]
    assert table.entries[GOOD, "", "rounds-to-target"].mean == 3.0
    assert any("of the clients' own models" in said for said in notes(table))
    assert any(said.startswith("Runs were tested in one round alone: ") for said in notes(table))


def test_a_table_of_validation_data_says_so(grid, runs):
    def shown(*seeds):
        on = {place: replace(run, tested_on="validation data") for place, run in runs.items() if place[2] in seeds}
        table = build_table(grid, runs | on, BASE)
        return [panel.title for panel in panels(table)], notes(table)[2:]

    titles, said = shown(0, 1, 2)
    assert "clients on their own validation data" in titles and not any("test data" in title for title in titles)
    assert said[0] == "All runs were tested on validation data (data.validation-share), not on the test data."
    titles, said = shown(0)
    assert "clients on their own test data" in titles and said[0].startswith("Some runs were tested on validation")
    assert "validation" not in " ".join(shown()[1])


@pytest.mark.parametrize("of", ["mean over domains", "mean over clients"])
def test_runs_tested_on_other_data_are_not_held_against_each_other(grid, runs, of):
    """What both call a mean over domains may be of test data in one and of validation data in the other."""
    alike = {place: replace(run, accuracy_of=of) for place, run in runs.items() if place[0] != LOCAL}
    key = "mean-of-last-ten"
    assert build_table(grid, alike, BASE).entries[GOOD, "", key].against.pairs == 3
    other = {place: replace(run, tested_on="validation data") for place, run in alike.items() if place[0] == GOOD}
    table = build_table(grid, alike | other, BASE)
    assert table.entries[GOOD, "", key].against is None or table.entries[GOOD, "", key].against.pairs == 0
    assert table.entries[GOOD, "", "rounds-to-target"].mean is None
    assert not table.entries[GOOD, "", key].is_significant


def test_a_mean_of_fewer_than_ten_rounds_is_said_to_be_one(grid, runs):
    def said(rounds):
        curve = [(number, 60.0) for number in range(rounds)]
        longer = {place: replace(run, curve=curve[place[2] :]) for place, run in runs.items() if place[0] != LOCAL}
        return " ".join(notes(build_table(grid, runs | longer, BASE)))  # local is tested once, and not shown there

    assert "A run was tested in 9 rounds only, and its mean of last ten is of those." in said(11)  # of seed 2
    assert "tested in" not in said(12)


def test_no_run_at_all_is_a_table_without_numbers(grid):
    table = build_table(grid, {}, BASE)
    assert panels(table) == []
    assert notes(table)
    assert {line["n"] for line in csv.DictReader(io.StringIO(table_csv(table)))} == {"0"}


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a_b & 5 % of #1", r"a\_b \& 5 \% of \#1"),
        ("{x}^2~$y\\z", r"\{x\}\textasciicircum{}2\textasciitilde{}\$y\textbackslash{}z"),
        ("96.4 ± 0.3 – † ‡", r"96.4 $\pm$ 0.3 -- $\dagger$ $\ddagger$"),
        ("fedproto+hyper <1> |x|", r"fedproto$+$hyper $<$1$>$ $|$x$|$"),
    ],
)
def test_latex_escapes(text, escaped):
    assert tex(text) == escaped


def test_latex(grid, runs):
    table = build_table(grid, runs, BASE)
    text = latex(panels(table), notes(table), ["local seed 2: 100 %\nof it"])
    assert r"fedhpro & \textbf{72.0} $\pm$ 3.0$^{\dagger}$ & \textbf{1.7} $\pm$ 0.6 \\" in text
    assert r"fedhpro & $+$10.0 & 3 of 3 & 0.003 & 0.003 \\" in text
    assert "% missing: local seed 2: 100 % of it\n" in text
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == len(panels(table))
    for body in re.findall(r"\\begin\{tabular\}\{(l.*?)\}\n(.*?)\\end\{tabular\}", text, re.DOTALL):
        for row in re.findall(r"^(.*) \\\\$", body[1], re.MULTILINE):
            assert len(re.split(r"(?<!\\)&", row)) == len(body[0])
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    assert text.isascii()


def test_the_tidy_table_has_every_number_in_full(grid, runs):
    lines = {
        (line["method"], line["measure"]): line
        for line in csv.DictReader(io.StringIO(table_csv(build_table(grid, runs, BASE))))
    }
    good = lines[GOOD, "mean-of-last-ten"]
    assert (good["mean"], good["deviation"], good["n"]) == ("72.0", "3.0", "3")
    assert (good["difference"], good["seeds-better"], good["significant"]) == ("10.0", "3", "yes")
    assert float(good["p"]) == float(good["p-holm"]) == pytest.approx(1 - (300 / 302) ** 0.5)
    assert [lines[GOOD, "seconds"][key] for key in ("difference", "p", "p-holm", "significant")] == ["0.0", "", "", ""]
    assert (LOCAL, "mean-of-last-ten") not in lines
    assert lines[LOCAL, "rounds-to-target"]["mean"] == ""


def test_the_runs_of_a_table(grid, runs):
    lines = list(csv.DictReader(io.StringIO(runs_csv(grid, runs, {(LOCAL, "", 2): "killed"}))))
    assert len(lines) == 9
    (missing,) = (line for line in lines if line["state"] != "finished")
    assert (missing["method"], missing["seed"], missing["state"], missing["clients"]) == (LOCAL, "2", "killed", "")
    assert lines[0]["folder"] == "fedavg/seed-0"


def test_a_terminal_shows_labels_as_they_are(grid, runs):
    console = Console(width=100, record=True, file=io.StringIO())
    for panel in panels(build_table(grid, runs, BASE)):
        console.print(terminal(panel))
    assert re.search(r"fedhpro +72\.0 ± 3\.0†.*fedhpro +2\.000 +0\.500 ± 0\.000\n", console.export_text(), re.DOTALL)


def test_a_narrow_terminal_shows_heads_in_full(tmp_path, runs):
    columns = read_columns(["data.split-seed=0,1", "data.test-share=0.2,0.4"])
    grid = build_grid("digits-small", [], rows=read_rows(BASE), columns=columns, seeds=(0,), folder=tmp_path)
    table = build_table(grid, {(BASE, column.label, 0): runs[BASE, "", 0] for column in columns}, BASE)
    console = Console(width=60, record=True, file=io.StringIO())
    console.print(terminal(panels(table)[0]))
    text = console.export_text()
    assert "…" not in text
    heads = ["".join(parts) for parts in zip(*(line.split() for line in text.splitlines()[1:-1]), strict=False)]
    assert text.count("60.0") == 4 and max(map(len, text.splitlines())) <= 60
    assert "".join(heads).count("data.split-seed") == 4, heads


def test_rows_of_groups_are_corrected_within_them_and_the_notes_say_so(tmp_path, runs):
    rows = [Row(BASE, ("method.name=fedavg",)), Row(GOOD, ("method.name=fedhpro",), "losses")]
    grid = build_grid("digits-small", [], rows=rows, columns=read_columns([]), seeds=(0, 1, 2), folder=tmp_path)
    assert "Holm-corrected over the rows of a group." in notes(build_table(grid, runs, BASE))[1]
