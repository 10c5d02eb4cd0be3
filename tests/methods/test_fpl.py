"""FPL's server step and client loss, against loops over clients, prototypes and samples."""

import math

import pytest
import torch
from torch.nn import functional as F

from fedhpro_flwr.class_means import ClassMeans
from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.methods import Batch, build_method
from fedhpro_flwr.methods.fpl import ClusterPrototypes, cluster_contrast
from fedhpro_flwr.seeding import Draws

CLASSES, WIDTH, BATCH, TAU = 4, 5, 9, 0.3
KNOWN = {0: 2, 1: 1, 3: 3}  # prototypes of a class; nobody ever sent class 2


def some_clusters(seed=0, counts=KNOWN):
    draw = torch.Generator().manual_seed(seed)
    by_class = [torch.randn(counts.get(label, 0), WIDTH, generator=draw) for label in range(CLASSES)]
    return ClusterPrototypes.of(by_class, WIDTH), by_class


def some_batch(seed=1):
    draw = torch.Generator().manual_seed(seed)
    labels = torch.tensor([0, 1, 2, 3, 3, 2, 1, 0, 0])
    return Batch(torch.empty(BATCH, 1), labels, torch.randn(BATCH, WIDTH, generator=draw).requires_grad_())


def loss_by_hand(batch, by_class, consistency):
    """CPCL + UPCR in float64, sample by sample and prototype by prototype."""
    total = 0.0
    for z, label in zip(batch.z.double(), batch.labels.tolist(), strict=True):
        if len(by_class[label]) == 0:
            continue
        own = everyone = 0.0
        for other, prototypes in enumerate(by_class):
            for p in prototypes.double():
                mass = torch.exp((z @ p) / (z.norm() * p.norm()) / TAU)
                everyone = everyone + mass
                own = own + mass if other == label else own
        unbiased = sum(by_class[label].double()) / len(by_class[label])
        squares = [(a - b) ** 2 for a, b in zip(z, unbiased, strict=True)]
        total = total - torch.log(own / everyone) + sum(squares) / (WIDTH if consistency == "mean" else 1)
    return total / len(batch.labels)


def loss_of(make, consistency="mean", clusters=None, temperature=TAU):
    config = make.config("fpl", fpl__temperature=temperature, fpl__consistency=consistency)
    method = build_method(config)
    sent = method.broadcast(clusters or some_clusters()[0])
    return method.local_loss(make.arrival(config, make.model(), make.data(), sent, server_round=2))


@pytest.mark.parametrize("consistency", ["mean", "sum"])
def test_the_clients_loss_and_its_gradient(make, consistency):
    batch = some_batch()
    wanted = loss_by_hand(batch, some_clusters()[1], consistency)
    (wanted_gradient,) = torch.autograd.grad(wanted, batch.z)
    loss = loss_of(make, consistency)(batch)
    (gradient,) = torch.autograd.grad(loss, batch.z)
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    torch.testing.assert_close(gradient, wanted_gradient, rtol=1e-4, atol=1e-6)
    assert torch.equal(gradient[[2, 5]], torch.zeros(2, WIDTH))  # samples of the class that nobody sent


def test_one_known_class_has_nothing_to_contrast_with(make):
    clusters, by_class = some_clusters(counts={1: 2})
    batch = some_batch()
    unbiased = by_class[1].mean(0)
    wanted = sum(((batch.z[i] - unbiased) ** 2).mean().item() for i in (1, 6)) / BATCH
    assert loss_of(make, clusters=clusters)(batch).item() == pytest.approx(wanted, rel=1e-5)


def test_a_batch_of_unknown_classes_adds_nothing(make):
    batch = some_batch()
    unknown = Batch(batch.x, torch.full((BATCH,), 2), batch.z)
    loss = loss_of(make)(unknown)
    (gradient,) = torch.autograd.grad(loss, batch.z)
    assert loss.item() == 0.0 and torch.equal(gradient, torch.zeros_like(gradient))


def test_the_published_temperature_does_not_overflow(make):
    assert make.config("fpl").fpl.temperature == 0.02
    far = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    z = torch.tensor([[-1.0, 0.0]], requires_grad=True)
    loss = cluster_contrast(z, torch.tensor([0]), far, torch.tensor([0, 1]), temperature=0.001)
    assert loss.item() == pytest.approx(2000.0)
    loss.backward()
    assert torch.isfinite(z.grad).all()


def test_in_round_1_there_is_no_term(make):
    config = make.config("fpl")
    method = build_method(config)
    state = method.start(make.model().state_dict())
    assert method.local_loss(make.arrival(config, make.model(), make.data(), method.broadcast(state))) is None


def plane(*degrees, length=1.0):
    """Features [n, D] in a plane, so that who is near whom can be seen."""
    vectors = torch.zeros(len(degrees), WIDTH)
    for row, angle in zip(vectors, degrees, strict=True):
        row[0], row[1] = length * math.cos(math.radians(angle)), length * math.sin(math.radians(angle))
    return vectors


def means(ids, features):
    return ClassMeans(torch.tensor(ids), features, torch.ones(len(ids), dtype=torch.int64))


def moved(make, sent, state=None):
    method = build_method(make.config("fpl"))
    return method.update_prototypes(state or method.start(make.model().state_dict()), sent, Draws(0, 1))


