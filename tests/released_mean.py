"""The mean of models as the released code takes it, BatchNorm's counters included."""

import torch

from fedhpro_flwr.aggregation import weighted_mean


def released_mean(states, weights):
    """`weighted_mean`, but for integer counters: their mean as a float64, which the release cuts off on loading."""
    mean = weighted_mean(states, weights)
    for name, tensor in states[0].items():
        if not tensor.is_floating_point():
            total = sum(weight * state[name].double() for state, weight in zip(states, weights, strict=True))
            mean[name] = torch.as_tensor(total / sum(weights), dtype=torch.float64)
    return mean
