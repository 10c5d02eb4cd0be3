"""A misspelt hook is refused: it would never be called, and the method would silently work without it."""

from __future__ import annotations

from difflib import get_close_matches

from fedhpro_flwr.config import ConfigError

ALIKE = 0.8  # difflib's ratio from which names are alike, as `local_los` and `local_loss`; `averaged` is like no hook


def refuse_misspelt(cls: type, base: type, name: str) -> None:
    """Check the names that a method's class adds to the hooks.

    Args:
        cls: the method's class.
        base: the class that has all hooks.
        name: the method's name, for the message.

    Raises:
        ConfigError: a new public name is nearly a hook's.
    """
    hooks = [hook for hook in dir(base) if not hook.startswith("_")]
    own = [entry for entry in vars(cls) if not entry.startswith("_") and not hasattr(cls.__base__, entry)]
    for entry in own:
        if meant := get_close_matches(entry, hooks, n=1, cutoff=ALIKE):
            raise ConfigError(
                f"method.name = {name!r}: nobody calls its {entry}; did you mean {meant[0]}? If it is its own, "
                "begin its name with _"
            )
