"""Noise: secret numbers are normal and never come twice, seeded ones come again."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from fedhpro_flwr.client.gaussian_noise import normals, secret_normals
from fedhpro_flwr.seeding import Draws


@pytest.mark.parametrize("size", [0, 1, 2, 7])
def test_as_many_numbers_as_are_asked_for(size):
    for source in ("secret", "seeded"):
        drawn = normals(source, Draws(0))(size)
        assert drawn.shape == (size,) and drawn.dtype == torch.float64


def test_secret_numbers_differ_though_the_seed_is_the_same():
    one, other = (normals("secret", Draws(0, 1, 2))(1000) for _ in range(2))
    assert not (one == other).any()


def test_seeded_numbers_are_of_the_seed_the_round_and_the_client():
    drawn = normals("seeded", Draws(0, 1, 2))(5)
    assert torch.equal(drawn, normals("seeded", Draws(0, 1, 2))(5))
    for other in (Draws(1, 1, 2), Draws(0, 2, 2), Draws(0, 1, 3)):
        assert not (drawn == normals("seeded", other)(5)).any()


def test_a_second_call_of_the_same_source_gives_other_numbers():
    source = normals("seeded", Draws(0))
    assert not (source(5) == source(5)).any()


def test_bytes_become_normal_numbers(monkeypatch):
    """With bytes of a seed in place of the system's, so that the test cannot fail by chance."""
    bits = np.random.default_rng(0)
    monkeypatch.setattr(os, "urandom", bits.bytes)
    drawn = secret_normals(100_000).numpy()
    assert kstest(drawn, "norm").pvalue > 0.01
    assert abs(np.corrcoef(drawn[:50_000], drawn[50_000:])[0, 1]) < 0.02  # the two numbers of a pair


def test_two_numbers_by_hand(monkeypatch):
    """u = 1/2 and v = 1/4: radius sqrt(2 log 2), a quarter of a turn."""
    words = np.array([(2**52 - 1) << 11, 2**51 << 11], dtype=np.uint64)
    monkeypatch.setattr(os, "urandom", lambda size: words.tobytes())
    torch.testing.assert_close(secret_normals(2), torch.tensor([0, 1.1774100225154747], dtype=torch.float64))


@pytest.mark.parametrize("byte", [0x00, 0xFF])
def test_the_rarest_bytes_give_finite_numbers(monkeypatch, byte):
    monkeypatch.setattr(os, "urandom", lambda size: bytes([byte]) * size)
    assert torch.isfinite(secret_normals(4)).all()
