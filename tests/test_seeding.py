"""Random draws depend on (seed, round, partition, purpose) and on nothing else."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedhpro_flwr.seeding import SERVER, Draws, sample_partitions


def first(draws: Draws, purpose: str) -> int:
    return int(torch.randint(2**62, (), generator=draws.torch(purpose)))


def test_the_same_key_draws_the_same():
    assert first(Draws(3, 2, 1), "batches") == first(Draws(3, 2, 1), "batches")
    assert Draws(3, 2, 1).numpy("x").random() == Draws(3, 2, 1).numpy("x").random()


def test_torchs_own_generator_is_seeded_within_and_as_before_after():
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    drawn = []
    for client in (0, 0, 1):
        with Draws(3, 2, client).torch_everywhere():
            drawn.append(float(torch.rand(())))
    assert drawn[0] == drawn[1] != drawn[2]
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the stack is written down until the GPU is used")
def test_seeding_a_visit_does_not_write_down_the_stack(monkeypatch):
    monkeypatch.setattr("traceback.format_stack", lambda: pytest.fail("half a millisecond a visit"))
    with Draws(3, 2, 1).torch_everywhere():
        pass


def test_every_part_of_the_key_counts():
    keys = [
        (seed, turn, client, purpose)
        for seed in (0, 1)
        for turn in (0, 1)
        for client in (SERVER, 0, 1)
        for purpose in "ab"
    ]
    drawn = {first(Draws(*key[:3]), key[3]) for key in keys}
    assert len(drawn) == len(keys)


def test_the_server_is_the_default_place():
    assert Draws(5) == Draws(5, 0, SERVER)


@given(st.integers(1, 30), st.integers(0, 30), st.integers(0, 2**32 - 1), st.integers(1, 20))
def test_round_sampling_draws_distinct_partitions_ascending(num_partitions, per_round, seed, turn):
    per_round = min(per_round, num_partitions)
    drawn = sample_partitions(num_partitions, per_round, seed=seed, server_round=turn, sampling="round")
    assert len(drawn) == (per_round or num_partitions)
    assert drawn == sorted(set(drawn))
    assert set(drawn) <= set(range(num_partitions))


def test_round_sampling_does_not_depend_on_the_rounds_before():
    def draw(turn):
        return sample_partitions(20, 5, seed=7, server_round=turn, sampling="round")

    alone = draw(9)
    in_order = [draw(turn) for turn in range(1, 10)]
    assert in_order[-1] == alone
    assert len({tuple(drawn) for drawn in in_order}) > 1


def test_round_sampling_does_not_touch_or_read_the_global_generator():
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    one = sample_partitions(20, 5, seed=7, server_round=3, sampling="round")
    assert (np.random.get_state()[1] == before).all()
    np.random.seed(2)
    assert sample_partitions(20, 5, seed=7, server_round=3, sampling="round") == one


@pytest.mark.parametrize("sampling", ["round", "stream"])
def test_zero_means_everybody(sampling):
    drawn = sample_partitions(6, 0, seed=1, server_round=4, sampling=sampling)
    assert sorted(drawn) == list(range(6))


def test_stream_takes_the_nth_draw_of_one_legacy_generator():
    stream = np.random.RandomState(11)
    wanted = [stream.choice(list(range(12)), 4, replace=False).tolist() for _ in range(5)]
    got = [sample_partitions(12, 4, seed=11, server_round=turn, sampling="stream") for turn in range(1, 6)]
    assert got == wanted
