"""What `data.domains` chooses, and one style of refusal for all data sets."""

from __future__ import annotations

import pytest

from fedhpro_flwr.data import DataSource
from fedhpro_flwr.data.domain_names import chosen_domains


def test_named_domains_in_their_order_or_the_default() -> None:
    assert chosen_domains(DataSource(name="x"), ["a", "b", "c"]) == ("a", "b", "c")
    assert chosen_domains(DataSource(name="x", domains=" , "), ["a", "b", "c"], default=("c", "a")) == ("c", "a")
    assert chosen_domains(DataSource(name="x", domains=" b ,a,"), ["a", "b"], default=("a",)) == ("b", "a")


@pytest.mark.parametrize(
    ("domains", "there_are", "message"),
    [
        ("a,c", "", r"^data\.domains = 'a,c': 'c' is unknown, there are a, b$"),
        ("a,c", "a and more", r"^data\.domains = 'a,c': 'c' is unknown, there are a and more$"),
        ("a, b,a", "", r"^data\.domains = 'a, b,a': 'a' stands twice, name each domain once$"),
    ],
)
def test_unknown_and_repeated_names(domains: str, there_are: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        chosen_domains(DataSource(name="x", domains=domains), ["a", "b"], there_are=there_are)
