"""Median, trimmed mean and clipping: by hand, against a double loop, and what one hostile client can do to them."""

import math
import statistics

import pytest
import torch

from fedhpro_flwr.robust import clipped_models, cut_of, middle_mean, middle_model, shrink_factors, update_norms


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("statistic", "trim", "wanted"),
    [
        ("mean", 0.2, [0, 0, 0, 0, 0, 0, 0]),
        ("median", 0.2, [0, 0, 0, 1, 1, 4, 7]),
        ("trimmed-mean", 0.1, [0, 0, 0, 1, 1, 1, 2]),
        ("trimmed-mean", 0.2, [0, 0, 0, 1, 1, 2, 3]),
        ("trimmed-mean", 0.49, [0, 0, 0, 1, 1, 4, 7]),
    ],
)
def test_how_many_are_taken_away(statistic, trim, wanted):
    holders = torch.tensor([0, 1, 2, 3, 4, 10, 15])
    assert cut_of(statistic, holders, trim).tolist() == wanted


def test_middle_mean_by_hand():
    values = torch.tensor([[[1.0], [9.0]], [[-50.0], [7.0]], [[3.0], [-1.0]], [[4.0], [5.0]]])  # 4 clients, 2 classes
    held = torch.tensor([[True, True], [True, False], [True, False], [True, True]])
    assert middle_mean(values, held, torch.tensor([1, 0])).tolist() == [[2.0], [7.0]]


def test_middle_mean_is_the_double_loop():
    values, held = draws(7, 5, 3, 2), draws(7, 5, seed=1) > -0.3
    held[:, 4] = False  # nobody holds the last class
    for statistic in ("mean", "median", "trimmed-mean"):
        cut = cut_of(statistic, held.sum(dim=0), 0.2)
        middle = middle_mean(values, held, cut)
        for c in range(5):
            for i in range(3):
                for j in range(2):
                    numbers = sorted(float(values[k, c, i, j]) for k in range(7) if held[k, c])
                    k = int(cut[c])
                    left = numbers[k : len(numbers) - k]
                    assert middle[c, i, j].item() == pytest.approx(math.fsum(left) / max(len(left), 1), abs=1e-7)
                    if statistic == "median" and numbers:
                        assert middle[c, i, j].item() == pytest.approx(statistics.median(numbers), abs=1e-7)


def test_a_minority_moves_a_median_no_further_than_the_others_reach():
    values, held = draws(9, 1, 50), torch.ones(9, 1, dtype=torch.bool)
    for hostile in (1e9, -1e9):
        attacked = values.clone()
        attacked[:4] = hostile
        middle = middle_mean(attacked, held, cut_of("median", held.sum(dim=0), 0.2))
        assert bool((middle <= values[4:].amax(dim=0)).all()) and bool((middle >= values[4:].amin(dim=0)).all())


def test_a_model_is_middled_entry_by_entry():
    models = [
        {"w": torch.tensor([float(k), -float(k)]), "running_var": torch.tensor([k / 7]), "batches": torch.tensor(count)}
        for k, count in enumerate([5, 7, 2**40, 6, 7])
    ]
    models[4]["w"] = torch.tensor([1e9, 1e9])
    middle = middle_model(models, "median", 0.2)
    assert middle["w"].tolist() == [2.0, -1.0]
    assert middle["running_var"].item() == pytest.approx(2 / 7)
    assert middle["batches"].item() == 7 and middle["batches"].dtype == torch.int64
    assert middle_model(models, "trimmed-mean", 0.2)["w"].tolist() == pytest.approx([2.0, -1.0])
    assert middle_model(models[:2], "median", 0.2)["w"].tolist() == [0.5, -0.5]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_middle_keeps_the_dtype(dtype):
    models = [{"w": torch.full((2,), float(k), dtype=dtype)} for k in (1, 2, 6)]
    assert middle_model(models, "median", 0.2)["w"].tolist() == [2.0, 2.0]
    assert middle_model(models, "median", 0.2)["w"].dtype == dtype


