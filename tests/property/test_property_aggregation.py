import torch
from hypothesis import given
from hypothesis import strategies as st

from fedhpro_flwr.aggregation import class_mean, weighted_mean

CLIENTS = st.lists(st.tuples(st.integers(0, 999), st.floats(0.1, 1e4)), min_size=1, max_size=8)
WEIGHTINGS = st.sampled_from(["clients", "counts"])


def states(clients):
    generators = [torch.Generator().manual_seed(seed) for seed, _ in clients]
    return [{"w": torch.randn(4, 3, generator=g), "n": torch.randint(0, 99, (), generator=g)} for g in generators]


def gradients(clients, classes=6):
    """The ids, the rows and the counts of all clients."""
    sent = []
    for seed, _ in clients:
        generator = torch.Generator().manual_seed(seed)
        ids = (torch.rand(classes, generator=generator) < 0.5).nonzero().squeeze(1)
        counts = torch.randint(1, 50, (len(ids),), generator=generator)
        sent.append((ids, torch.randn(len(ids), 3, generator=generator), counts))
    return [list(each) for each in zip(*sent, strict=True)]


@given(CLIENTS)
def test_mean_of_models_lies_between_them_and_repeats_its_bits(clients):
    models, weights = states(clients), [weight for _, weight in clients]
    mean, again = weighted_mean(models, weights), weighted_mean(models, weights)
    stacked = torch.stack([model["w"] for model in models])
    assert (mean["w"] >= stacked.amin(dim=0) - 1e-6).all() and (mean["w"] <= stacked.amax(dim=0) + 1e-6).all()
    assert torch.equal(mean["w"], again["w"]) and torch.equal(mean["n"], again["n"])


@given(CLIENTS, st.randoms(use_true_random=False))
def test_order_of_clients_does_not_matter_to_the_value(clients, random):
    mean = weighted_mean(states(clients), [weight for _, weight in clients])
    sent = class_mean(*gradients(clients), 6)
    random.shuffle(clients)
    shuffled = weighted_mean(states(clients), [weight for _, weight in clients])
    shuffled_sent = class_mean(*gradients(clients), 6)
    torch.testing.assert_close(shuffled["w"], mean["w"], atol=1e-6, rtol=1e-6)
    assert torch.equal(shuffled["n"], mean["n"])
    torch.testing.assert_close(shuffled_sent.mean, sent.mean, atol=1e-6, rtol=1e-6)
    assert torch.equal(shuffled_sent.class_mask, sent.class_mask)


@given(CLIENTS, st.floats(1e-3, 1e3))
def test_only_shares_of_weights_matter(clients, size):
    weights = [weight for _, weight in clients]
    scaled = weighted_mean(states(clients), [size * weight for weight in weights])
    torch.testing.assert_close(scaled["w"], weighted_mean(states(clients), weights)["w"], atol=1e-6, rtol=1e-6)


@given(CLIENTS)
def test_equal_models_are_their_own_mean(clients):
    model, weights = states(clients)[0], [weight for _, weight in clients]
    torch.testing.assert_close(weighted_mean([model] * len(clients), weights)["w"], model["w"], atol=0, rtol=1e-6)


@given(CLIENTS, WEIGHTINGS)
def test_class_mean_is_zero_where_nobody_is_and_between_the_clients_elsewhere(clients, weighting):
    sent = gradients(clients)
    mean, mask = class_mean(*sent, 6, weighting=weighting)
    for c in range(6):
        rows = [values[ids == c] for ids, values in zip(*sent[:2], strict=True)]
        rows = torch.cat(rows)
        assert bool(mask[c]) == bool(len(rows))
        if len(rows):
            assert (mean[c] >= rows.amin(dim=0) - 1e-6).all() and (mean[c] <= rows.amax(dim=0) + 1e-6).all()
        else:
            assert (mean[c] == 0).all()