def test_clusters_of_clients_by_hand(make):
    # Class 0 at clients 0 to 4: two near 0 degrees, three near 90. Class 1 at two clients, class 3 at one.
    sent = [
        means([0, 1], torch.cat([plane(0, length=2), plane(0)])),
        means([0], plane(90)),
        means([0, 1], torch.cat([plane(4), plane(170)])),
        means([0, 3], torch.cat([plane(93), plane(20)])),
        means([0], plane(88, length=3)),
    ]
    state = moved(make, sent)
    assert state.counts.tolist() == [2, 1, 0, 1]
    assert state.vectors.shape == (CLASSES, 2, WIDTH)
    first = (plane(0, length=2) + plane(4)) / 2
    second = (plane(90) + plane(93) + plane(88, length=3)) / 3
    torch.testing.assert_close(state.of_class(0), torch.cat([first, second]))
    torch.testing.assert_close(state.of_class(1), (plane(0) + plane(170)) / 2)  # two are always one cluster
    assert torch.equal(state.of_class(3), plane(20))
    assert torch.equal(state.vectors[1, 1], torch.zeros(WIDTH))
    # U counts each cluster once, whatever the number of its clients.
    torch.testing.assert_close(state.prototypes.vectors[:1], (first + second) / 2)
    assert state.prototypes.known.tolist() == [True, True, False, True]
    assert torch.equal(state.prototypes.vectors[2], torch.zeros(WIDTH))


def test_the_coarsest_level_of_more_than_one_cluster_is_taken(make):
    angles = (0, 2, 10, 12, 180, 182, 190, 192)  # FINCH: four pairs, then two fours, then all
    state = moved(make, [means([1], plane(angle)) for angle in angles])
    assert state.counts.tolist() == [0, 2, 0, 0]
    wanted = torch.stack([plane(*angles[:4]).mean(0), plane(*angles[4:]).mean(0)])
    torch.testing.assert_close(state.of_class(1), wanted)


def test_a_class_that_nobody_sends_keeps_its_prototypes(make):
    before, by_class = some_clusters()
    after = moved(make, [means([0], plane(30))], before)
    assert after.counts.tolist() == [1, 1, 0, 3]
    assert torch.equal(after.of_class(0), plane(30))
    assert torch.equal(after.of_class(1), by_class[1]) and torch.equal(after.of_class(3), by_class[3])


def test_what_travels_gives_back_what_the_server_has(make):
    state, by_class = some_clusters()
    method = build_method(make.config("fpl", evaluation__nearest_prototype=True))
    sent = method.broadcast(state)
    assert {name: tuple(tensor.shape) for name, tensor in sent.items()} == {
        "cluster-prototypes": (CLASSES, 3, WIDTH),
        "clusters-per-class": (CLASSES,),
    }
    assert method.tensors(state).keys() == sent.keys()
    vectors, classes = state.listed()
    assert torch.equal(vectors, torch.cat(by_class)) and classes.tolist() == [0, 0, 1, 3, 3, 3]
    unbiased = method.prototypes(sent)
    for label, own in enumerate(by_class):
        assert bool(unbiased.known[label]) == (len(own) > 0)
        if len(own):
            torch.testing.assert_close(unbiased.vectors[label], own.mean(0))
    nearest = method.prototype_scores(sent)(unbiased.vectors).argmax(1)
    assert nearest.tolist()[:2] + nearest.tolist()[3:] == [0, 1, 3]


def test_rounds_of_the_strategy(make):
    clients = [make.data(seed=seed, labels=(0, 1), samples=8 + seed) for seed in range(5)]
    strategy = make.run(make.config("fpl", partition__num_partitions=5, rounds=2, local__epochs=2), clients)
    state = strategy.state
    assert state.counts[2:].tolist() == [0, 0] and all(1 <= count <= 2 for count in state.counts[:2].tolist())
    again = make.run(make.config("fpl", partition__num_partitions=5, rounds=2, local__epochs=2), clients)
    assert torch.equal(state.vectors, again.state.vectors)
    fedavg = make.run(make.config("fedavg", partition__num_partitions=5, rounds=2, local__epochs=2), clients)
    assert not torch.equal(strategy.model.shared["head.weight"], fedavg.model.shared["head.weight"])


def test_the_class_means_are_of_the_trained_encoder_in_eval_mode(make):
    config, model, data = make.config("fpl"), make.model(), make.data()
    method = build_method(config)
    arrival = make.arrival(config, model, data, method.broadcast(method.start(model.state_dict())))
    with torch.no_grad():
        model.encoder[0].weight.mul_(2)  # "training"
    sent = method.depart(arrival, 1).upload
    z = model.eval().encoder((data.train.inputs - 0.1) / 2.0)
    assert sent["class-ids"].tolist() == [0, 1, 3] and sent["class-counts"].tolist() == [4, 4, 4]
    for row, label in zip(sent["class-prototypes"], (0, 1, 3), strict=True):
        torch.testing.assert_close(row, z[data.train.labels == label].mean(0))


@pytest.mark.parametrize("key", ["fpl.temperature", "fpl.consistency"])
def test_wrong_settings_are_named(make, key):
    wrong = 0.0 if key == "fpl.temperature" else "median"
    with pytest.raises(ConfigError, match=rf"^{key} = .*: it must be"):
        make.config("fpl", **{key.replace(".", "__"): wrong})


def test_hyper_prototypes_do_not_take_its_prototypes_place(make):
    config = make.config("fpl", method__prototypes="hyper")
    with pytest.raises(ConfigError, match=r"^method\.prototypes = 'hyper' is not offered for method\.name = 'fpl'"):
        type(build_method(make.config("fpl"))).refuse(config)


def test_with_one_prototype_a_class_the_contrast_is_a_softmax_over_cosines():
    clusters, by_class = some_clusters(counts=dict.fromkeys(range(CLASSES), 1))
    batch = some_batch()
    vectors, classes = clusters.listed()
    logits = F.normalize(batch.z, dim=1) @ F.normalize(torch.cat(by_class), dim=1).T / TAU
    wanted = F.cross_entropy(logits, batch.labels)
    torch.testing.assert_close(cluster_contrast(batch.z, batch.labels, vectors, classes, temperature=TAU), wanted)
