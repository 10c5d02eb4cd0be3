"""The runs of a grid: which there are, where they lie, and which grids are refused before anything starts."""

import json

import numpy as np
import pytest
import tomli_w

from fedhpro_flwr.comparison import finished
from fedhpro_flwr.comparison.ablations import GROUPS, ablation_rows, read_groups
from fedhpro_flwr.comparison.finished import of_other_samples, unfinished
from fedhpro_flwr.comparison.grid import build_grid, slug
from fedhpro_flwr.comparison.rows import Row, read_columns, read_rows
from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.data import load
from fedhpro_flwr.settings.flat_keys import nest
from fedhpro_flwr.settings.from_command_line import prepare
from fedhpro_flwr.settings.presets import PRESETS


def grid(folder, methods="fedavg,fedhpro", *, conf="digits-small", changes=(), vary=(), seeds=(0, 1)):
    return build_grid(conf, changes, rows=read_rows(methods), columns=read_columns(vary), seeds=seeds, folder=folder)


def finish(cell, **changes):
    """Leave what a finished run of the cell leaves, as far as it is looked at."""
    settings = cell.config.flat() | {key.replace("__", "."): value for key, value in changes.items()}
    cell.folder.mkdir(parents=True)
    (cell.folder / "config.toml").write_text(tomli_w.dumps(nest(settings)))
    (cell.folder / "summary.json").write_text(json.dumps({}))


def test_every_run_has_its_settings_and_a_folder_of_its_own(tmp_path):
    made = grid(tmp_path, "fedavg,fedhpro:preset=reference", changes=["rounds=7"], vary=["partition.alpha=0.1,0.5"])
    assert [str(cell.folder.relative_to(tmp_path)) for cell in made.runs] == [
        "fedavg/partition.alpha=0.1/seed-0",
        "fedhpro-preset=reference/partition.alpha=0.1/seed-0",
        "fedavg/partition.alpha=0.5/seed-0",
        "fedhpro-preset=reference/partition.alpha=0.5/seed-0",
        "fedavg/partition.alpha=0.1/seed-1",
        "fedhpro-preset=reference/partition.alpha=0.1/seed-1",
        "fedavg/partition.alpha=0.5/seed-1",
        "fedhpro-preset=reference/partition.alpha=0.5/seed-1",
    ]
    assert made.runs[1].name == "fedhpro:preset=reference partition.alpha=0.1 seed 0"
    config = made.cells["fedhpro:preset=reference", "partition.alpha=0.1", 1].config
    assert (config.method.name, config.preset, config.partition.alpha) == ("fedhpro", "reference", 0.1)
    assert (config.seed, config.rounds, config.losses.hpcl) == (1, 7, "reference")
    assert config.clients.num_nodes == config.partition.num_partitions
    assert list(tmp_path.iterdir()) == []