def test_the_norms_of_an_update_are_over_its_weights_and_over_its_running_statistics():
    sent = {"a": torch.ones(2, 2), "b": torch.zeros(1), "n": torch.tensor(3), "bn.running_mean": torch.zeros(2)}
    sent["bn.running_var"] = torch.ones(2)
    model = {"a": torch.tensor([[1.0, 3.0], [1.0, 1.0]]), "b": torch.tensor([-1.5]), "n": torch.tensor(99)}
    statistics_of = {"bn.running_mean": torch.tensor([4.0, 0.0]), "bn.running_var": torch.tensor([1.0, 4.0])}
    assert update_norms(model, sent) == (2.5, 0.0)
    assert update_norms(statistics_of, sent) == (0.0, 5.0)
    assert update_norms(model | statistics_of, sent) == (2.5, 5.0)
    assert update_norms(sent, sent) == update_norms({}, {}) == (0.0, 0.0)


def test_weights_and_running_statistics_are_clipped_apart():
    """One length for both would leave a turned-around head as it is beside statistics that move by the data."""
    sent = {"w": torch.zeros(1), "running_mean": torch.zeros(1)}
    honest = {"w": torch.tensor([1.0]), "running_mean": torch.tensor([30.0])}
    loud = {"w": torch.tensor([-10.0]), "running_mean": torch.tensor([20.0])}  # shorter than the honest one as a whole
    shifted = {"w": torch.tensor([0.5]), "running_mean": torch.tensor([900.0])}
    clipped = clipped_models([honest, loud, shifted], sent, to_median=True)
    assert clipped[0] is honest
    assert (clipped[1]["w"].item(), clipped[1]["running_mean"].item()) == (-1.0, 20.0)
    assert (clipped[2]["w"].item(), clipped[2]["running_mean"].item()) == (0.5, 30.0)
    bounded = clipped_models([loud, shifted], sent, longest=5.0)
    assert [each["w"].item() for each in bounded] == [-5.0, 0.5]
    assert [each["running_mean"].item() for each in bounded] == pytest.approx([5.0, 5.0])


def test_factors_bring_down_what_is_longer_than_the_bound_or_the_median():
    norms = torch.tensor([[1.0, 8.0], [4.0, 2.0], [2.0, 4.0], [8.0, 0.0]], dtype=torch.float64)
    held = torch.tensor([[True, True], [True, True], [True, True], [True, False]])
    assert shrink_factors(norms, held).tolist() == torch.ones(4, 2).tolist()
    assert shrink_factors(norms, held, longest=4.0)[:, 0].tolist() == [1.0, 1.0, 1.0, 0.5]
    # of 1, 2, 4, 8 the lower median is 2; of the three that hold the second class it is 4
    by_median = shrink_factors(norms, held, to_median=True)
    assert by_median[:, 0].tolist() == [1.0, 0.5, 1.0, 0.25]
    assert by_median[:3, 1].tolist() == [0.5, 1.0, 1.0]
    assert shrink_factors(norms, held, longest=1.0, to_median=True)[:, 0].tolist() == [1.0, 0.25, 0.5, 0.125]


def test_clients_that_did_not_move_hold_nobody_back():
    norms = torch.tensor([[1.0], [0.0], [5.0], [0.0]], dtype=torch.float64)
    assert shrink_factors(norms, norms >= 0, to_median=True)[:, 0].tolist() == [1.0, 1.0, 0.2, 1.0]


def test_factors_of_updates_that_do_not_move():
    still = torch.zeros(3, 1, dtype=torch.float64)
    assert shrink_factors(still, still == 0, to_median=True).tolist() == [[1.0]] * 3


def test_a_clipped_model_lies_on_the_way_to_the_client():
    sent = {"w": torch.tensor([1.0, 1.0]), "running_var": torch.tensor([1.0]), "n": torch.tensor(3)}
    near = {"w": torch.tensor([1.1, 0.9]), "running_var": torch.tensor([1.2]), "n": torch.tensor(4)}
    far = {"w": torch.tensor([301.0, 401.0]), "running_var": torch.tensor([1.0]), "n": torch.tensor(5)}
    clipped = clipped_models([near, far], sent, longest=5.0)
    assert clipped[0] is near
    torch.testing.assert_close(clipped[1]["w"], torch.tensor([4.0, 5.0]))
    assert clipped[1]["n"].item() == 5
    assert update_norms(clipped[1], sent) == (pytest.approx(5.0), 0.0)


def test_a_variance_stays_one_when_it_is_clipped():
    sent = {"running_var": draws(500).abs()}
    gone = {"running_var": torch.zeros(500)}
    for longest in (1e-3, 0.1, 1.0, 5.0, update_norms(gone, sent)[1] * (1 - 1e-16)):
        assert bool((clipped_models([gone], sent, longest=longest)[0]["running_var"] >= 0).all())
