"""What the command line may write of a grid, and what it is refused for."""

import pytest

from fedhpro_flwr.comparison.rows import Column, Row, read_columns, read_row, read_rows, read_seeds
from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.settings.from_command_line import keys_of


@pytest.mark.parametrize(
    ("entry", "changes"),
    [
        ("fedavg", ("method.name=fedavg",)),
        ("fedproto+hyper", ("method.name=fedproto", "method.prototypes=hyper")),
        ("preset:tuned", ("method.name=fedhpro", "preset=tuned")),
        (
            "fedhpro:preset=reference;losses.hpal=off",
            ("method.name=fedhpro", "preset=reference", "losses.hpal=off"),
        ),
        (
            "fedsa+hyper: local.lr=0.1 ; data.path=a:b=c",
            ("method.name=fedsa", "method.prototypes=hyper", "local.lr=0.1", "data.path=a:b=c"),
        ),
    ],
)
def test_a_method_is_labelled_as_it_is_written(entry, changes):
    assert read_row(entry) == Row(entry, changes)


def test_rows_are_separated_by_commas_that_stand_between_no_quotes():
    rows = read_rows('fedavg, fedhpro:hyper-prototypes.counts="0=8, 9=2" ,local')
    assert [row.label for row in rows] == ["fedavg", 'fedhpro:hyper-prototypes.counts="0=8, 9=2"', "local"]
    assert keys_of(rows[1].changes) == ["method.name", "hyper-prototypes.counts"]


def test_columns_are_all_combinations_the_last_key_fastest():
    assert read_columns(["partition.alpha=0.1,0.5", "local.epochs=1, 2"]) == (
        Column("partition.alpha=0.1, local.epochs=1", ("partition.alpha=0.1", "local.epochs=1")),
        Column("partition.alpha=0.1, local.epochs=2", ("partition.alpha=0.1", "local.epochs=2")),
        Column("partition.alpha=0.5, local.epochs=1", ("partition.alpha=0.5", "local.epochs=1")),
        Column("partition.alpha=0.5, local.epochs=2", ("partition.alpha=0.5", "local.epochs=2")),
    )
    assert read_columns(["local.lr=0.1"]) == (Column("local.lr=0.1", ("local.lr=0.1",)),)
    assert read_columns([]) == (Column("", ()),)


def test_seeds():
    assert read_seeds("0, 2,17") == (0, 2, 17)


@pytest.mark.parametrize(
    ("read", "text", "sentence"),
    [
        (read_rows, "fedavg,,local", "--methods: nothing stands between two , of 'fedavg,,local'"),
        (read_rows, "", "--methods: it is empty"),
        (read_rows, "fedavg,local,fedavg", "--methods: fedavg is written 2 times"),
        (read_rows, "fedhpro:reference", "--methods 'fedhpro:reference': write a method as NAME, NAME.hyper, "),
        (read_rows, "preset=reference", "--methods 'preset=reference': write a method as NAME"),
        (read_rows, "+hyper", "write a method as NAME"),
        (read_rows, "fedavg:seed=3", "seed cannot be set in a grid, the seeds are those of --seeds"),
        (read_rows, "fedavg:seed = 3", "seed cannot be set in a grid, the seeds are those of --seeds"),
        (read_rows, "fedavg:run-folder=x", "run-folder cannot be set in a grid, each run has its own folder"),
        (read_seeds, "0,-1", "--seeds 0,-1: write whole numbers from 0 on"),
        (read_seeds, "0,one", "write whole numbers from 0 on"),
        (read_seeds, "1,1", "--seeds: 1 is written 2 times"),
        (lambda text: read_columns([text]), "local.lr", "--vary local.lr: write it as key=value,value"),
        (lambda text: read_columns([text]), "local.lr=", "--vary local.lr=: it is empty"),
        (lambda text: read_columns([text]), "seed=1,2", "seed cannot be set in a grid"),
        (lambda text: read_columns([text]), "local.lr=1,1", "--vary: local.lr=1 is written 2 times"),
        (lambda text: read_columns([text, text]), "local.lr=1,2", "--vary: local.lr is written 2 times"),
    ],
)
def test_a_mistake_is_one_sentence(read, text, sentence):
    with pytest.raises(ConfigError, match=sentence):
        read(text)