def test_rows_with_the_same_settings_share_their_runs(tmp_path):
    made = grid(tmp_path, "fedhpro,fedhpro:preset=paper,fedavg", seeds=(0,))
    assert len(made.cells) == 3
    assert [cell.row for cell in made.runs] == ["fedhpro", "fedavg"]
    assert made.cells["fedhpro:preset=paper", "", 0] is made.cells["fedhpro", "", 0]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"methods": "fedavg,fedsgd"}, "fedsgd seed 0: method.name = 'fedsgd' is unknown, there are: "),
        ({"methods": "fedavg:local.lrr=1"}, "fedavg:local.lrr=1 seed 0: unknown key local.lrr, did you mean local.lr"),
        ({"vary": ["rounds=3,0"]}, "fedavg rounds=0 seed 0: rounds = 0: it must be greater than or equal to 1"),
        (
            {"conf": "three-models-small", "changes": ["model.share=all"]},
            "fedavg seed 0: model.share = 'all': models of different architectures cannot be averaged",
        ),
        ({"conf": "nosuch"}, "^there is no file nosuch"),
        ({"changes": ["seed=1"]}, "--set: seed cannot be set in a grid"),
        ({"changes": ["method.name=moon"]}, "^--set: method.name cannot be set in a grid whose rows all set it; leave"),
        (
            {"methods": "fedavg,fedhpro:preset=paper", "vary": ["preset=paper,reference"]},
            "fedhpro:preset=paper sets preset, and --vary or --tune varies it",
        ),
    ],
)
def test_a_grid_with_a_run_that_cannot_start_is_refused_by_its_name(options, sentence, tmp_path):
    with pytest.raises(ConfigError, match=sentence):
        grid(tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


def test_two_rows_of_one_folder_and_different_settings_are_refused(tmp_path):
    assert slug("fedavg: a") == slug("fedavg:a") == "fedavg-a"
    rows = [Row("fedavg: a", ("rounds=2",)), Row("fedavg:a", ("rounds=3",))]
    with pytest.raises(
        ConfigError, match=r"fedavg: a seed 0 and fedavg:a seed 0 would share the folder .*fedavg-a/see"
    ):
        build_grid(None, [], rows=rows, columns=read_columns([]), seeds=(0,), folder=tmp_path)


def test_finished_runs_are_skipped_and_others_begun_anew(tmp_path):
    made = grid(tmp_path)
    finish(made.runs[0], data__root="/another/machine")  # where files lie makes no other run
    made.runs[1].folder.mkdir(parents=True)
    (made.runs[1].folder / "config.toml").write_text("rounds = 99")  # of a run that was stopped
    assert unfinished(made.runs) == list(made.runs[1:])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"rounds": 3}, r"seed-0 holds a finished run with rounds = 3 \(here 25\); a result of other settings is not"),
        (
            {"seed": 4, "local__lr": 0.5},
            r"with seed = 4 \(here 0\), local.lr = 0.5 \(here 0.05\); ",
        ),
        ({"roundz": 3}, "holds a finished run whose config.toml is no good .unknown key roundz, did you mean rounds"),
    ],
)
def test_a_result_of_other_settings_is_not_mixed_in(changes, sentence, tmp_path):
    made = grid(tmp_path)
    finish(made.runs[0], **changes)
    with pytest.raises(ConfigError, match=sentence):
        unfinished(made.runs)


def test_an_ablation_runs_what_is_set_once(tmp_path):
    rows = ablation_rows(prepare("digits-small", []), ("k", "m", "margin"))
    made = build_grid("digits-small", [], rows=rows, columns=read_columns([]), seeds=(0,), folder=tmp_path)
    assert [row.label for row in rows] == [
        "fedavg", "fedhpro",
        "K = 1", "K = 2", "K = 5", "K = 10",
        "M = 1", "M = 10", "M = 30", "M = 100",
        "margin l2-unit", "margin l2", "margin inner", "margin none",
    ]  # fmt: skip
    for same in ("K = 5", "M = 30", "margin l2-unit"):
        assert made.cells[same, "", 0] is made.cells["fedhpro", "", 0]
    assert len(made.runs) == len(rows) - 3
    assert made.cells["M = 100", "", 0].config.hyper_prototypes.matching_steps == 100
    assert {row.group for row in rows} == {"", "k", "m", "margin"}


