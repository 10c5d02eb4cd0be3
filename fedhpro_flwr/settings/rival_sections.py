"""The settings of the methods that FedHPro is compared with, one section a method; defaults are as published."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fedhpro_flwr.aggregation import ModelWeighting
from fedhpro_flwr.head_matching import HeadDistance
from fedhpro_flwr.settings.section import Count, CountOrZero, NotNegative, PerClass, Positive, Section, Temperature


class FedProxOptions(Section):
    """Li et al., MLSys 2020: mu is chosen from 0.001 to 1 for each data set."""

    mu: NotNegative = 0.01


class MoonOptions(Section):
    """Li et al., CVPR 2021: mu from {0.1, 1, 5, 10} for each data set, tau = 0.5."""

    mu: NotNegative = 1.0
    temperature: Temperature = 0.5


class ScaffoldOptions(Section):
    """Karimireddy et al., ICML 2020: each client of a round counts once in the means of models and control variates."""

    weighting: ModelWeighting = "clients"


class FedProtoOptions(Section):
    """Tan et al., AAAI 2022: lambda = 1 in most of its experiments."""

    weight: NotNegative = 1.0


class FedTGPOptions(Section):
    """Zhang et al., AAAI 2024; the values are those of the command that its code gives for CIFAR-10.

    The server's learning rate and batch size there are those of the clients, without momentum. With clients at 0.05 and
    momentum 0.9 a weight of 10 is too much: features and prototypes drive each other apart (at 10 FedProto's do too).
    """

    weight: NotNegative = 10.0
    server_epochs: CountOrZero = 100
    server_lr: Positive = 0.01
    server_batch_size: Count = 10
    margin_threshold: NotNegative = 100.0


class FedSAOptions(Section):
    """Zhou et al., AAAI 2025, as in its code; `weight` is the default of the library that this code extends."""

    weight: NotNegative = 1.0
    contrast_weight: NotNegative = 1.0
    calibration_weight: NotNegative = 1.0
    decay: Annotated[float, Field(ge=0, le=1)] = 0.9999


class FPLOptions(Section):
    """Huang et al., CVPR 2023: tau = 0.02; over the D coordinates its code takes the "mean", its formula the "sum"."""

    temperature: Temperature = 0.02
    consistency: Literal["mean", "sum"] = "mean"


class CreffOptions(Section):
    """Shang et al., IJCAI 2022. As in its code: 100 features a class, 100 steps of matching, 300 epochs."""

    prototypes_per_class: PerClass = 100
    matching_steps: CountOrZero = 100
    matching_lr: Positive = 0.1
    matching_distance: HeadDistance = "rowwise"
    epochs: CountOrZero = 300
    batch_size: Count = 50
    lr: Positive = 0.01
