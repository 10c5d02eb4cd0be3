"""Extension by name: taken names are refused, unknown ones list what exists."""

import pytest

from fedhpro_flwr.registry import Registry
from fedhpro_flwr.settings.flat_keys import ConfigError


def test_what_is_registered_is_found_and_a_name_is_taken_once():
    shapes: Registry[int] = Registry("shape.name")
    assert shapes.register("square")(4) == 4
    assert shapes.find("square") == 4
    with pytest.raises(
        ConfigError, match=r"^shape\.name: 'square' is registered already: in 4 and in 5; rename one of them$"
    ):
        shapes.register("square")(5)

    def second():
        """Of a file whose name the sentence has."""

    with pytest.raises(ConfigError, match=r": in 4 and in .*test_registry; rename one of them$"):
        shapes.register("square")(second)
    assert shapes.find("square") == 4


def test_an_unknown_name_lists_what_exists():
    shapes: Registry[int] = Registry("shape.name")
    shapes.register("square")(4)
    shapes.register("disc")(0)
    with pytest.raises(ConfigError, match=r"^shape\.name = 'cube' is unknown, there are: disc, square$"):
        shapes.find("cube")
