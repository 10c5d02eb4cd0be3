"""Settings that a run does not read, because another setting switches off the part that would read them.

In a file they are no mistake: it may keep the settings of methods that it does not choose. But whoever gives one on a
command line believes that it has an effect.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.settings.flat_keys import Scalar

RIVALS = ("fedprox", "moon", "scaffold", "fedproto", "fedtgp", "fedsa", "fpl", "creff")  # each has a section
OWN: tuple[str, ...] = ()  # sections of methods that somebody adds
AVERAGING = ("fedavg", *RIVALS, "fedhpro", "averaged")  # scaffold by a weighting of its own
BUILT_IN = {*AVERAGING, "local"}  # any other method may read any setting of a method, whatever others say
OF_METHODS = ("hyper-prototypes.", "losses.", "class-gradients.", "calibration.")
PROTOTYPES = ("fedhpro", "averaged", "fedproto", "fedtgp", "fedsa", "fpl")
ABOVE_0 = ()  # in place of a setting's values: any number above 0 will do

Need = Mapping[str, tuple[Scalar, ...]]  # settings, each with its values; it is enough that one has one of its values

HYPER: Need = {"method.prototypes": ("hyper",)}
CALIBRATES: Need = {"calibration.head": ("replace", "separate")}
MATCHES: Need = {"hyper-prototypes.matching-steps": ABOVE_0}

# Keys, and what they need to be read. `section.` stands for all keys of the section but those that the need names.
NEEDS: tuple[tuple[tuple[str, ...], Need], ...] = (
    (("partition.alpha",), {"partition.scheme": ("dirichlet", "nid1", "quantity")}),
    (("partition.classes-per-client",), {"partition.scheme": ("shards",)}),
    (("partition.domain-clients", "partition.domain-share"), {"partition.scheme": ("domains",)}),
    (("partition.domain-classes", "partition.samples-per-client"), {"partition.scheme": ("domains",)}),
    (("partition.domain-share",), {"partition.samples-per-client": (0,)}),
    (("clients.sampling",), {"clients.per-round": ABOVE_0}),
    (("data.vocabulary",), {"data.tokenizer": ("hashing",)}),
    (("model.name",), {"model.groups": ("",)}),
    (("local.flip",), {"local.augment": ("per-sample", "per-batch")}),
    *(((f"{name}.",), {"method.name": (name,)}) for name in (*RIVALS, *OWN)),
    (("fedtgp.server-epochs", "fedtgp.server-lr", "fedtgp.server-batch-size"), {"method.prototypes": ("own",)}),
    (("fedtgp.margin-threshold", "fedsa.decay"), {"method.prototypes": ("own",)}),
    (("preset",), {"method.name": ("fedhpro", "averaged", "creff"), **HYPER}),
    (("hyper-prototypes.",), {"method.name": ("fedhpro",), **HYPER}),
    (("hyper-prototypes.matching-lr", "hyper-prototypes.matching-distance"), MATCHES),
    (("hyper-prototypes.matching-head", "hyper-prototypes.virtual-scale"), MATCHES),
    (("losses.",), {"method.name": ("fedhpro", "averaged")}),
    (("losses.correction", "losses.logit-adjustment"), {"method.name": ("fedhpro",)}),
    (("losses.temperature", "losses.margin", "losses.hpcl-weight"), {"losses.hpcl": ("paper", "reference")}),
    (("losses.hpal-weight",), {"losses.hpal": ("paper", "unit", "reference")}),
    (("class-gradients.",), {"method.name": ("fedhpro", "creff"), **HYPER}),
    (("class-gradients.",), {"method.name": ("creff",), **MATCHES, **CALIBRATES}),
    (("class-gradients.weighting",), {"method.name": ("fedhpro",), **HYPER}),
    (("class-gradients.weighting",), MATCHES),
    (("calibration.",), {"method.name": ("fedhpro",)}),
    (("calibration.",), CALIBRATES),
    (("aggregation.trim",), {"aggregation.model": ("trimmed-mean",), "aggregation.class-gradients": ("trimmed-mean",)}),
    (("aggregation.weighting",), {"aggregation.model": ("mean",)}),
    (("aggregation.weighting",), {"method.name": tuple(name for name in AVERAGING if name != "scaffold")}),
    (("aggregation.class-gradients",), {"method.name": (*PROTOTYPES, "creff")}),
    (("aggregation.",), {"method.name": AVERAGING}),
    (("privacy.min-samples", "privacy.class-clip", "privacy.class-noise"), {"method.name": (*PROTOTYPES, "creff")}),
    (("privacy.noise",), {"privacy.class-noise": ABOVE_0, "privacy.model-noise": ABOVE_0}),
    (("privacy.delta",), {"privacy.withhold": (True,)}),
    (("evaluation.nearest-prototype",), {"method.name": PROTOTYPES}),
)


def unread(configs: Sequence[RunConfig], keys: Iterable[str]) -> list[str]:
    """A sentence for each of the keys that no run reads, though it has another value than its default in one of them.

    Args:
        configs: settings of the runs.
        keys: the keys that somebody gave.
    """
    sentences = []
    for key in dict.fromkeys(keys):
        changed = [config for config in configs if config.flat()[key] != _default(config, key)]
        lacking = [_lacking(config, key) for config in configs]
        if changed and all(lacking):
            sentences.append(f"{key} = {changed[0].flat()[key]!r} changes nothing: it is read with {lacking[0]}")
    return sentences


def is_read(config: RunConfig, key: str) -> bool:
    """Whether a run with these settings reads the key."""
    return not _lacking(config, key)


def _default(config: RunConfig, key: str) -> Scalar:
    return RunConfig.parse({"preset": config.preset} if key != "preset" else {}).flat()[key]


def _lacking(config: RunConfig, key: str) -> str:
    """What the key needs and the run does not have, as the end of a sentence; "" if the key is read."""
    flat, section = config.flat(), f"{key.rpartition('.')[0]}."
    if section in OF_METHODS and flat["method.name"] not in BUILT_IN:
        return ""
    for keys, need in NEEDS:
        if (key in keys or section in keys) and key not in need and not _is_met(need, flat):
            return " or ".join(_named(setting, values) for setting, values in need.items())
    return ""


def _is_met(need: Need, flat: Mapping[str, Scalar]) -> bool:
    if "method.name" in need and flat["method.name"] not in BUILT_IN:
        return True
    return any(flat[key] in values if values else float(flat[key]) > 0 for key, values in need.items())


def _named(key: str, values: tuple[Scalar, ...]) -> str:
    if not values:
        return f"{key} above 0"
    *others, last = map(_written, values)
    return f"{key} = {', '.join(others)} or {last}" if others else f"{key} = {last}"


def _written(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)
