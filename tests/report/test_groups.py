"""Which runs are one group, and what a group is called."""

from __future__ import annotations

import json

from fedhpro_flwr.report.groups import group_runs
from fedhpro_flwr.report.runs import Run


def names(*folders):
    groups = group_runs([Run.read(folder) for folder in folders]).shown
    return [(group.name, [run.config.seed for run in group.runs]) for group in groups]


def test_seeds_and_places_make_no_group(make_run):
    runs = [
        make_run(f"{seed}", [0.5], seed=seed, data__root=f"/disk{seed}", clients__num_nodes=seed) for seed in (2, 0)
    ]
    assert names(*runs) == [("fedhpro", [0, 2])]


def test_runs_of_other_samples_are_not_averaged_though_their_settings_are_equal(make_run):
    runs = [make_run(f"{seed}", [0.5], seed=seed) for seed in (0, 1, 2)]
    for run, content in zip(runs, ("ab12", "cd34", "ab12"), strict=True):
        table = json.loads((run / "partition.json").read_text())
        (run / "partition.json").write_text(json.dumps({**table, "content": content}))
    assert names(*runs) == [("fedhpro, samples ab12", [0, 2]), ("fedhpro, samples cd34", [1])]
    assert names(runs[0], runs[2]) == [("fedhpro", [0, 2])]


def test_who_else_was_told_makes_no_group(make_run):
    runs = [make_run("a", [0.5], trackers="tensorboard"), make_run("b", [0.5], seed=1)]
    assert names(*runs) == [("fedhpro", [0, 1])]


def test_a_group_is_named_by_what_differs(make_run):
    runs = [
        make_run("a", [0.5], method__name="fedavg"),
        make_run("b", [0.5], partition__alpha=0.1),
        make_run("c", [0.5], local__momentum=0.5),
    ]
    assert names(*runs) == [
        ("fedavg, partition.alpha = 0.5, local.momentum = 0.9", [0]),
        ("fedhpro, partition.alpha = 0.1, local.momentum = 0.9", [0]),
        ("fedhpro, partition.alpha = 0.5, local.momentum = 0.5", [0]),
    ]
    assert names(*runs[:1]) == [("fedavg", [0])]


def test_what_a_run_does_not_read_makes_no_group_and_is_in_no_name(make_run):
    fedavg = [
        make_run(f"a{seed}", [0.5], method__name="fedavg", seed=seed, fedprox__mu=mu, preset=preset)
        for seed, mu, preset in ((0, 0.01, "paper"), (1, 0.5, "tuned"))
    ]
    fedhpro = [make_run(f"h{k}", [0.5], losses__hpal="off", losses__hpal_weight=k) for k in (1.0, 2.0)]
    assert names(*fedavg, *fedhpro) == [("fedavg", [0, 1]), ("fedhpro", [0])]
    other = make_run("o", [0.5], losses__hpal="unit", losses__hpal_weight=3.0)
    prox = make_run("p", [0.5], method__name="fedprox", fedprox__mu=0.5)
    assert names(*fedavg, fedhpro[0], other, prox) == [
        ("fedavg", [0, 1]),
        ("fedhpro, losses.hpal = off", [0]),
        ("fedhpro, losses.hpal = unit", [0]),
        ("fedprox", [0]),
    ]


def test_a_preset_is_named_where_it_is_read(make_run):
    runs = [make_run(name, [0.5], preset=name) for name in ("paper", "reference")]
    fedavg = make_run("avg", [0.5], method__name="fedavg", preset="reference")
    assert [name for name, _ in names(*runs, fedavg)] == [
        "fedhpro, preset = paper", "fedhpro, preset = reference", "fedavg",
    ]  # fmt: skip


def test_what_follows_from_a_preset_is_not_repeated(make_run):
    runs = [make_run("a", [0.5], preset="paper"), make_run("b", [0.5], preset="reference")]
    assert names(*runs) == [("fedhpro, preset = paper", [0]), ("fedhpro, preset = reference", [0])]
    changed = make_run("c", [0.5], preset="reference", losses__temperature=0.5)
    assert names(*runs, changed)[2] == ("fedhpro, preset = reference, losses.temperature = 0.5", [0])


