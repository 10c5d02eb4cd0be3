"""The weighted mean of models, BatchNorm's buffers and counters included [R.c1]."""

import torch
from released_mean import released_mean

from fedhpro_flwr.aggregation import weighted_mean

GOLDEN = "fedavg_s*.npz"


def states_and_weights(golden):
    weights = golden.arrays["nums"].tolist()
    names = [key.removeprefix("agg/") for key in golden.arrays if key.startswith("agg/")]
    states = [
        {name: torch.from_numpy(golden.arrays[f"client{k}/{name}"]) for name in names} for k in range(len(weights))
    ]
    return states, weights


def test_average(golden):
    states, weights = states_and_weights(golden)
    mean = released_mean(states, weights)
    for name, value in mean.items():
        golden.check(value, f"agg/{name}")
        if f"loaded/{name}" in golden.arrays:  # a counter is an integer again once it is loaded
            assert int(value) == golden.integer(f"loaded/{name}")


def test_largest_counter(golden):
    states, weights = states_and_weights(golden)
    mean = weighted_mean(states, weights)
    for name, value in mean.items():
        assert value.dtype == states[0][name].dtype
        if value.is_floating_point():
            golden.check(value, f"agg/{name}")
        else:
            assert value == max(state[name] for state in states)
