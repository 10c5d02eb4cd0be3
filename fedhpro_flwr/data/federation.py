"""A data set divided among clients: who has which training samples, and which test samples are like them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.data.data_set import DataSet
from fedhpro_flwr.data.partition import Partition, PartitionPlan, partition, split_test


@dataclass(frozen=True, eq=False)
class Federation:
    """A data set divided among clients."""

    data: DataSet
    parts: Partition
    test_parts: tuple[np.ndarray, ...]  # sample ids of each client's own test data

    @property
    def class_counts(self) -> np.ndarray:
        """Training samples by client and class [N, C]."""
        return self.parts.class_counts(self.data.train.labels.numpy(), self.data.num_classes)

    def client(self, partition_id: int) -> ClientData:
        """The samples of one client.

        Raises:
            ValueError: there is no such partition.
        """
        if not 0 <= partition_id < len(self.parts.indices):
            raise ValueError(
                f"partition-id = {partition_id}: this run has partitions 0 to {len(self.parts.indices) - 1}"
            )
        train = self.data.train.subset(self.parts.indices[partition_id])
        own_test = self.test_parts[partition_id]
        return ClientData(
            train, self.data.test.subset(own_test) if len(own_test) else None, self.data.mean, self.data.std
        )

    def client_domains(self) -> tuple[str, ...]:
        """The domain of each client; "" for a client with several, or if there are no domains."""
        train = self.data.train.domains
        owned = self.parts.domains(None if train is None else train.numpy())
        return tuple("" if domain is None else self.data.domain_names[domain] for domain in owned)


def divide(data: DataSet, plan: PartitionPlan, seed: int) -> Federation:
    """Divide the training samples as the plan says, and give each client test samples of the same mixture.

    Raises:
        ValueError: the data cannot be divided as asked.
    """
    train, test, classes = data.train, data.test, data.num_classes
    parts = partition(
        train.labels.numpy(),
        classes,
        plan,
        seed,
        domain_ids=None if train.domains is None else train.domains.numpy(),
        domain_names=data.domain_names,
    )
    # A client's own test data has the client's mixture of classes, and of domains if there are any.
    kinds = classes * max(len(data.domain_names), 1)
    counts = parts.class_counts(train.kinds(classes).numpy(), kinds)
    return Federation(data, parts, split_test(test.kinds(classes).numpy(), counts, seed))
