"""The head of the page: what was run in words, and a line of numbers for each group."""

from __future__ import annotations

from fedhpro_flwr.report.groups import group_runs
from fedhpro_flwr.report.overview import overview
from fedhpro_flwr.report.runs import Run


def shown(*folders):
    groups = group_runs([Run.read(folder) for folder in folders]).shown
    return overview(groups, [])


def test_a_line_has_accuracies_seconds_and_bytes_over_seeds(make_run):
    table = shown(make_run("a", [0.4, 0.6, 0.5]), make_run("b", [0.5, 0.7, 0.9], seed=1)).table
    assert table.headings == (
        "", "seeds", "rounds", "best, %", "last, %", "mean of last ten, %", "seconds a round", "MB down a round",
        "MB up a round",
    )  # fmt: skip
    assert table.rows == [
        [
            "fedhpro", "0, 1", "3", "75.00 ± 21.21", "70.00 ± 28.28", "60.00 ± 14.14", "2.000 ± 0.000",
            "2.000 ± 0.000", "1.000 ± 0.000",
        ]
    ]  # fmt: skip


def test_the_settings_are_told_as_far_as_they_say_something(make_run):
    facts = dict(shown(make_run("a", [0.5, 0.6], partition__num_partitions=8, local__epochs=3, local__lr=0.025)).facts)
    assert facts == {
        "experiment": "digits", "data set": "digits", "clients": "8", "split": "dirichlet, alpha 0.5",
        "model": "cnn, width 64", "training": "2 rounds of 3 local epochs, lr 0.025",
    }  # fmt: skip
    changes = {"data__domains": "north,south", "clients__per_round": 2, "partition__scheme": "iid"}
    more = {"partition__imbalance": 50.0, "model__width": 0}
    facts = dict(shown(make_run("b", [0.5], **changes, **more)).facts)
    assert (facts["data set"], facts["clients"]) == ("digits (north,south)", "10, 2 a round")
    assert (facts["split"], facts["model"]) == ("iid, imbalance 50", "cnn, width its own")


def test_three_different_settings_are_written_out_and_four_are_counted(make_run):
    runs = [make_run(f"{alpha}", [0.5], partition__alpha=alpha) for alpha in (0.1, 0.2, 0.3, 0.4)]
    assert dict(shown(*runs[:3]).facts)["split"] == "; ".join(f"dirichlet, alpha 0.{tenth}" for tenth in (1, 2, 3))
    assert dict(shown(*runs).facts)["split"] == "4 settings, see the groups' names"
