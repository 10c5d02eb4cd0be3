"""Things that a setting chooses by name: data sets, models, methods, trackers. The only way to extend the project."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from fedhpro_flwr.settings.flat_keys import ConfigError

T = TypeVar("T")


class Registry(dict[str, T]):
    """What a setting can choose, by name.

    Args:
        key: the setting, such as `data.name`.
    """

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator: the decorated object is chosen by `name`.

        Raises:
            ConfigError: the name is taken.
        """

        def add(thing: T) -> T:
            if name in self:
                by = " and in ".join(getattr(each, "__module__", repr(each)) for each in (self[name], thing))
                raise ConfigError(f"{self.key}: {name!r} is registered already: in {by}; rename one of them")
            self[name] = thing
            return thing

        return add

    def find(self, name: str) -> T:
        """The object of that name.

        Raises:
            ConfigError: there is none; the message lists the names there are.
        """
        if name not in self:
            raise ConfigError(f"{self.key} = {name!r} is unknown, there are: {', '.join(sorted(self))}")
        return self[name]
