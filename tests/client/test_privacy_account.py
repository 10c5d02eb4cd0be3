"""Epsilon against the definition, against another accountant, and over the replies of a run."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import norm

from fedhpro_flwr.client.privacy_account import ACCOUNT_FILE, epsilon_of, reply_mu, spend
from fedhpro_flwr.config import LEAST_NOISE


def test_what_a_reply_reveals_by_hand():
    assert reply_mu([1.0]) == 2.0  # a vector of norm M can be turned around: 2 M, with noise of 1 M
    assert reply_mu([4.0, 4.0]) == pytest.approx(math.sqrt(0.5))
    assert reply_mu([]) == 0.0


@pytest.mark.parametrize(("mu", "delta"), [(0.1, 1e-5), (1.0, 1e-5), (2.0, 1e-3), (6.0, 1e-6)])
def test_delta_is_what_epsilon_leaves_of_the_two_densities(mu, delta):
    """The definition, integrated: delta = integral of max(0, f_1 - e^epsilon f_0), f of means mu and 0."""
    epsilon = epsilon_of(mu, delta)
    x = np.linspace(-12, 12 + mu, 1_000_001)
    left = np.maximum(0.0, norm.pdf(x, mu) - np.exp(epsilon) * norm.pdf(x, 0))
    assert np.trapezoid(left, x) == pytest.approx(delta, rel=1e-5)


@pytest.mark.parametrize(
    ("multipliers", "replies", "delta", "upper"),
    [
        ([1.0], 1, 1e-5, 9.99725615),
        ([1.0, 2.0], 1, 1e-5, 11.48002281),
        ([4.0], 10, 1e-5, 7.51127591),
        ([4.0, 8.0], 10, 1e-5, 8.59586580),
        ([20.0], 25, 1e-6, 2.25408466),
        ([20.0, 40.0], 25, 1e-6, 2.54869796),
    ],
)
def test_many_replies_cost_what_another_accountant_says(multipliers, replies, delta, upper):
    """`upper` is the bound of dp-accounting 0.6.0's PLDAccountant (steps of 1e-4) for sensitivity 2."""
    epsilon = epsilon_of(math.sqrt(replies) * reply_mu(multipliers), delta)
    assert epsilon == pytest.approx(upper, rel=1e-6)
    assert epsilon <= upper + 1e-8


def test_epsilon_grows_with_what_is_revealed_and_has_no_end():
    told = [epsilon_of(mu, 1e-5) for mu in (0.0, 1e-6, 0.1, 1.0, 10.0, 100.0, 20_000.0)]
    assert told[:2] == [0.0, 0.0]  # delta alone is enough
    assert told == sorted(told) and math.isfinite(told[-1])
    assert told[-1] == pytest.approx(20_000**2 / 2, rel=1e-3)


def test_an_account_adds_up_over_replies_and_survives_a_restart(tmp_path):
    folder = tmp_path / "clients" / "client-0"
    assert spend(folder, 1, 3.0) == 3.0
    assert spend(folder, 2, 4.0) == 5.0
    lines = (folder / ACCOUNT_FILE).read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"round": 1, "mu": 3.0}, {"round": 2, "mu": 4.0}]


def test_a_round_that_is_played_again_is_paid_again(tmp_path):
    assert [spend(tmp_path, number, 3.0) for number in (1, 1)] == [3.0, pytest.approx(math.sqrt(18))]


@pytest.mark.parametrize("content", ["{", "[]", '{"round": 1}', '{"round": 1, "mu": "much"}'])
def test_a_damaged_account_is_not_begun_anew(tmp_path, content):
    (tmp_path / ACCOUNT_FILE).write_text(content)
    with pytest.raises(ValueError, match=r"privacy-account.jsonl is damaged: what this client has spent"):
        spend(tmp_path, 2, 1.0)
    assert (tmp_path / ACCOUNT_FILE).read_text() == content


SPEND = """
import sys
from pathlib import Path
from fedhpro_flwr.client.privacy_account import spend
for number in range(50):
    spend(Path(sys.argv[1]), number, 1.0)
"""


def test_replies_of_two_processes_are_both_written_down(tmp_path):
    command = [sys.executable, "-c", SPEND, str(tmp_path)]
    for process in [subprocess.Popen(command) for _ in range(3)]:
        assert process.wait() == 0
    assert len((tmp_path / ACCOUNT_FILE).read_text().splitlines()) == 150


def test_the_least_noise_that_is_allowed_has_an_epsilon():
    mu = math.hypot(*[reply_mu([LEAST_NOISE, LEAST_NOISE])] * 1000)
    assert epsilon_of(mu, 1e-5) == pytest.approx(mu**2 / 2, rel=1e-3)


def test_the_least_delta_that_can_be_written_has_an_epsilon():
    assert math.inf == 1 / 5e-324
    assert epsilon_of(1.0, 1e-300) < epsilon_of(1.0, 5e-324) < 1.1 * epsilon_of(1.0, 1e-300)
