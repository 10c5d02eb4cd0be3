"""Class names and shapes as the settings write them."""

from __future__ import annotations

import pytest

from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.data.declared import declared_classes, declared_shape


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ()),
        ("  ", ()),
        ("cat, dog,fox", ("cat", "dog", "fox")),
        ("3", ("0", "1", "2")),
        ("10, 2", ("10", "2")),
        ("a b, c=d", ("a b", "c=d")),
    ],
)
def test_classes(text: str, names: tuple[str, ...]) -> None:
    assert declared_classes(text) == names


@pytest.mark.parametrize("text", ["cat", "1", "0", "-3", "a,,b", "a, b,", ",", "1234567"])
def test_fewer_than_two_classes_or_a_nameless_one(text: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.classes = .*at least two classes"):
        declared_classes(text)


def test_a_class_twice() -> None:
    with pytest.raises(ConfigError, match="dog comes twice"):
        declared_classes("dog, cat, dog")


@pytest.mark.parametrize(
    ("text", "shape"), [("", ()), ("3x32x64", (3, 32, 64)), ("1 x 8 x 8", (1, 8, 8)), ("64", (64,))]
)
def test_shapes(text: str, shape: tuple[int, ...]) -> None:
    assert declared_shape(text) == shape


@pytest.mark.parametrize("text", ["32x32", "2x8x8", "3x32x0", "3x32x32x1", "0", "-4", "a", "3,32,32", "3xx32", "1.5"])
def test_no_shape(text: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.input-shape = .*3x32x32"):
        declared_shape(text)


@pytest.mark.parametrize("text", ["caf\u00e9, bar", "cafe\u0301, bar"])
def test_names_that_look_the_same_are_the_same(text: str) -> None:
    assert declared_classes(text) == ("caf\u00e9", "bar")
