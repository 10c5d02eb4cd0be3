"""The rows of `fedhpro ablate`: FedAvg, FedHPro as it is set, and groups of rows of FedHPro with one part changed."""

from __future__ import annotations

from collections.abc import Sequence

from fedhpro_flwr.comparison.rows import Row, split
from fedhpro_flwr.config import ConfigError, RunConfig

FULL = "fedhpro"  # the row of the settings as they are; the others are compared with it
GROUPS = ("losses", "prototypes", "margin", "k", "m", "distance", "calibration")
STEPS = 30  # the publication's M, for the row "matched" if the settings freeze the hyper-prototypes


def ablation_rows(config: RunConfig, only: Sequence[str] = ()) -> tuple[Row, ...]:
    """FedAvg, FedHPro as set, and the rows of the groups.

    A row whose change is set already is the same run as FedHPro as set: grid.py runs both once.

    Args:
        config: the settings that the rows change; rows that need a loss that is off there use the publication's.
        only: names of groups; all if empty.
    """
    hpcl, hpal = (value if value != "off" else "paper" for value in (config.losses.hpcl, config.losses.hpal))
    steps = config.hyper_prototypes.matching_steps or STEPS
    # Rows without a margin, or with one K for all, drop the settings that refine it, so as to be what they are called.
    pairs = ("losses.margin-pairs=same",) if config.losses.margin_pairs != "same" else ()
    unused = (*pairs, *(("losses.margin-schedule=constant",) if config.losses.margin_schedule != "constant" else ()))
    margins = {"l2-unit": (), "l2": (), "inner": pairs, "none": unused}
    counts = ("hyper-prototypes.counts=",) if config.hyper_prototypes.counts else ()
    groups: dict[str, dict[str, tuple[str, ...]]] = {
        "losses": {
            "HPCL and HPAL": (f"losses.hpcl={hpcl}", f"losses.hpal={hpal}"),
            "HPCL only": (f"losses.hpcl={hpcl}", "losses.hpal=off"),
            "HPAL only": ("losses.hpcl=off", f"losses.hpal={hpal}", *unused),
            "neither loss": ("losses.hpcl=off", "losses.hpal=off", *unused),
        },
        "prototypes": {
            "matched": (f"hyper-prototypes.matching-steps={steps}",),
            "frozen at random": ("hyper-prototypes.matching-steps=0", "hyper-prototypes.init=normal"),
            "frozen orthogonal": ("hyper-prototypes.matching-steps=0", "hyper-prototypes.init=orthogonal"),
            "averaged": ("method.name=averaged",),
        },
        "margin": {
            f"margin {reading}": (f"losses.hpcl={hpcl}", f"losses.margin={reading}", *without)
            for reading, without in margins.items()
        },
        "k": {f"K = {k}": (f"hyper-prototypes.prototypes-per-class={k}", *counts) for k in (1, 2, 5, 10)},
        "m": {f"M = {m}": (f"hyper-prototypes.matching-steps={m}",) for m in (1, 10, 30, 100)},
        "distance": {
            f"matching by {distance}": (
                f"hyper-prototypes.matching-steps={steps}",
                f"hyper-prototypes.matching-distance={distance}",
            )
            for distance in ("cosine", "coordinate", "mse")
        },
        "calibration": {
            "calibration off": ("calibration.head=off", "hyper-prototypes.matching-head=client"),
            "calibration replace": ("calibration.head=replace",),
            # A separate head serves the server's test alone, which needs a global model.
            **({"calibration separate": ("calibration.head=separate",)} if config.model.share != "head" else {}),
        },
    }
    rows = [Row("fedavg", ("method.name=fedavg",)), Row(FULL, ("method.name=fedhpro",))]
    for group in only or GROUPS:
        for label, changes in groups[group].items():
            named = any(change.startswith("method.name=") for change in changes)
            rows.append(Row(label, changes if named else ("method.name=fedhpro", *changes), group))
    return tuple(rows)


def read_groups(text: str) -> tuple[str, ...]:
    """`losses,margin` as names of groups, in the order of the table.

    Raises:
        ConfigError: there is no such group; the message lists those there are.
    """
    wanted = split(text, ",", "--only")
    for name in wanted:
        if name not in GROUPS:
            raise ConfigError(f"--only {name} is no group of ablations, there are: {', '.join(GROUPS)}")
    return tuple(group for group in GROUPS if group in wanted)