@pytest.mark.parametrize("preset", PRESETS)
def test_every_ablation_can_run_and_is_what_it_is_called(preset, tmp_path):
    changes = [f"preset={preset}", f"hyper-prototypes.init={'normal' if preset == 'paper' else 'orthogonal'}"]
    rows = ablation_rows(prepare("digits-small", changes))
    assert {row.group for row in rows} == {"", *GROUPS}
    made = build_grid("digits-small", changes, rows=rows, columns=read_columns([]), seeds=(0,), folder=tmp_path)
    hpcl, hpal = (PRESETS[preset][key].replace("off", "paper") for key in ("losses.hpcl", "losses.hpal"))
    for label, wanted in {
        "fedavg": {"method.name": "fedavg"},
        "averaged": {"method.name": "averaged"},
        "HPCL and HPAL": {"losses.hpcl": hpcl, "losses.hpal": hpal},
        "HPCL only": {"losses.hpcl": hpcl, "losses.hpal": "off"},
        "HPAL only": {"losses.hpcl": "off", "losses.hpal": hpal},
        "neither loss": {"losses.hpcl": "off", "losses.hpal": "off"},
        "matched": {"hyper-prototypes.matching-steps": 30},
        "frozen at random": {"hyper-prototypes.matching-steps": 0, "hyper-prototypes.init": "normal"},
        "frozen orthogonal": {"hyper-prototypes.matching-steps": 0, "hyper-prototypes.init": "orthogonal"},
        "calibration off": {"calibration.head": "off"},
        "calibration replace": {"calibration.head": "replace"},
        "calibration separate": {"calibration.head": "separate"},
    }.items():
        settings = made.cells[label, "", 0].config.flat()
        assert {key: settings[key] for key in wanted} == wanted, label


def test_an_ablation_without_a_global_model_keeps_no_head_for_its_test():
    labels = [row.label for row in ablation_rows(prepare("three-models-small", []))]
    assert "calibration replace" in labels
    assert "calibration separate" not in labels


def test_a_loss_that_is_off_is_ablated_as_published():
    rows = {row.label: row for row in ablation_rows(prepare("digits-small", ["losses.hpal=off"]), ("losses",))}
    assert rows["HPAL only"].changes == ("method.name=fedhpro", "losses.hpcl=off", "losses.hpal=paper")


def test_an_unknown_group_lists_what_exists():
    assert read_groups("m, losses") == ("losses", "m")
    with pytest.raises(ConfigError, match="--only n is no group of ablations, there are: losses, prototypes, margin, "):
        read_groups("k,n")


def test_data_files_are_different_runs_and_are_told_apart_by_name_where_a_run_is_finished(tmp_path):
    files = "data.path=/x/1.npz,/y/1.npz,/x/2.npz"
    made = grid(tmp_path, "fedavg", changes=["data.name=npz"], vary=[files], seeds=(0,))
    assert len(made.runs) == 3
    finish(made.runs[0], data__path="/another/machine/1.npz")
    assert unfinished(made.runs) == list(made.runs[1:])
    finish(made.runs[1], data__path="/y/2.npz")
    with pytest.raises(ConfigError, match=r"holds a finished run with data.path = '2.npz' \(here '1.npz'\)"):
        unfinished(made.runs)


@pytest.fixture
def two_files(tmp_path):
    """a/x.npz, b/x.npz of other samples, c/x.npz of those of a."""
    for folder, value in (("a", 1), ("b", 2), ("c", 1)):
        (tmp_path / folder).mkdir()
        np.savez(tmp_path / folder / "x.npz", images=np.full((20, 4, 4), value, np.uint8), labels=np.arange(20) % 2)
    return tmp_path


def divided(cell, content):
    """What the finished run of a cell says of its samples."""
    (cell.folder / "partition.json").write_text(json.dumps({"content": content}))


def test_a_run_on_a_file_of_the_same_name_is_taken_over_if_it_has_the_same_samples(two_files, monkeypatch):
    def made(folder):
        data = ["data.name=npz", f"data.path={two_files / folder / 'x.npz'}"]
        return grid(two_files / "runs", "fedavg,fedprox", changes=data)

    loaded = []
    monkeypatch.setattr(finished, "load", lambda source: loaded.append(source.path) or load(source))
    first = made("a")
    content = load(first.runs[0].config.data).content
    for cell in first.runs:
        finish(cell)
        divided(cell, content)
    assert (unfinished(first.runs), loaded) == ([], [])  # in its place: nothing is read
    assert (unfinished(made("c").runs), loaded) == ([], [str(two_files / "c" / "x.npz")])  # once for four cells
    refused = rf"fedavg/seed-0 holds a finished run of other samples than data.path = '{two_files}/b/x.npz' has, a file"
    with pytest.raises(ConfigError, match=refused):
        unfinished(made("b").runs)
    assert unfinished(made("nowhere").runs) == []  # as on a machine without the data
    (two_files / "b" / "x.npz").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match=r"fedavg seed 0: .*b/x.npz is damaged.*; nothing was started"):
        unfinished(made("b").runs)


