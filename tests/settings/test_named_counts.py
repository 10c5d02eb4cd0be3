"""`name=count` settings."""

import pytest

from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.settings.named_counts import dealt_in_turn, named_counts


def test_names_and_counts_in_order():
    assert list(named_counts(" b=2 , a = 10,", "k").items()) == [("b", 2), ("a", 10)]
    assert named_counts("", "k") == {}


@pytest.mark.parametrize("text", ["a", "a=", "a=0", "a=-1", "=3", "a=1.5", "a=x", "a=1 b=2", "a=1000000"])
def test_another_form_is_refused(text):
    with pytest.raises(ConfigError, match=r"^k = .*: write it as name=count, name=count with counts from 1$"):
        named_counts(text, "k")


def test_a_name_comes_once():
    with pytest.raises(ConfigError, match="a comes twice"):
        named_counts("a=1, b=2, a=3", "k")


def test_names_are_dealt_like_cards():
    assert dealt_in_turn({"a": 4, "b": 1, "c": 2}) == ["a", "b", "c", "a", "c", "a", "a"]
    assert dealt_in_turn({}) == []