def test_what_follows_from_an_experiment_is_not_repeated(make_run):
    runs = [
        make_run("a", [0.5], experiment="one", local__lr=0.1),
        make_run("b", [0.5], experiment="two", local__lr=0.2),
        make_run("c", [0.5], experiment="two", local__lr=0.2, method__name="fedavg"),
    ]
    assert [name for name, _ in names(*runs)] == [
        "fedhpro, experiment = one",
        "fedhpro, experiment = two",
        "fedavg, experiment = two",
    ]
    changed = make_run("d", [0.5], experiment="two", local__lr=0.3)
    assert [name for name, _ in names(*runs[:2], changed)] == [
        "fedhpro, experiment = one, local.lr = 0.1",
        "fedhpro, experiment = two, local.lr = 0.2",
        "fedhpro, experiment = two, local.lr = 0.3",
    ]


def test_data_files_are_told_apart_by_name_and_not_by_place(make_run):
    runs = [make_run(name, [0.5], data__path=path) for name, path in (("a", "/x/1.npz"), ("b", "/y/1.npz"))]
    assert len(names(runs[0], make_run("c", [0.5], data__path="/x/2.npz"))) == 2
    assert len(names(*runs)) == 1
    weights = [make_run(name, [0.5], data__weights=f"/w/{name}.pth") for name in ("resnet18", "vit")]
    assert len(names(*weights)) == 2


def test_of_two_runs_with_one_seed_the_finished_one_is_shown(make_run):
    runs = [Run.read(make_run(name, [0.5, 0.6], finished=name != "c")) for name in "abc"]
    groups, left_out, _ = group_runs(runs)
    assert [run.folder.name for run in groups[0].runs] == ["b"]
    assert sorted(run.folder.name for run in left_out) == ["a", "c"]


def test_names_of_an_ablation_say_what_is_changed_and_the_rest_is_said_once(make_run):
    """With all that differs in it each name would be longer than pictures can hold."""
    changed = {
        "hyper_prototypes__prototypes_per_class": 2, "hyper_prototypes__init": "orthogonal", "losses__hpcl_weight": 0.5,
        "hyper_prototypes__matching_steps": 5, "losses__margin": "none", "losses__hpal": "unit", "local__lr": 0.3,
    }  # fmt: skip
    runs = [make_run("0", [0.5]), *(make_run(key, [0.5], **{key: value}) for key, value in changed.items())]
    runs.append(make_run("avg", [0.5], method__name="fedavg"))
    groups, _, usual = group_runs([Run.read(folder) for folder in runs])
    assert [group.name for group in groups] == [
        "fedhpro",
        "fedhpro, hyper-prototypes.prototypes-per-class = 2",
        "fedhpro, hyper-prototypes.init = orthogonal",
        "fedhpro, losses.hpcl-weight = 0.5",
        "fedhpro, hyper-prototypes.matching-steps = 5",
        "fedhpro, losses.margin = none",
        "fedhpro, losses.hpal = unit",
        "fedhpro, local.lr = 0.3",
        "fedavg",
    ]
    assert not any(group.stated for group in groups)
    assert set(usual.split(", ")) == {
        "hyper-prototypes.prototypes-per-class = 5", "hyper-prototypes.init = normal", "losses.hpcl-weight = 1.0",
        "hyper-prototypes.matching-steps = 30", "losses.margin = l2-unit", "losses.hpal = paper", "local.lr = 0.05",
    }  # fmt: skip
    assert group_runs([Run.read(folder) for folder in runs[:2]]).usual == ""


def test_a_group_that_differs_in_too_much_for_a_name_is_named_by_its_folder(make_run):
    other = {
        "local__lr": 0.3, "local__momentum": 0.5, "local__epochs": 3, "local__batch_size": 7, "local__flip": False,
        "partition__alpha": 0.1, "hyper_prototypes__prototypes_per_class": 9, "losses__temperature": 0.5,
        "evaluation__batch_size": 99, "clients__quorum": 0.9, "class_gradients__samples_per_class": 3,
    }  # fmt: skip
    runs = [Run.read(make_run(name, [0.5], **changes)) for name, changes in (("x/seed-0", {}), ("y/seed-0", other))]
    groups = group_runs(runs).shown
    assert [group.name for group in groups] == ["fedhpro, x/seed-0", "fedhpro, y/seed-0"]
    assert "partition.alpha = 0.1, " in groups[1].stated and "losses.temperature = 0.5" in groups[1].stated
