"""Settings that somebody gave and no run reads: said in a sentence, and never where any run reads them."""

import pytest

from fedhpro_flwr.cli import main
from fedhpro_flwr.comparison.ablations import ablation_rows
from fedhpro_flwr.comparison.grid import build_grid, unread_in
from fedhpro_flwr.comparison.rows import read_columns, read_rows
from fedhpro_flwr.config import known_keys
from fedhpro_flwr.methods import METHODS
from fedhpro_flwr.settings.from_command_line import keys_of, prepare
from fedhpro_flwr.settings.presets import PRESETS
from fedhpro_flwr.settings.unread import BUILT_IN, NEEDS, OWN, RIVALS, is_read, unread


def said(*changes):
    return unread([prepare(None, changes)], keys_of(changes))


@pytest.mark.parametrize(
    ("changes", "needs"),
    [
        (
            ["aggregation.trim=0.3"],
            "aggregation.trim = 0.3 changes nothing: it is read with aggregation.model = 'trimmed-mean' "
            "or aggregation.class-gradients = 'trimmed-mean'",
        ),
        (
            ["partition.scheme=iid", "partition.alpha=0.1"],
            "partition.alpha = 0.1 changes nothing: "
            "it is read with partition.scheme = 'dirichlet', 'nid1' or 'quantity'",
        ),
        (["fedprox.mu=1"], "fedprox.mu = 1.0 changes nothing: it is read with method.name = 'fedprox'"),
        (
            ["method.name=fedproto", "preset=tuned"],
            "preset = 'tuned' changes nothing: it is read with method.name = 'fedhpro', 'averaged' or 'creff' "
            "or method.prototypes = 'hyper'",
        ),
        (
            ["calibration.lr=0.1"],
            "calibration.lr = 0.1 changes nothing: it is read with calibration.head = 'replace' or 'separate'",
        ),
        (
            ["hyper-prototypes.matching-steps=0", "hyper-prototypes.matching-lr=1"],
            "hyper-prototypes.matching-lr = 1.0 changes nothing: it is read with "
            "hyper-prototypes.matching-steps above 0",
        ),
        (
            ["data.name=ag-news", "data.tokenizer=bert", "data.vocabulary=9"],
            "data.vocabulary = 9 changes nothing: it is read with data.tokenizer = 'hashing'",
        ),
        (
            ["method.name=scaffold", "aggregation.weighting=clients"],
            "aggregation.weighting = 'clients' changes nothing: it is read with method.name = 'fedavg', 'fedprox', "
            "'moon', 'fedproto', 'fedtgp', 'fedsa', 'fpl', 'creff', 'fedhpro' or 'averaged'",
        ),
        (
            ["method.name=local", "aggregation.max-update-norm=1"],
            "aggregation.max-update-norm = 1.0 changes nothing: it is read with method.name = 'fedavg', 'fedprox', "
            "'moon', 'scaffold', 'fedproto', 'fedtgp', 'fedsa', 'fpl', 'creff', 'fedhpro' or 'averaged'",
        ),
        (["privacy.delta=0.1"], "privacy.delta = 0.1 changes nothing: it is read with privacy.withhold = true"),
    ],
)
def test_a_setting_that_nothing_reads_is_named_with_what_would_read_it(changes, needs):
    assert said(*changes) == [needs]


@pytest.mark.parametrize(
    "changes",
    [
        ["aggregation.trim=0.3", "aggregation.model=trimmed-mean"],
        ["aggregation.trim=0.2", "fedprox.mu=0.01"],  # what they are anyway
        ["preset=tuned", "calibration.head=off", "losses.hpcl=off", "hyper-prototypes.matching-steps=0"],
        ["method.name=fedproto", "method.prototypes=hyper", "preset=reference", "class-gradients.repeats=2"],
        ["method.name=creff", "class-gradients.repeats=2", "creff.lr=0.1"],
        ["method.name=averaged", "losses.temperature=0.1"],
        ["method.name=scaffold", "aggregation.drop-contrary=true", "aggregation.max-update-norm=1"],
        ["data.name=office-caltech-surf", "partition.scheme=domains", "partition.domain-share=0.3"],
    ],
)
def test_nothing_is_said_of_what_is_read_or_as_it_is_anyway(changes):
    assert said(*changes) == []


