"""Which part of a client's model travels: all of it, its encoder within a group and its head, its head, or nothing.

With different architectures only the head W [C, D] fits everyone. The rest of a model either stays with its client
(`head`) or is averaged among the clients of the same architecture (`group`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from flwr.app import ArrayRecord
from torch import Tensor
from torch.nn import Module

from fedhpro_flwr.chosen_aggregation import average_models
from fedhpro_flwr.first_difference import first_difference
from fedhpro_flwr.records import Tensors, Update, array_record
from fedhpro_flwr.settings.flat_keys import ConfigError
from fedhpro_flwr.settings.sections import AggregationOptions, Share

HEAD_PREFIX = "head."


def travels(name: str, share: Share) -> bool:
    """Whether the model's tensor of that name is exchanged with the server."""
    return share in ("all", "group") or (share == "head" and name.startswith(HEAD_PREFIX))


def exchanged(model: Tensors, share: Share) -> dict[str, Tensor]:
    """The part of a model that travels."""
    return {name: tensor for name, tensor in model.items() if travels(name, share)}


def personal(model: Tensors, share: Share) -> dict[str, Tensor]:
    """The part of a model that stays with its client."""
    return {name: tensor for name, tensor in model.items() if not travels(name, share)}


def load(model: Module, received: Tensors, share: Share, kept: Tensors) -> None:
    """Copy into a client's model, in place, what it received and what it kept from its last visit.

    Args:
        model: the client's.
        received: the part that travels.
        share: which part that is.
        kept: the part that stays with the client; empty at its first visit: the model then keeps its own.

    Raises:
        ValueError: a tensor is missing, unknown, or of another shape or type (BatchNorm's counters may differ in type).
    """
    own = model.state_dict()
    counters = {name: own[name] for name in received if name in own and not own[name].is_floating_point()}
    received = {**received, **{name: received[name].to(counter.dtype) for name, counter in counters.items()}}
    if difference := first_difference(exchanged(own, share), received):
        raise ValueError(f"the received model does not fit this client's: {difference}")
    if kept and (difference := first_difference(personal(own, share), kept)):
        raise ValueError(f"what this client kept is of another model: {difference}")
    model.load_state_dict({**kept, **received}, strict=False)


@dataclass(frozen=True, eq=False)
class GlobalModel:
    """What the server holds of the clients' models.

    Args:
        shared: tensors that every client exchanges.
        encoders: by group, the tensors that only its clients exchange; empty unless encoders are averaged in groups.
        members: the group of each client [N]; empty if there are no groups.
    """

    shared: Tensors
    encoders: Mapping[str, Tensors] = field(default_factory=dict)
    members: Sequence[str] = ()

    @classmethod
    def start(
        cls, initial: Tensors, share: Share, encoders: Mapping[str, Tensors] | None = None, members: Sequence[str] = ()
    ) -> GlobalModel:
        """Before round 1.

        Args:
            initial: an initial model; with `encoders` only its head is used.
            share: which part of it travels.
            encoders: initial encoders of the groups, if encoders are averaged in groups.
            members: the group of each client [N], in that case.

        Raises:
            ConfigError: encoders are averaged in several groups and were not given.
        """
        if not encoders:
            if share == "group" and len(set(members)) > 1:
                raise ConfigError("model.share = 'group' with several architectures needs an initial encoder of each")
            return cls(exchanged(initial, share))
        return cls(
            exchanged(initial, "head"), {name: personal(model, "head") for name, model in encoders.items()}, members
        )

    @cached_property
    def arrays(self) -> ArrayRecord:
        """The shared tensors as messages carry them: a copy, made once."""
        return array_record(self.shared)

    @property
    def groups(self) -> tuple[str, ...]:
        """All groups; one with the name "" if there are none."""
        return tuple(self.encoders) or ("",)

    def group(self, partition_id: int) -> str:
        """The client's group; "" if there are none."""
        return self.members[partition_id] if self.members else ""

    def tensors(self, group: str) -> dict[str, Tensor]:
        """All tensors that a client of this group exchanges."""
        return {**self.encoders.get(group, {}), **self.shared}

    def with_shared(self, shared: Tensors) -> GlobalModel:
        """The same encoders under other shared tensors."""
        return GlobalModel(shared, self.encoders, self.members)

    def mean(self, updates: Sequence[Update], options: AggregationOptions) -> GlobalModel:
        """Each tensor's mean over the clients that exchange it, weighted by samples [R.c1].

        A group that nobody replied for keeps its encoder.

        Args:
            updates: replies, in the order in which they are summed.
            options: `aggregation.*`, which may ask for another statistic. Tensors that are averaged over the same
                clients are clipped together: the shared ones, and each group's encoder.
        """
        encoders = dict(self.encoders)
        for group, sent in self.encoders.items():
            own = [update for update in updates if self.group(update.partition_id) == group]
            if own:
                encoders[group] = _mean(own, sent, options)
        return GlobalModel(_mean(updates, self.shared, options), encoders, self.members)


def _mean(updates: Sequence[Update], sent: Tensors, options: AggregationOptions) -> Tensors:
    models = [{name: update.model[name] for name in sent} for update in updates]
    return average_models(options, models, [update.num_examples for update in updates], sent)
