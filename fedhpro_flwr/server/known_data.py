"""What the server knows of the data: all of it if one data set is divided, little if clients have their own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedhpro_flwr.accuracies import Breakdown
from fedhpro_flwr.client.node_data import server_data
from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.data.data_set import DataSet
from fedhpro_flwr.data.long_tail import class_groups
from fedhpro_flwr.engine import federation
from fedhpro_flwr.settings.declared_data import DeclaredData, ShapedData


@dataclass(frozen=True, eq=False)
class KnownData:
    """What the server knows of the data before the first message leaves.

    Args:
        shape: what a model must know of the data.
        test: what the server tests on; None if it has nothing.
        client_domains: the domain of each client [N]; "" for one with none or several.
        class_counts: training samples by client and class [N, C]; None if only the clients know. They are not asked:
            the answer would serve the breakdown by frequent and rare classes alone.
        domain_names: the domains of the test data.
        fingerprint: that of the partition; "" if clients have data of their own.
        content: fingerprint of the samples themselves; "" likewise.
        untrained: a sentence about classes that no client trains on; "" if there is none, or only the clients know.
    """

    shape: ShapedData
    test: ClientData | None
    client_domains: tuple[str, ...]
    class_counts: np.ndarray | None = None
    domain_names: tuple[str, ...] = ()
    fingerprint: str = ""
    content: str = ""
    untrained: str = ""

    @property
    def samples(self) -> tuple[int, ...]:
        """How many samples each client trains on [N]; empty if only the clients know."""
        return () if self.class_counts is None else tuple(int(number) for number in self.class_counts.sum(1))

    @property
    def breakdown(self) -> Breakdown:
        """What accuracies are reported by; without class counts there are no groups of frequent and rare classes."""
        groups = () if self.class_counts is None else class_groups(self.class_counts.sum(0))
        return Breakdown(groups, self.domain_names)


def known_data(config: RunConfig) -> KnownData:
    """The data of a run as its server sees it.

    Raises:
        ConfigError: the data cannot be had, or not divided as asked; the message says why in one sentence.
    """
    if config.partition.at_nodes:
        test = server_data(config)
        try:
            shape = DeclaredData.of(config.data)
        except (ValueError, OSError) as error:
            raise ConfigError(str(error)) from error
        return KnownData(shape, test, ("",) * config.partition.num_partitions)
    divided = federation(config)
    data = divided.data
    return KnownData(
        shape=data,
        test=ClientData(None, data.test, data.mean, data.std),
        client_domains=divided.client_domains(),
        class_counts=divided.class_counts,
        domain_names=data.domain_names,
        fingerprint=divided.parts.fingerprint,
        content=data.content,
        untrained=_untrained(data, divided.class_counts.sum(0)),
    )


def _untrained(data: DataSet, held: npt.NDArray[np.int64]) -> str:
    """The sentence of `KnownData.untrained`, if the clients hold `held` training samples of each class [C]."""
    gone = np.flatnonzero(held == 0)
    if not len(gone):
        return ""
    train, test = (
        int(split.labels.bincount(minlength=data.num_classes)[gone].sum()) for split in (data.train, data.test)
    )
    return (
        f"{len(gone)} of {data.num_classes} classes have no training sample at any client, as "
        f"{data.class_names[gone[0]]}: their {train} training samples go to nobody, "
        f"and their {test} test samples count all the same"
    )
