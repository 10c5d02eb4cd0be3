"""Distances of prototypes: against double loops, by hand, and where a class is not known."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.report.drift import (
    Trace,
    cosine_distance,
    distances_to,
    movement,
    relative_distance,
    structure_distance,
)
from fedhpro_flwr.report.drift_section import drift_section
from fedhpro_flwr.report.groups import group_runs
from fedhpro_flwr.report.runs import Run
from fedhpro_flwr.runs.run_folder import PROTOTYPES_FILE


def drawn(seed, rounds=3, classes=5, width=4):
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(rounds, classes, width, generator=generator)
    known = torch.rand(rounds, classes, generator=generator) < 0.7
    return Trace(vectors, known, torch.arange(1, rounds + 1) * 2), torch.randn(classes, width, generator=generator)


def length(v):
    return math.sqrt(sum(x * x for x in v))


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / (length(a) * length(b))


@pytest.mark.parametrize("seed", range(5))
def test_distances_equal_a_loop_over_rounds_and_classes(seed):
    trace, means = drawn(seed)
    seen = torch.tensor([True, True, False, True, True])
    by_cosine, by_length, by_pair = [], [], []
    for r, vectors in enumerate(trace.vectors.tolist()):
        both = [c for c in range(5) if trace.known[r, c] and seen[c]]
        central = means.tolist()
        if both:
            by_cosine.append((2 * r + 2, sum(1 - cosine(vectors[c], central[c]) for c in both) / len(both)))
            away = [[x - y for x, y in zip(vectors[c], central[c], strict=True)] for c in both]
            ratios = [length(d) / length(central[c]) for d, c in zip(away, both, strict=True)]
            by_length.append((2 * r + 2, sum(ratios) / len(both)))
        pairs = [(c, d) for c in both for d in both if c < d]
        if pairs:
            gaps = [abs(cosine(vectors[c], vectors[d]) - cosine(central[c], central[d])) for c, d in pairs]
            by_pair.append((2 * r + 2, sum(gaps) / len(gaps)))
    for distance, expected in (
        (cosine_distance, by_cosine),
        (relative_distance, by_length),
        (structure_distance, by_pair),
    ):
        found = distances_to(trace, means, seen, distance)
        assert [r for r, _ in found] == [r for r, _ in expected]
        assert [v for _, v in found] == pytest.approx([v for _, v in expected], abs=1e-6)


def test_by_hand():
    a = torch.tensor([[2.0, 0.0], [0.0, 3.0], [9.0, 9.0]])
    b = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    mask = torch.tensor([True, True, False])
    assert cosine_distance(a, b, mask) == 0.5  # 0 and 1
    assert relative_distance(a, b, mask) == pytest.approx((1 + math.sqrt(10)) / 2)
    assert structure_distance(a, b, mask) == 1.0  # orthogonal against equal
    assert relative_distance(a, b, torch.tensor([False, False, True])) is None  # a mean of length zero
    assert structure_distance(a, b, torch.tensor([True, False, False])) is None
    assert cosine_distance(a, b, torch.zeros(3, dtype=torch.bool)) is None


def test_a_round_in_which_no_class_is_known_to_both_has_no_distance():
    known = torch.tensor([[True, False], [False, True]])
    trace = Trace(torch.ones(2, 2, 3), known, torch.tensor([5, 10]))
    assert distances_to(trace, 2 * torch.ones(2, 3), torch.tensor([False, True]), relative_distance) == [(10, 0.5)]


def test_movement_is_against_the_kept_round_before_over_classes_known_in_both():
    vectors = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]], [[0.0, 2.0], [0.0, 5.0]]])
    known = torch.tensor([[True, False], [True, True], [True, True]])
    trace = Trace(vectors, known, torch.tensor([5, 10, 15]))
    assert movement(trace, cosine_distance) == [(10, 1.0), (15, 0.5)]


def test_a_last_round_that_came_sooner_is_no_movement():
    trace, _ = drawn(0, rounds=3)
    four, sooner = (Trace(trace.vectors, trace.known, torch.tensor(rounds)) for rounds in ([4, 8, 12], [4, 8, 10]))
    assert [r for r, _ in movement(four, cosine_distance)] == [8, 12]
    assert movement(sooner, cosine_distance) == movement(four, cosine_distance)[:1]


@given(seed=st.integers(0, 10_000))
def test_a_rotation_changes_no_similarity(seed):
    trace, means = drawn(seed, rounds=1)
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(seed))).Q
    everything = torch.ones(5, dtype=torch.bool)
    a = trace.vectors[0]
    assert structure_distance(means @ rotation, means, everything) == pytest.approx(0, abs=1e-5)
    assert structure_distance(a @ rotation, means, everything) == pytest.approx(
        structure_distance(a, means, everything), abs=1e-5
    )


def test_another_feature_space_is_refused():
    trace, _ = drawn(0)
    with pytest.raises(ValueError, match=r"prototypes are \[5, 4\], the central class means \[5, 6\]"):
        distances_to(trace, torch.zeros(5, 6), torch.ones(5, dtype=torch.bool), cosine_distance)


def test_a_trace_is_read_back_missing_or_damaged(tmp_path):
    assert Trace.read(tmp_path) is None
    trace, _ = drawn(0)
    path = tmp_path / "prototypes.safetensors"
    save_file({"prototypes": trace.vectors, "known": trace.known, "rounds": trace.rounds}, path)
    assert torch.equal(Trace.read(tmp_path).vectors, trace.vectors)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ConfigError, match=r"prototypes\.safetensors is damaged"):
        Trace.read(tmp_path)


def test_where_no_run_kept_two_rounds_nothing_moved_and_the_section_says_so(make_run, tmp_path):
    folder = make_run("a", [0.5])
    tensors = {"prototypes": torch.ones(1, 2, 3), "known": torch.ones(1, 2, dtype=torch.bool)}
    save_file({**tensors, "rounds": torch.tensor([1])}, folder / PROTOTYPES_FILE)
    groups = group_runs([Run.read(folder)]).shown
    section = drift_section(groups, tmp_path, central=False, say=print)
    assert (section.pictures, section.notes) == ([], ["no run has kept the prototypes of two rounds"])