def test_an_own_method_may_read_anything():
    config = prepare(None, ["fedprox.mu=1", "losses.correction=none", "preset=tuned"])
    own = config.model_copy(update={"method": config.method.model_copy(update={"name": "mine"})})
    assert unread([own], ["fedprox.mu", "preset"]) == []


@pytest.mark.parametrize(
    ("switched_off", "key"),
    [
        ("losses.hpcl=off", "losses.temperature"),
        ("losses.hpal=off", "losses.hpal-weight"),
        ("hyper-prototypes.matching-steps=0", "hyper-prototypes.matching-lr"),
        ("hyper-prototypes.matching-steps=0", "class-gradients.weighting"),
        ("calibration.head=off", "calibration.lr"),
    ],
)
def test_what_switches_a_part_of_fedhpro_off_says_nothing_of_an_own_method(switched_off, key):
    config = prepare(None, [switched_off])
    own = config.model_copy(update={"method": config.method.model_copy(update={"name": "mine"})})
    assert not is_read(config, key) and is_read(own, key)


def test_built_in_are_methods_that_there_are_and_none_with_a_section_in_own():
    """docs/own-models-and-methods.md has the sections of own methods named in OWN; that must not make them built in."""
    assert {*BUILT_IN} <= {*METHODS} and not {*BUILT_IN} & {*OWN}
    assert all(any(f"{name}." in keys for keys, _ in NEEDS) for name in (*RIVALS, *OWN))


def test_the_needs_name_settings_and_methods_that_there_are():
    keys = {*known_keys(), *(f"{key.rpartition('.')[0]}." for key in known_keys())}
    assert {key for listed, need in NEEDS for key in (*listed, *need)} <= keys
    assert {name for _, need in NEEDS for name in need.get("method.name", ())} <= BUILT_IN


def grid(folder, rows, changes, vary=()):
    return build_grid("digits-small", changes, rows=rows, columns=read_columns(vary), seeds=(0, 1), folder=folder)


def test_in_a_grid_one_row_that_reads_a_setting_is_enough_and_a_rows_own_are_the_rows(tmp_path):
    rows = read_rows("fedavg,fedprox,fedavg:moon.mu=2")
    changes = ["fedprox.mu=0.1", "creff.lr=0.1"]
    made = grid(tmp_path, rows, changes, ["partition.classes-per-client=2,3", "local.lr=0.1,0.2"])
    assert unread_in(made, changes) == [
        "creff.lr = 0.1 changes nothing: it is read with method.name = 'creff'",
        "partition.classes-per-client = 3 changes nothing: it is read with partition.scheme = 'shards'",
        "fedavg:moon.mu=2: moon.mu = 2.0 changes nothing: it is read with method.name = 'moon'",
    ]


@pytest.mark.parametrize("preset", PRESETS)
def test_nothing_is_said_of_the_rows_of_an_ablation(preset, tmp_path):
    changes = [f"preset={preset}"]
    rows = ablation_rows(prepare("digits-small", [*changes, "method.name=fedhpro"]))
    assert unread_in(grid(tmp_path, rows, changes), changes) == []


def test_the_commands_say_it_once_and_go_on(tmp_path, capsys):
    small = ["rounds=1", "data.train-limit=100", "partition.num-partitions=2", "model.name=mlp", "local.epochs=1"]
    flags = [word for change in [*small, "fedprox.mu=1"] for word in ("--set", change)]
    sentence = "fedhpro: fedprox.mu = 1.0 changes nothing: it is read with method.name = 'fedprox'\n"
    engine = ["--engine", "in-process"]
    assert main(["run", "digits-small", *flags, *engine, "--set", f"run-folder={tmp_path / 'run'}"]) == 0
    assert capsys.readouterr().err == sentence
    place = ["--folder", str(tmp_path / "grid"), "--seeds", "0"]
    tuned = ["--tune", "local.lr=0.01,0.1"]
    assert main(["compare", "digits-small", "--methods", "fedavg", *flags, *engine, *place, *tuned]) == 0
    assert capsys.readouterr().err == sentence