def test_a_run_that_does_not_say_its_samples_is_taken_over_wherever_the_file_lies(two_files):
    made = grid(two_files / "runs", "fedavg", changes=["data.name=npz", f"data.path={two_files / 'a' / 'x.npz'}"])
    for cell in made.runs:
        finish(cell, data__path="/another/machine/x.npz")
    assert unfinished(made.runs) == []


def test_varied_files_of_one_name_are_no_file_that_has_changed(two_files):
    files = f"data.path={two_files / 'a' / 'x.npz'},{two_files / 'b' / 'x.npz'}"
    made = grid(two_files / "runs", "fedavg", changes=["data.name=npz"], vary=[files])
    for cell in made.runs:
        finish(cell)
        divided(cell, "1" if "/a/" in cell.config.data.path else "2")
    assert of_other_samples(made.runs) == {}
    divided(made.runs[0], "3")  # now two runs on a/x.npz differ
    assert len(of_other_samples(made.runs)) == 1


def test_a_long_label_has_a_folder_of_its_own_that_file_systems_take(tmp_path):
    same = ";".join(["local.lr=0.01"] * 30)
    made = grid(tmp_path, f"fedavg:{same};rounds=2,fedavg:{same};rounds=3", seeds=(0,))
    assert len(made.runs) == 2
    for cell in made.runs:
        cell.folder.mkdir(parents=True)


def test_ablations_are_what_they_are_called_whatever_is_set_of_margins_and_counts(tmp_path):
    changes = ["losses.margin-pairs=far", "losses.margin-schedule=ramp", 'hyper-prototypes.counts="0=8, 9=2"']
    rows = ablation_rows(prepare("digits-small", changes), ("losses", "margin", "k"))
    made = build_grid("digits-small", changes, rows=rows, columns=read_columns([]), seeds=(0,), folder=tmp_path)
    one, inner, l2 = (made.cells[label, "", 0].config for label in ("K = 1", "margin inner", "margin l2"))
    assert (one.hyper_prototypes.prototypes_per_class, one.hyper_prototypes.counts) == (1, "")
    assert (inner.losses.margin_pairs, inner.losses.margin_schedule) == ("same", "ramp")
    assert (l2.losses.margin_pairs, l2.losses.margin_schedule) == ("far", "ramp")


def test_ablations_of_frozen_hyper_prototypes_and_of_a_loss_that_is_off_are_what_they_are_called(tmp_path):
    """A row that changes how hyper-prototypes are matched matches them; one that changes the margin has its loss."""
    rows = ablation_rows(prepare("digits-small", ["preset=tuned", "losses.hpcl=off"]), ("distance", "margin"))
    configs = {row.label: prepare("digits-small", ["preset=tuned", "losses.hpcl=off", *row.changes]) for row in rows}
    for distance in ("cosine", "coordinate", "mse"):
        options = configs[f"matching by {distance}"].hyper_prototypes
        assert (options.matching_steps, options.matching_distance) == (30, distance)
    assert configs["margin l2"].losses.hpcl == "paper"


@pytest.mark.parametrize("key", ["trackers", "clients.timeout", "clients.retries", "checkpoint.every"])
def test_what_decides_no_result_makes_no_other_run(key, tmp_path):
    values = {"trackers": "tensorboard"}
    made = grid(tmp_path)
    for run in made.runs:
        finish(run, **{key.replace(".", "__").replace("-", "_"): values.get(key, 7)})
    assert unfinished(made.runs) == []
