"""The settings of a run: flat scalars as Flower delivers them, parsed once into frozen models.

Keys are written `section.key` with hyphens (`local.batch-size`), in TOML, on the command line and on the wire; the
attribute is the same with underscores (`config.local.batch_size`). A key with the value "preset" gets its value from
the chosen `preset` (settings/presets.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from fedhpro_flwr.data import DataSource, PartitionPlan
from fedhpro_flwr.settings.declared_data import refuse_undeclared
from fedhpro_flwr.settings.fedhpro_sections import (
    CalibrationOptions,
    ClassGradientOptions,
    HyperPrototypeOptions,
    LossOptions,
)
from fedhpro_flwr.settings.flat_keys import ConfigError, Scalar, flatten, nest
from fedhpro_flwr.settings.presets import PRESETS
from fedhpro_flwr.settings.rival_sections import (
    CreffOptions,
    FedProtoOptions,
    FedProxOptions,
    FedSAOptions,
    FedTGPOptions,
    FPLOptions,
    MoonOptions,
    ScaffoldOptions,
)
from fedhpro_flwr.settings.section import Count, Section, Seed, TextOrCount
from fedhpro_flwr.settings.sections import (
    AggregationOptions,
    CheckpointOptions,
    ClientsOptions,
    EvaluationOptions,
    LocalOptions,
    MethodChoice,
    ModelChoice,
    PrivacyOptions,
)

__all__ = ["ConfigError", "RunConfig", "Scalar", "is_text", "known_keys"]

FROM_PRESET = "preset"
LISTS = ("data.classes", "data.domains", "trackers", "model.groups", "partition.domain-clients")  # written as one text
LEAST_NOISE = 1e-6  # with it one reply has an epsilon of 2e12, and the account's numbers do not overflow


class RunConfig(Section):
    """All settings of a run, presets filled in."""

    experiment: Annotated[TextOrCount, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "digits"
    preset: Literal["paper", "reference", "tuned"] = "paper"
    seed: Seed = 0
    rounds: Count = 30
    device: Literal["auto", "cpu", "cuda"] = "auto"
    deterministic: bool = True
    results_dir: str = ""
    run_folder: str = ""
    resume: str = ""
    trackers: str = ""
    data: DataSource = DataSource()
    partition: PartitionPlan = PartitionPlan()
    clients: ClientsOptions = ClientsOptions()
    model: ModelChoice = ModelChoice()
    local: LocalOptions = LocalOptions()
    method: MethodChoice = MethodChoice()
    fedprox: FedProxOptions = FedProxOptions()
    moon: MoonOptions = MoonOptions()
    scaffold: ScaffoldOptions = ScaffoldOptions()
    fedproto: FedProtoOptions = FedProtoOptions()
    fedtgp: FedTGPOptions = FedTGPOptions()
    fedsa: FedSAOptions = FedSAOptions()
    fpl: FPLOptions = FPLOptions()
    creff: CreffOptions = CreffOptions()
    hyper_prototypes: HyperPrototypeOptions
    losses: LossOptions
    class_gradients: ClassGradientOptions
    calibration: CalibrationOptions
    aggregation: AggregationOptions = AggregationOptions()
    privacy: PrivacyOptions = PrivacyOptions()
    evaluation: EvaluationOptions = EvaluationOptions()
    checkpoint: CheckpointOptions = CheckpointOptions()

    @model_validator(mode="after")
    def _agree(self) -> RunConfig:
        if self.resume and self.run_folder not in ("", self.resume):
            raise ValueError(
                f"resume = {self.resume!r}: a run goes on in its own folder; leave run-folder = {self.run_folder!r} out"
            )
        refuse_undeclared(self.data, self.partition)
        if self.clients.per_round > self.partition.num_partitions:
            raise ValueError(
                f"clients.per-round = {self.clients.per_round}: only {self.partition.num_partitions} clients exist, "
                "see partition.num-partitions"
            )
        for clip, noise in (("class-clip", "class-noise"), ("model-clip", "model-noise")):
            given = self.privacy.model_dump(by_alias=True)
            if given[noise] > 0 and given[clip] == 0:
                raise ValueError(
                    f"privacy.{noise} = {given[noise]} is a multiple of a norm that is not given: set privacy.{clip}"
                )
            if 0 < given[noise] < LEAST_NOISE:
                raise ValueError(
                    f"privacy.{noise} = {given[noise]}: so little noise hides nothing; set it to 0, or to "
                    f"{LEAST_NOISE} or more"
                )
        self.hyper_prototypes.counts_by_class  # noqa: B018  read to check its form
        sizes = self.model.group_sizes
        if sizes and sum(sizes.values()) != self.partition.num_partitions:
            raise ValueError(
                f"model.groups gives {sum(sizes.values())} clients, but partition.num-partitions = "
                f"{self.partition.num_partitions}; make them equal"
            )
        return self

    @classmethod
    def parse(cls, flat: Mapping[str, Scalar] | None = None, **overrides: Scalar) -> RunConfig:
        """Flat keys (`"local.batch-size": 32`) to settings; missing keys take their default or their preset's value.

        Keyword overrides are for Python callers: `RunConfig.parse(rounds=3, local__lr=0.1)`.

        Raises:
            ConfigError: one sentence that names the key, its value and what is allowed.
        """
        merged = dict(flat or {}) | {
            name.replace("__", ".").replace("_", "-"): value for name, value in overrides.items()
        }
        preset = merged.get("preset", "paper")
        if preset not in PRESETS:
            raise ConfigError(f"preset = {preset!r}: allowed are {', '.join(map(repr, PRESETS))}")
        _refuse_misplaced(merged)
        defaults = PRESETS[str(preset)]
        chosen = {key: value for key, value in merged.items() if value != FROM_PRESET or key not in defaults}
        try:
            return cls.model_validate(nest({**defaults, **chosen}))
        except ValidationError as error:
            raise ConfigError(_sentence(error)) from None

    def flat(self) -> dict[str, Scalar]:
        """The inverse of `parse`: every key with its value, presets filled in."""
        return flatten(self.model_dump(by_alias=True))


def known_keys() -> tuple[str, ...]:
    """Every key of the app, `section.key`."""
    return tuple(_unset())


def is_text(key: str) -> bool:
    """Whether a known key takes a text: then `2024` and `1e3` are texts too."""
    return isinstance(_unset().get(key), str)


@cache
def _unset() -> Mapping[str, Scalar]:
    """Every key with the value that it has if nothing is set."""
    return RunConfig.model_validate(nest(PRESETS["paper"])).flat()


@cache
def _sections() -> frozenset[str]:
    return frozenset(key.rpartition(".")[0] for key in _unset()) - {""}


def _refuse_misplaced(flat: Mapping[str, Scalar]) -> None:
    """Refuse a key below one that is a value, a value in place of a section, and a key written with underscores."""
    for key, value in flat.items():
        if "_" in key:
            raise ConfigError(_unknown(key))
        parts = key.split(".")
        above = next((name for i in range(1, len(parts)) if (name := ".".join(parts[:i])) in _unset()), None)
        if above is not None:
            raise ConfigError(f"unknown key {key}: {above} is a value and has no keys below it")
        if key in _sections():
            raise ConfigError(f"{key} = {value!r}: {key} is a section with keys of its own")


def _sentence(error: ValidationError) -> str:
    """Each problem as `key = value: what is allowed`."""
    problems = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            problems.append(_unknown(key))
        elif item["type"] == "value_error":
            problems.append(str(item["ctx"]["error"]))
        elif key in LISTS and _is_flat_list(item["input"]):  # TOML has lists, Flower's settings do not
            joined = ", ".join(map(str, item["input"]))
            problems.append(f'{key} = {item["input"]!r}: a list cannot be sent; write one text, {key} = "{joined}"')
        else:
            wanted = item["msg"].replace("Input should be ", "be ").replace("String should ", "")
            if item["type"] == "less_than_equal":  # pydantic writes out all digits of a large bound
                wanted = f"be less than or equal to {item['ctx']['le']:.10g}"
            problems.append(f"{key} = {item['input']!r}: it must {wanted}")
    return "; ".join(problems)


def _unknown(key: str) -> str:
    near = get_close_matches(key, known_keys(), n=1, cutoff=0.6)
    return f"unknown key {key or '(empty)'}" + (f", did you mean {near[0]}?" if near else "")


def _is_flat_list(value: object) -> bool:
    return isinstance(value, list) and not any(isinstance(each, list | dict) for each in value)
