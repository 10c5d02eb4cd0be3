"""Clusters from first neighbours, against a reading of the publication's equation pair by pair."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedhpro_flwr.methods.finch import cluster_means, finch


def cosine_distance(a, b):
    return 1 - sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


def one_level(points):
    """Eq. (1) for every pair, then a walk through each component."""
    count = len(points)
    first = [
        min((j for j in range(count) if j != i), key=lambda j: cosine_distance(points[i], points[j]), default=None)
        for i in range(count)
    ]
    linked = [[j == first[i] or first[j] == i or first[i] == first[j] for j in range(count)] for i in range(count)]
    clusters = [-1] * count
    for start in range(count):
        if clusters[start] < 0:
            number, reached = max(clusters) + 1, [start]
            while reached:
                here = reached.pop()
                if clusters[here] < 0:
                    clusters[here] = number
                    reached += [j for j in range(count) if linked[here][j]]
    return clusters


def means_of(points, clusters):
    return [
        [
            sum(column) / len(column)
            for column in zip(*(p for p, c in zip(points, clusters, strict=True) if c == cluster), strict=True)
        ]
        for cluster in range(max(clusters) + 1)
    ]


def by_pairs(points):
    levels = [one_level(points)]
    while max(levels[-1]) > 0:
        above = one_level(means_of(points, levels[-1]))
        if max(above) == 0:
            break
        levels.append([above[cluster] for cluster in levels[-1]])
    return levels


@given(st.integers(1, 25), st.integers(2, 6), st.integers(0, 10_000))
@settings(max_examples=150)
def test_every_level_is_that_of_the_equation(count, width, seed):
    points = np.random.default_rng(seed).normal(size=(count, width))
    levels = finch(points)
    assert [level.tolist() for level in levels] == by_pairs(points.tolist())
    np.testing.assert_allclose(
        cluster_means(points, levels[-1]), means_of(points.tolist(), levels[-1].tolist()), atol=1e-12
    )


@given(st.integers(2, 40), st.integers(0, 10_000))
@settings(max_examples=50)
def test_levels_merge_whole_clusters_and_lengths_do_not_matter(count, seed):
    draw = np.random.default_rng(seed)
    points = draw.normal(size=(count, 4))
    levels = finch(points)
    for finer, coarser in itertools.pairwise(levels):
        assert coarser.max() < finer.max()
        assert len({(int(a), int(b)) for a, b in zip(finer, coarser, strict=True)}) == finer.max() + 1
    assert (
        finch(points * draw.uniform(0.5, 2, size=(count, 1)))[0] == levels[0]
    ).all()  # its distance is of directions


def directions(*degrees):
    return np.array([[math.cos(math.radians(angle)), math.sin(math.radians(angle))] for angle in degrees])


def test_by_hand():
    # Two pairs near 0 degrees, two near 180: pairs first, then the pairs of pairs; all in one would be no level.
    levels = finch(directions(0, 2, 10, 12, 180, 182, 190, 192))
    assert [level.tolist() for level in levels] == [[0, 0, 1, 1, 2, 2, 3, 3], [0, 0, 0, 0, 1, 1, 1, 1]]
    # A chain: each is the first neighbour of the next, which links all.
    assert [level.tolist() for level in finch(directions(0, 1, 3, 6, 10))] == [[0, 0, 0, 0, 0]]


def test_clusters_are_numbered_by_their_first_points():
    assert finch(directions(90, 0, 92, 1))[0].tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(("count", "wanted"), [(1, [0]), (2, [0, 0]), (3, [0, 0, 0])])
def test_up_to_three_points_are_one_cluster(count, wanted):
    assert [level.tolist() for level in finch(directions(*range(0, 90 * count, 90)))] == [wanted]


def test_equal_points_and_the_origin_are_no_trouble():
    assert finch(np.ones((5, 3)))[-1].tolist() == [0] * 5
    assert finch(np.zeros((4, 3)))[-1].tolist() == [0] * 4


def test_the_origin_is_as_near_to_all_joins_the_first_and_brings_no_others_together():
    """A client whose units are all dead sends it."""
    assert finch(np.array([[1, 0], [1, 0.01], [0, 0], [-1, 0], [-1, 0.01]]))[-1].tolist() == [0, 0, 0, 1, 1]


def test_means_are_over_points_and_not_over_the_clusters_below():
    points = np.array([[1.0], [2.0], [6.0]])
    assert cluster_means(points, np.array([0, 0, 0])).tolist() == [[3.0]]


@pytest.mark.parametrize("points", [np.empty((0, 3)), np.array([[1.0, math.nan]]), np.ones(3)])
def test_no_points_are_refused(points):
    with pytest.raises(ValueError, match=r"^FINCH needs one or more points \[N, D\] of finite coordinates, got \["):
        finch(points)
