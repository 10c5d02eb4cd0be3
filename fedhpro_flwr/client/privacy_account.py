r"""The privacy account of a client: what its noised replies of a run reveal together, as (epsilon, delta).

A reply is one Gaussian mechanism. Any number of them, even if each is chosen after seeing the ones before, compose
exactly: mechanisms with mu_1, mu_2, ... reveal as much as one with mu = sqrt(mu_1^2 + mu_2^2 + ...). Its epsilon solves

.. math::
    \delta = \Phi(\mu / 2 - \epsilon / \mu) - e^\epsilon \Phi(-\mu / 2 - \epsilon / \mu)

Sources: Dong, Roth and Su, Gaussian Differential Privacy, JRSS B 2022, theorem 2.7, corollaries 2.13 and 3.3; the
equation also in Balle and Wang, Improving the Gaussian Mechanism for Differential Privacy, ICML 2018, theorem 8. It is
exact, while Renyi accountants give an upper bound. The random choice of clients gains nothing: the server knows whom it
asked.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path

from fedhpro_flwr.file_lock import locked_file
from fedhpro_flwr.whole_file import write_whole

ACCOUNT_FILE, LOCK_FILE = "privacy-account.jsonl", ".privacy-account.lock"


def reply_mu(multipliers: Iterable[float]) -> float:
    r"""mu of one reply made of vectors that are clipped to norm M_i and get noise of standard deviation s_i M_i.

    .. math::
        \mu = \sqrt{\sum_i (2 / s_i)^2}

    Two data sets may give opposite vectors of norm M_i, which are 2 M_i, or 2 / s_i standard deviations, apart.

    Args:
        multipliers: s_i of each vector, all above zero.
    """
    return math.sqrt(math.fsum((2 / multiplier) ** 2 for multiplier in multipliers))


def epsilon_of(mu: float, delta: float) -> float:
    """The epsilon of a Gaussian mechanism at this delta; 0 where delta alone is enough.

    Args:
        mu: how many standard deviations of the noise the replies from two data sets may be apart.
        delta: in (0, 1).
    """
    from scipy.optimize import brentq

    if mu == 0 or _log_delta(0.0, mu) <= math.log(delta):
        return 0.0
    # Above the root: the bound of concentrated differential privacy with rho = mu^2 / 2.
    above = mu**2 / 2 + mu * math.sqrt(-2 * math.log(delta))
    return float(brentq(lambda epsilon: _log_delta(epsilon, mu) - math.log(delta), 0.0, above, xtol=1e-9, rtol=1e-12))


def _log_delta(epsilon: float, mu: float) -> float:
    """log delta, in logarithms throughout: e^epsilon overflows at 710."""
    from scipy.special import log_ndtr

    larger = float(log_ndtr(mu / 2 - epsilon / mu))
    smaller = epsilon + float(log_ndtr(-mu / 2 - epsilon / mu))
    return larger + math.log(-math.expm1(smaller - larger)) if smaller < larger else -math.inf


def spend(folder: Path, server_round: int, mu: float) -> float:
    """Record a reply before it is sent, as one more line in a file of the client's own for this run.

    What a client keeps between rounds is rolled back with the server when a run is resumed. This file never is: a reply
    that has left the client has been seen. Only one process at a time writes: if two read the same account, the second
    to write would erase the reply of the first.

    Args:
        folder: the client's in this run; made if it is not there.
        server_round: the reply's round.
        mu: the reply's.

    Returns:
        mu of all replies so far, including this one.

    Raises:
        ValueError: the file is damaged, so it is no longer known what was spent; or its file system has no locks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked_file(folder / LOCK_FILE, math.inf, "", "put clients.state-path elsewhere"):
        file = folder / ACCOUNT_FILE
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        lines.append(json.dumps({"round": server_round, "mu": mu}))
        try:
            spent = [float(json.loads(line)["mu"]) for line in lines]
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{file} is damaged: what this client has spent of its privacy is not known") from None
        write_whole(file, "".join(f"{line}\n" for line in lines).encode())
        return math.hypot(*spent)
