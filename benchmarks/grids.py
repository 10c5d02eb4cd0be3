"""What results.py measures for docs/results.md and docs/scenarios.md: every row of a table in every column and seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Settings = Mapping[str, str | int | float]

SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Column:
    """An experiment of conf/, and what is changed in it."""

    conf: str
    settings: Settings = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """One grid of runs, shown once for each measure."""

    title: str
    columns: Mapping[str, Column]
    rows: Mapping[str, Settings]
    measures: tuple[str, ...] = ("mean-of-last-ten", "last", "best")
    by_domain: bool = False  # also a table of the domains of each column


@dataclass(frozen=True)
class Cell:
    """One run."""

    column: str
    row: str
    seed: int
    conf: str
    settings: Settings

    @property
    def name(self) -> str:
        """As the key in docs/results.json."""
        return f"{self.conf} | {self.column} | {self.row} | {self.seed}"


def cells(table: Table) -> list[Cell]:
    """All runs of a table, one seed after the other."""
    return [
        Cell(label, row, seed, column.conf, {**column.settings, **settings})
        for seed in SEEDS
        for label, column in table.columns.items()
        for row, settings in table.rows.items()
    ]


def skews(conf: str) -> dict[str, Column]:
    """Three kinds of label skew, the long tail also with more rounds.

    The long tail leaves a third of the samples, so its rounds are short, and it takes many more of them to flatten a
    curve.
    """
    longer = {"partition.alpha": 0.5, "partition.imbalance": 20.0, "rounds": 100, "evaluation.every": 2}
    return {
        "alpha 0.5": Column(conf, {"partition.alpha": 0.5}),
        "alpha 0.1": Column(conf, {"partition.alpha": 0.1}),
        "alpha 0.5, rho 20": Column(conf, {"partition.alpha": 0.5, "partition.imbalance": 20.0}),
        "alpha 0.5, rho 20, 100 rounds": Column(conf, longer),
    }


# What `tuned` adds to the publication's parts, taken away: first one, then both, then HPCL instead.
NOT_ADJUSTED: Settings = {"preset": "tuned", "losses.logit-adjustment": 0.0}
NEITHER: Settings = {**NOT_ADJUSTED, "losses.correction": "none"}
NO_HPCL: Settings = {"preset": "tuned", "losses.hpcl": "off"}

VARIANTS: dict[str, Settings] = {
    "FedAvg": {"method.name": "fedavg"},
    "FedHPro `paper`": {},
    "FedHPro `reference`": {"preset": "reference"},
    "FedHPro `tuned`": {"preset": "tuned"},
    "`tuned`, not adjusted": NOT_ADJUSTED,
    "`tuned`, neither corrected nor adjusted": NEITHER,
    "`tuned`, no HPCL": NO_HPCL,
    "HPCL only": {"losses.hpal": "off"},
    "HPAL only": {"losses.hpcl": "off"},
    "frozen at random": {"hyper-prototypes.matching-steps": 0},
    "margin `l2`": {"losses.margin": "l2"},
    "margin `inner`": {"losses.margin": "inner"},
    "margin `none`": {"losses.margin": "none"},
}

METHODS: dict[str, Settings] = {
    "each client alone": {"method.name": "local"},
    "FedAvg": {"method.name": "fedavg"},
    "FedHPro `paper`": {},
    "FedHPro `tuned`": {"preset": "tuned"},
    "`tuned`, not adjusted": NOT_ADJUSTED,
    "`tuned`, neither corrected nor adjusted": NEITHER,
    "`tuned`, no HPCL": NO_HPCL,
}

# Shards: NID2 as we read it, two of the ten classes a client.
SHARDS: Settings = {"partition.scheme": "shards", "partition.classes-per-client": 2}

SCENARIOS = {
    "Digits-4": Column("digits4-small"),
    "Office-Caltech SURF": Column("office-caltech-surf-small"),
    "AG News": Column("ag-news-small"),
    "CIFAR-10 shards": Column("cifar10-subset-small", SHARDS),
    "CIFAR-10 shards, rho 10": Column("cifar10-subset-small", {**SHARDS, "partition.imbalance": 10.0}),
    "CIFAR-10 quantity skew": Column("cifar10-subset-small", {"partition.scheme": "quantity"}),
}

THREE_MODELS: dict[str, Settings] = {
    "each client alone": {"method.name": "local"},
    "FedAvg of heads": {"method.name": "fedavg"},
    "FedHPro `paper`, heads": {},
    "`tuned`, neither corrected nor adjusted, heads": {**NEITHER, "calibration.head": "replace"},
    "FedAvg of heads, encoders in groups": {"method.name": "fedavg", "model.share": "group"},
    "FedHPro `paper`, heads, encoders in groups": {"model.share": "group"},
}

BEYOND: dict[str, Settings] = {
    "FedHPro `paper`": {},
    "margin larger for far pairs": {"losses.margin-pairs": "far"},
    "margin larger for near pairs": {"losses.margin-pairs": "near"},
    "margin growing with the rounds": {"losses.margin-schedule": "ramp"},
    "K = 8 for head classes, 2 for tail": {"hyper-prototypes.counts": "0=8, 1=8, 2=8, 3=8, 7=2, 8=2, 9=2"},
    "K = 2 for head classes, 8 for tail": {"hyper-prototypes.counts": "0=2, 1=2, 2=2, 3=2, 7=8, 8=8, 9=8"},
}

# The published rate is 0.01. The paper's losses are on raw features, so a rate that suits FedAvg may not suit them.
SLOWER: Settings = {"local.lr": 0.01}
RATES = {
    "Digits-4": Column("digits4-small"),
    "Digits-4, lr 0.01": Column("digits4-small", SLOWER),
    "CIFAR-10, alpha 0.5": Column("cifar10-subset-small", {"partition.alpha": 0.5}),
    "CIFAR-10, alpha 0.5, lr 0.01": Column("cifar10-subset-small", {"partition.alpha": 0.5, **SLOWER}),
}

CLIENTS = ("clients", "clients-deviation", "worst-client", "worse-than-alone")

PAGES: dict[str, tuple[Table, ...]] = {
    "results": tuple(
        Table(conf, skews(conf), VARIANTS) for conf in ("digits-small", "mnist-small", "cifar10-subset-small")
    ),
    "scenarios": (
        Table("All scenarios", SCENARIOS, METHODS, ("mean-of-last-ten", *CLIENTS), by_domain=True),
        Table(
            "The learning rate",
            RATES,
            {row: METHODS[row] for row in ("FedAvg", "FedHPro `paper`")},
            ("mean-of-last-ten",),
        ),
        Table("Three architectures", {"USPS": Column("three-models-small")}, THREE_MODELS, CLIENTS),
        Table(
            "Beyond the publication, MNIST",
            {
                label: column
                for label, column in skews("mnist-small").items()
                if label in ("alpha 0.5", "alpha 0.5, rho 20")
            },
            BEYOND,
            ("mean-of-last-ten",),
        ),
    ),
}
